"""How many kernels an NVIDIA H100 launches for an update in each case, counted in the program compiled for one.

    python benchmarks/launches.py [--cases A B …] [--envs Freeway-MinAtar …] [--out benchmarks/results/launches]

No GPU is needed, but JAX with CUDA is, 0.11 or later: `pip install "jax[cuda13]<0.12"`. With small networks the count
is what time on a GPU goes by (docs/performance.md). Environments are trained with the settings of case C. Without a GPU
XLA can't try out kernels, so that on one it may choose others for products.
Writes OUT.jsonl and OUT.md.
"""

import argparse
import functools
import json
import os
import re
import shlex
import sys
from pathlib import Path
from typing import Any

import jax
import record
from case_config import case_config
from cases import CASES
from jax.experimental import topologies

import jaxppo
from jaxppo import backend
from jaxppo.compilation import compiler_options
from jaxppo.config import canonical
from jaxppo.results import describe

H100 = """
gpu_device_info {
  threads_per_block_limit: 1024
  threads_per_warp: 32
  shared_memory_per_block: 49152
  shared_memory_per_block_optin: 232448
  shared_memory_per_core: 233472
  threads_per_core_limit: 2048
  registers_per_core_limit: 65536
  registers_per_block_limit: 65536
  core_count: 132
  fpus_per_core: 128
  block_dim_limit_x: 2147483647
  block_dim_limit_y: 65535
  block_dim_limit_z: 65535
  memory_bandwidth: 3352320000000
  l2_cache_size: 52428800
  clock_rate_ghz: 1.98
  device_memory_size: 84929347584
  cuda_compute_capability { major: 9 }
}
platform_name: "CUDA"
dnn_version_info { major: 9 minor: 7 }
runtime_version { major: 13 }
device_description_str: "NVIDIA H100 80GB HBM3"
"""
NO_LAUNCH = {
    *("after-all", "bitcast", "call", "conditional", "constant", "get-tuple-element", "opt-barrier", "parameter"),
    *("async-done", "copy-done", "fusion-done", "tuple", "while"),
}
CALLED = re.compile(r"\b(?:body|to_apply|calls|\w+_computations?)=(\{[^}]*\}|%?[\w.\-]+)")
TURNS = re.compile(r'"known_trip_count":\{"n":"(\d+)"')


def main() -> None:
    parser = argparse.ArgumentParser(description="Kernels of an update on an H100, in the program compiled for one.")
    parser.add_argument("--cases", nargs="*", choices=CASES, default=list("ABCDE"))
    parser.add_argument("--envs", nargs="*", default=[], help="further environments, with the settings of case C")
    parser.add_argument("--out", type=Path, help="write OUT.jsonl and OUT.md")
    args = parser.parse_args()
    os.environ["JAX_SKIP_CUDA_CONSTRAINTS_CHECK"] = "1"  # which asks a driver for its version
    rows = record.read(args.out.with_suffix(".jsonl")) if args.out else []
    for case, env in [*((case, CASES[case]["env"]) for case in args.cases), *(("C", env) for env in args.envs)]:
        row = measure(case, env)
        print(json.dumps(row), flush=True)
        rows = sorted([row, *(other for other in rows if key(other) != key(row))], key=key)
    if args.out:
        record.write(args.out.with_suffix(".jsonl"), rows)
        args.out.with_suffix(".md").write_text(table(rows))


def key(row: dict[str, Any]) -> tuple[bool, str, str]:
    """The cases first, then other environments."""
    return CASES[row["case"]]["env"] != row["env"], row["case"], row["env"]


def measure(case: str, env: str) -> dict[str, Any]:
    """Compile the training of a case's agents, in that environment, and count."""
    config = jaxppo.Config(**{**vars(case_config(case)), "env": env})
    agents = CASES[case]["num_agents"]
    mesh = target()
    placement = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec())

    def place(tree: Any) -> Any:
        return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=placement), tree)

    def train(config: jaxppo.Config, keys: jax.Array) -> jaxppo.Result:
        return jax.vmap(functools.partial(jaxppo.train, config))(keys) if agents > 1 else jaxppo.train(config, keys[0])

    arguments = place(jax.eval_shape(lambda: (canonical(config), jax.random.split(jax.random.key(0), agents))))
    with backend.tracing_for(mesh.devices.item()), jax.sharding.use_abstract_mesh(mesh.abstract_mesh):
        lowered = jax.jit(train, compiler_options=compiler_options(config)).lower(*arguments)
    compiled = lowered.compile()
    kernels, endless = count(compiled.as_text(), config.num_updates)
    made = describe()
    return {
        "case": case,
        "env": env,
        "agents": agents,
        "kernels": kernels,
        "loops_of_unknown_length": endless,
        "target": "NVIDIA H100",
        "command": shlex.join(["python", "benchmarks/launches.py", *sys.argv[1:]]),
        **{name: made[name] for name in ("versions", "git_revision")},
    }


def target() -> Any:
    """A mesh of one H100 that need not be there."""
    try:
        topology = topologies.get_topology_desc(platform="cuda", target_config=H100, topology="1x1x1")
    except (NotImplementedError, RuntimeError) as error:
        sys.exit(f'this JAX has no compiler for NVIDIA GPUs ({error}); pip install "jax[cuda13]<0.12"')
    return topologies.make_mesh(topology, (1,), ("device",))


def count(text: str, turns: int) -> tuple[int, int]:
    """The kernels that a compiled program launches in a turn of its own loop of so many, and its endless loops there.

    Those are loops whose length the program does not say; they count as one turn, and their conditions not at all.
    """
    computations: dict[str, list[tuple[str, str]]] = {}
    operations: list[tuple[str, str]] = []
    for line in text.splitlines():
        if begins := re.match(r"(ENTRY )?%?([\w.\-]+) \(.*\{$", line):
            operations = computations["the program" if begins[1] else begins[2]] = []
        elif " = " in line and line.startswith(" "):
            operations.append((_name(line), line))
    endless = 0

    def launches(name: str) -> int:
        nonlocal endless
        total = 0
        for operation, line in computations[name]:
            if operation == "while":
                endless += not TURNS.search(line)
                total += _length(line) * launches(*_called(line))
            elif operation in ("call", "conditional", "async-start"):
                total += max(map(launches, _called(line)))
            else:
                total += operation not in NO_LAUNCH
        return total

    loops = [line for operation, line in computations["the program"] if operation == "while" and _length(line) == turns]
    if len(loops) != 1:
        raise ValueError(f"{len(loops)} loops of {turns} turns in the program, not one, which training is")
    return launches(_called(loops[0])[0]), endless


def _name(line: str) -> str:
    """The operation of a line, which follows the type of its result."""
    rest = line.split(" = ", 1)[1]
    if rest.startswith("("):
        depth = 0
        for i, sign in enumerate(rest):
            depth += (sign == "(") - (sign == ")")
            if not depth:
                rest = rest[i + 1 :]
                break
    else:
        rest = rest.split(" ", 1)[1]
    return rest.strip().split("(", 1)[0]


def _called(line: str) -> list[str]:
    """The computations that an operation calls; of a loop its body."""
    return [name for found in CALLED.findall(line) for name in re.findall(r"[\w.\-]+", found)]


def _length(loop: str) -> int:
    return int(found[1]) if (found := TURNS.search(loop)) else 1


def table(rows: list[dict[str, Any]]) -> str:
    """A line per case."""
    last = rows[-1]
    lines = [
        f"`{last['command']}` and the like, for an {last['target']} that was not there; jax {last['versions']['jax']}.",
        "",
        "| case | environment | agents | kernels of an update | revision |",
        "|---|---|---|---|---|",
    ]
    for row in rows:
        endless = row["loops_of_unknown_length"]
        more = f" and those of more turns of {endless} loop{'s' * (endless > 1)}" if endless else ""
        kernels = f"{row['kernels']:,}{more}"
        lines.append(f"| {row['case']} | {row['env']} | {row['agents']} | {kernels} | {row['git_revision'][:7]} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
