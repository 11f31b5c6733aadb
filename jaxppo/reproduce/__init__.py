"""Published comparisons, trained again and put beside the published numbers: a module for each."""

from typing import Any

from jaxppo.fields import check
from jaxppo.reproduce import figure3, minatar, scaling, table1
from jaxppo.reproduce.experiment import Experiment, Prepared

__all__ = ["EXPERIMENTS", "QUICK_STEPS", "Experiment", "Prepared", "prepare"]

QUICK_STEPS = 16_384
ONE_SEED = {"total_timesteps": QUICK_STEPS, "seeds": 1}
SWEEP = ("seeds", "total_timesteps")

EXPERIMENTS = {
    "table1": Experiment(
        "the surrogates of PPO: clipping, adaptive and fixed KL penalties, and none (PPO paper, table 1)",
        table1.prepare,
        ("suite", *SWEEP),
        ONE_SEED,
    ),
    "figure3": Experiment(
        "clip, adaptive KL, A2C, policy gradient and TRPO on the same tasks (after the PPO paper's figure 3)",
        figure3.prepare,
        ("suite", *SWEEP),
        ONE_SEED,
    ),
    "minatar": Experiment("learning curves of PPO-clip on the MinAtar games", minatar.prepare, SWEEP, ONE_SEED),
    "scaling": Experiment(
        "wall time of training 1, 2, 4, … agents at once (after PureJaxRL's plot)",
        scaling.prepare,
        ("agents", "total_timesteps"),
        {"total_timesteps": QUICK_STEPS, "agents": 4},
    ),
}


def prepare(name: str, **options: Any) -> Prepared:
    """An experiment, ready to be trained.

    Args:
        name: a key of `EXPERIMENTS`.
        options: of those that it has.

    Raises:
        ConfigError: an unknown name, an option that the experiment doesn't have, or a bad one.
    """
    check(name in EXPERIMENTS, "name", name, f"one of {', '.join(EXPERIMENTS)}")
    experiment = EXPERIMENTS[name]
    for option, value in options.items():
        known = ", ".join(experiment.options)
        check(option in experiment.options, option, value, f"left out: {name} has {known}")
    return experiment.prepare(**options)
