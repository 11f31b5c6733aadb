"""Environments: `make` turns a name or an environment object into an `Env`."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxppo.envs.base import Box, Discrete, Env, MultiDiscrete, TimeStep
from jaxppo.envs.brax import make as _make_brax
from jaxppo.envs.brax import names as _brax_names
from jaxppo.envs.gymnax import from_gymnax
from jaxppo.envs.gymnax import make as _make_gymnax
from jaxppo.envs.gymnax import names as _gymnax_names
from jaxppo.fields import ConfigError, check, is_a, suggest

__all__ = ["Box", "Discrete", "Env", "MultiDiscrete", "TimeStep", "make", "names", "override"]


def names() -> list[str]:
    """Every name that `make` knows: gymnax's, and those of the suites that are optional extras, installed or not."""
    return [*_gymnax_names(), *_brax_names()]


def make(env: Any) -> Env:
    """The `Env` for a registered name, a gymnax `Environment` object, or an `Env` itself.

    Raises:
        ConfigError: `env` is none of these, its name is unknown, or its spaces cannot be trained on.
    """
    if isinstance(env, Env):
        return env
    if isinstance(env, str):
        if env.startswith("brax/"):
            return _make_brax(env)
        allowed = "a name that gymnax knows, or a suite and a task, of which there is only brax, as in brax/hopper"
        check("/" not in env or env in _gymnax_names(), "env", env, allowed)
        return _make_gymnax(env)
    if is_a(env, "reset_env", "step_env", "is_truncated"):
        return from_gymnax(env)
    raise ConfigError("env", env, "the name of an environment, a gymnax Environment object, or a jaxppo.envs.Env")


def override(env: Env, overrides: Mapping[str, Any]) -> Any:
    """The environment's default parameters with some replaced, each cast to the type of the default.

    Raises:
        ConfigError: a name that the environment's parameters don't have.
    """
    if not overrides:
        return env.params
    defaults = vars(env.params) if hasattr(env.params, "replace") else {}
    for name, value in overrides.items():
        if name not in defaults:
            known = suggest(name, defaults) if defaults else "it has none"
            raise ConfigError("env_params", name, f"a parameter of {env.name}; {known}")
        if name == "max_steps_in_episode" and not _is_positive(value):
            raise ConfigError("env_params", f"{name}={value}", "at least 1 step")
        if isinstance(defaults[name], int) and not _is_whole(value):
            raise ConfigError("env_params", f"{name}={value}", f"a whole number below 2^31, as {name} is by default")
    return env.params.replace(**{name: _cast(value, defaults[name]) for name, value in overrides.items()})


def _is_positive(value: Any) -> bool:
    return isinstance(value, jax.core.Tracer) or bool(np.all(np.asarray(value) >= 1))


def _is_whole(value: Any) -> bool:
    if isinstance(value, jax.core.Tracer):
        return True
    return bool(np.all((np.mod(value, 1) == 0) & (np.abs(value) < 2**31)))


def _cast(value: Any, default: Any) -> Any:
    if isinstance(value, bool | int | float):
        return type(default)(value) if isinstance(default, bool | int | float) else jnp.asarray(value, default.dtype)
    return jnp.asarray(value, jax.dtypes.canonicalize_dtype(jnp.result_type(default)))
