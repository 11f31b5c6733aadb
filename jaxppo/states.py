"""States that callers bring, beside the config that they must be of."""

from typing import Any

import jax

from jaxppo.fields import ConfigError, check
from jaxppo.types import Policy, TrainState

__all__ = ["check_alike", "check_train_state", "policy_of"]


def check_train_state(state: Any) -> None:
    """Raise `jaxppo.ConfigError` for what is no train state."""
    allowed = "a TrainState, such as that of jaxppo.init(config, key) or jaxppo.train(config, key).state"
    check(isinstance(state, TrainState), "state", type(state).__name__, allowed)


def policy_of(state: Any) -> Policy:
    """The policy of a train state, or the policy that it is.

    Raises:
        ConfigError: it is neither.
    """
    policy: Policy = state.policy if isinstance(state, TrainState) else state
    allowed = "a TrainState or the Policy of one, such as jaxppo.train(config, key).state"
    check(isinstance(policy, Policy), "state", type(state).__name__, allowed)
    return policy


def check_alike(state: Any, like: Any) -> None:
    """Raise `jaxppo.ConfigError` unless a state or policy has the arrays, and these the shapes, of one of the config.

    It looks at shapes only: in a function that is compiled, the check is made while that is traced.
    """
    found, wanted = _shapes(state), _shapes(like)
    for name in [*wanted, *found]:
        if name not in found:
            raise ConfigError("state", f"one without {name}", "of this config, with which there is one")
        if name not in wanted:
            raise ConfigError("state", f"one with {name}", "of this config, with which there is none")
        if found[name] != wanted[name]:
            allowed = (
                f"of this config, with which that is {wanted[name]}; for states of several agents there is jax.vmap"
            )
            raise ConfigError("state", f"one whose {name} is of shape {found[name]}", allowed)


def _shapes(tree: Any) -> dict[str, tuple[int, ...]]:
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {jax.tree_util.keystr(path, simple=True, separator="."): tuple(leaf.shape) for path, leaf in leaves}
