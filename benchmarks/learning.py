"""How well the presets learn: trains each over several seeds at once and keeps the numbers and a picture.

    python benchmarks/learning.py [--envs CartPole-v1 …] [--seeds 5] [--out benchmarks/results/learning]

A seed's score is its mean episode return over the last 10 % of the updates.
"""

import argparse
import json
import platform
import time
from pathlib import Path

import jax
import matplotlib

matplotlib.use("Agg")
import numpy as np
from compare import revision
from matplotlib import pyplot as plt

import jaxppo
from jaxppo.presets import PRESETS


def main() -> None:
    parser = argparse.ArgumentParser(description="Scores of the presets over several seeds.")
    parser.add_argument("--envs", nargs="+", choices=PRESETS, default=list(PRESETS))
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--out", type=Path, help="write OUT.jsonl and OUT.png")
    args = parser.parse_args()
    results = {env: measure(env, args.seeds) for env in args.envs}
    if args.out:
        args.out.with_suffix(".jsonl").write_text("".join(json.dumps(row) + "\n" for row, *_ in results.values()))
        draw(args.out.with_suffix(".png"), {env: curves for env, (_, *curves) in results.items()}, args.seeds)


def measure(env: str, seeds: int, method: str = "auto") -> tuple[dict, np.ndarray, np.ndarray]:
    """Train the preset; the scores, the steps [num_updates], and the returns [seeds, num_updates]."""
    config = jaxppo.preset(env, method)
    began = time.perf_counter()
    result = jax.block_until_ready(
        jax.vmap(jaxppo.train, in_axes=(None, 0))(config, jax.random.split(jax.random.key(0), seeds))
    )
    seconds = time.perf_counter() - began
    returns = np.asarray(result.metrics.episode_return)
    tail = max(1, config.num_updates // 10)
    scores = np.nanmean(returns[:, -tail:], axis=1)
    row = {
        "env": env,
        "steps": config.num_updates * config.batch_size,
        "scores": [round(float(score), 3) for score in scores],
        "mean": round(float(scores.mean()), 3),
        "seconds_with_compilation": round(seconds, 1),
        "jax": jax.__version__,
        "device": f"{jax.devices()[0].device_kind}, {platform.machine()}",
        "git_revision": revision(),
    }
    print(json.dumps(row), flush=True)
    return row, np.asarray(result.metrics.env_steps[0]), returns


def in_bins(steps: np.ndarray, returns: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Up to 60 bins of updates: their mean thousand steps, and each seed's mean return in them, [seeds, bins]."""
    bins = np.array_split(np.arange(len(steps)), min(60, len(steps)))
    x = np.array([steps[each].mean() / 1e3 for each in bins])
    return x, np.stack([np.nanmean(returns[:, each], axis=1) for each in bins], axis=1)


def draw(path: Path, curves: dict[str, list[np.ndarray]], seeds: int) -> None:
    """One panel per environment: the mean over seeds of binned returns, and their range."""
    figure, axes = plt.subplots(1, len(curves), figsize=(3.2 * len(curves), 2.9), layout="constrained", squeeze=False)
    for axis, (env, (steps, returns)) in zip(axes[0], curves.items(), strict=True):
        x, binned = in_bins(steps, returns)
        axis.fill_between(x, binned.min(axis=0), binned.max(axis=0), alpha=0.25, color="#0072B2", linewidth=0)
        axis.plot(x, binned.mean(axis=0), color="#0072B2")
        axis.set_title(env, fontsize=10)
        axis.set_xlabel("thousand environment steps", fontsize=9)
        axis.spines[["top", "right"]].set_visible(False)
        axis.grid(alpha=0.3)
    axes[0, 0].set_ylabel(f"episode return\n(mean and range of {seeds} seeds)", fontsize=9)
    figure.savefig(path, dpi=110)
    plt.close(figure)


if __name__ == "__main__":
    main()
