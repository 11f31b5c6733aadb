"""Epochs of minibatch gradient steps on a surrogate, with the value function and an entropy bonus in one loss."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.flatten_util import ravel_pytree

from jaxppo import backend, kernels, together
from jaxppo.distributions import Distribution
from jaxppo.fields import check, flag, hyperparameters, is_a, is_pytree, nested, number, whole
from jaxppo.interop import default_promotion
from jaxppo.learners.diagnostics import MOMENTS, one_by_one, ratio_moments
from jaxppo.learners.gradients import in_kernel, over_parts
from jaxppo.learners.halves import Halves, halves
from jaxppo.learners.losses import policy_loss, value_loss
from jaxppo.learners.minibatches import (
    Samples,
    as_rows,
    check_division,
    minibatch_rows,
    predict,
    standardise,
    take,
    to_samples,
)
from jaxppo.learners.rows import as_row, from_rows
from jaxppo.networks import Network
from jaxppo.objectives import AdaptiveKL, Clip, FixedKL, Objective, PolicyGradient, Unclipped
from jaxppo.types import Batch, Metrics

__all__ = ["SGD", "SGDState"]

# Two devices learn policy and value apart where an update has so many gradient steps for its one message at least, and
# samples of a minibatch times parameters are so many at most; beyond, they do better with half of the samples each.
APART_STEPS, APART_SIZE = 4, 2**25
UNROLL = 4  # gradient steps at most that are written out where each is one kernel, and a turn of a loop takes as long
OBJECTIVE_METRICS = ("clip_fraction", "kl_coef")
TAKEN = {*Metrics._fields, MOMENTS, "squared_ratio", "_seen"}


class SGDState(NamedTuple):
    """Adam's moments, and the objective's own state."""

    opt_state: Any
    objective: Any


class _Progress(NamedTuple):
    """Where the gradient steps of an update stand: parameters as one vector [P], and whether to go on."""

    vector: jax.Array
    opt_state: Any
    going: jax.Array


@hyperparameters
class SGD:
    """Adam on shuffled minibatches, several epochs over each batch (Schulman et al. 2017, algorithm 1)."""

    objective: Clip | AdaptiveKL | FixedKL | Unclipped | PolicyGradient | Objective = nested(
        default_factory=Clip,
        ok=lambda v: is_a(v, "init", "loss", "adapt", "scheduled") and is_pytree(v),
        allowed="an objective such as jaxppo.Clip(), registered as a pytree",
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
    """How far the value may move from its old one before its loss stops rewarding the move; None for no limit."""
    dual_clip: float | None = number(default=None, above=1, infinite=True, optional=True)
    """Ratio beyond which negative advantages count no more (Ye et al. 2020, eq. 5, who use 3); None for no limit."""
    kl_limit: float | None = number(default=None, above=0, infinite=True, optional=True)
    """No more steps in an update once a minibatch finds E[KL(old ‖ new)] above this, in nats; None for no limit."""
    max_grad_norm: float | None = number(default=0.5, above=0, infinite=True, optional=True)
    """Largest global norm of the gradient; None for no limit, so that two cores can learn policy and value apart."""
    normalize_advantage: bool = flag(default=True)
    """Shift and scale the advantages of each minibatch to mean 0 and standard deviation 1."""
    adam_eps: float = number(default=1e-5, above=0)
    """Adam's epsilon."""

    def check(self, num_envs: int, num_steps: int, network: Network) -> None:
        """Refuse minibatches that do not divide the batch or leave one sample to normalise, and reuse out of place."""
        size = num_envs * num_steps
        check_division("num_minibatches", self.num_minibatches, num_envs, num_steps, network)
        larger = f"less than num_envs*num_steps={size}, since normalize_advantage, if on, needs two samples in each"
        check(
            not self.normalize_advantage or size > self.num_minibatches, "num_minibatches", self.num_minibatches, larger
        )
        if not getattr(self.objective, "reuses_data", True):
            once = f"1 with {type(self.objective).__name__}, which is on-policy (Unclipped corrects for older data)"
            check(self.num_epochs == 1, "num_epochs", self.num_epochs, once)
            check(self.num_minibatches == 1, "num_minibatches", self.num_minibatches, once)

    def init(self, params: Any) -> SGDState:
        """Zero moments for `params`."""
        return SGDState(self._optimizer().init(ravel_pytree(params)[0]), self.objective.init())

    def update(
        self, network: Network, state: SGDState, params: Any, batch: Batch, key: jax.Array, progress: jax.Array
    ) -> tuple[SGDState, Any, dict[str, jax.Array]]:
        """`num_epochs` × `num_minibatches` gradient steps; see `Learner.update`. Consumes `key`."""
        learning_rate = self.learning_rate * (1 - progress) if self.anneal_lr else jnp.asarray(self.learning_rate)
        objective = self.objective.scheduled(progress)
        samples = to_samples(network, batch)
        rows = minibatch_rows(key, samples.value.shape[0], self.num_epochs, self.num_minibatches, shuffle=self.shuffle)
        # One vector instead of many small arrays: clipping and Adam become a few operations, whatever the network is.
        vector, unravel = ravel_pytree(params)
        start = _Progress(vector, state.opt_state, jnp.bool_(True))
        observation = jax.eval_shape(lambda: jax.tree.map(lambda x: x[0, 0], batch.obs))
        minibatch_size = batch.value.size // self.num_minibatches
        apart = self.apart(network, params, observation, minibatch_size) if together.num_devices() == 2 else None
        if apart is not None:
            end, metrics = self._halves(apart, network, objective, state.objective, start, samples, rows, learning_rate)
        else:
            gradient = partial(self.gradient, network, unravel, objective, state.objective)
            loss = self._loss_for(network, objective, state.objective)

            def unroll(minibatches: Samples) -> int:
                first = jax.eval_shape(lambda: jax.tree.map(lambda x: x[0], minibatches))
                one_kernel = jax.eval_shape(partial(in_kernel, loss, vector, unravel), first) is not None
                return backend.most_at_once(self.num_minibatches, UNROLL) if one_kernel else 1

            end, metrics = self._epochs(
                gradient, partial(self.minibatches, samples), start, rows, learning_rate, unroll
            )
            metrics["ratio_max"] = together.largest(metrics["ratio_max"])
        params = unravel(end.vector)
        metrics = {**_reduce(one_by_one(metrics)), "learning_rate": learning_rate}
        aux = state.objective
        if jax.tree.leaves(aux):
            new, _ = predict(network, params, samples, both=False)
            metrics["kl_update"] = jnp.mean(as_rows(network, samples).old.kl(new))
            aux = objective.adapt(aux, metrics["kl_update"])
        return SGDState(end.opt_state, aux), params, metrics

    @property
    def separate(self) -> bool:
        """Whether nothing but the advantages joins the steps of policy and value, and they are worth a message.

        What could join them is a norm of both gradients, or a common end of the steps.
        """
        enough = self.num_epochs * self.num_minibatches >= APART_STEPS
        return self.max_grad_norm is None and self.kl_limit is None and enough

    def apart(self, network: Network, params: Any, observation: Any, minibatch_size: int) -> Halves | None:
        """How two devices learn policy and value apart from each other; None where they can't, or better don't.

        They can if the steps are `separate`, and there is no vector of parameters to which dtypes of both are promoted.
        Arguments are as of `halves`, and `minibatch_size` is in steps.
        """
        alike = len({x.dtype for x in jax.tree.leaves(params)}) == 1
        size = minibatch_size * sum(x.size for x in jax.tree.leaves(params))
        return halves(network, params, observation) if self.separate and alike and size <= APART_SIZE else None

    def _halves(
        self,
        halves: Halves,
        network: Network,
        objective: Objective,
        aux: Any,
        start: _Progress,
        samples: Samples,
        rows: jax.Array,
        learning_rate: jax.Array,
    ) -> tuple[_Progress, dict[str, Any]]:
        """All steps of both halves, each on a device of its own: as `_epochs`."""
        params = halves.params

        def learn(of_value: bool) -> tuple[_Progress, dict[str, Any]]:
            vector, unravel = ravel_pytree(halves.half(params, of_value))

            def loss(vector: jax.Array, part: Samples) -> tuple[jax.Array, dict[str, Any]]:
                new, value = predict(network, halves.put(params, unravel(vector), of_value), part, both=False)
                rows = as_rows(network, part)
                return self._of_value(value, rows) if of_value else self._of_policy(objective, aux, new, rows)

            def gradient(vector: jax.Array, minibatch: Samples) -> tuple[jax.Array, dict[str, Any]]:
                grad, metrics = over_parts(loss, vector, minibatch, _in_parts(network, objective))
                return grad, {**metrics, "grad_norm": jnp.linalg.norm(grad)}

            opt_state = jax.tree.map(lambda x: halves.half_of_vector(x, of_value) if x.ndim else x, start.opt_state)
            minibatches = partial(self.minibatches, samples, whole=True)
            return self._epochs(gradient, minibatches, _Progress(vector, opt_state, start.going), rows, learning_rate)

        (policy, of_policy), (value, of_value) = together.apart(partial(learn, False), partial(learn, True))
        end = jax.tree.map(lambda x, *both: halves.join_vectors(*both) if x.ndim else both[0], start, policy, value)
        grad_norm = jnp.hypot(of_policy["grad_norm"], of_value["grad_norm"])
        return end, {**of_policy, **of_value, "grad_norm": grad_norm}

    def _epochs(
        self,
        gradient: Callable[[jax.Array, Samples], tuple[jax.Array, dict[str, Any]]],
        minibatches: Callable[[jax.Array], Samples],
        start: _Progress,
        rows: jax.Array,
        learning_rate: jax.Array,
        unroll: Callable[[Samples], int] = lambda _: 1,
    ) -> tuple[_Progress, dict[str, Any]]:
        """A step along each gradient: where that leads to, and metrics [num_epochs, num_minibatches].

        Args:
            gradient: the gradient at a vector of parameters on a minibatch, and metrics.
            minibatches: those of an epoch, of their rows; see `minibatches`.
            start: where to begin.
            rows: of all epochs.
            learning_rate: a scalar.
            unroll: how many steps on such minibatches to write out one after the other.
        """

        def step(at: _Progress, minibatch: Samples) -> tuple[_Progress, Any]:
            grad, metrics = gradient(at.vector, minibatch)
            vector, opt_state = self.descend(at.vector, at.opt_state, grad, learning_rate)
            after = _Progress(vector, opt_state, at.going)
            if self.kl_limit is None:
                return after, as_row(metrics)
            going = at.going & (metrics[MOMENTS]["kl"] <= self.kl_limit)
            after = jax.tree.map(lambda new, old: jnp.where(going, new, old), after, at)
            return after._replace(going=going), as_row({**metrics, "_seen": at.going, "gradient_steps": going})

        def epoch(at: _Progress, rows: jax.Array) -> tuple[_Progress, Any]:
            each = minibatches(rows)
            return jax.lax.scan(step, at, each, unroll=unroll(each))

        end, rows_of_metrics = jax.lax.scan(epoch, start, rows)
        return end, from_rows(rows_of_metrics)

    def minibatches(self, samples: Samples, rows: jax.Array, *, whole: bool = False) -> Samples:
        """The minibatches of an epoch from their rows, int32 [num_minibatches, M]: leaves are [num_minibatches, M, …].

        The batch is reordered once; minibatches are then plain slices, which fuse into what reads them. Where devices
        train together, and the objective is a mean over the samples, they are this device's share of each minibatch,
        unless it is to be `whole`.
        """
        divided = not whole and _divides(self.objective) and rows.shape[1] % together.num_devices() == 0

        def own(x: jax.Array) -> jax.Array:
            return together.share(x, axis=1) if divided else x

        minibatches = take(samples, own(rows))
        if not self.normalize_advantage:
            return minibatches
        return minibatches._replace(advantage=own(standardise(samples.advantage[rows], 1)))

    def gradient(
        self,
        network: Network,
        unravel: Callable[[jax.Array], Any],
        objective: Objective,
        aux: Any,
        vector: jax.Array,
        minibatch: Samples,
    ) -> tuple[jax.Array, dict[str, Any]]:
        """The gradient [P] of the loss on a minibatch at the parameters `unravel(vector)`, and the metrics there.

        Where devices train together it is the mean over them, and so are all metrics but `ratio_max`.
        """

        def loss(vector: jax.Array, part: Samples) -> tuple[jax.Array, dict[str, Any]]:
            return self._loss(unravel(vector), network, objective, aux, part)

        by_kernel = in_kernel(self._loss_for(network, objective, aux), vector, unravel, minibatch)
        grad, metrics = by_kernel or over_parts(loss, vector, minibatch, _in_parts(network, objective))
        means = {name: each for name, each in metrics.items() if name != "ratio_max"}
        grad, means = together.mean((grad, means))
        return grad, {**metrics, **means, "grad_norm": jnp.linalg.norm(grad)}

    def _loss_for(self, network: Network, objective: Objective, aux: Any) -> Callable[..., Any] | None:
        """`loss(params, minibatch=part)`, as a kernel takes it; None where there are none, or no parts."""
        if not _in_parts(network, objective) or not kernels.available():
            return None
        return partial(self._loss, network=network, objective=objective, aux=aux, both=False)

    def descend(
        self, vector: jax.Array, opt_state: Any, grad: jax.Array, learning_rate: jax.Array
    ) -> tuple[jax.Array, Any]:
        """One step of Adam along the clipped gradient: parameters [P] and moments after it."""
        with default_promotion():
            direction, opt_state = self._optimizer().update(grad, opt_state)
        return vector - learning_rate * direction, opt_state

    def _optimizer(self) -> optax.GradientTransformation:
        limit = self.max_grad_norm
        clip = optax.identity() if limit is None else optax.clip_by_global_norm(limit)
        return optax.chain(clip, optax.scale_by_adam(eps=self.adam_eps))

    def _loss(
        self, params: Any, network: Network, objective: Objective, aux: Any, minibatch: Samples, *, both: bool = True
    ) -> tuple[jax.Array, dict[str, Any]]:
        new, value = predict(network, params, minibatch, both=both)
        batch = as_rows(network, minibatch)
        loss_of_policy, of_policy = self._of_policy(objective, aux, new, batch)
        loss_of_value, of_value = self._of_value(value, batch)
        return loss_of_policy + loss_of_value, {**of_policy, **of_value}

    def _of_policy(
        self, objective: Objective, aux: Any, new: Distribution, batch: Samples
    ) -> tuple[jax.Array, dict[str, Any]]:
        """The policy's part of the loss, and its metrics."""
        loss, metrics = policy_loss(objective, aux, new, batch, self.dual_clip)
        for name in metrics:
            own = f"an objective whose metrics don't go by the name of another, as {name!r} does"
            check(name in OBJECTIVE_METRICS or name not in TAKEN, "objective", type(objective).__name__, own)
        entropy = jnp.mean(new.entropy())
        per_sample = {name: values for name, values in metrics.items() if jnp.ndim(values) == 1}
        return loss - self.ent_coef * entropy, {
            "policy_loss": loss,
            "entropy": entropy,
            **{name: value for name, value in metrics.items() if name not in per_sample},
            **ratio_moments(new, batch.old, batch.action, per_sample),
        }

    def _of_value(self, value: jax.Array, batch: Samples) -> tuple[jax.Array, dict[str, Any]]:
        """The value's part of the loss, and its metrics."""
        loss = value_loss(value, batch, self.vf_clip_eps)
        return self.vf_coef * loss, {"value_loss": loss}


def _divides(objective: Objective) -> bool:
    """Whether the gradient on a minibatch is the mean of those on equal parts of it."""
    return bool(getattr(objective, "mean_over_samples", False))


def _in_parts(network: Network, objective: Objective) -> bool:
    """Whether samples are steps, not sequences, and the gradient is the mean of those on equal parts of them."""
    return not network.recurrent and _divides(objective)


def _reduce(metrics: dict[str, jax.Array]) -> dict[str, jax.Array]:
    """Metrics of minibatches [num_epochs, num_minibatches], as scalars: of those seen before `kl_limit` was passed."""
    ratio_max = metrics.pop("ratio_max")
    if "_seen" not in metrics:
        return {**jax.tree.map(jnp.mean, metrics), "ratio_max": jnp.max(ratio_max)}
    seen, steps = metrics.pop("_seen"), metrics.pop("gradient_steps")
    means = {name: jnp.mean(values, where=seen) for name, values in metrics.items()}
    return {
        **means,
        "ratio_max": jnp.max(jnp.where(seen, ratio_max, 0.0)),
        "gradient_steps": jnp.sum(steps, dtype=jnp.int32),
    }
