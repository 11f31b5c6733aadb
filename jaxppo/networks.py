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
        # Torsos are an axis, so that two of them cost as many operations as one: [K, N, width], K = 1 if shared.
        x = jnp.broadcast_to(x, (1 if self.spec.shared else 2, *x.shape))
        for i, width in enumerate(self.spec.hidden):
            x = ACTIVATIONS[self.spec.activation](_Parallel(width, self._init(2**0.5), name=f"hidden_{i}")(x))
        # A matrix-vector product rounds differently for different batch sizes; a sum of products per row does not, so
        # that ratios are exactly 1 before the first step also for policies with one output.
        policy = _RowSum if self.num_outputs == 1 else nn.Dense
        outputs = policy(self.num_outputs, kernel_init=self._init(0.01), name="policy")(x[0])
        value = nn.Dense(1, kernel_init=self._init(1.0), name="value")(x[-1])[:, 0]
        if self.discrete:
            return outputs, None, value
        return outputs, self.param("log_std", constant(self.spec.log_std_init), (self.num_outputs,)), value

    def _init(self, gain: float) -> Callable[..., jax.Array]:
        return orthogonal(gain) if self.spec.orthogonal else lecun_normal()


class _Parallel(nn.Module):
    """K dense layers side by side, each initialised on its own: [K, N, D] to [K, N, features]."""

    features: int
    kernel_init: Callable[..., jax.Array]

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        num, _, width = x.shape

        def init(key: jax.Array) -> jax.Array:
            return jax.vmap(lambda k: self.kernel_init(k, (width, self.features)))(jax.random.split(key, num))

        kernel = self.param("kernel", init)
        bias = self.param("bias", zeros, (num, self.features))
        return jnp.einsum("knd,kdh->knh", x, kernel) + bias[:, None]


class _RowSum(nn.Module):
    """A dense layer with one output, computed row by row."""

    features: int
    kernel_init: Callable[..., jax.Array]

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        kernel = self.param("kernel", self.kernel_init, (x.shape[-1], self.features))
        bias = self.param("bias", zeros, (self.features,))
        return jnp.sum(x * kernel.reshape(1, -1), axis=-1, keepdims=True) + bias.reshape(1, -1)
