"""What is maximised: surrogates of the policy's return, over samples of the old policy.

An objective is a pytree of its hyperparameters with three pure functions. It knows distributions, not networks.
"""

from typing import Any, Protocol

import jax
import jax.numpy as jnp

from jaxppo.distributions import Distribution
from jaxppo.fields import hyperparameters, number

__all__ = ["Clip", "Objective"]


class Objective(Protocol):
    """A surrogate; M is the number of samples in a minibatch."""

    def init(self) -> Any:
        """The objective's own state (such as an adaptive coefficient), kept in the train state; `()` if none."""
        ...

    def loss(
        self, aux: Any, new: Distribution, old: Distribution, action: jax.Array, advantage: jax.Array
    ) -> tuple[jax.Array, dict[str, jax.Array]]:
        """The negated surrogate [] and metrics of its own, each []. `action` and `advantage` are [M, …] and [M]."""
        ...

    def adapt(self, aux: Any, kl: jax.Array) -> Any:
        """The objective's state after an update that moved the policy by E[KL(old ‖ new)] = `kl`."""
        ...


@hyperparameters
class Clip:
    """PPO-clip: E[min(r·Â, clip(r, 1 − ε, 1 + ε)·Â)], r = π(a|s) / π_old(a|s) (Schulman et al. 2017, eq. 7)."""

    clip_eps: float = number(default=0.2, above=0)
    """Clip range ε of the probability ratio."""

    def init(self) -> Any:
        """No state."""
        return ()

    def loss(
        self, aux: Any, new: Distribution, old: Distribution, action: jax.Array, advantage: jax.Array
    ) -> tuple[jax.Array, dict[str, jax.Array]]:
        """The negated surrogate, and the fraction of ratios outside the clip range."""
        del aux
        ratio = jnp.exp(new.log_prob(action) - old.log_prob(action))
        clipped = jax.lax.stop_gradient(jnp.clip(ratio, 1 - self.clip_eps, 1 + self.clip_eps))
        # The minimum, written as a choice: its gradient is simpler, and where the constant is chosen it is exactly 0.
        surrogate = jnp.where(clipped * advantage < ratio * advantage, clipped * advantage, ratio * advantage)
        outside = jnp.abs(jax.lax.stop_gradient(ratio) - 1) > self.clip_eps
        return -jnp.mean(surrogate), {"clip_fraction": outside.astype(jnp.float32)}

    def adapt(self, aux: Any, kl: jax.Array) -> Any:
        """Nothing adapts."""
        del kl
        return aux
