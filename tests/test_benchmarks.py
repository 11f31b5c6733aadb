"""The benchmarks' bookkeeping, on made-up measurements: nothing here measures anything."""

import json
from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def _on_path(monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1] / "benchmarks"))


def made_up(trainer, case, steps_per_s, **changes):
    """A line of a benchmark."""
    return {
        "trainer": trainer,
        "case": case,
        "env": "CartPole-v1",
        "steps": 1000,
        "steps_per_s": steps_per_s,
        "seconds": [0.1],
        "compile_s": 2.04,
        "peak_mib": 300,
        "sampled_return": 41.23,
        "curve": {"seconds": [0.1, 0.2], "returns": [20.0, 40.0]},
        "versions": {trainer: "1.2.3"},
        "device": "cpu",
        "machine": "a machine",
        "git_revision": "abc",
        "command": "python",
        **changes,
    }


def test_table_compares_within_a_case():
    """The ratio is jaxppo's steps per second over the peer's of the same case; what was not measured is left empty.

    Ready is who has started and compiled, if it compiles.
    """
    import report

    rows = [
        made_up("jaxppo", "A", 9000),
        made_up("sb3", "A", 3000, compile_s=None, start_s=1.23),
        made_up("jaxppo", "B", 500),
        made_up("rejax", "B", 1000, standard_error=2.06, start_s=1.5),
        made_up("rejax", "C", 7),
    ]
    lines = report.table(rows).splitlines()
    assert len({len(line) for line in lines}) == 1
    cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines]
    assert [row[4] for row in cells[2:]] == ["", "3.00 ×", "", "0.50 ×", ""]
    assert [row[6] for row in cells[2:]] == ["", "1.2", "", "3.5", ""]
    assert cells[5][8] == "41.2 ± 2.1"
    assert cells[3] == ["A", "CartPole-v1", "sb3", "3,000", "3.00 ×", "", "1.2", "300", "41.2", "1,000"]


def test_report_draws_every_measurement(tmp_path):
    """A bar as high as its steps per second for each row, its ratio above it, and the table and pictures as files."""
    import report
    from matplotlib import pyplot as plt

    rows = [made_up("jaxppo", "A", 9000), made_up("rejax", "A", 3000), made_up("jaxppo", "F", 500)]
    figure, axis = plt.subplots()
    report.draw_bars(axis, rows, ["A", "F"])
    assert [patch.get_height() for patch in axis.patches] == [9000, 3000, 500]
    assert [text.get_text() for text in axis.texts] == ["3.00×"]
    plt.close(figure)
    lines = tmp_path / "some.jsonl"
    lines.write_text("".join(json.dumps(row) + "\n" for row in rows))
    report.write(lines)
    assert "- Versions: jaxppo: jaxppo 1.2.3; rejax: rejax 1.2.3.\n" in lines.with_suffix(".md").read_text()
    assert lines.with_suffix(".png").read_bytes().startswith(b"\x89PNG")
    assert "<svg" in lines.with_suffix(".svg").read_text()


def test_curve_is_thinned_by_means():
    """60 points become the means of 30 pairs, the NaN before them left out; without points, an empty curve."""
    import record

    pairs = [1.5 + 2 * i for i in range(30)]
    assert record.curve(range(61), [float("nan"), *range(1, 61)]) == {"seconds": pairs, "returns": pairs}
    assert record.curve([1.0], [float("nan")]) == {"seconds": [], "returns": []}


def test_a_failing_trainer_is_told_of_and_the_others_go_on(tmp_path, monkeypatch, capfd):
    """And a later run replaces the line of the same case and trainer alone."""
    import compare

    (tmp_path / "fine.py").write_text(
        f"import json, time; print(json.dumps({{**{made_up('rejax', 'A', 3000)!r}, 'began_at': time.time()}}))"
    )
    (tmp_path / "broken.py").write_text("raise SystemExit('no such device')")
    monkeypatch.setitem(compare.TRAINERS, "jaxppo", compare.Trainer((str(tmp_path / "broken.py"),), "AB", None))
    monkeypatch.setitem(compare.TRAINERS, "rejax", compare.Trainer((str(tmp_path / "fine.py"),), "A", None))
    out = tmp_path / "out.jsonl"
    out.write_text("".join(json.dumps(made_up(*each)) + "\n" for each in (("sbx", "A", 1), ("rejax", "A", 2))))
    compare.main(["--trainers", "jaxppo", "rejax", "--cases", "A", "B", "--out", str(out)])
    printed = capfd.readouterr()
    assert printed.err.splitlines() == ["A jaxppo: failed: no such device", "B jaxppo: failed: no such device"]
    assert [json.loads(line)["steps_per_s"] for line in printed.out.splitlines()] == [3000]
    kept = [json.loads(line) for line in out.read_text().splitlines()]
    assert [(row["trainer"], row["steps_per_s"]) for row in kept] == [("rejax", 3000), ("sbx", 1)]
    assert 0 < kept[0]["start_s"] < 60
    assert "began_at" not in kept[0]


def test_a_point_of_the_cost_is_measured():
    """A tiny one, for its keys."""
    import scaling

    row = scaling.measure({"study": "length", "case": "A", "agents": 1, "steps": 1024})
    assert len(row["seconds"]) == scaling.REPEATS
    assert {"steps_per_s", "peak_mib", "versions", "device", "git_revision"} <= row.keys()


def test_a_line_has_the_mean_of_the_agents_and_its_error(monkeypatch):
    """The standard error is that of scipy; a single agent has none."""
    import numpy as np
    import record
    from scipy import stats

    monkeypatch.setattr(record, "version", lambda package: "1.2.3")
    rest = {
        "steps": 8,
        "timed_steps": 8,
        "seconds": [2.0],
        "began_at": 0.0,
        "compile_s": None,
        "peak_mib": 1,
        "curve": {},
    }
    rest |= {"packages": (), "device": "cpu"}
    returns = [1.0, 5.0, 3.0, 4.5]
    several = json.loads(record.line("jaxppo", "A", sampled_returns=returns, **rest))
    assert several["sampled_return"] == round(np.mean(returns), 2)
    assert several["standard_error"] == round(stats.sem(returns), 2)
    assert several["trained_agents"] == 4
    assert json.loads(record.line("brax", "F", sampled_returns=[7.0], **rest))["standard_error"] is None


def test_timed_runs_are_all_kept():
    """One result and one time for each seed after the first, which warms up."""
    import record

    seeds = []
    seconds, results = record.timed(lambda seed: seeds.append(seed) or seed**2, 3)
    assert (seeds, results, len(seconds)) == ([0, 1, 2, 3], [1, 4, 9], 3)


PROGRAM = """
%inner (p: (s32[], f32[4])) -> (s32[], f32[4]) {
  %p = (s32[], f32[4]{0}) parameter(0)
  %x = f32[4]{0} get-tuple-element(%p), index=1
  %first = f32[4]{0} fusion(%x), kind=kLoop, calls=%fused
  ROOT %both = (s32[], f32[4]{0}) tuple(%x, %first)
}

%this_way (p: f32[4]) -> f32[4] {
  ROOT %copied = f32[4]{0} copy(%p)
}

%that_way (p: f32[4]) -> f32[4] {
  %copied = f32[4]{0} copy(%p)
  ROOT %sent = f32[4]{0} custom-call(%copied), custom_call_target="__gpu$xla.gpu.triton"
}

%body (p: (s32[], f32[4])) -> (s32[], f32[4]) {
  %p = (s32[], f32[4]{0}) parameter(0)
  %begun = ((f32[4]{0}), f32[4]{0}, s32[]) fusion-start(%p), kind=kLoop, calls=%fused
  %ended = f32[4]{0} fusion-done(%begun)
  %sent = ((f32[4]{0:S(5)}), f32[4]{0}, u32[]) copy-start(%p)
  %received = f32[4]{0} copy-done(%sent)
  %seen = f32[2,2]{1,0} bitcast(%received)
  %called = f32[4]{0} call(%received), to_apply=%this_way
  %loop = (s32[], f32[4]{0}) while(%p), condition=%more, body=%inner, backend_config={"known_trip_count":{"n":"3"}}
  %endless = ((s32[], (f32[4]{0})), f32[4]{0}) while(%p), condition=%more, body=%inner
  ROOT %chosen = f32[4]{0} conditional(%i, %ended, %ended), branch_computations={%this_way, %that_way}
}

ENTRY %main (p: f32[4]) -> f32[4] {
  %p = f32[4]{0} parameter(0)
  %before = f32[4]{0} fusion(%p), kind=kLoop, calls=%fused
  %other = (s32[], f32[4]{0}) while(%p), condition=%more, body=%inner, backend_config={"known_trip_count":{"n":"3"}}
  ROOT %loop = (s32[], f32[4]{0}) while(%p), condition=%more, body=%body, backend_config={"known_trip_count":{"n":"5"}}
}
"""


def test_kernels_of_a_turn():
    """Two that begin and end, a call, three turns of a loop, one of unknown length, the longer of two branches."""
    import launches

    assert launches.count(PROGRAM, turns=5) == (2 + 1 + 3 + 1 + 2, 1)
    assert launches.count(PROGRAM, turns=3) == (1, 0)
    with pytest.raises(ValueError, match="0 loops of 7 turns"):
        launches.count(PROGRAM, turns=7)
