"""Every method on the same environments, each with its preset: from the policy gradient to PPO and TRPO.

    python benchmarks/methods.py [--envs E …] [--methods clip …] [--seeds 5] [--out benchmarks/results/methods]

A seed's score is its mean episode return over the last 10 % of the updates.
"""

import argparse
from pathlib import Path

import numpy as np
import record
from learning import half_interval, in_bins, measure
from matplotlib import pyplot as plt

import jaxppo
from jaxppo.presets import METHODS

ENVS = ("CartPole-v1", "Pendulum-v1")

# Okabe and Ito's palette, which colour-blind readers can tell apart; the line styles help in grey.
STYLES = {
    "clip": ("#0072B2", "-"),
    "adaptive-kl": ("#009E73", "-"),
    "fixed-kl": ("#56B4E9", "--"),
    "trpo": ("#D55E00", "-"),
    "unclipped": ("#CC79A7", "--"),
    "a2c": ("#E69F00", "-"),
    "policy-gradient": ("#000000", ":"),
    "reinforce": ("#888888", "-."),
}

Curves = dict[tuple[str, str], tuple[np.ndarray, np.ndarray]]


def main() -> None:
    parser = argparse.ArgumentParser(description="Every method with its preset, over several seeds.")
    parser.add_argument("--envs", nargs="+", default=list(ENVS))
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(STYLES))
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--out", type=Path, help="write OUT.jsonl and OUT.png")
    args = parser.parse_args()
    rows, curves = [], {}
    jaxppo.use_cores()
    for env in args.envs:
        for method in args.methods:
            print(f"{method}: ", end="", flush=True)
            row, steps, returns = measure(env, args.seeds, method)
            rows.append({"method": method, **row})
            curves[env, method] = in_bins(steps, returns)
    if args.out:
        record.write(args.out.with_suffix(".jsonl"), rows)
        draw(args.out.with_suffix(".png"), curves, args.seeds)


def draw(path: Path, curves: Curves, seeds: int) -> None:
    """A panel per environment: the mean over the seeds, and its 95 % confidence interval by Student's t."""
    envs = list(dict.fromkeys(env for env, _ in curves))
    figure, axes = plt.subplots(1, len(envs), figsize=(4.6 * len(envs), 3.4), layout="constrained", squeeze=False)
    for axis, env in zip(axes[0], envs, strict=True):
        for method, (color, style) in STYLES.items():
            if (env, method) not in curves:
                continue
            x, returns = curves[env, method]
            mean, half = returns.mean(axis=0), half_interval(returns)
            axis.fill_between(x, mean - half, mean + half, color=color, alpha=0.15, linewidth=0)
            axis.plot(x, mean, color=color, linestyle=style, label=method, linewidth=1.5)
        best = max(returns.max() for (name, _), (_, returns) in curves.items() if name == env)
        worst = min(returns.mean(axis=0).min() for (name, _), (_, returns) in curves.items() if name == env)
        axis.set_ylim(worst - 0.05 * (best - worst), best + 0.05 * (best - worst))
        axis.set_title(env, fontsize=10)
        axis.set_xlabel("thousand environment steps", fontsize=9)
        axis.spines[["top", "right"]].set_visible(False)
        axis.grid(alpha=0.3)
    axes[0, 0].set_ylabel(f"episode return\n(mean of {seeds} seeds, 95 % interval)", fontsize=9)
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside right center", fontsize=8, frameon=False)
    figure.savefig(path, dpi=110)
    plt.close(figure)


if __name__ == "__main__":
    main()
