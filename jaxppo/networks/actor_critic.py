"""The networks that come with the package: an encoder, hidden layers, perhaps memory, and the two heads.

Weights are orthogonal with gain √2 in hidden layers, 1 in recurrent ones, 0.01 for the policy and 1 for the value, and
biases 0 (Huang et al. 2022, "The 37 Implementation Details of PPO", core detail 2 and LSTM detail 1).
"""

from collections.abc import Callable
from functools import partial
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from flax.errors import FlaxError
from flax.linen.initializers import constant

from jaxppo import backend, columns
from jaxppo.distributions import Distribution
from jaxppo.envs.base import split_mask
from jaxppo.fields import ConfigError, check, choice, flag, hyperparameters, is_whole, plain, whole
from jaxppo.networks.base import Network, join, split
from jaxppo.networks.heads import BOX_POLICIES, Head, policy_head
from jaxppo.networks.initial import times_lecun, times_orthogonal
from jaxppo.networks.layers import Conv, Dense, NarrowDense, Recurrent, dense_abreast

__all__ = ["CNN", "MLP", "ActorCritic", "Custom"]

ACTIVATIONS: dict[str, Callable[[jax.Array], jax.Array]] = {
    "tanh": nn.tanh,
    "relu": nn.relu,
    "swish": nn.swish,
    "gelu": nn.gelu,
    "elu": nn.elu,
}

NARROW = 4  # up to this many outputs, a policy's last layer is a sum of products


def _widths(value: Any) -> bool:
    return isinstance(value, tuple) and all(map(is_whole, value))


@hyperparameters
class ActorCritic:
    """What all of them have; the subclasses say how an observation becomes a vector.

    Where an observation is a dict with the key `"action_mask"`, a bool [A] for Discrete actions (the parts one after
    the other for MultiDiscrete), actions where it is False have probability 0, unless that is so for all, which are
    equally likely then; the network does not see it.
    """

    hidden: tuple[int, ...] = plain(default=(64, 64), ok=_widths, allowed="a tuple of whole numbers >= 1")
    """Widths of the hidden layers."""
    activation: str = choice(default="tanh", options=ACTIVATIONS)
    """Activation function of the hidden layers."""
    shared: bool = flag(default=False)
    """Whether policy and value share all layers but the last."""
    layer_norm: bool = flag(default=False)
    """Layer normalisation before each activation."""
    memory: str = choice(default="none", options=("none", "gru", "lstm"))
    """Recurrent layer after the hidden ones."""
    memory_size: int = whole(default=64, minimum=1)
    """Units of the recurrent layer."""
    box_policy: str = choice(default="gaussian", options=BOX_POLICIES)
    """Policy for Box actions: a gaussian clipped to the bounds, one squashed into them by tanh, or a beta."""
    log_std_init: float = plain(
        default=0.0,
        ok=lambda v: isinstance(v, int | float | np.number) and not isinstance(v, bool) and bool(-20 <= v <= 5),
        allowed="a finite number in [-20, 5]",
    )
    """Initial log standard deviation of gaussian and tanh policies; of those of the state, where outputs are 0."""
    state_dependent_std: bool = flag(default=False)
    """Standard deviation of gaussian and tanh policies by the state, a softplus of outputs; otherwise a parameter."""
    orthogonal: bool = flag(default=True)
    """Orthogonal initialisation; otherwise LeCun normal."""
    draws: ClassVar[bool] = False
    """Whether the encoder has weights that it draws itself."""
    precision: str = choice(default="float32", options=("float32", "bfloat16"))
    """What convolutions and hidden layers multiply in; normalisation, memory, heads and parameters stay in float32."""

    def build(self, observation: Any, action_space: Any) -> Network:
        """Bind to the spaces; see `NetworkSpec.build`."""
        seen, mask = split_mask(observation)
        self.check_observation(seen)
        state_log_std = float(self.log_std_init) if self.state_dependent_std else None
        module = _Module(self, policy_head(action_space, self.box_policy, mask, state_log_std))

        def initial_carry(num_envs: int) -> Any:
            if self.memory == "none":
                return ()
            h = jnp.zeros((num_envs, self.memory_size), jnp.float32)
            return dict.fromkeys(_torsos(self.shared), h if self.memory == "gru" else (h, h))

        def init(key: jax.Array) -> Any:
            # As few draws as will do: each takes XLA a while to compile.
            key_module, key_kernels = jax.random.split(key) if self.draws else (key, key)
            obs = jax.tree.map(lambda x: jnp.zeros((1, *x.shape), x.dtype), observation)
            params = module.init(key_module, initial_carry(1), obs, jnp.ones(1, bool))["params"]
            return (times_orthogonal if self.orthogonal else times_lecun)(key_kernels, params, _is_kernel)

        def apply(params: Any, carry: Any, obs: Any, reset: jax.Array) -> tuple[Any, Distribution, jax.Array]:
            return module.apply({"params": params}, carry, obs, reset)  # type: ignore[return-value]

        def unroll(params: Any, carry: Any, obs: Any, reset: jax.Array) -> tuple[Distribution, jax.Array]:
            return split(apply(params, carry, join(obs), reset)[1:], reset.shape)

        return Network(init, initial_carry, apply, unroll, self.shared)

    def check_observation(self, observation: Any) -> None:
        """Raise `jaxppo.ConfigError` if such observations cannot be encoded."""
        check(bool(jax.tree.leaves(observation)), "observation", observation, "something besides the action mask")

    def encode(self, obs: Any, name: str, parent: nn.Module) -> jax.Array:
        """Observations [B, …] as vectors [B, F], by layers of `parent` whose names begin with `name`."""
        raise NotImplementedError

    def kernel_init(self, gain: float) -> Callable[..., jax.Array]:
        """What the random weights of a layer are multiplied with: `init` has those."""
        return constant(gain if self.orthogonal else 1.0)


@hyperparameters
class MLP(ActorCritic):
    """Multi-layer perceptrons over flattened observations."""

    def encode(self, obs: Any, name: str, parent: nn.Module) -> jax.Array:
        """All that is observed, in one vector."""
        del name, parent
        return _flat(obs)

    def narrow(self, params: Any, entries: Any) -> Any:
        """The parameters for observations [B, F] that hold these entries, int [F], of one array whose rest is zero.

        There must be hidden layers.
        """
        first = [f"{name}_0" for name in _torsos(self.shared)]
        return {**params, **{name: {**params[name], "kernel": params[name]["kernel"][entries]} for name in first}}


@hyperparameters
class CNN(ActorCritic):
    """Convolutions over images [H, W, C], then hidden layers.

    The defaults are those for MinAtar (Young & Tian 2019): 16 filters of 3×3 and 128 hidden units. Where an observation
    has parts, its images are convolved and the rest joins them afterwards.
    """

    hidden: tuple[int, ...] = plain(default=(128,), ok=_widths, allowed="a tuple of whole numbers >= 1")
    """Widths of the hidden layers after the convolutions."""
    activation: str = choice(default="relu", options=ACTIVATIONS)
    """Activation function of all layers."""
    filters: tuple[int, ...] = plain(default=(16,), ok=_widths, allowed="a tuple of whole numbers >= 1")
    """Filters of each convolution."""
    kernel_size: int = whole(default=3, minimum=1)
    """Side of the convolutions, which do not pad."""
    stride: int = whole(default=1, minimum=1)
    """Step between the places that a convolution looks at."""

    def check_observation(self, observation: Any) -> None:
        super().check_observation(observation)
        images = [x.shape for x in jax.tree.leaves(observation) if len(x.shape) == 3]
        check(bool(images), "network", "cnn", "another, such as mlp: no part of an observation is an image (H, W, C)")
        for shape in images:
            side = min(shape[:2])
            for _ in self.filters:
                fits = f"at most {side}, what is left of an image of {shape[0]}×{shape[1]}"
                check(side >= self.kernel_size, "kernel_size", self.kernel_size, fits)
                side = (side - self.kernel_size) // self.stride + 1

    def encode(self, obs: Any, name: str, parent: nn.Module) -> jax.Array:
        """Convolved images and whatever else there is."""
        layer = partial(
            Conv,
            kernel_size=self.kernel_size,
            stride=self.stride,
            kernel_init=self.kernel_init(2**0.5),
            dtype=self.precision,
        )

        def convolve(x: jax.Array, name: str) -> jax.Array:
            for i, filters in enumerate(self.filters):
                x = ACTIVATIONS[self.activation](layer(filters, parent=parent, name=f"{name}_conv_{i}")(x))
            return x

        parts = jax.tree.leaves(obs)
        return _flat(
            [convolve(x.astype(jnp.float32), f"{name}_{i}") if x.ndim == 4 else x for i, x in enumerate(parts)]
        )


@hyperparameters
class Custom(ActorCritic):
    """A flax module of one's own as encoder: `__call__(obs [B, …]) -> features [B, F]`.

    It is used once for the policy and once for the value, with parameters of their own, or once for both if `shared`.

    Example:
        >>> class Torso(nn.Module):
        ...     @nn.compact
        ...     def __call__(self, obs):
        ...         return nn.relu(nn.Dense(32)(obs))
        >>> config = jaxppo.Config(network=jaxppo.Custom(module=Torso()))
    """

    hidden: tuple[int, ...] = plain(default=(), ok=_widths, allowed="a tuple of whole numbers >= 1")
    """Widths of hidden layers between the module and the heads."""
    draws: ClassVar[bool] = True
    module: nn.Module | None = plain(
        default=None, ok=lambda v: isinstance(v, nn.Module), allowed="a flax.linen module, an object and not its class"
    )
    """The module."""

    def check_observation(self, observation: Any) -> None:
        super().check_observation(observation)
        obs = jax.tree.map(lambda x: jnp.zeros((2, *x.shape), x.dtype), observation)
        module: Any = self.module
        try:
            variables = jax.eval_shape(lambda: module.init(jax.random.key(0), obs))
            features = jax.eval_shape(lambda variables: module.apply(variables, obs), variables)
        except Exception as error:  # of whatever kind: the module is somebody's own
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            kind = "needs nothing but parameters" if isinstance(error, FlaxError) else "takes such observations"
            raise ConfigError("module", module, f"one that {kind}; {reason}") from error
        check(set(variables) <= {"params"}, "module", module, f"one that has parameters only, not {set(variables)}")
        shape = getattr(features, "shape", features)
        rows = isinstance(shape, tuple) and len(shape) == 2 and shape[0] == 2
        check(rows, "module", module, f"one that makes [B, F] of B observations, which with B = 2 is not {shape}")

    def encode(self, obs: Any, name: str, parent: nn.Module) -> jax.Array:
        """What the module makes of it."""
        # A deep clone, or submodules held as attributes would be shared by the two.
        module: Any = self.module
        features: jax.Array = module.clone(name=f"{name}_module", parent=parent, _deep_clone=True)(obs)
        return features


class _Module(nn.Module):
    """Of a step `obs [N, …], reset [N]`, or of a segment `obs [T·N, …], reset [T, N]`: outputs are rows like obs."""

    spec: ActorCritic
    head: Head

    @nn.compact
    def __call__(self, carry: Any, obs: Any, reset: jax.Array) -> tuple[Any, Distribution, jax.Array]:
        obs, mask = split_mask(obs)
        names = _torsos(self.spec.shared)
        # Not in a single step, which may have no use for the critic.
        abreast = len(names) > 1 and reset.ndim == 2 and backend.launches_count()
        hidden = zip(names, self._hidden(obs, names, abreast), strict=True)
        torsos = {name: self._remember(name, carry, x, reset) for name, x in hidden}
        (_, actor), (_, critic) = torsos["shared" if self.spec.shared else "actor"], list(torsos.values())[-1]
        outputs = self._policy(self.head.num_outputs)(actor)
        value = self._dense(1, 1.0, "value")(critic)[:, 0]
        log_std = None
        if self.head.num_log_stds:
            log_std = self.param("log_std", constant(self.spec.log_std_init), (self.head.num_log_stds,), jnp.float32)
            log_std = columns.repeat(log_std, len(outputs))
        carry = {name: after for name, (after, _) in torsos.items()} if self.spec.memory != "none" else ()
        return carry, self.head.distribution(outputs, log_std, mask), value

    def _hidden(self, obs: Any, names: tuple[str, ...], abreast: bool) -> list[jax.Array]:
        """The encoder and the hidden layers of each torso; `abreast` for a product of all of them at each layer."""
        torsos = [self.spec.encode(obs, name, self) for name in names]
        for i, width in enumerate(self.spec.hidden):
            layers = [self._dense(width, 2**0.5, f"{name}_{i}", self.spec.precision) for name in names]
            if abreast and len({x.shape for x in torsos}) == 1:
                torsos = dense_abreast(layers, torsos)
            else:
                torsos = [layer(x) for layer, x in zip(layers, torsos, strict=True)]
            torsos = [self._activate(f"{name}_{i}_norm", x) for name, x in zip(names, torsos, strict=True)]
        return [x.astype(jnp.float32) for x in torsos]

    def _activate(self, norm: str, x: jax.Array) -> jax.Array:
        """What follows the product of a hidden layer; `norm` is what its normalisation goes by, if there is one."""
        if self.spec.layer_norm:
            x = nn.LayerNorm(name=norm)(x.astype(jnp.float32)).astype(self.spec.precision)
        return ACTIVATIONS[self.spec.activation](x)

    def _remember(self, name: str, carry: Any, x: jax.Array, reset: jax.Array) -> tuple[Any, jax.Array]:
        """The recurrent layer of a torso, if there is one."""
        if self.spec.memory == "none":
            return (), x
        layer = Recurrent(self.spec.memory, self.spec.memory_size, self.spec.kernel_init(1.0), name=f"{name}_memory")
        num_envs = reset.shape[-1]
        after, h = layer(carry[name], x.reshape(-1, num_envs, x.shape[-1]), reset.reshape(-1, num_envs))
        return after, join(h)

    def _policy(self, width: int) -> nn.Module:
        if width <= NARROW:
            return NarrowDense(width, self.spec.kernel_init(0.01), name="policy")
        return self._dense(width, 0.01, "policy")

    def _dense(self, width: int, gain: float, name: str, dtype: str = "float32") -> Dense:
        return Dense(width, self.spec.kernel_init(gain), dtype, name=name)


def _torsos(shared: bool) -> tuple[str, ...]:
    return ("shared",) if shared else ("actor", "critic")


def _is_kernel(path: Any) -> bool:
    """Whether it leads to weights of a layer of this package, not to those of a module that somebody brought."""
    first, last = path[0].key, path[-1].key
    return last in ("kernel", "recurrent") and not first.endswith("_module")


def _flat(obs: Any) -> jax.Array:
    """Every part of observations [B, …] as float32, in one vector each: [B, F]."""
    parts = [x.reshape((x.shape[0], -1)).astype(jnp.float32) for x in jax.tree.leaves(obs)]
    return parts[0] if len(parts) == 1 else jnp.concatenate(parts, axis=1)
