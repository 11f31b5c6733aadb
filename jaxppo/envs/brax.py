"""The seven continuous-control tasks of the PPO paper as brax simulates them, behind the protocol of `envs.base`."""

import contextlib
import dataclasses
import functools
import io
import math
import warnings
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxppo.envs.base import Box, Env, TimeStep, strong
from jaxppo.fields import ConfigError, suggest
from jaxppo.interop import default_promotion

__all__ = ["Params", "State", "make", "names"]

# On CPUs the spring backend is 5 to 10 times faster than the others; the swimmer exists for the generalized one only.
BACKENDS = {
    "halfcheetah": "spring",
    "hopper": "spring",
    "inverted_double_pendulum": "spring",
    "inverted_pendulum": "spring",
    "reacher": "spring",
    "swimmer": "generalized",
    "walker2d": "spring",
}


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Params:
    """What can be overridden: the time limit, which brax leaves to a wrapper."""

    max_steps_in_episode: int | jax.Array = 1000

    def replace(self, **changes: Any) -> "Params":
        """A copy with some fields replaced."""
        return dataclasses.replace(self, **changes)


class State(NamedTuple):
    """Where an episode stands.

    Attributes:
        physics: the state of brax's simulator.
        time: int32 []. Steps since the reset.
    """

    physics: Any
    time: jax.Array


def names() -> list[str]:
    """The names that `make` knows, whether brax is installed or not."""
    return [f"brax/{task}" for task in BACKENDS]


@functools.cache
def make(name: str) -> Env:
    """Make the environment called `name`, as in "brax/hopper"; the same object each time.

    Raises:
        ConfigError: the name is unknown, brax is not installed, or the environment can't be constructed.
    """
    if name not in names():
        raise ConfigError("env", name, f"a task of brax that jaxppo knows; {suggest(name, names())}")
    task = name.removeprefix("brax/")
    try:
        return _construct(name, task, BACKENDS[task])
    except Exception as error:
        missing = isinstance(error, ModuleNotFoundError) and error.name == "brax"
        reason = "brax is missing: pip install 'jaxppo[brax]'" if missing else f"{type(error).__name__}: {error}"
        raise ConfigError("env", name, f"an environment that can be constructed here; {reason}") from error


def _construct(name: str, task: str, backend: str) -> Env:
    with _foreign(), contextlib.redirect_stdout(io.StringIO()):  # mujoco prints that it does without warp
        import mujoco
        from brax import envs, fluid
        from brax.envs.base import State as BraxState

        # The forces of water, the swimmer's, call the bound of a clip by a name that JAX 0.11 no longer knows.
        fluid.jp = SimpleNamespace(**{**vars(jnp), "clip": _clip})

        # Otherwise deprecated attributes in brax's own models would make it write to stderr and a MUJOCO_LOG.TXT here.
        handler = mujoco.get_mju_user_warning()
        mujoco.set_mju_user_warning(lambda message: None)
        try:
            env = envs.get_environment(task, backend=backend)
        finally:
            mujoco.set_mju_user_warning(handler)

    @functools.partial(jax.jit, inline=True)  # so that it is traced but once, which takes a while
    def begin(key: jax.Array) -> tuple[State, jax.Array]:
        with _foreign():
            first = env.reset(key)
            return State(jax.tree.map(strong, first.pipeline_state), jnp.zeros((), jnp.int32)), strong(first.obs)

    def reset(key: jax.Array, params: Params) -> tuple[State, jax.Array]:
        return begin(key)

    def step(key: jax.Array, state: State, action: jax.Array, params: Params) -> tuple[State, TimeStep]:
        with _foreign():
            # The physics is all that these tasks read of a state, so metrics and the last observation aren't kept.
            before = BraxState(state.physics, obs=None, reward=None, done=jnp.zeros(()))
            after = env.step(before, action)
            time = state.time + 1
            timestep = TimeStep(
                obs=after.obs.astype(observation.dtype),
                reward=jnp.asarray(after.reward, jnp.float32).reshape(()),
                terminated=jnp.asarray(after.done, bool).reshape(()),  # brax's own wrapper adds the time limit to it
                truncated=time >= jnp.asarray(params.max_steps_in_episode),
            )
            physics = jax.tree.map(lambda new, old: jnp.asarray(new, old.dtype), after.pipeline_state, state.physics)
            return State(physics, time), timestep

    def action_space(params: Params) -> Box:
        return Box(-1.0, 1.0, (env.action_size,))

    def max_steps(params: Params) -> int | None:
        limit = params.max_steps_in_episode
        return math.ceil(limit) if isinstance(limit, int | float | np.number) else None

    _, observation = jax.eval_shape(lambda: reset(jax.random.key(0), Params()))
    return Env(name, Params(), observation, reset, step, action_space, max_steps)


def _clip(x: jax.Array, *bounds: Any, a_min: Any = None, **named: Any) -> jax.Array:
    """`jnp.clip` that knows the old name of its lower bound too."""
    return jnp.clip(x, *bounds, **named) if a_min is None else jnp.maximum(x, a_min)


@contextlib.contextmanager
def _foreign() -> Iterator[None]:
    """Default promotion, and no warnings about brax being old and calling other libraries as they were."""
    with default_promotion(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=DeprecationWarning)
        warnings.filterwarnings("ignore", category=UserWarning, module=r"brax\.")
        yield
