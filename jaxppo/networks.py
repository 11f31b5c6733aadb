"""Actor-critic networks as bundles of pure functions; feed-forward is recurrence with an empty carry."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax.linen.initializers import constant, lecun_normal, orthogonal, zeros

from jaxppo.distributions import Categorical, Distribution, Gaussian
from jaxppo.envs.base import Discrete
from jaxppo.fields import choice, flag, hyperparameters, plain

__all__ = ["MLP", "Network", "NetworkSpec"]

ACTIVATIONS: dict[str, Callable[[jax.Array], jax.Array]] = {
    "tanh": nn.tanh,
    "relu": nn.relu,
    "swish": nn.swish,
    "gelu": nn.gelu,
    "elu": nn.elu,
}

NARROW = 4  # up to this many outputs, a policy's last layer is a sum of products


class Network(NamedTuple):
    """Three pure functions; N is the number of environments or samples.

    Attributes:
        init: `key -> params`.
        initial_carry: `N -> carry`, the recurrent state at the start of an episode; `()` if there is none.
        apply: `(params, carry, obs [N, …], reset bool [N]) -> (carry, distribution [N], value [N])`, where `reset`
            marks the environments whose episode begins with `obs` and whose carry must be forgotten.
    """

    init: Callable[[jax.Array], Any]
    initial_carry: Callable[[int], Any]
    apply: Callable[[Any, Any, jax.Array, jax.Array], tuple[Any, Distribution, jax.Array]]


class NetworkSpec(Protocol):
    """A hashable description that becomes a `Network` once the spaces are known."""

    def build(self, observation: jax.ShapeDtypeStruct, action_space: Any) -> Network:
        """Bind the description to the shape of an observation and to an action space."""
        ...


@hyperparameters
class MLP:
    """Multi-layer perceptrons for the policy and the value, over flattened observations.

    The last layer's weights are orthogonal with gain 0.01 for the policy and 1 for the value, the hidden ones with gain
    √2, and biases 0 (Huang et al. 2022, "The 37 Implementation Details of PPO", core detail 2). For Box actions the
    policy is a Gaussian with independent components and a log-std that does not depend on the state.
    """

    hidden: tuple[int, ...] = plain(
        default=(64, 64),
        ok=lambda v: isinstance(v, tuple) and all(isinstance(w, int) and not isinstance(w, bool) and w > 0 for w in v),
        allowed="a tuple of whole numbers >= 1",
    )
    """Widths of the hidden layers."""
    activation: str = choice(default="tanh", options=ACTIVATIONS)
    """Activation function of the hidden layers."""
    shared: bool = flag(default=False)
    """Whether policy and value share their hidden layers."""
    orthogonal: bool = flag(default=True)
    """Orthogonal initialisation; otherwise LeCun normal."""
    log_std_init: float = plain(
        default=0.0,
        ok=lambda v: isinstance(v, int | float) and not isinstance(v, bool) and -20 <= v <= 5,
        allowed="a finite number in [-20, 5]",
    )
    """Initial log standard deviation of Gaussian policies."""

    def build(self, observation: jax.ShapeDtypeStruct, action_space: Any) -> Network:
        """Bind to the spaces; see `Network` for what comes back."""
        discrete = isinstance(action_space, Discrete)
        num_outputs = action_space.n if discrete else math.prod(action_space.shape)
        module = _ActorCritic(self, num_outputs, discrete)

        def init(key: jax.Array) -> Any:
            return module.init(key, jnp.zeros((1, *observation.shape), observation.dtype))["params"]

        def apply(params: Any, carry: Any, obs: jax.Array, reset: jax.Array) -> tuple[Any, Distribution, jax.Array]:
            del reset
            applied: Any = module.apply({"params": params}, obs)
            outputs, log_std, value = applied
            if discrete:
                return carry, Categorical.from_unnormalised(outputs), value
            return carry, Gaussian(outputs, jnp.broadcast_to(log_std, outputs.shape)), value

        return Network(init, lambda num_envs: (), apply)


class _ActorCritic(nn.Module):
    spec: MLP
    num_outputs: int
    discrete: bool

    @nn.compact
    def __call__(self, obs: jax.Array) -> tuple[jax.Array, jax.Array | None, jax.Array]:
        x = obs.reshape((obs.shape[0], -1)).astype(jnp.float32)
        actor = self._torso(x, "shared" if self.spec.shared else "actor")
        critic = actor if self.spec.shared else self._torso(x, "critic")
        outputs = self._dense(self.num_outputs, 0.01, "policy")(actor)
        value = self._dense(1, 1.0, "value")(critic)[:, 0]
        if self.discrete:
            return outputs, None, value
        return outputs, self.param("log_std", constant(self.spec.log_std_init), (self.num_outputs,)), value

    def _torso(self, x: jax.Array, name: str) -> jax.Array:
        for i, width in enumerate(self.spec.hidden):
            x = ACTIVATIONS[self.spec.activation](self._dense(width, 2**0.5, f"{name}_{i}")(x))
        return x

    def _dense(self, width: int, gain: float, name: str) -> nn.Module:
        layer = _NarrowDense if name == "policy" and width <= NARROW else nn.Dense
        return layer(width, kernel_init=orthogonal(gain) if self.spec.orthogonal else lecun_normal(), name=name)


class _NarrowDense(nn.Module):
    """A dense layer with few outputs as sums of products, row by row, instead of a matrix product.

    Its gradient is elementwise, where that of the matrix product is another with a tiny inner dimension, which costs
    as much as a hidden layer. And it rounds alike for every batch size, so that ratios are exactly 1 before the first
    step.
    """

    features: int
    kernel_init: Callable[..., jax.Array]

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        kernel = self.param("kernel", self.kernel_init, (x.shape[-1], self.features))
        bias = self.param("bias", zeros, (self.features,))
        return jnp.sum(x[:, None] * kernel.T[None], axis=-1) + bias[None]
