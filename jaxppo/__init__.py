"""jaxppo: PPO and its relatives in JAX, as one pure function of a config and a key."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jaxppo.advantages import gae
    from jaxppo.agents import train_agents
    from jaxppo.checkpoint import load_state, save_state
    from jaxppo.config import Config, batch_axes
    from jaxppo.devices import use_cores
    from jaxppo.fields import ConfigError
    from jaxppo.learners import SGD, TrustRegion
    from jaxppo.networks import CNN, MLP, Custom
    from jaxppo.objectives import AdaptiveKL, Clip, FixedKL, Objective, PolicyGradient, Unclipped
    from jaxppo.policy import act, act_recurrent, evaluate, initial_carry, value
    from jaxppo.population import Population
    from jaxppo.presets import preset
    from jaxppo.results import load_run
    from jaxppo.sweeps import sweep
    from jaxppo.tables import load_results
    from jaxppo.training import init, train, update
    from jaxppo.types import Metrics, Policy, Result, TrainState

__version__ = "0.1.0"

# Imported on first use, so that `import jaxppo` and `jaxppo --help` don't wait for JAX.
_HOME = {
    "CNN": "networks",
    "MLP": "networks",
    "SGD": "learners",
    "AdaptiveKL": "objectives",
    "Clip": "objectives",
    "Config": "config",
    "Custom": "networks",
    "ConfigError": "fields",
    "FixedKL": "objectives",
    "Metrics": "types",
    "Objective": "objectives",
    "Policy": "types",
    "Population": "population",
    "PolicyGradient": "objectives",
    "Result": "types",
    "TrainState": "types",
    "TrustRegion": "learners",
    "Unclipped": "objectives",
    "act": "policy",
    "act_recurrent": "policy",
    "batch_axes": "config",
    "evaluate": "policy",
    "gae": "advantages",
    "init": "training",
    "initial_carry": "policy",
    "load_results": "tables",
    "load_run": "results",
    "load_state": "checkpoint",
    "preset": "presets",
    "save_state": "checkpoint",
    "sweep": "sweeps",
    "train": "training",
    "train_agents": "agents",
    "update": "training",
    "use_cores": "devices",
    "value": "policy",
}
_MODULES = ("compilation", "envs", "fields", "figures", "networks", "scoring", "stats")

__all__ = [
    "CNN",
    "MLP",
    "SGD",
    "AdaptiveKL",
    "Clip",
    "Config",
    "ConfigError",
    "Custom",
    "FixedKL",
    "Metrics",
    "Objective",
    "Policy",
    "PolicyGradient",
    "Population",
    "Result",
    "TrainState",
    "TrustRegion",
    "Unclipped",
    "__version__",
    "act",
    "act_recurrent",
    "batch_axes",
    "evaluate",
    "gae",
    "init",
    "initial_carry",
    "load_results",
    "load_run",
    "load_state",
    "preset",
    "save_state",
    "sweep",
    "train",
    "train_agents",
    "update",
    "use_cores",
    "value",
]


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return importlib.import_module(f"jaxppo.{name}")
    if name not in _HOME:
        raise AttributeError(f"module 'jaxppo' has no attribute {name!r}")
    module = importlib.import_module(f"jaxppo.{_HOME[name]}")
    return getattr(module, name)


def __dir__() -> list[str]:
    return __all__
