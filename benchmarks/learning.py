"""How well the presets learn: trains each over several seeds at once and keeps the numbers, a table and a picture.

    python benchmarks/learning.py [--envs CartPole-v1 …] [--network mlp] [--seeds 5] [--out benchmarks/results/learning]

A seed's score is its mean episode return over the last 10 % of the updates. Lines of OUT.jsonl about other environments
stay; the table and the picture are made of all of them.
"""

import argparse
import json
import time
from pathlib import Path

import jax
import matplotlib

matplotlib.use("Agg")
import numpy as np
import record
from compare import revision
from matplotlib import pyplot as plt
from scipy import stats

import jaxppo
from jaxppo.compilation import compiler_options
from jaxppo.cores import cpu_name
from jaxppo.presets import PRESETS

# What there is to reach, and who says so.
LEVELS = {
    "CartPole-v1": "500, the ceiling",
    "Acrobot-v1": "−80 (CleanRL, gymnax-blines)",
    "Pendulum-v1": "−200 (rl-zoo), about −140 at best",
    "MountainCar-v0": "−110 (rl-zoo), −98 at best",
    "MountainCarContinuous-v0": "88 (rl-zoo)",
    "Asterix-MinAtar": "15 to 20 by 1e7 (gymnax-blines, pgx)",
    "Breakout-MinAtar": "8 by 1e6, 35 to 50 by 1e7 (PureJaxRL, pgx)",
    "Freeway-MinAtar": "55 to 63 by 1e7 (gymnax-blines, pgx)",
    "Seaquest-MinAtar": "no level known; about 0.1 untrained, measured here",
    "SpaceInvaders-MinAtar": "58 by 1e6, 130 to 150 by 1e7 (gymnax-blines, pgx)",
    "Catch-bsuite": "1, the ceiling",
    "DeepSea-bsuite": "0.99, the ceiling of 8 × 8",
    "MemoryChain-bsuite": "1, the ceiling; 0 without memory",
    "UmbrellaChain-bsuite": "1, the ceiling",
    "DiscountingChain-bsuite": "1.1, the ceiling",
    "SimpleBandit-bsuite": "0.5, the ceiling",
    "FourRooms-misc": "1, the ceiling",
    "FrozenLake-misc": "0.744, the optimum by dynamic programming",
    "BernoulliBandit-misc": "about 90, the ceiling",
    "GaussianBandit-misc": "about 8, the ceiling",
    "Reacher-misc": "56 or more",
    "Swimmer-misc": "431 or more",
    "Pong-misc": "1000, the ceiling",
    "MetaMaze-misc": "51 without memory, measured here",
    "PointRobot-misc": "12.6 for one who knows the goal; 4.4 without memory, measured here",
}


def main() -> None:
    parser = argparse.ArgumentParser(description="Scores of the presets over several seeds.")
    parser.add_argument("--envs", nargs="+", choices=PRESETS, default=list(PRESETS))
    parser.add_argument("--network", choices=("mlp", "cnn"), help="in place of the preset's")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--out", type=Path, help="write OUT.jsonl, OUT.md and OUT.png")
    args = parser.parse_args()
    settings = {"network": args.network} if args.network else {}
    jaxppo.use_cores()
    for env in args.envs:
        row, steps, returns = measure(env, args.seeds, **settings)
        if args.out:
            keep(args.out.with_suffix(".jsonl"), {**row, **settings, **curve(steps, returns)})
    if args.out:
        rows = record.read(args.out.with_suffix(".jsonl"))
        args.out.with_suffix(".md").write_text(table(rows))
        draw(args.out.with_suffix(".png"), rows)


def measure(env: str, seeds: int, method: str = "auto", **settings: str) -> tuple[dict, np.ndarray, np.ndarray]:
    """Train the preset; the scores, the steps [num_updates], and the returns [seeds, num_updates]."""
    return train(env, jaxppo.preset(env, method, **settings), seeds)


def train(name: str, config: jaxppo.Config, seeds: int) -> tuple[dict, np.ndarray, np.ndarray]:
    """Train with `config`; see `measure`."""
    keys = jax.random.split(jax.random.key(0), seeds)
    began = time.perf_counter()
    program = jax.jit(jaxppo.train_agents, compiler_options=compiler_options(config)).lower(config, keys).compile()
    compiled = time.perf_counter()
    result = jax.block_until_ready(program(config, keys))
    ended = time.perf_counter()
    returns = np.asarray(result.metrics.episode_return)
    tail = max(1, config.num_updates // 10)
    scores = np.nanmean(returns[:, -tail:], axis=1)
    row = {
        "env": name,
        "steps": config.num_updates * config.batch_size,
        "scores": [round(float(score), 3) for score in scores],
        "mean": round(float(scores.mean()), 3),
        "half_interval": round(float(half_interval(scores)), 3),
        "compile_seconds": round(compiled - began, 1),
        "train_seconds": round(ended - compiled, 1),
        "jax": jax.__version__,
        "device": cpu_name() if jax.default_backend() == "cpu" else jax.devices()[0].device_kind,
        "git_revision": revision(),
    }
    print(json.dumps(row), flush=True)
    return row, np.asarray(result.metrics.env_steps[0]), returns


def half_interval(scores: np.ndarray) -> np.ndarray:
    """Half the width of the mean's 95 % confidence interval over the first axis, by Student's t."""
    seeds = len(scores)
    return stats.t.ppf(0.975, seeds - 1) * scores.std(axis=0, ddof=1) / np.sqrt(seeds)


def in_bins(steps: np.ndarray, returns: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Up to 60 bins of updates: their mean thousand steps, and each seed's mean return in them, [seeds, bins].

    Bins in which a seed ended no episode are left out.
    """
    bins = np.array_split(np.arange(len(steps)), min(60, len(steps)))
    bins = [each for each in bins if np.all(np.any(np.isfinite(returns[:, each]), axis=1))]
    x = np.array([steps[each].mean() / 1e3 for each in bins])
    return x, np.stack([np.nanmean(returns[:, each], axis=1) for each in bins], axis=1)


def curve(steps: np.ndarray, returns: np.ndarray) -> dict[str, list]:
    """The binned curve, for a file."""
    x, binned = in_bins(steps, returns)
    return {"thousand_steps": x.round(2).tolist(), "returns": binned.round(3).tolist()}


def keep(path: Path, row: dict) -> None:
    """Put the row in place of the one for the same environment and network, in the order of the presets."""
    same = (row["env"], row.get("network"))
    rows = [other for other in record.read(path) if (other["env"], other.get("network")) != same]
    rows = sorted([*rows, row], key=lambda each: (list(PRESETS).index(each["env"]), each.get("network", "")))
    record.write(path, rows)


def label(row: dict) -> str:
    return row["env"] + (f" ({row['network']})" if "network" in row else "")


def table(rows: list[dict]) -> str:
    """A line of Markdown per row."""
    lines = [
        f"| {label(row)} | {row['steps'] / 1e3:,.0f}k | {row['mean']:.4g} ± {row['half_interval']:.2g} "
        f"| {min(row['scores']):.4g} … {max(row['scores']):.4g} | {row['train_seconds']:.0f} s "
        f"| {LEVELS.get(row['env'], '')} |"
        for row in rows
    ]
    head = "| environment | steps | mean, 95 % interval | worst … best seed | time, all seeds | to reach |"
    return "\n".join([head, "|---|---|---|---|---|---|", *lines, ""])


def draw(path: Path, rows: list[dict]) -> None:
    """One panel per row: the mean over seeds of binned returns, and its 95 % confidence interval."""
    columns = min(6, len(rows))
    lines = -(-len(rows) // columns)
    figure, axes = plt.subplots(
        lines, columns, figsize=(2.5 * columns, 2.1 * lines), layout="constrained", squeeze=False
    )
    for axis in axes.flat[len(rows) :]:
        axis.axis("off")
    for axis, row in zip(axes.flat, rows, strict=False):
        x, returns = np.array(row["thousand_steps"]), np.array(row["returns"])
        mean, half = returns.mean(axis=0), half_interval(returns)
        axis.fill_between(x, mean - half, mean + half, alpha=0.25, color="#0072B2", linewidth=0)
        axis.plot(x, mean, color="#0072B2")
        axis.set_title(label(row), fontsize=9)
        axis.tick_params(labelsize=8)
        axis.locator_params(nbins=4)
        axis.spines[["top", "right"]].set_visible(False)
        axis.grid(alpha=0.3)
    figure.supxlabel("thousand environment steps", fontsize=9)
    figure.supylabel(f"episode return (mean of {len(rows[0]['scores'])} seeds, 95 % interval)", fontsize=9)
    figure.savefig(path, dpi=110)
    plt.close(figure)


if __name__ == "__main__":
    main()
