"""The parameters that the policy takes, and those of the value, where none is both's."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree

from jaxppo.distributions import Distribution
from jaxppo.needed import needed
from jaxppo.networks import Network

__all__ = ["Halves", "halves"]


class Halves(NamedTuple):
    """A division of parameters: leaf by leaf, whether it is the value's."""

    params: Any
    is_value: tuple[bool, ...]

    def half(self, params: Any, of_value: bool) -> list[Any]:
        """The leaves of one of the two."""
        return [x for x, own in zip(jax.tree.leaves(params), self.is_value, strict=True) if own is of_value]

    def join(self, policy: list[Any], value: list[Any]) -> Any:
        """All parameters, of the leaves of both."""
        each = {False: iter(policy), True: iter(value)}
        return jax.tree.unflatten(jax.tree.structure(self.params), [next(each[own]) for own in self.is_value])

    def put(self, params: Any, leaves: list[Any], of_value: bool) -> Any:
        """The parameters with others for one half."""
        other = self.half(params, not of_value)
        return self.join(other, leaves) if of_value else self.join(leaves, other)

    def half_of_vector(self, vector: jax.Array, of_value: bool) -> jax.Array:
        """Of a number for each parameter [P], as one vector, those of one half [Q]."""
        return ravel_pytree(self.half(ravel_pytree(self.params)[1](vector), of_value))[0]

    def join_vectors(self, policy: jax.Array, value: jax.Array) -> jax.Array:
        """Of numbers for each half, as vectors [Q] and [P - Q], one vector for all parameters [P]."""
        halves = [
            ravel_pytree(self.half(self.params, of_value))[1](vector)
            for of_value, vector in ((False, policy), (True, value))
        ]
        return ravel_pytree(self.join(*halves))[0]


def halves(network: Network, params: Any, observation: Any) -> Halves | None:
    """How the parameters divide, by what the network computes from them; None if policy and value share any.

    What a carry takes along from one step to the next counts.

    Args:
        network: the actor-critic.
        params: its parameters, or their shapes.
        observation: a pytree of `jax.ShapeDtypeStruct`, one observation.
    """

    def outputs(params: Any) -> tuple[Distribution, jax.Array]:
        obs = jax.tree.map(lambda x: jnp.zeros((2, 1, *x.shape), x.dtype), observation)
        return network.replay(params, network.initial_carry(1), obs, jnp.ones((2, 1), bool), both=False)

    closed, (distribution, _) = jax.make_jaxpr(outputs, return_shape=True)(params)
    is_value = [*(False for _ in jax.tree.leaves(distribution)), True]
    by_policy, by_value = (set(needed(closed, [own is kind for own in is_value]).inputs) for kind in (False, True))
    if by_policy & by_value:
        return None
    return Halves(params, tuple(i in by_value for i in range(len(jax.tree.leaves(params)))))
