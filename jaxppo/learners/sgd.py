"""Epochs of minibatch gradient steps on a surrogate, with the value function and an entropy bonus in one loss."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.flatten_util import ravel_pytree

from jaxppo.distributions import Distribution
from jaxppo.fields import check, flag, hyperparameters, is_a, nested, number, whole
from jaxppo.interop import default_promotion
from jaxppo.networks import Network
from jaxppo.objectives import Clip, Objective
from jaxppo.shuffle import permutation
from jaxppo.types import Batch

__all__ = ["SGD", "SGDState"]


class SGDState(NamedTuple):
    """Adam's moments, and the objective's own state."""

    opt_state: Any
    objective: Any


_Carry = tuple[jax.Array, Any]  # parameters as one vector [P], and the optimiser's state


class _Samples(NamedTuple):
    """A batch or minibatch as rows: every leaf is [M, …]."""

    obs: jax.Array
    reset: jax.Array
    action: jax.Array
    old: Distribution
    value: jax.Array
    advantage: jax.Array
    target: jax.Array


@hyperparameters
class SGD:
    """Adam on shuffled minibatches, several epochs over each batch (Schulman et al. 2017, algorithm 1)."""

    objective: Clip | Objective = nested(
        default_factory=Clip,
        ok=lambda v: is_a(v, "init", "loss", "adapt"),
        allowed="an objective such as jaxppo.Clip()",
    )
    """What is maximised."""
    learning_rate: float = number(default=2.5e-4, low=0)
    """Adam's step size."""
    anneal_lr: bool = flag(default=True)
    """Lower the learning rate linearly to 0 over training."""
    num_epochs: int = whole(default=4, minimum=1)
    """Passes over each batch."""
    num_minibatches: int = whole(default=4, minimum=1)
    """Gradient steps per pass."""
    shuffle: bool = flag(default=True)
    """Shuffle the whole batch anew for each pass; otherwise minibatches are runs of consecutive steps."""
    ent_coef: float = number(default=0.01, low=0)
    """Weight of the entropy bonus."""
    vf_coef: float = number(default=0.5, low=0)
    """Weight of the value loss."""
    vf_clip_eps: float | None = number(default=0.2, above=0, infinite=True, optional=True)
    """How far the value may move from its old one before its loss stops to reward it; None for no limit."""
    max_grad_norm: float = number(default=0.5, above=0, infinite=True)
    """Largest global norm of the gradient; inf for no limit."""
    normalize_advantage: bool = flag(default=True)
    """Shift and scale the advantages of each minibatch to mean 0 and standard deviation 1."""
    adam_eps: float = number(default=1e-5, above=0)
    """Adam's epsilon."""

    def check_batch(self, num_envs: int, num_steps: int) -> None:
        """Refuse a number of minibatches that does not divide the batch, or leaves one sample to normalise."""
        size = num_envs * num_steps
        divisor = f"a divisor of num_envs*num_steps={size}"
        check(size % self.num_minibatches == 0, "num_minibatches", self.num_minibatches, divisor)
        larger = f"less than num_envs*num_steps={size}, since normalize_advantage needs two samples in a minibatch"
        check(
            not self.normalize_advantage or size > self.num_minibatches, "num_minibatches", self.num_minibatches, larger
        )

    def init(self, params: Any) -> SGDState:
        """Zero moments for `params`."""
        return SGDState(self._optimizer().init(ravel_pytree(params)[0]), self.objective.init())

    def update(
        self, network: Network, state: SGDState, params: Any, batch: Batch, key: jax.Array, progress: jax.Array
    ) -> tuple[SGDState, Any, dict[str, jax.Array]]:
        """`num_epochs` × `num_minibatches` gradient steps; see `Learner.update`. Consumes `key`."""
        learning_rate = self.learning_rate * (1 - progress) if self.anneal_lr else jnp.asarray(self.learning_rate)
        optimizer = self._optimizer()
        samples = _rows(batch)
        # One vector instead of many small arrays: clipping and Adam become a few operations, whatever the network is.
        vector, unravel = ravel_pytree(params)

        def loss(vector: jax.Array, minibatch: _Samples) -> tuple[jax.Array, dict[str, jax.Array]]:
            return self._loss(unravel(vector), network, state.objective, minibatch)

        def step(carry: _Carry, minibatch: _Samples) -> tuple[_Carry, dict[str, jax.Array]]:
            vector, opt_state = carry
            (_, metrics), grad = jax.value_and_grad(loss, has_aux=True)(vector, minibatch)
            with default_promotion():
                direction, opt_state = optimizer.update(grad, opt_state)
            return (vector - learning_rate * direction, opt_state), {**metrics, "grad_norm": jnp.linalg.norm(grad)}

        def epoch(carry: _Carry, order: jax.Array) -> tuple[_Carry, dict[str, jax.Array]]:
            # The batch is reordered once; minibatches are then plain slices, which fuse into what reads them.
            return jax.lax.scan(step, carry, jax.tree.map(lambda x: x[order], samples))

        order = self._order(key, samples.value.shape[0])
        (vector, opt_state), metrics = jax.lax.scan(epoch, (vector, state.opt_state), order)
        ratio_max = jnp.max(metrics.pop("ratio_max"))
        means = {name: jnp.mean(values) for name, values in metrics.items()}
        aux = self.objective.adapt(state.objective, means["kl"])
        return (
            SGDState(opt_state, aux),
            unravel(vector),
            {**means, "ratio_max": ratio_max, "learning_rate": learning_rate},
        )

    def _optimizer(self) -> optax.GradientTransformation:
        return optax.chain(optax.clip_by_global_norm(self.max_grad_norm), optax.scale_by_adam(eps=self.adam_eps))

    def _order(self, key: jax.Array, size: int) -> jax.Array:
        """Rows of each minibatch, int32 [num_epochs, num_minibatches, M]; every epoch covers all rows once."""
        if self.shuffle:
            keys = jax.random.split(key, self.num_epochs)
            order = jax.vmap(lambda k: permutation(k, size))(keys)
        else:
            order = jnp.tile(jnp.arange(size), (self.num_epochs, 1))
        return order.reshape(self.num_epochs, self.num_minibatches, -1)

    def _loss(self, params: Any, network: Network, aux: Any, batch: _Samples) -> tuple[jax.Array, dict[str, jax.Array]]:
        _, new, value = network.apply(params, (), batch.obs, batch.reset)
        advantage = batch.advantage
        if self.normalize_advantage:
            advantage = (advantage - jnp.mean(advantage)) / (jnp.std(advantage) + 1e-8)
        policy_loss, metrics = self.objective.loss(aux, new, batch.old, batch.action, advantage)
        value_loss = self._value_loss(value, batch.value, batch.target)
        entropy = jnp.mean(new.entropy())
        loss = policy_loss - self.ent_coef * entropy + self.vf_coef * value_loss
        return loss, {
            "policy_loss": policy_loss,
            "value_loss": value_loss,
            "entropy": entropy,
            **ratio_diagnostics(new, batch.old, batch.action, metrics),
        }

    def _value_loss(self, value: jax.Array, old_value: jax.Array, target: jax.Array) -> jax.Array:
        """Half the mean squared error, pessimistic beyond ±vf_clip_eps (Huang et al. 2022, core detail 9)."""
        error = (value - target) ** 2
        if self.vf_clip_eps is not None:
            move = jax.lax.stop_gradient(value - old_value)
            clipped_error = (old_value + jnp.clip(move, -self.vf_clip_eps, self.vf_clip_eps) - target) ** 2
            # The larger error, as a choice; where the constant is chosen there is no gradient. Within the range the two
            # are the same but for rounding, which must not decide.
            error = jnp.where((jnp.abs(move) > self.vf_clip_eps) & (clipped_error > error), clipped_error, error)
        return 0.5 * jnp.mean(error)


def ratio_diagnostics(
    new: Distribution, old: Distribution, action: jax.Array, per_sample: dict[str, jax.Array]
) -> dict[str, jax.Array]:
    """How far the new policy is from the one that collected the data, with the means of `per_sample` metrics [M]."""
    log_ratio = jax.lax.stop_gradient(new.log_prob(action) - old.log_prob(action))
    ratio = jnp.exp(log_ratio)
    samples = {
        "approx_kl": jnp.expm1(log_ratio) - log_ratio,
        "kl": jax.lax.stop_gradient(old.kl(new)),
        "ratio": ratio,
        "squared_ratio": ratio**2,
        **per_sample,
    }
    # One reduction for all of them: on small minibatches the count of operations is what costs.
    means = dict(zip(samples, jnp.mean(jnp.stack(list(samples.values())), axis=1), strict=True))
    ess = means.pop("ratio") ** 2 / means.pop("squared_ratio")
    return {**means, "effective_sample_size": ess, "ratio_max": jnp.max(ratio)}


def _rows(batch: Batch) -> _Samples:
    """Flatten [T, N, …] to [T·N, …]."""
    fields = (batch.obs, batch.reset, batch.action, batch.old, batch.value, batch.advantage, batch.target)
    return _Samples(*jax.tree.map(lambda x: x.reshape((-1, *x.shape[2:])), fields))
