"""Densities, entropies and divergences against scipy and distrax, by hand, and at the edges of
float32.
"""

import itertools
import math

import distrax
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.integrate
import scipy.special
import scipy.stats

from onejit import losses

close = np.testing.assert_allclose


def normal(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def gradients(function, *arrays):
    """The gradient of the sum of the results by every array."""
    return jax.jit(jax.grad(lambda *a: jnp.sum(function(*a)), argnums=tuple(range(len(arrays)))))(
        *arrays
    )


# Gaussian


def test_gaussian_log_prob_equals_scipy():
    x, mean, log_std = normal(3, 20, 4)
    expected = scipy.stats.norm.logpdf(x, mean, np.exp(log_std.astype(np.float64)))
    close(losses.gaussian_log_prob(x, mean, log_std), expected, rtol=1e-5, atol=1e-6)


def test_gaussian_log_prob_gradients_by_hand():
    # x = 5, mean = 1, std = 2: z = 2, d/dmean = z/std = 1, d/dx = −1, d/dlog_std = z² − 1 = 3
    by_x, by_mean, by_log_std = gradients(
        losses.gaussian_log_prob, *jnp.array([[5.0], [1.0], [math.log(2.0)]])
    )
    close((by_x[0], by_mean[0], by_log_std[0]), (-1.0, 1.0, 3.0), rtol=1e-6)


def test_gaussian_entropy_equals_scipy():
    log_std = normal(20)
    close(
        losses.gaussian_entropy(log_std),
        scipy.stats.norm.entropy(0.0, np.exp(log_std)),
        rtol=1e-5,
        atol=1e-6,
    )


def test_gaussian_kl_equals_distrax():
    mean_p, log_std_p, mean_q, log_std_q = normal(4, 20, 4)
    p, q = distrax.Normal(mean_p, jnp.exp(log_std_p)), distrax.Normal(mean_q, jnp.exp(log_std_q))
    close(
        losses.gaussian_kl(mean_p, log_std_p, mean_q, log_std_q),
        p.kl_divergence(q),
        rtol=1e-5,
        atol=1e-6,
    )


def test_gaussian_kl_by_hand():
    # p = N(0, 1), q = N(2, 2²): log 2 + (1 + 4)/8 − ½ one way, −log 2 + (4 + 4)/2 − ½ the other
    p, q = (jnp.zeros(1), jnp.zeros(1)), (jnp.full(1, 2.0), jnp.full(1, math.log(2.0)))
    close(losses.gaussian_kl(*p, *q), [math.log(2.0) + 0.125], rtol=1e-6)
    close(losses.gaussian_kl(*q, *p), [3.5 - math.log(2.0)], rtol=1e-6)
    assert losses.gaussian_kl(*q, *q) == 0.0


def test_gaussian_kl_of_neighbours_does_not_cancel():
    zeros, small = np.zeros(50, np.float32), np.linspace(0.01, 0.1, 50, dtype=np.float32)
    # ½(e^{2a} − 1) − a is about a²: exp instead of expm1 would lose 1e-3 of it at a = 0.01.
    a = np.float64(small)
    close(losses.gaussian_kl(zeros, small, zeros, zeros), 0.5 * np.expm1(2.0 * a) - a, rtol=5e-5)
    # the mean alone: μ²/2, here 5e-11 and below the resolution of the numbers near 1 that cancel
    close(losses.gaussian_kl(zeros + 1e-5, zeros, zeros, zeros), np.full(50, 0.5e-10), rtol=1e-5)


@pytest.mark.parametrize("sign", [-1.0, 1.0])
def test_log_std_is_limited_to_20(sign):
    beyond, limit = jnp.full(1, sign * 1e4), jnp.full(1, sign * 20.0)
    zero = jnp.zeros(1)
    assert losses.gaussian_entropy(beyond) == losses.gaussian_entropy(limit)
    assert losses.gaussian_log_prob(zero, zero, beyond) == losses.gaussian_log_prob(
        zero, zero, limit
    )
    assert losses.gaussian_kl(zero, beyond, zero, zero) == losses.gaussian_kl(
        zero, limit, zero, zero
    )
    assert gradients(losses.gaussian_entropy, beyond)[0] == 0.0


# Squashed Gaussian


def test_tanh_gaussian_log_prob_equals_the_change_of_variables():
    pre_tanh, mean, log_std = normal(3, 20, 4)
    u = pre_tanh.astype(np.float64)
    expected = scipy.stats.norm.logpdf(u, mean, np.exp(log_std)) - np.log1p(-(np.tanh(u) ** 2))
    close(losses.tanh_gaussian_log_prob(pre_tanh, mean, log_std), expected, rtol=1e-5, atol=1e-6)


def test_tanh_gaussian_log_prob_equals_distrax():
    # Not further out: distrax inverts tanh.
    pre_tanh, mean, log_std = 0.5 * normal(3, 20, 4, seed=1)
    expected = distrax.Transformed(distrax.Normal(mean, jnp.exp(log_std)), distrax.Tanh()).log_prob(
        np.tanh(pre_tanh)
    )
    close(losses.tanh_gaussian_log_prob(pre_tanh, mean, log_std), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("mean", "log_std"), [(0.0, 0.0), (0.5, -1.0), (-1.5, 0.3)])
def test_tanh_gaussian_density_integrates_to_one(mean, log_std):
    # Over the actions a = tanh(u), on nodes that get denser towards ±1; the tails beyond u = ±10
    # are below 1e-9.
    pre_tanh = np.linspace(-10.0, 10.0, 20001)
    parameters = np.full_like(pre_tanh, mean), np.full_like(pre_tanh, log_std)
    density = np.exp(losses.tanh_gaussian_log_prob(pre_tanh, *parameters))
    close(scipy.integrate.trapezoid(density, x=np.tanh(pre_tanh)), 1.0, rtol=1e-5)


@pytest.mark.parametrize("u", [-40.0, 40.0])
def test_tanh_gaussian_log_prob_stays_exact_where_tanh_is_one(u):
    # 1 − tanh²(u) → 4·e^{−2|u|}: with the Gaussian centred on u, −½ log 2π − (log 4 − 80) =
    # 77.694767
    at = jnp.full(1, u)
    close(losses.tanh_gaussian_log_prob(at, at, jnp.zeros(1)), [77.694767], rtol=1e-6)


# Categorical


def test_categorical_log_prob_equals_scipy():
    logits = 3.0 * normal(20, 5)
    action = np.random.default_rng(1).integers(5, size=20)
    expected = scipy.special.log_softmax(logits.astype(np.float64), axis=-1)[np.arange(20), action]
    close(losses.categorical_log_prob(action, logits), expected, rtol=1e-5, atol=1e-6)


def test_categorical_log_prob_by_hand():
    # logits log 1, log 2, log 5: probabilities 1/8, 2/8, 5/8
    logits = jnp.log(jnp.array([[1.0, 2.0, 5.0]]))
    close(losses.categorical_log_prob(jnp.array([1]), logits), [math.log(0.25)], rtol=1e-6)
    # its gradient is one_hot − probabilities
    by_logits = jax.grad(lambda x: losses.categorical_log_prob(jnp.array([1]), x)[0])(logits)
    close(by_logits, [[-0.125, 0.75, -0.625]], rtol=1e-6)


def test_categorical_entropy_equals_scipy():
    logits = 3.0 * normal(20, 5)
    expected = scipy.stats.entropy(
        scipy.special.softmax(logits.astype(np.float64), axis=-1), axis=-1
    )
    close(losses.categorical_entropy(logits), expected, rtol=1e-5, atol=1e-6)


def test_categorical_entropy_lies_between_0_and_log_n():
    uniform, certain = jnp.full((1, 5), 7.0), jnp.array([[0.0, 1e4, 0.0]])
    close(losses.categorical_entropy(uniform), [math.log(5.0)], rtol=1e-6)
    assert losses.categorical_entropy(certain) == 0.0


def test_categorical_kl_equals_scipy_and_distrax():
    logits_p, logits_q = 3.0 * normal(2, 20, 5)
    kl = losses.categorical_kl(logits_p, logits_q)
    p, q = (scipy.special.softmax(x.astype(np.float64), axis=-1) for x in (logits_p, logits_q))
    close(kl, scipy.stats.entropy(p, q, axis=-1), rtol=1e-5, atol=1e-6)
    close(
        kl,
        distrax.Categorical(logits_p).kl_divergence(distrax.Categorical(logits_q)),
        rtol=1e-5,
        atol=1e-6,
    )


def test_categorical_functions_do_not_see_a_shift_of_the_logits():
    logits, other = normal(2, 20, 5)
    action = np.zeros(20, np.int32)
    for function in (
        lambda x: losses.categorical_log_prob(action, x),
        losses.categorical_entropy,
        lambda x: losses.categorical_kl(x, other),
        lambda x: losses.categorical_kl(other, x),
    ):
        close(function(logits + 8.0), function(logits), rtol=1e-5, atol=2e-6)


# The edges of float32

POINTS = (-3e38, -1e30, -1.0, 0.0, 1.0, 1e30, 3e38)
PRE_TANH = (-3e38, -1e10, -1.0, 0.0, 1.0, 1e10, 3e38)
LOG_STDS = (-1e4, -20.0, 0.0, 20.0, 1e4)
LOGITS = (-3e38, -1e38, 0.0, 1e38, 3e38)


def grid(*axes):
    """Every combination of the values on the axes, one array per axis."""
    return tuple(jnp.array(column) for column in zip(*itertools.product(*axes), strict=True))


LOGIT_ROWS = jnp.stack(grid(LOGITS, LOGITS, LOGITS), axis=-1)  # [125, 3]
PAIRS = np.indices((125, 125)).reshape(2, -1)


@pytest.mark.parametrize(
    "dtype",
    [jnp.float32, *(pytest.param(x, marks=pytest.mark.slow) for x in (jnp.bfloat16, jnp.float16))],
)
@pytest.mark.parametrize(
    ("function", "arrays"),
    [
        (losses.gaussian_log_prob, grid(POINTS, POINTS, LOG_STDS)),
        (losses.gaussian_entropy, grid(LOG_STDS)),
        (losses.gaussian_kl, grid(POINTS, LOG_STDS, POINTS, LOG_STDS)),
        (losses.tanh_gaussian_log_prob, grid(PRE_TANH, POINTS, LOG_STDS)),
        (lambda x: losses.categorical_log_prob(jnp.zeros(125, int), x), (LOGIT_ROWS,)),
        (losses.categorical_entropy, (LOGIT_ROWS,)),
        (losses.categorical_kl, (LOGIT_ROWS[PAIRS[0]], LOGIT_ROWS[PAIRS[1]])),
        (lambda x: losses.categorical_cross_entropy(x, jax.nn.softmax(x[::-1])), (LOGIT_ROWS,)),
    ],
    ids=[
        "gaussian_log_prob",
        "gaussian_entropy",
        "gaussian_kl",
        "tanh_gaussian_log_prob",
        "categorical_log_prob",
        "categorical_entropy",
        "categorical_kl",
        "categorical_cross_entropy",
    ],
)
def test_values_and_gradients_are_finite_for_every_finite_input(function, arrays, dtype):
    largest = float(jnp.finfo(dtype).max)
    arrays = [jnp.clip(array, -largest, largest).astype(dtype) for array in arrays]
    assert np.all(np.isfinite(function(*arrays)))
    for gradient in gradients(function, *arrays):
        assert not np.any(np.isnan(gradient))
        assert dtype == jnp.float16 or np.all(np.isfinite(gradient))


# The logarithm of Tsallis

QS = sorted(
    {1.0} | {1.0 + sign * 10.0**k for k in range(-7, 1) for sign in (-1.0, 1.0)} | {-1.5, 3.5}
)


def test_tsallis_log_by_hand():
    # q = 2: (x^−1 − 1)/(−1) = 1 − 1/x;  q = 0: x − 1;  q = ½: 2(√x − 1)
    x = jnp.array([0.25, 1.0, 4.0])
    close(losses.tsallis_log(x, q=2.0), [-3.0, 0.0, 0.75], rtol=1e-6)
    close(losses.tsallis_log(x, q=0.0), [-0.75, 0.0, 3.0], rtol=1e-6)
    close(losses.tsallis_log(x, q=0.5), [-1.0, 0.0, 2.0], rtol=1e-6)


def test_tsallis_log_at_q_1_is_the_logarithm():
    x = jnp.array([1e-30, 0.3, 1.0, 7.0, 1e30])
    np.testing.assert_array_equal(losses.tsallis_log(x, q=1.0), jnp.log(x))


def test_tsallis_log_and_its_gradients_on_both_sides_of_q_1_and_at_it():
    x, q = grid((1e-3, 0.5, 1.0, 2.0, 30.0), QS)
    value = losses.tsallis_log(x, q=q)
    by_x, by_q = gradients(lambda x, q: losses.tsallis_log(x, q=q), x, q)
    # With l = log x and t = (1 − q)·l the function is l·∫₀¹ e^{tu} du, whose derivative by q is
    # −l²·∫₀¹ u·e^{tu} du: confluent hypergeometric functions, with no pole at q = 1.
    log_x, t = np.log(np.float64(x)), (1.0 - np.float64(q)) * np.log(np.float64(x))
    close(value, log_x * scipy.special.hyp1f1(1, 2, t), rtol=2e-6)
    close(by_x, np.float64(x) ** -np.float64(q), rtol=2e-6)
    close(by_q, -(log_x**2) * scipy.special.hyp1f1(2, 3, t) / 2.0, rtol=1e-5)
