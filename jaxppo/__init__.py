"""jaxppo: PPO and its relatives in JAX, as one pure function of a config and a key."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jaxppo.advantages import gae
    from jaxppo.config import Config, batch_axes
    from jaxppo.fields import ConfigError
    from jaxppo.learners import SGD, TrustRegion
    from jaxppo.networks import MLP
    from jaxppo.objectives import AdaptiveKL, Clip, FixedKL, Objective, PolicyGradient, Unclipped
    from jaxppo.policy import act, evaluate, value
    from jaxppo.presets import preset
    from jaxppo.training import init, train, update
    from jaxppo.types import Metrics, Policy, Result, TrainState

__version__ = "0.1.0"

# Imported on first use, so that `import jaxppo` and `jaxppo --help` don't wait for JAX.
_HOME = {
    "MLP": "networks",
    "SGD": "learners",
    "AdaptiveKL": "objectives",
    "Clip": "objectives",
    "Config": "config",
    "ConfigError": "fields",
    "FixedKL": "objectives",
    "Metrics": "types",
    "Objective": "objectives",
    "Policy": "types",
    "PolicyGradient": "objectives",
    "Result": "types",
    "TrainState": "types",
    "TrustRegion": "learners",
    "Unclipped": "objectives",
    "act": "policy",
    "batch_axes": "config",
    "evaluate": "policy",
    "gae": "advantages",
    "init": "training",
    "preset": "presets",
    "train": "training",
    "update": "training",
    "value": "policy",
}

__all__ = [
    "MLP",
    "SGD",
    "AdaptiveKL",
    "Clip",
    "Config",
    "ConfigError",
    "FixedKL",
    "Metrics",
    "Objective",
    "Policy",
    "PolicyGradient",
    "Result",
    "TrainState",
    "TrustRegion",
    "Unclipped",
    "__version__",
    "act",
    "batch_axes",
    "evaluate",
    "gae",
    "init",
    "preset",
    "train",
    "update",
    "value",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'jaxppo' has no attribute {name!r}")
    module = importlib.import_module(f"jaxppo.{_HOME[name]}")
    return getattr(module, name)


def __dir__() -> list[str]:
    return __all__
