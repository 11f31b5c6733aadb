"""How parameters move: the protocol that `SGD` and its siblings follow."""

from typing import Any, Protocol

import jax

from jaxppo.networks import Network
from jaxppo.types import Batch

__all__ = ["Learner"]


class Learner(Protocol):
    """A pytree of hyperparameters with pure functions."""

    def check(self, num_envs: int, num_steps: int, network: Network) -> None:
        """Raise `jaxppo.ConfigError` if it can't learn from batches of [num_steps, num_envs], or train `network`."""
        ...

    def init(self, params: Any) -> Any:
        """The learner's state for fresh network parameters."""
        ...

    def update(
        self, network: Network, state: Any, params: Any, batch: Batch, key: jax.Array, progress: jax.Array
    ) -> tuple[Any, Any, dict[str, jax.Array]]:
        """One learning phase. `progress` in [0, 1] says how much of training is done. Consumes `key`.

        Returns:
            `(state, params, metrics)`, the metrics being scalars. Those from `policy_loss` to `learning_rate` in
            `jaxppo.types.Metrics` are required, but for `explained_variance`, which is not the learner's to give; names
            that it does not have end in its `extra`.
        """
        ...
