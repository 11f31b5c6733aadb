"""What the rest of the package knows of a network."""

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import jax

from jaxppo.distributions import Distribution

__all__ = ["Network", "NetworkSpec", "join", "split"]


def join(tree: Any) -> Any:
    """Leaves [A, B, …] as [A·B, …]."""
    return jax.tree.map(lambda x: x.reshape((-1, *x.shape[2:])), tree)


def split(tree: Any, shape: tuple[int, ...]) -> Any:
    """Leaves [A·B, …] as [A, B, …], where `shape` is (A, B)."""
    return jax.tree.map(lambda x: x.reshape((*shape, *x.shape[1:])), tree)


class Network(NamedTuple):
    """Pure functions; N is the number of environments or samples, T that of steps.

    Attributes:
        init: `key -> params`.
        initial_carry: `N -> carry`, the recurrent state at the start of an episode; `()` if there is none.
        apply: `(params, carry, obs [N, …], reset bool [N]) -> (carry, distribution [N], value [N])`, where `reset`
            marks the environments whose episode begins with `obs` and whose carry must be forgotten. Each row's results
            depend on that row alone.
        unroll: `(params, carry, obs [T, N, …], reset bool [T, N]) -> (distribution [T, N], value [T, N])`, what `apply`
            gives step by step; None to do just that.
        shared: whether policy and value share parameters.
        keep: `obs [N, …] -> what a segment keeps of them [N, …]`, which `apply` and `unroll` take as well; None for
            observations as they are.
    """

    init: Callable[[jax.Array], Any]
    initial_carry: Callable[[int], Any]
    apply: Callable[[Any, Any, Any, jax.Array], tuple[Any, Distribution, jax.Array]]
    unroll: Callable[[Any, Any, Any, jax.Array], tuple[Distribution, jax.Array]] | None = None
    shared: bool = False
    keep: Callable[[Any], Any] | None = None

    @property
    def recurrent(self) -> bool:
        """Whether there is a carry."""
        return bool(jax.tree.leaves(jax.eval_shape(lambda: self.initial_carry(1))))

    def kept(self, obs: Any, view: Callable[[Any], Any] | None) -> Any:
        """Observations [N, …] as a segment keeps them; what `view` makes of them if that is not None."""
        see = view or self.keep
        return see(obs) if see else obs

    def replay(
        self, params: Any, carry: Any, obs: Any, reset: jax.Array, *, both: bool = True
    ) -> tuple[Distribution, jax.Array]:
        """Distribution and value [T, N] of a segment, from the carry [N, …] that it began with.

        Whoever uses one of the two says so by `both`: actor and critic are then kept apart, if they have no memory, so
        that XLA can leave the other out.
        """
        if not both and not self.recurrent:
            return split(self.apply(params, carry, join(obs), join(reset))[1:], reset.shape)
        if self.unroll is not None:
            return self.unroll(params, carry, obs, reset)

        def step(carry: Any, inputs: tuple[Any, jax.Array]) -> tuple[Any, tuple[Distribution, jax.Array]]:
            carry, distribution, value = self.apply(params, carry, *inputs)
            return carry, (distribution, value)

        return jax.lax.scan(step, carry, (obs, reset))[1]


class NetworkSpec(Protocol):
    """A hashable description that becomes a `Network` once the spaces are known."""

    def build(self, observation: Any, action_space: Any) -> Network:
        """Bind the description to a pytree of `jax.ShapeDtypeStruct` (one observation) and to an action space.

        Raises:
            jaxppo.ConfigError: spaces that the network cannot be used on.
        """
        ...
