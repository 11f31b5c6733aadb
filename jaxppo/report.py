"""The report of a sweep: one HTML page that needs no other file, with its figures and tables beside it too."""

import base64
import html
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from jaxppo import stats
from jaxppo.best import best_settings, to_toml, write_best
from jaxppo.fields import ConfigError
from jaxppo.figures import draw_all, save
from jaxppo.files import write_whole
from jaxppo.scoring import AGGREGATES, aggregate, perturbed, score_table, shared_settings, summarise, swept, texts
from jaxppo.tables import Results

__all__ = ["write_report"]

Best = Mapping[str, Mapping[str, Any]]
SHOWN = 20  # rows of a table; the rest can be unfolded
STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #222; max-width: 1100px; margin: 2em auto; padding: 0 1em; }
h2 { margin-top: 2em; border-bottom: 1px solid #ddd; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: 13px; margin: 0.5em 0; }
th, td { padding: 0.2em 0.8em 0.2em 0; text-align: right; border-bottom: 1px solid #eee; vertical-align: top; }
th:first-child, td:first-child, .text { text-align: left; }
div.wide { overflow-x: auto; }
figure { margin: 2em 0; }
img { max-width: 100%; }
figcaption, .note { color: #555; font-size: 13px; }
pre { background: #f6f6f6; padding: 0.8em; overflow-x: auto; font-size: 13px; }
"""
HOW = (
    "An agent's score is its mean episode return over the last tenth of its updates. Intervals are 95 % bootstrap "
    "percentile intervals over seeds, which are too narrow where seeds are few, and take no account of the choice of "
    "the best among many settings. Agents without a score, such as diverged ones, are in no mean, and settings with "
    "diverged agents stand after the others. IQM is the interquartile mean. Train time is that of the program that the "
    "agents trained in, with all its other agents, compilation apart."
)
AGGREGATED = (
    "Scores normalised in each environment, to 0 for a random policy, as the first updates tell, and to 1 for the mean "
    "score of the environment's best setting. The last column is the probability that a run of the first setting does "
    "better than a run of this one, on average over environments."
)
POPULATION = (
    "The agents are a population: many go on from the same ancestors and are not independent, so that intervals are "
    "too narrow, and settings named here are those that agents began with; the best are those that an agent ended with."
)


def write_report(results: Results, out: Path) -> None:
    """Write the page to `out`; beside it figures/, each as PNG and SVG, summary.csv and best_ENV.toml.

    Raises:
        ConfigError: no agent has a score yet, or the files can't be written.
    """
    summary, best = summarise(results), best_settings(results)
    try:
        figures = out.parent / "figures"
        figures.mkdir(parents=True, exist_ok=True)
        write_whole(out.parent / "summary.csv", summary.to_csv(index=False).encode())
        write_best(best, out.parent)
        drawn = []
        for name, (figure, caption) in draw_all(results).items():
            save(figure, figures / name)
            drawn.append(_figure((figures / f"{name}.svg").read_bytes(), caption))
        write_whole(out, _page(results, summary, best, drawn).encode())
    except OSError as error:
        raise ConfigError("out", out, f"a file that can be written; {error.strerror}") from error


def _page(results: Results, summary: pd.DataFrame, best: Best, figures: Sequence[str]) -> str:
    title = f"Sweep of {', '.join(map(str, dict.fromkeys(results.agents['env'])))}"
    parts = [
        f'<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n<title>{html.escape(title)}</title>',
        f"<style>{STYLE}</style>\n</head>\n<body>\n<h1>{html.escape(title)}</h1>",
        _provenance(results),
        "<h2>Settings</h2>",
        *_settings(results, summary),
        _note(HOW),
        *([_note(POPULATION)] if perturbed(results) else []),
        *_aggregates(results),
        "<h2>Figures</h2>",
        *figures,
        "<h2>Best settings</h2>",
        *_best(results, best),
        "</body>\n</html>\n",
    ]
    return "\n".join(parts)


def _provenance(results: Results) -> str:
    """What was run, with what, and how it ended."""
    manifest, agents = results.manifest, results.agents
    device, versions = manifest.get("device") or {}, manifest.get("versions") or {}
    scored = len(score_table(results))
    rows = {
        "command": manifest.get("command"),
        "status": manifest.get("status"),
        "date": manifest.get("date"),
        "agents": f"{len(agents)}, of which {scored} have a score" if scored < len(agents) else f"{scored}",
        "settings": agents["setting"].nunique(),
        "environments": agents["env"].nunique(),
        "seeds": agents["seed"].nunique(),
        "device": f"{device['count']} × {device['kind']} ({device['platform']})" if device else None,
        "versions": " ".join(f"{name} {value}" for name, value in versions.items()),
        "git revision": manifest.get("git_revision"),
    }
    if (agents["status"] == "diverged").any():
        rows["diverged"] = f"{(agents['status'] == 'diverged').sum()} agents"
    known = [(name, str(value)) for name, value in rows.items() if value is not None and value != ""]
    return _table((), known, text=2)


def _settings(results: Results, summary: pd.DataFrame) -> Iterable[str]:
    """A table for each environment."""
    fields = swept(results.agents)
    shown = {name: texts(summary[name]) for name in fields}
    counts = ("seeds", "diverged") if summary["diverged"].any() else ("seeds",)
    head = (*fields, *counts, "mean score, 95 % interval", "IQM", "worst … best seed", "env steps", "train time")
    for env, rows in summary.groupby("env", sort=False):
        cells = []
        for i, (_, row) in zip(rows.index.to_numpy(int), rows.iterrows(), strict=True):
            interval = "" if np.isnan(row["low"]) else f" [{_number(row['low'])}, {_number(row['high'])}]"
            extremes = f"{_number(row['worst'])} … {_number(row['best'])}"
            chosen = [str(shown[name].loc[i]) for name in fields]
            score = [
                *(str(row[name]) for name in counts),
                _number(row["mean"]) + interval,
                _number(row["iqm"]),
                extremes,
            ]
            cells.append((*chosen, *score, f"{row['env_steps']:,}", f"{row['train_seconds']:,.1f} s"))
        yield f"<h3>{html.escape(str(env))}</h3>\n" + _folded(head, cells, text=len(fields))


def _aggregates(results: Results) -> Iterable[str]:
    """A table of aggregates, where there is more than one environment."""
    if results.agents["env"].nunique() < 2:
        return
    table = score_table(results)
    shared, rows = shared_settings(table), aggregate(table)
    yield "<h2>Over all environments</h2>"
    left = []
    lacking = table["label"].nunique() - len(rows)
    if lacking:
        left.append(f" Left out: {lacking} settings without a score in some of the environments.")
    hopeless = sorted(set(table.loc[table["normalised"].isna(), "env"]))
    if hopeless:
        left.append(f" Left out, since no setting is better than random: {html.escape(', '.join(hopeless))}.")
    yield _note(AGGREGATED + "".join(left))
    if not rows:
        return
    first = next(iter(rows))
    cells = [
        (
            label or "all agents",
            *(_interval(estimate) for estimate in estimates.values()),
            "" if label == first else f"{stats.probability_of_improvement(shared[first], shared[label]):.2f}",
        )
        for label, estimates in rows.items()
    ]
    yield _folded(("setting", *AGGREGATES, "P(first better)"), cells, text=1)


def _best(results: Results, best: Best) -> Iterable[str]:
    """A TOML document for each environment."""
    yield _note(
        "By mean score, of settings without diverged agents if there are any; <code>jaxppo train --config FILE</code> "
        "takes these, which are in best_ENV.toml too."
    )
    for env in dict.fromkeys(results.agents["env"]):
        yield f"<h3>{html.escape(env)}</h3>"
        lacking = "No score, or made of objects in Python, which a file can't hold."
        yield f"<pre>{html.escape(to_toml(best[env]))}</pre>" if env in best else _note(lacking)


def _figure(svg: bytes, caption: str) -> str:
    """As an image of its own, in which names of parts can't clash with those of other figures."""
    text = html.escape(caption)
    data = base64.b64encode(svg).decode()
    return f'<figure><img alt="{text}" src="data:image/svg+xml;base64,{data}"><figcaption>{text}</figcaption></figure>'


def _folded(head: Sequence[str], rows: Sequence[Sequence[str]], text: int) -> str:
    """A table, whose rows beyond the first few are folded away."""
    table = _table(head, rows[:SHOWN], text)
    if len(rows) <= SHOWN:
        return table
    rest = _table(head, rows[SHOWN:], text)
    return f"{table}\n<details><summary>{len(rows) - SHOWN} more</summary>\n{rest}\n</details>"


def _table(head: Sequence[str], rows: Iterable[Sequence[str]], text: int) -> str:
    """The first `text` columns are text, the others numbers."""

    def line(cells: Sequence[str], tag: str) -> str:
        kinds = [f'<{tag} class="text">' if i < text else f"<{tag}>" for i in range(len(cells))]
        return "<tr>" + "".join(f"{kind}{html.escape(cell)}</{tag}>" for kind, cell in zip(kinds, cells, strict=True))

    lines = [line(head, "th")] if head else []
    return '<div class="wide"><table>\n' + "\n".join([*lines, *(line(row, "td") for row in rows)]) + "\n</table></div>"


def _note(markup: str) -> str:
    return f'<p class="note">{markup}</p>'


def _interval(estimate: stats.Estimate) -> str:
    value = f"{estimate.value:.3f}"
    return value if np.isnan(estimate.low) else f"{value} [{estimate.low:.3f}, {estimate.high:.3f}]"


def _number(value: float) -> str:
    """With four digits, and no exponent for the returns of common environments."""
    return f"{value:.0f}" if 1000 <= abs(value) < 1e7 else f"{value:.4g}"
