"""gymnax environments (1.0 or later) behind the protocol of `jaxppo.envs.base`."""

import functools
import importlib
import importlib.util
import math
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxppo.envs.base import Box, Discrete, Env, MultiDiscrete, Space, TimeStep, some_action, strong
from jaxppo.envs.postponed import postponed
from jaxppo.envs.zeros import CALLS
from jaxppo.fields import ConfigError, suggest
from jaxppo.interop import default_promotion

__all__ = ["from_gymnax", "make", "names"]

# What gymnax can draw: by itself, and with pygame's help.
CLASSIC = {"Acrobot-v1", "CartPole-v1", "MountainCar-v0", "MountainCarContinuous-v0", "Pendulum-v1"}
PLAIN = {
    *(f"{name}-MinAtar" for name in ("Asterix", "Breakout", "Freeway", "Seaquest", "SpaceInvaders")),
    "Catch-bsuite",
    "FourRooms-misc",
    "MetaMaze-misc",
    "PointRobot-misc",
    "Pong-misc",
}

LARGE = 64  # numbers in an observation that are worth to look whether they are zeros and ones
UNCHANGED = {"stop_gradient", "reshape", "transpose", "squeeze", "slice"}  # operations that keep numbers as they are

NEEDS = {
    "MNISTBandit-bsuite": "put train-images-idx3-ubyte.gz, train-labels-idx1-ubyte.gz, t10k-images-idx3-ubyte.gz and "
    "t10k-labels-idx1-ubyte.gz of MNIST into /tmp/mnist, to where gymnax could not download them",
}


def names() -> list[str]:
    """Every name that gymnax can make, those given to `gymnax.register` included."""
    return list(_gymnax().registered_envs)


@functools.cache
def make(name: str) -> Env:
    """Make the environment that gymnax registers under `name`; the same object each time.

    Raises:
        ConfigError: the name is unknown, or the environment can't be constructed or trained.
    """
    gymnax = _gymnax()
    if name not in gymnax.registered_envs:
        raise ConfigError("env", name, f"an environment that gymnax knows; {suggest(name, names())}")
    try:
        with default_promotion():
            env, _ = gymnax.make(name)
    except Exception as error:
        reason = NEEDS.get(name, f"{type(error).__name__}: {error}")
        raise ConfigError("env", name, f"an environment that can be constructed here; {reason}") from error
    return from_gymnax(env, name)


@functools.cache
def from_gymnax(env: Any, name: str | None = None) -> Env:
    """Adapt a gymnax `Environment` object.

    Integer observations of a Discrete space become one-hot vectors, for `jaxppo.act` and `jaxppo.value` too; other
    observations keep their shape and dtype. A Tuple of Discrete action spaces is one MultiDiscrete space.

    Raises:
        ConfigError: an observation or action space that jaxppo cannot train on.
    """
    from gymnax.environments import environment, spaces

    name = name or env.name
    with default_promotion():
        params = env.default_params
        obs_space, several = env.observation_space(params), isinstance(env.action_space(params), spaces.Tuple)

    def reset(key: jax.Array, params: Any) -> tuple[Any, Any]:
        with default_promotion():
            obs, state = env.reset_env(key, params)
            return jax.tree.map(strong, state), _observe(obs, obs_space)

    def step(key: jax.Array, state: Any, action: jax.Array, params: Any) -> tuple[Any, TimeStep]:
        with default_promotion():
            obs, after, reward, terminated, _ = env.step_env(key, state, tuple(action) if several else action, params)
            truncated = env.is_truncated(after, params)
            timestep = TimeStep(
                obs=jax.tree.map(lambda x, like: x.astype(like.dtype), _observe(obs, obs_space), observation),
                reward=jnp.asarray(reward, jnp.float32).reshape(()),
                terminated=jnp.asarray(terminated, bool).reshape(()),
                truncated=jnp.asarray(truncated, bool).reshape(()),
            )
            return jax.tree.map(lambda new, old: jnp.asarray(new, old.dtype), after, state), timestep

    def action_space(params: Any) -> Space:
        with default_promotion():
            return _space(env.action_space(params), name)

    def max_steps(params: Any) -> int | None:
        limit = getattr(params, "max_steps_in_episode", None)
        # Of gymnax's own, that is: another's clock may start late or tick faster than once a step.
        known = type(env).__module__.startswith("gymnax.")
        known = known and type(env).is_truncated is environment.Environment.is_truncated
        return math.ceil(limit) if known and isinstance(limit, int | float | np.number) else None

    action_space(params)  # refuses what can't be trained on
    # The shape and dtype come from a traced reset, because declared spaces are not always what an environment returns.
    _, observation = jax.eval_shape(lambda: reset(jax.random.key(0), params))
    large = isinstance(observation, jax.ShapeDtypeStruct) and observation.size >= LARGE
    truths = large and _are_truths(reset, step, action_space(params), params)
    draw = functools.partial(_draw, env) if env.name in PLAIN | CLASSIC else None
    return Env(name, params, observation, reset, step, action_space, max_steps, draw, (reset, step) if truths else ())


def _are_truths(reset: Any, step: Any, space: Space, params: Any) -> bool:
    """Whether observations are zeros and ones: made of bools, with nothing done to the numbers afterwards."""

    def both(key: jax.Array, params: Any) -> tuple[jax.Array, jax.Array]:
        state, obs = reset(key, params)
        return obs, step(key, state, some_action(space), params)[1].obs

    def from_bool(jaxpr: Any, var: Any) -> bool:
        for eqn in jaxpr.eqns:
            if var in eqn.outvars:
                if eqn.primitive.name in CALLS:
                    inner = eqn.params["jaxpr"].jaxpr
                    return from_bool(inner, inner.outvars[eqn.outvars.index(var)])
                source = eqn.invars[0] if eqn.invars else var
                if eqn.primitive.name in UNCHANGED:
                    return from_bool(jaxpr, source)
                return eqn.primitive.name == "convert_element_type" and source.aval.dtype == bool
        return False

    try:
        jaxpr = jax.make_jaxpr(both)(jax.random.key(0), params).jaxpr
    except Exception:  # of whatever kind: an environment may want its parameters as Python's own numbers
        return False
    return all(from_bool(jaxpr, var) for var in jaxpr.outvars)


def _gymnax() -> Any:
    """The package, whose environments import what only their drawings need: 140 MiB, and most of a second."""
    if "gymnax" not in sys.modules:
        with postponed("matplotlib", "matplotlib.colors", "matplotlib.pyplot", "seaborn"):
            importlib.import_module("gymnax")
    return sys.modules["gymnax"]


def _observe(obs: Any, space: Any) -> Any:
    """What the network gets of an observation: one-hot vectors for choices, strong types."""
    from gymnax.environments import spaces

    if isinstance(space, spaces.Discrete):
        return jax.nn.one_hot(obs, space.n, dtype=jnp.float32)
    if isinstance(space, spaces.Dict):
        return {key: _observe(obs[key], part) for key, part in space.spaces.items()}
    if isinstance(space, spaces.Tuple):
        return tuple(_observe(x, part) for x, part in zip(obs, space.spaces, strict=True))
    return jax.tree.map(strong, obs)


def _space(space: Any, name: str) -> Space:
    from gymnax.environments import spaces

    if isinstance(space, spaces.Discrete):
        return Discrete(int(space.n))
    if isinstance(space, spaces.Tuple) and all(isinstance(part, spaces.Discrete) for part in space.spaces):
        return MultiDiscrete(tuple(int(part.n) for part in space.spaces))
    if isinstance(space, spaces.Box):
        return Box(space.low, space.high, tuple(space.shape))
    raise ConfigError("env", name, f"one with Discrete, Tuple of Discrete, or Box actions, not {space}")


def _draw(env: Any, states: Sequence[Any], returns: Sequence[float], params: Any, path: Path) -> None:
    """Write a GIF, without a window."""
    import matplotlib

    matplotlib.use("Agg")
    os.environ.setdefault("SDL_VIDEODRIVER", "dummy")
    os.environ.setdefault("SDL_AUDIODRIVER", "dummy")
    if env.name in CLASSIC and importlib.util.find_spec("pygame") is None:
        raise ConfigError("env", env.name, "drawn with pygame: pip install 'jaxppo[render]'")
    from gymnax.visualize import Visualizer

    with default_promotion():
        Visualizer(env, params, states, returns).animate(str(path))
