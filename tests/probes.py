"""Tiny environments whose optimal values and actions are known in closed form."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxppo.envs import Box, Discrete, Env, MultiDiscrete, TimeStep


class State(NamedTuple):
    """Steps taken in the episode, and the observation that the agent has just been shown."""

    time: jax.Array
    obs: jax.Array


def bundle(name: str, size: int, reset: Any, step: Any, actions: Discrete | Box, max_steps: int | None = None) -> Env:
    """An `Env` without parameters from `reset(key)` and `step(key, state, action)`; observations are float32 [size]."""
    return Env(
        name=name,
        params=None,
        observation=jax.ShapeDtypeStruct((size,), jnp.float32),
        reset=lambda key, params: reset(key),
        step=lambda key, state, action, params: step(key, state, action),
        action_space=lambda params: actions,
        max_steps=lambda params: max_steps,
    )


def timestep(obs: jax.Array, reward: Any, terminated: Any = False, truncated: Any = False) -> TimeStep:
    """A `TimeStep` with the dtypes of the protocol."""
    return TimeStep(obs, jnp.asarray(reward, jnp.float32), jnp.asarray(terminated, bool), jnp.asarray(truncated, bool))


def zero_state(size: int = 1) -> State:
    """The first state where the first observation is 0."""
    return State(jnp.zeros((), jnp.int32), jnp.zeros(size, jnp.float32))


TWO = Discrete(2)


def sign_state(key: jax.Array) -> State:
    """A first state whose observation is −1 or 1, equally likely."""
    return State(jnp.zeros((), jnp.int32), jax.random.rademacher(key, (1,), jnp.float32))


def one_step(name: str, reset: Any, reward: Any, actions: Discrete | Box = TWO) -> Env:
    """Episodes of one step that pay `reward(obs, action)`."""

    def first(key: jax.Array) -> tuple[State, jax.Array]:
        state = reset(key)
        return state, state.obs

    def step(key: jax.Array, state: State, action: jax.Array) -> tuple[State, TimeStep]:
        return state._replace(time=state.time + 1), timestep(state.obs, reward(state.obs[0], action), terminated=True)

    return bundle(name, 1, first, step, actions)


def constant_reward() -> Env:
    """Always pays 1: V = 1."""
    return one_step("constant-reward", lambda key: zero_state(), lambda obs, action: 1.0)


def reward_is_obs() -> Env:
    """Pays the observation, −1 or 1: V(obs) = obs."""
    return one_step("reward-is-obs", sign_state, lambda obs, action: obs)


def action_decides() -> Env:
    """Action 1 pays 1 and action 0 pays −1: always 1, V = 1."""
    return one_step("action-decides", lambda key: zero_state(), lambda obs, action: jnp.where(action == 1, 1.0, -1.0))


def action_and_obs_decide() -> Env:
    """Pays 1 for action 0 at observation −1 and for action 1 at observation 1, else −1."""
    return one_step("action-and-obs", sign_state, lambda obs, action: jnp.where((action == 1) == (obs > 0), 1.0, -1.0))


def target_action() -> Env:
    """Pays −(a − ½)² for an action in [−1, 1]: the best is ½."""
    space = Box(-1.0, 1.0, (1,))
    return one_step("target-action", lambda key: zero_state(), lambda obs, action: -((action[0] - 0.5) ** 2), space)


def target_action_from_obs() -> Env:
    """Pays −(a − obs/2)² for an action in [−1, 1]: the best is −½ at −1 and ½ at 1."""
    space = Box(-1.0, 1.0, (1,))
    return one_step("target-from-obs", sign_state, lambda obs, action: -((action[0] - obs / 2) ** 2), space)


def stiffness() -> Env:
    """Pays −½ k a² for an action a, with a k of 0.4 at observation −1 and of 10 at 1: the best is 0."""

    def reward(obs: jax.Array, action: jax.Array) -> jax.Array:
        return -0.5 * jnp.where(obs > 0, 10, 0.4) * action[0] ** 2

    return one_step("stiffness", sign_state, reward, Box(-5.0, 5.0, (1,)))


def delayed_reward() -> Env:
    """Two steps, with observations 0 and 1, that pay 0 and then 1: V(0) = γ, V(1) = 1."""

    def reset(key: jax.Array) -> tuple[State, jax.Array]:
        state = zero_state()
        return state, state.obs

    def step(key: jax.Array, state: State, action: jax.Array) -> tuple[State, TimeStep]:
        last = state.time == 1
        after = State(state.time + 1, jnp.ones(1, jnp.float32))
        return after, timestep(after.obs, jnp.where(last, 1.0, 0.0), terminated=last)

    return bundle("delayed-reward", 1, reset, step, Discrete(2))


def time_limit(limit: int, *, terminates: bool, shows_time: bool = False, known_limit: bool = True) -> Env:
    """Pays 1 a step and ends after `limit` steps, by truncation or by termination.

    Observations are one-hot in time if it is shown, else always the same. If truncated, V = 1/(1 − γ) whatever the
    limit; if terminated, V = (1 − γᵏ)/(1 − γ) with k steps to go, so the two can't be mistaken for one another.
    """
    size = limit + 1 if shows_time else 1

    def observe(time: jax.Array) -> jax.Array:
        return jax.nn.one_hot(time, size, dtype=jnp.float32) if shows_time else jnp.ones(1, jnp.float32)

    def reset(key: jax.Array) -> tuple[State, jax.Array]:
        time = jnp.zeros((), jnp.int32)
        return State(time, observe(time)), observe(time)

    def step(key: jax.Array, state: State, action: jax.Array) -> tuple[State, TimeStep]:
        after = State(state.time + 1, observe(state.time + 1))
        over = after.time >= limit
        return after, timestep(after.obs, 1.0, terminated=over & terminates, truncated=over & (not terminates))

    return bundle("time-limit", size, reset, step, Discrete(2), limit if known_limit else None)


def pays_after_the_first_step(limit: int) -> Env:
    """Shows and pays 0 in the first step and 1 in all later ones, truncated after `limit` steps.

    V(1) = 1/(1 − γ) and V(0) = γ/(1 − γ). Whoever bootstraps from the observation after the reset finds less.
    """

    def reset(key: jax.Array) -> tuple[State, jax.Array]:
        state = zero_state()
        return state, state.obs

    def step(key: jax.Array, state: State, action: jax.Array) -> tuple[State, TimeStep]:
        after = State(state.time + 1, jnp.ones(1, jnp.float32))
        return after, timestep(after.obs, state.obs[0], truncated=after.time >= limit)

    return bundle("pays-later", 1, reset, step, Discrete(2), limit)


def noisy_walk(limit: int, *, known_limit: bool = True, ends_early: float = 0.0) -> Env:
    """A random walk that shows (position, time, last action as received), truncated after `limit` steps.

    Each step may also terminate, with probability `ends_early`. Pays the position. It tells apart any two steps, so
    whatever is mixed up in the collection shows in the values.
    """

    def reset(key: jax.Array) -> tuple[State, jax.Array]:
        obs = jnp.stack([jax.random.normal(key), jnp.zeros(()), jnp.zeros(())])
        return State(jnp.zeros((), jnp.int32), obs), obs

    def step(key: jax.Array, state: State, action: jax.Array) -> tuple[State, TimeStep]:
        key_move, key_end = jax.random.split(key)
        time = state.time + 1
        position = state.obs[0] + action[0] + 0.3 * jax.random.normal(key_move)
        obs = jnp.stack([position, time.astype(jnp.float32) / limit, action[0]])
        ends = jax.random.uniform(key_end) < ends_early
        return State(time, obs), timestep(obs, position, terminated=ends, truncated=time >= limit)

    return bundle("noisy-walk", 3, reset, step, Box(-0.5, 0.5, (1,)), limit if known_limit else None)


def three_doors() -> Env:
    """Two doors of three are open, and the third, which must not be tried, is known by the mask only.

    Pays 1 for the open door with the higher number, 0 for the lower and −100 for the closed one.
    """

    def observe(closed: jax.Array) -> dict[str, jax.Array]:
        return {"obs": jax.nn.one_hot(closed, 3, dtype=jnp.float32), "action_mask": jnp.arange(3) != closed}

    def reset(key: jax.Array, params: Any) -> tuple[State, dict[str, jax.Array]]:
        closed = jax.random.randint(key, (), 0, 3)
        return State(closed, closed), observe(closed)

    def step(key: jax.Array, state: State, action: jax.Array, params: Any) -> tuple[State, TimeStep]:
        best = jnp.where(state.obs == 2, 1, 2)
        reward = jnp.where(action == state.obs, -100.0, jnp.where(action == best, 1.0, 0.0))
        return state, timestep(observe(state.obs), reward, terminated=True)

    observation = jax.eval_shape(observe, jnp.int32(0))
    return Env("three-doors", None, observation, reset, step, lambda params: Discrete(3), lambda params: None)


def two_choices() -> Env:
    """Pays 1 for a first choice equal to the observation and 1 for a second one of 2."""

    def reset(key: jax.Array, params: Any) -> tuple[State, jax.Array]:
        state = State(jnp.zeros((), jnp.int32), jax.random.bernoulli(key, 0.5, (1,)).astype(jnp.float32))
        return state, state.obs

    def step(key: jax.Array, state: State, action: jax.Array, params: Any) -> tuple[State, TimeStep]:
        right = (action[0] == state.obs[0].astype(jnp.int32)).astype(jnp.float32) + (action[1] == 2).astype(jnp.float32)
        return state, timestep(state.obs, right, terminated=True)

    observation = jax.ShapeDtypeStruct((1,), jnp.float32)
    actions = MultiDiscrete((2, 3))
    return Env("two-choices", None, observation, reset, step, lambda params: actions, lambda params: None)
