"""GAE against an oracle that walks every trajectory, and against its two limits."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

import jaxppo

gae = jax.jit(jaxppo.gae)
T, N = 12, 3
SHAPE = (T, N)


@st.composite
def segments(draw):
    """Rewards, values and episode ends of a segment, with both kinds of end now and then at once."""
    floats = st.floats(-10, 10, width=32)
    reward, value, next_value = (draw(arrays(np.float32, SHAPE, elements=floats)) for _ in range(3))
    terminated, truncated = (draw(arrays(bool, SHAPE)) for _ in range(2))
    return reward, value, next_value, terminated, truncated


def consistent(segment):
    """The segment with next values that follow from the values wherever the episode goes on."""
    reward, value, next_value, terminated, truncated = segment
    goes_on = ~(terminated | truncated)
    goes_on[-1] = False
    next_value = np.where(goes_on, np.roll(value, -1, axis=0), next_value)
    return reward, value, next_value, terminated, truncated


def td_error(reward, value, next_value, terminated, gamma, t, n):
    """δ of one step."""
    following = 0.0 if terminated[t, n] else float(next_value[t, n])
    return float(reward[t, n]) + gamma * following - float(value[t, n])


def walk(reward, value, next_value, terminated, truncated, gamma, gae_lambda):
    """Σ_l (γλ)^l δ_{t+l} up to the end of the episode or of the segment, term by term in double precision."""
    advantage = np.zeros(SHAPE)
    for n in range(N):
        for t in range(T):
            for later in range(t, T):
                weight = (gamma * gae_lambda) ** (later - t)
                advantage[t, n] += weight * td_error(reward, value, next_value, terminated, gamma, later, n)
                if terminated[later, n] or truncated[later, n]:
                    break
    return advantage


def monte_carlo(reward, value, next_value, terminated, truncated, gamma):
    """Discounted return to the end of the episode or segment, plus what is left there unless it terminated."""
    returns = np.zeros(SHAPE)
    for n in range(N):
        for t in range(T):
            for later in range(t, T):
                returns[t, n] += gamma ** (later - t) * float(reward[later, n])
                over = terminated[later, n] or truncated[later, n] or later == T - 1
                if over and not terminated[later, n]:
                    returns[t, n] += gamma ** (later - t + 1) * float(next_value[later, n])
                if over:
                    break
    return returns


@given(segments(), st.floats(0, 1), st.floats(0, 1))
def test_equals_the_walk_over_each_trajectory(segment, gamma, gae_lambda):
    """The backward scan is the sum over every step that follows in the episode."""
    advantage = gae(*segment, gamma, gae_lambda)
    np.testing.assert_allclose(advantage, walk(*segment, gamma, gae_lambda), rtol=1e-4, atol=1e-3)


@given(segments(), st.floats(0, 1))
def test_lambda_0_is_the_td_error(segment, gamma):
    """With λ = 0 nothing but the step itself counts."""
    reward, value, next_value, terminated, _ = segment
    expected = [[td_error(reward, value, next_value, terminated, gamma, t, n) for n in range(N)] for t in range(T)]
    np.testing.assert_allclose(gae(*segment, gamma, 0.0), expected, rtol=1e-5, atol=1e-5)


@given(segments(), st.floats(0, 1))
def test_lambda_1_is_monte_carlo_minus_value(segment, gamma):
    """With λ = 1 the values between cancel, and the bootstrap at a truncation or at the segment's end remains."""
    segment = consistent(segment)
    expected = monte_carlo(*segment, gamma) - segment[1]
    np.testing.assert_allclose(gae(*segment, gamma, 1.0), expected, rtol=1e-4, atol=1e-3)


@given(segments())
def test_both_ends_at_once_are_a_termination(segment):
    """A step that terminates and truncates counts as one that only terminates."""
    reward, value, next_value, terminated, truncated = segment
    both = gae(reward, value, next_value, terminated, truncated, 0.9, 0.8)
    only = gae(reward, value, next_value, terminated, truncated & ~terminated, 0.9, 0.8)
    np.testing.assert_array_equal(both, only)


def test_nothing_crosses_an_end():
    """What happens after an episode's end doesn't touch the advantages before it."""
    rng = np.random.default_rng(0)
    reward, value, next_value = rng.normal(size=(3, *SHAPE)).astype(np.float32)
    ends = np.zeros(SHAPE, bool)
    ends[5] = True
    changed = reward.copy()
    changed[6:] += 100
    for terminated, truncated in ((ends, ~ends & False), (~ends & False, ends)):
        before = gae(reward, value, next_value, terminated, truncated, 0.99, 0.95)
        after = gae(changed, value, next_value, terminated, truncated, 0.99, 0.95)
        np.testing.assert_array_equal(before[:6], after[:6])
        assert np.all(np.asarray(after[6:]) > np.asarray(before[6:]))


def test_one_of_each_kind_of_end_by_hand():
    """Two steps of three environments, with γ = ½ and λ = ½, worked out on paper."""
    ones = jnp.ones((2, 3))
    terminated = jnp.array([[True, False, False], [False, False, False]])
    truncated = jnp.array([[False, True, False], [False, False, False]])
    advantage = gae(ones, jnp.zeros((2, 3)), 4 * ones, terminated, truncated, 0.5, 0.5)
    np.testing.assert_allclose(advantage, [[1.0, 3.0, 3.75], [3.0, 3.0, 3.0]])


def test_vmapped_discounts():
    """γ and λ may be traced: one row of answers per pair."""
    rng = np.random.default_rng(1)
    reward, value, next_value = rng.normal(size=(3, *SHAPE)).astype(np.float32)
    terminated, truncated = rng.random((2, *SHAPE)) < 0.2
    gammas, lambdas = jnp.array([0.5, 0.9, 1.0]), jnp.array([0.0, 0.95, 1.0])
    many = jax.vmap(lambda g, k: jaxppo.gae(reward, value, next_value, terminated, truncated, g, k))(gammas, lambdas)
    for row, gamma, gae_lambda in zip(many, gammas, lambdas, strict=True):
        expected = walk(reward, value, next_value, terminated, truncated, float(gamma), float(gae_lambda))
        np.testing.assert_allclose(row, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("argument", range(5))
def test_shapes_must_agree(argument):
    """One argument of another shape is refused, even one that would broadcast."""
    segment = [jnp.zeros(SHAPE)] * 3 + [jnp.zeros(SHAPE, bool)] * 2
    segment[argument] = segment[argument][:1]
    with pytest.raises(AssertionError):
        jaxppo.gae(*segment, 0.99, 0.95)


def test_rank_must_be_two():
    """Vectors are refused: time and environments are two axes."""
    with pytest.raises(AssertionError):
        jaxppo.gae(*[jnp.zeros(T)] * 3, *[jnp.zeros(T, bool)] * 2, 0.99, 0.95)


@pytest.mark.parametrize("argument", [3, 4])
def test_ends_must_be_boolean(argument):
    """Flags given as floats are refused."""
    segment = [jnp.zeros(SHAPE)] * 3 + [jnp.zeros(SHAPE, bool)] * 2
    segment[argument] = jnp.zeros(SHAPE)
    with pytest.raises(AssertionError):
        jaxppo.gae(*segment, 0.99, 0.95)
