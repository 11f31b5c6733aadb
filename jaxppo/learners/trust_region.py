"""Trust region policy optimisation: a natural-gradient step of bounded KL divergence, then a separate value fit."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.flatten_util import ravel_pytree

from jaxppo.distributions import Distribution, log_ratio
from jaxppo.fields import check, flag, hyperparameters, number, whole
from jaxppo.interop import default_promotion
from jaxppo.learners.diagnostics import ratio_diagnostics
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
from jaxppo.networks import Network
from jaxppo.types import Batch

__all__ = ["TrustRegion", "TrustRegionState"]

MatrixVector = Callable[[jax.Array], jax.Array]


class TrustRegionState(NamedTuple):
    """Adam's moments of the value fit."""

    opt_state: Any


class Step(NamedTuple):
    """Outcome of a line search: parameters [P], the fraction of the full step taken (0 if it failed), tries made."""

    vector: jax.Array
    fraction: jax.Array
    tries: jax.Array


@hyperparameters
class TrustRegion:
    """TRPO: maximise E[r·Â] subject to E[KL(π_old ‖ π)] ≤ δ (Schulman et al. 2015, eq. 14 and appendix C).

    The direction solves F·x = g by conjugate gradient, F being the Hessian of the mean KL divergence, which is only
    ever multiplied with. The step is as long as the quadratic model of the divergence allows, and is then shortened
    until the surrogate has improved and the exact divergence is at most δ; where that does not happen the policy stays
    as it is. Then the value function is fitted. Policy and value must not share parameters, or the fit would move the
    policy.
    """

    max_kl: float = number(default=0.01, above=0)
    """Largest E[KL(π_old ‖ π)] of an update, δ, in nats."""
    cg_iters: int = whole(default=10, minimum=1)
    """Most iterations of conjugate gradient."""
    cg_damping: float = number(default=0.1, low=0)
    """Multiple of the identity added to F while solving."""
    cg_tolerance: float = number(default=1e-5, low=0)
    """Conjugate gradient ends once the residual is this small relative to the gradient."""
    line_search_steps: int = whole(default=10, minimum=1)
    """Most step lengths tried."""
    line_search_factor: float = number(default=0.5, above=0, high=1)
    """Each step length tried is this fraction of the one before."""
    ent_coef: float = number(default=0.0, low=0)
    """Weight of an entropy bonus in the surrogate."""
    normalize_advantage: bool = flag(default=True)
    """Shift and scale the advantages of the batch to mean 0 and standard deviation 1."""
    vf_learning_rate: float = number(default=1e-3, low=0)
    """Adam's step size in the value fit."""
    vf_epochs: int = whole(default=5, minimum=1)
    """Passes of the value fit over each batch."""
    vf_minibatches: int = whole(default=8, minimum=1)
    """Gradient steps per pass of the value fit."""

    def check(self, num_envs: int, num_steps: int, network: Network) -> None:
        """Refuse minibatches that do not divide the batch, a batch of one, and a network with a shared torso."""
        size = num_envs * num_steps
        check_division("vf_minibatches", self.vf_minibatches, num_envs, num_steps, network)
        pair = "at least 2 samples with normalize_advantage"
        check(not self.normalize_advantage or size > 1, "num_envs*num_steps", size, pair)
        alone = "False with TrustRegion, whose value fit would otherwise move the policy"
        check(not network.shared, "shared", True, alone)

    def init(self, params: Any) -> TrustRegionState:
        """Zero moments for `params`."""
        return TrustRegionState(self._optimizer().init(ravel_pytree(params)[0]))

    def update(
        self, network: Network, state: TrustRegionState, params: Any, batch: Batch, key: jax.Array, progress: jax.Array
    ) -> tuple[TrustRegionState, Any, dict[str, jax.Array]]:
        """A trust-region step of the policy, then the value fit; see `Learner.update`. Consumes `key`.

        Metrics are of the whole batch after the step; `grad_norm` is that of the surrogate before it.
        """
        del progress
        samples = to_samples(network, batch)
        if self.normalize_advantage:
            samples = samples._replace(advantage=standardise(samples.advantage))
        vector, unravel = ravel_pytree(params)
        rows = as_rows(network, samples)

        def policy(vector: jax.Array) -> Distribution:
            return predict(network, unravel(vector), samples, both=False)[0]

        def surrogate(new: Distribution) -> jax.Array:
            return jnp.mean(jnp.exp(log_ratio(new, rows.old, rows.action)) * rows.advantage)

        def gain(vector: jax.Array) -> jax.Array:
            new = policy(vector)
            return surrogate(new) + self.ent_coef * jnp.mean(new.entropy())

        def divergence(vector: jax.Array) -> jax.Array:
            return jnp.mean(rows.old.kl(policy(vector)))

        before, gradient = jax.value_and_grad(gain)(vector)
        fisher = fisher_vector_product(divergence, vector)
        direction = self.direction(fisher, gradient)
        curvature = direction @ fisher(direction)
        length = jnp.where(curvature > 0, jnp.sqrt(2 * self.max_kl / jnp.where(curvature > 0, curvature, 1.0)), 0.0)
        step = self._line_search(gain, divergence, vector, length * direction, before)
        opt_state, fitted, value_loss = self._fit_value(network, state.opt_state, step.vector, unravel, samples, key)

        new = policy(step.vector)
        diagnostics = ratio_diagnostics(new, rows.old, rows.action)
        return (
            TrustRegionState(opt_state),
            unravel(fitted),
            {
                **diagnostics,
                "policy_loss": -surrogate(new),
                "value_loss": value_loss,
                "entropy": jnp.mean(new.entropy()),
                "kl_update": diagnostics["kl"],
                "grad_norm": jnp.linalg.norm(gradient),
                "learning_rate": jnp.asarray(self.vf_learning_rate),
                "line_search_success": (step.fraction > 0).astype(jnp.float32),
                "step_fraction": step.fraction,
            },
        )

    def direction(self, fisher: MatrixVector, gradient: jax.Array) -> jax.Array:
        """The x [P] with (F + damping·I)·x = g [P], by at most `cg_iters` iterations of conjugate gradient."""
        with default_promotion():
            return jax.scipy.sparse.linalg.cg(  # type: ignore[no-untyped-call]
                lambda x: fisher(x) + self.cg_damping * x, gradient, tol=self.cg_tolerance, maxiter=self.cg_iters
            )[0]

    def _line_search(
        self,
        gain: Callable[[jax.Array], jax.Array],
        divergence: Callable[[jax.Array], jax.Array],
        vector: jax.Array,
        full_step: jax.Array,
        before: jax.Array,
    ) -> Step:
        """The first of the shortening steps that improves the surrogate within the bound, or none."""

        def unsettled(at: Step) -> jax.Array:
            return (at.fraction == 0) & (at.tries < self.line_search_steps)

        def shorten(at: Step) -> Step:
            fraction = jnp.asarray(self.line_search_factor, jnp.float32) ** at.tries.astype(jnp.float32)
            candidate = vector + fraction * full_step
            accepted = (gain(candidate) > before) & (divergence(candidate) <= self.max_kl)
            return Step(
                jnp.where(accepted, candidate, at.vector), jnp.where(accepted, fraction, at.fraction), at.tries + 1
            )

        return jax.lax.while_loop(unsettled, shorten, Step(vector, jnp.float32(0), jnp.int32(0)))

    def _fit_value(
        self,
        network: Network,
        opt_state: Any,
        vector: jax.Array,
        unravel: Callable[[jax.Array], Any],
        samples: Samples,
        key: jax.Array,
    ) -> tuple[Any, jax.Array, jax.Array]:
        """Adam on half the mean squared error: the optimiser's state, the parameters, and the mean loss."""
        optimizer = self._optimizer()

        def loss(vector: jax.Array, minibatch: Samples) -> jax.Array:
            _, value = predict(network, unravel(vector), minibatch, both=False)
            return 0.5 * jnp.mean((value - as_rows(network, minibatch).target) ** 2)

        def step(carry: tuple[jax.Array, Any], rows: jax.Array) -> tuple[tuple[jax.Array, Any], jax.Array]:
            vector, opt_state = carry
            error, grad = jax.value_and_grad(loss)(vector, take(samples, rows))
            with default_promotion():
                direction, opt_state = optimizer.update(grad, opt_state)
            return (vector - self.vf_learning_rate * direction, opt_state), error

        rows = minibatch_rows(key, samples.value.shape[0], self.vf_epochs, self.vf_minibatches)
        (vector, opt_state), errors = jax.lax.scan(step, (vector, opt_state), rows.reshape(-1, rows.shape[-1]))
        return opt_state, vector, jnp.mean(errors)

    def _optimizer(self) -> optax.GradientTransformation:
        return optax.scale_by_adam(eps=1e-5)


def fisher_vector_product(divergence: Callable[[jax.Array], jax.Array], vector: jax.Array) -> MatrixVector:
    """The function v ↦ F·v, both [P], F being the Hessian at `vector` of the mean KL divergence from there.

    That is the Fisher information averaged over the batch (Schulman et al. 2015, appendix C.1). The gradient is
    linearised once, so that each product costs one pass forward and one back.
    """
    return jax.linearize(jax.grad(divergence), vector)[1]
