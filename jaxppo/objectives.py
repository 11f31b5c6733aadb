"""What is maximised: surrogates of the policy's return, over samples of the old policy.

An objective is a pytree of its hyperparameters with pure functions. It knows distributions, not networks.
"""

import dataclasses
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from jaxppo.distributions import Distribution, log_ratio
from jaxppo.fields import flag, hyperparameters, number

__all__ = ["AdaptiveKL", "Clip", "FixedKL", "Objective", "PolicyGradient", "Unclipped"]

Loss = tuple[jax.Array, dict[str, jax.Array]]


class Objective:
    """A surrogate. Subclasses must have `loss`; the rest is for those with a schedule or a state of their own.

    They must be pytrees of their numbers, which `jaxppo.fields.hyperparameters` makes of a class. M is the number of
    samples in a minibatch.
    """

    reuses_data: ClassVar[bool] = True
    """Whether more than one step may be taken on a batch."""
    mean_over_samples: ClassVar[bool] = False
    """Whether the loss is a mean over the samples, so that a minibatch may be divided, into parts or over devices.

    Metrics [] are then means over the parts of what each of them gives."""

    def loss(self, aux: Any, new: Distribution, old: Distribution, action: jax.Array, advantage: jax.Array) -> Loss:
        """The negated surrogate [], and metrics of its own: per sample [M], or one number for all [].

        Args:
            aux: the objective's state.
            new: distribution [M] of the policy that learns.
            old: distribution [M] of the policy that collected the samples.
            action: [M, …] as sampled.
            advantage: float [M].
        """
        raise NotImplementedError

    def init(self) -> Any:
        """The objective's own state (such as an adaptive coefficient), kept in the train state; `()` if none."""
        return ()

    def adapt(self, aux: Any, kl: jax.Array) -> Any:
        """The state after an update that moved the policy by E[KL(old ‖ new)] = `kl`. Not called without a state."""
        del kl
        return aux

    def scheduled(self, progress: jax.Array) -> "Objective":
        """The objective as it is when `progress` in [0, 1] of training is done."""
        del progress
        return self


@hyperparameters
class Clip(Objective):
    """PPO-clip: E[min(r·Â, clip(r, 1 − ε, 1 + ε)·Â)], r = π(a|s) / π_old(a|s) (Schulman et al. 2017, eq. 7).

    Tutorials call it "PPO2".
    """

    mean_over_samples: ClassVar[bool] = True

    clip_eps: float = number(default=0.2, above=0)
    """Clip range ε of the probability ratio."""
    anneal_clip: bool = flag(default=False)
    """Lower the clip range linearly to 0 over training (Schulman et al. 2017, table 5)."""

    def loss(self, aux: Any, new: Distribution, old: Distribution, action: jax.Array, advantage: jax.Array) -> Loss:
        """The negated surrogate, and per sample whether the ratio is outside the clip range."""
        del aux
        ratio = jnp.exp(log_ratio(new, old, action))
        clipped = jax.lax.stop_gradient(jnp.clip(ratio, 1 - self.clip_eps, 1 + self.clip_eps))
        # The minimum, written as a choice: its gradient is simpler, and where the constant is chosen it is exactly 0.
        surrogate = jnp.where(clipped * advantage < ratio * advantage, clipped * advantage, ratio * advantage)
        outside = jnp.abs(jax.lax.stop_gradient(ratio) - 1) > self.clip_eps
        return -jnp.mean(surrogate), {"clip_fraction": outside.astype(jnp.float32)}

    def scheduled(self, progress: jax.Array) -> "Clip":
        """With the clip range of this moment."""
        if not self.anneal_clip:
            return self
        clip_eps: Any = jnp.maximum(self.clip_eps * (1 - progress), np.finfo(np.float32).tiny)  # > 0, as it must be
        return dataclasses.replace(self, clip_eps=clip_eps)


@hyperparameters
class AdaptiveKL(Objective):
    """PPO-penalty: E[r·Â − β·KL(π_old ‖ π)] with an adaptive β (Schulman et al. 2017, section 4).

    After each update with d = E[KL(π_old ‖ π)] over the batch, β is halved if d < d_target / 1.5 and doubled if
    d > 1.5·d_target. Tutorials call it "PPO1".
    """

    mean_over_samples: ClassVar[bool] = True

    kl_target: float = number(default=0.01, above=0)
    """Target d_target of E[KL(π_old ‖ π)] per update, in nats."""
    kl_coef: float = number(default=1.0, above=0, initial=True)
    """The first β. It is quickly adapted."""

    def init(self) -> jax.Array:
        """β, a float []."""
        return jnp.asarray(self.kl_coef, jnp.float32)

    def loss(self, aux: Any, new: Distribution, old: Distribution, action: jax.Array, advantage: jax.Array) -> Loss:
        """The negated surrogate with its penalty, and β."""
        return _penalised(aux, new, old, action, advantage)

    def adapt(self, aux: Any, kl: jax.Array) -> jax.Array:
        """The next β, within [1e-10, 1e10], so that it can always come back."""
        factor = jnp.where(kl < self.kl_target / 1.5, 0.5, jnp.where(kl > self.kl_target * 1.5, 2.0, 1.0))
        return jnp.clip(aux * factor, 1e-10, 1e10)


@hyperparameters
class FixedKL(Objective):
    """PPO-penalty: E[r·Â − β·KL(π_old ‖ π)] with a constant β (Schulman et al. 2017, eq. 8)."""

    mean_over_samples: ClassVar[bool] = True

    kl_coef: float = number(default=1.0, low=0)
    """Weight β of the penalty."""

    def loss(self, aux: Any, new: Distribution, old: Distribution, action: jax.Array, advantage: jax.Array) -> Loss:
        """The negated surrogate with its penalty, and β."""
        del aux
        return _penalised(jnp.asarray(self.kl_coef, jnp.float32), new, old, action, advantage)


@hyperparameters
class Unclipped(Objective):
    """The importance-sampled surrogate E[r·Â] alone, "no clipping or penalty" (Schulman et al. 2017, eq. 6)."""

    mean_over_samples: ClassVar[bool] = True

    def loss(self, aux: Any, new: Distribution, old: Distribution, action: jax.Array, advantage: jax.Array) -> Loss:
        """The negated surrogate."""
        del aux
        return -jnp.mean(jnp.exp(log_ratio(new, old, action)) * advantage), {}


@hyperparameters
class PolicyGradient(Objective):
    """The policy gradient E[log π(a|s)·Â], on-policy (Williams 1992; Sutton et al. 2000).

    It does not correct for samples of an older policy, so `SGD` must take one step on each batch: one epoch of one
    minibatch, which is A2C.
    """

    reuses_data: ClassVar[bool] = False
    mean_over_samples: ClassVar[bool] = True

    def loss(self, aux: Any, new: Distribution, old: Distribution, action: jax.Array, advantage: jax.Array) -> Loss:
        """The negated mean of log π(a|s)·Â."""
        del aux, old
        return -jnp.mean(new.log_prob(action) * advantage), {}


def _penalised(beta: jax.Array, new: Distribution, old: Distribution, action: jax.Array, advantage: jax.Array) -> Loss:
    surrogate = jnp.exp(log_ratio(new, old, action)) * advantage - beta * old.kl(new)
    return -jnp.mean(surrogate), {"kl_coef": beta}
