"""A trained policy as a moving picture."""

import os
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxppo import envs
from jaxppo.config import Config, canonical
from jaxppo.fields import ConfigError, check
from jaxppo.policy import play
from jaxppo.types import Policy

__all__ = ["Episode", "play_episode", "render"]


class Episode(NamedTuple):
    """One episode of L steps.

    Attributes:
        states: the environment's L + 1 states.
        returns: the return before each step and after the last, L + 1 numbers.
    """

    states: list[Any]
    returns: list[float]


def play_episode(config: Config, policy: Policy, key: jax.Array, *, greedy: bool = True, max_steps: int) -> Episode:
    """Play one episode to its end, or to `max_steps`. Consumes `key`."""
    states, rewards, done = jax.device_get(_play(canonical(config), policy, key, greedy, max_steps))
    length = int(np.argmax(done)) + 1 if done.any() else max_steps
    each = [jax.tree.map(lambda x, t=t: x[t], states) for t in range(length + 1)]
    return Episode(each, [0.0, *np.cumsum(rewards[:length]).tolist()])


def render(config: Config, policy: Policy, key: jax.Array, path: Path, *, greedy: bool, max_steps: int) -> Episode:
    """Play one episode and draw it as a GIF, written whole or not at all. Consumes `key`.

    Raises:
        ConfigError: an environment that cannot be drawn, here or at all, or a path that cannot be written.
    """
    env = config.make_env()
    if env.draw is None:
        raise ConfigError("env", env.name, "an environment that can be drawn")
    check(path.suffix == ".gif", "out", path, "a file that ends in .gif")
    check(path.parent.is_dir(), "out", path, "a file in a directory that exists")
    episode = play_episode(config, policy, key, greedy=greedy, max_steps=max_steps)
    temporary = path.with_name(f".{path.stem}.{os.getpid()}.gif")
    try:
        env.draw(episode.states, episode.returns, envs.override(env, config.env_params), temporary)
        temporary.replace(path)
    except OSError as error:
        raise ConfigError("out", path, f"a file that can be written; {error.strerror}") from error
    finally:
        temporary.unlink(missing_ok=True)
    return episode


@partial(jax.jit, static_argnames=("greedy", "max_steps"))
def _play(config: Config, policy: Policy, key: jax.Array, greedy: bool, max_steps: int) -> Any:
    """States [L + 1, …], rewards [L] and ends [L] of one environment, with L = `max_steps`."""
    begin, step = play(config, policy, 1, greedy)
    key, key_start = jax.random.split(key)
    first = begin(key_start)

    def advance(at: Any, key: jax.Array) -> tuple[Any, Any]:
        after, timestep = step(at, key)
        return after, (after.env_state, timestep.reward, timestep.terminated | timestep.truncated)

    _, (states, rewards, ends) = jax.lax.scan(advance, first, jax.random.split(key, max_steps))
    states = jax.tree.map(lambda x, xs: jnp.concatenate([x, xs[:, 0]]), first.env_state, states)
    return states, rewards[:, 0], ends[:, 0]
