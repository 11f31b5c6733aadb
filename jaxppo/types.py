"""The records that flow between the parts: T steps in a segment, N environments, [] a scalar."""

from typing import Any, NamedTuple

import jax
from flax import struct

from jaxppo.distributions import Distribution
from jaxppo.normalize import RunningMoments

__all__ = ["Batch", "EnvLoop", "Metrics", "Policy", "Result", "TrainState"]


class Batch(NamedTuple):
    """What a learner learns from: one segment of every environment.

    Attributes:
        obs: [T, N, …] as the network saw them, normalised if the config says so; where they are zeros and ones, what
            `Network.keep` keeps of them.
        reset: bool [T, N]. An episode begins with this observation.
        carry: [N, …] the network's carry before the first step; `()` if it has none.
        action: [T, N, …] as sampled, before any clipping to bounds.
        old: distribution [T, N] that the actions were sampled from.
        value: float [T, N], V(s_t) at collection.
        advantage: float [T, N].
        target: float [T, N], advantage + value.
    """

    obs: Any
    reset: jax.Array
    carry: Any
    action: jax.Array
    old: Distribution
    value: jax.Array
    advantage: jax.Array
    target: jax.Array


class EnvLoop(NamedTuple):
    """Where collection stands between two segments.

    An environment whose episode is over is reset before its next step, not after its last one, so that a program holds
    one reset only: until then, here are the state and the observation that its episode ended with, or zeros at first.

    Attributes:
        env_state: [N, …] the environments' own states.
        obs: [N, …] the observations to act on next, not normalised; but where `reset`, those of the resets.
        reset: bool [N]. No episode is under way, so the environment is reset before its next step.
        reset_key: PRNG keys [N] to do so with.
        carry: [N, …] the network's carry.
        episode_return: float [N], undiscounted return of the running episodes.
        episode_length: int32 [N], their steps so far.
        discounted_return: float [N], Σ γ^k R_{t−k} of the running episodes, for reward scaling.
    """

    env_state: Any
    obs: Any
    reset: jax.Array
    reset_key: jax.Array
    carry: Any
    episode_return: jax.Array
    episode_length: jax.Array
    discounted_return: jax.Array


class Policy(struct.PyTreeNode):
    """All that acting takes: what is saved with a run and loaded from it.

    Attributes:
        params: the network's parameters.
        obs_moments: mean and variance that observations are normalised with, or None.
    """

    params: Any
    obs_moments: RunningMoments | None


class TrainState(struct.PyTreeNode):
    """Everything that training goes on from; a pytree.

    Attributes:
        policy: parameters and observation normaliser.
        reward_moments: moments of the discounted return, or None.
        learner: the learner's state: optimiser, and the objective's own.
        loop: environments and running episodes.
        key: PRNG key of the updates to come.
        num_updates: int32 [], updates done.
    """

    policy: Policy
    reward_moments: RunningMoments | None
    learner: Any
    loop: EnvLoop
    key: jax.Array
    num_updates: jax.Array


COLUMNS = frozenset({"agent", "update", "wall_time", "parent"})  # which tables of metrics have besides


class Metrics(NamedTuple):
    """One update, reduced to scalars; losses and diagnostics are means over all its minibatches unless said otherwise.

    Those from `clip_fraction` on are None where they have no meaning.

    Attributes:
        env_steps: int32. Environment steps since training began.
        episodes: int32. Episodes that ended in this update.
        episode_return: mean undiscounted return of these; NaN if there were none.
        episode_length: mean length of these in steps; NaN if there were none.
        policy_loss: negated surrogate.
        value_loss: half the mean squared error of the value (clipped, if that is on).
        entropy: of the policy, in nats.
        approx_kl: mean of (r − 1) − log r, an estimate of KL(old ‖ new) (Schulman 2020, "Approximating KL divergence").
        kl: mean exact KL(old ‖ new), in nats.
        kl_reverse: mean exact KL(new ‖ old), in nats.
        ratio_mean: mean ratio r = π(a|s) / π_old(a|s), 1 in expectation.
        ratio_max: largest ratio r = π(a|s) / π_old(a|s) of any minibatch.
        effective_sample_size: (Σr)² / (M·Σr²), a fraction of the minibatch's M samples.
        explained_variance: 1 − Var[target − V] / Var[target], V from collection; NaN if the targets are constant.
        grad_norm: global norm of the gradient before clipping.
        learning_rate: the step size used; the value fit's with `TrustRegion`.
        clip_fraction: fraction of the ratios outside the clip range (`Clip`).
        kl_coef: weight β of the KL penalty in this update (`AdaptiveKL`, `FixedKL`).
        kl_update: mean exact KL(old ‖ new) over the batch after the update (`AdaptiveKL`, `TrustRegion`).
        gradient_steps: steps taken before the KL divergence passed `kl_limit` (`SGD` with that limit).
        line_search_success: 1 if the line search found a step, else 0 (`TrustRegion`).
        step_fraction: length of the step taken relative to the one that the quadratic model allows (`TrustRegion`).
        extra: scalars of a user's own objective or learner, by name.
    """

    env_steps: jax.Array
    episodes: jax.Array
    episode_return: jax.Array
    episode_length: jax.Array
    policy_loss: jax.Array
    value_loss: jax.Array
    entropy: jax.Array
    approx_kl: jax.Array
    kl: jax.Array
    kl_reverse: jax.Array
    ratio_mean: jax.Array
    ratio_max: jax.Array
    effective_sample_size: jax.Array
    explained_variance: jax.Array
    grad_norm: jax.Array
    learning_rate: jax.Array
    clip_fraction: jax.Array | None = None
    kl_coef: jax.Array | None = None
    kl_update: jax.Array | None = None
    gradient_steps: jax.Array | None = None
    line_search_success: jax.Array | None = None
    step_fraction: jax.Array | None = None
    extra: dict[str, jax.Array] | None = None

    def named(self) -> dict[str, jax.Array]:
        """Those that have a meaning, flat by name, `extra` included."""
        own = {name: value for name, value in self._asdict().items() if value is not None and name != "extra"}
        return {**own, **(self.extra or {})}


class Result(NamedTuple):
    """What `train` returns: the final state, and metrics with a leading axis of updates."""

    state: TrainState
    metrics: Metrics
