"""The weights against plain loops in float64, by what they are derived from, and at the edges."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from onejit import losses
from onejit.losses.sequences import weights

# Worked numbers and the contract of every loss are in `make test`.
pytestmark = pytest.mark.slow

close = np.testing.assert_allclose
# Compiled, because one program compiles faster than its operations one by one.
conflict_weights, curvature_shifts, duration_weights, entropy_advantage_weights = map(
    jax.jit,
    (
        weights.conflict_weights,
        weights.curvature_shifts,
        weights.duration_weights,
        weights.entropy_advantage_weights,
    ),
)
trajectory_weight = jax.jit(weights.trajectory_weight)


def normal(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def masked(seed):
    """Positive numbers, NaN where they are masked, one row wholly; and the mask."""
    rng = np.random.default_rng(seed)
    mask = rng.random((5, 4)) < 0.7
    mask[1] = False
    mask[0] = True
    return np.where(mask, rng.exponential(size=mask.shape), np.nan).astype(np.float32), mask


# entropy_advantage_weights


def test_entropy_advantage_weights_equal_a_plain_loop():
    advantage, entropy = normal(2, 3, 5)
    result = entropy_advantage_weights(advantage, entropy, alpha=0.3, temperature=0.7)
    for row, (a, h) in enumerate(zip(*np.float64([advantage, entropy]), strict=True)):
        raw = [np.exp((a[i] + 0.3 * h[i]) / 0.7) for i in range(5)]
        close(result[row], raw / np.sum(raw), rtol=1e-5)
    close(jnp.sum(result, axis=-1), np.ones(3), rtol=1e-6)


def test_entropy_advantage_weights_of_extreme_temperatures():
    advantage, entropy = normal(2, 3, 5)
    uniform = entropy_advantage_weights(advantage, entropy, alpha=0.3, temperature=np.inf)
    close(uniform, np.full((3, 5), 0.2), rtol=1e-6)
    greedy = entropy_advantage_weights(advantage, entropy, alpha=0.0, temperature=1e-30)
    close(greedy, advantage == advantage.max(axis=-1, keepdims=True), atol=1e-6)


def test_entropy_advantage_weights_leave_out_what_has_no_advantage():
    advantage = jnp.array([[1.0, -jnp.inf, 1.0], [-jnp.inf, jnp.nan, 0.0]])
    entropy = jnp.array([[0.0, jnp.nan, 0.0], [jnp.nan, -jnp.inf, -jnp.inf]])
    for temperature in (1.0, np.inf):
        result = entropy_advantage_weights(advantage, entropy, alpha=0.5, temperature=temperature)
        close(result, [[0.5, 0.0, 0.5], [0.0, 0.0, 0.0]], rtol=1e-6)


# dependency and trajectory_weight


def test_dependency_is_the_estimator_of_the_divergence_within_its_limits():
    log_prob, masked_log_prob = normal(2, 50)
    result = weights.dependency(log_prob, masked_log_prob)
    d = np.float64(masked_log_prob) - np.float64(log_prob)
    close(result, np.minimum(np.exp(d) - d - 1.0, 10.0), rtol=1e-5, atol=1e-6)
    k3 = losses.approx_kl(masked_log_prob, log_prob)
    close(result, np.minimum(k3, 10.0), rtol=1e-5, atol=1e-6)
    extreme = jnp.array([-jnp.inf, -30.0, -10.0, 0.0, 5.0, 100.0, jnp.inf])
    # e^−10 + 10 − 1 = 9.0000454; everything further out is 10
    close(weights.dependency(jnp.zeros(7), extreme), [10, 10, 9.0000454, 0, 10, 10, 10], rtol=1e-6)


@pytest.mark.parametrize("floor", [0.0, 0.9, 1.0])
def test_trajectory_weight_equals_a_plain_loop_and_has_mean_1(floor):
    for seed in range(3):
        dependency, mask = masked(seed)
        means = {
            i: np.mean(np.float64(x[m]))
            for i, (x, m) in enumerate(zip(dependency, mask, strict=True))
            if any(m)
        }
        low, high = min(means.values()), max(means.values())
        x = {i: (mean - low) / (high - low) for i, mean in means.items()}
        ceiling = floor + (1.0 - floor) / np.mean(list(x.values()))
        expected = [floor + (ceiling - floor) * x[i] if i in x else 0.0 for i in range(5)]
        result = trajectory_weight(dependency, mask, floor=floor)
        close(result, expected, rtol=1e-5, atol=1e-6)
        close(np.mean(result[np.array(list(x))]), 1.0, rtol=1e-6)


def test_trajectory_weight_of_rows_that_depend_alike_is_1():
    mask = jnp.array([[1, 1], [1, 0], [0, 0]])
    result = trajectory_weight(jnp.full((3, 2), 0.3), mask)
    np.testing.assert_array_equal(result, [1.0, 1.0, 0.0])
    np.testing.assert_array_equal(trajectory_weight(mask * jnp.nan, 0 * mask), jnp.zeros(3))


# conflict_weights


def conflict_loop(tokens, advantage, mask):
    """Weights of a group; runs are walked response by response."""
    responses = [list(ids[m]) for ids, m in zip(tokens, mask, strict=True)]
    result = mask.astype(float)
    for i, response in enumerate(responses):
        others = [r for j, r in enumerate(responses) if advantage[i] * advantage[j] < 0]
        conflicts = set()
        for t in range(len(response)):
            if not any(t < len(r) and r[t] == response[t] for r in others):
                break
            conflicts.add(t)
        for back in range(1, len(response) + 1):
            if not any(back <= len(r) and r[-back] == response[-back] for r in others):
                break
            conflicts.add(len(response) - back)
        places = np.flatnonzero(mask[i])[sorted(conflicts)]
        result[i, places] = 2.0 if advantage[i] > 0 else 0.0
    return result


def test_conflict_weights_equal_a_plain_loop():
    rng = np.random.default_rng(0)
    tokens = rng.integers(2, size=(200, 4, 6))
    advantage = rng.choice([-1.0, 0.0, 0.5], size=(200, 4))
    lengths = rng.integers(7, size=(200, 4, 1))
    prefix = np.arange(6) < lengths
    for mask in (prefix, rng.random(prefix.shape) < 0.7):
        result = conflict_weights(tokens, advantage.astype(np.float32), mask)
        groups = zip(tokens, advantage, mask, strict=True)
        np.testing.assert_array_equal(result, [conflict_loop(*group) for group in groups])


def test_conflict_weights_of_a_group_of_one_mind_are_the_mask():
    tokens, mask = np.ones((3, 4), np.int32), np.array([[1, 1, 1, 0]] * 3)
    for advantage in ([1.0, 2.0, 0.0], [-1.0, -2.0, -3.0], [0.0, 0.0, 0.0]):
        np.testing.assert_array_equal(conflict_weights(tokens, jnp.array(advantage), mask), mask)
    np.testing.assert_array_equal(
        conflict_weights(tokens[:1], jnp.array([1.0]), mask[:1]), mask[:1]
    )


# duration_weights


def test_duration_weights_equal_a_plain_loop_and_have_mean_1():
    duration, mask = masked(0)
    result = np.asarray(duration_weights(duration, mask))
    expected = np.where(mask, duration / np.mean(np.float64(duration[mask])), 0.0)
    close(result, expected, rtol=1e-5)
    close(np.mean(result[mask]), 1.0, rtol=1e-6)
    np.testing.assert_array_equal(duration_weights(mask * 3.0, mask), mask)
    np.testing.assert_array_equal(duration_weights(duration, mask & False), mask & False)


# curvature_shifts


def curvature_sample(scale, seed=0):
    """Features of three dimensions, logits of four actions and what an update of this scale is."""
    rng = np.random.default_rng(seed)
    h, w = rng.normal(size=3), rng.normal(size=(4, 3))
    return h, w, rng.integers(4), rng.normal(), scale * rng.normal(size=(4, 3))


@pytest.mark.parametrize("seed", range(3))
def test_curvature_shifts_equal_the_dense_matrices(seed):
    h, w, a, advantage, update = curvature_sample(0.5, seed)
    pi = np.exp(w @ h) / np.sum(np.exp(w @ h))
    v, u = np.eye(4)[a] - pi, update @ h
    gradient, fisher = advantage * np.outer(v, h), np.diag(pi) - np.outer(pi, pi)
    expected = np.sum(gradient * update) + advantage * ((v @ u) ** 2 - u @ fisher @ u) / 2
    arrays = np.float32(h), np.float32(w @ h), np.int32(a), np.float32(advantage)
    result = curvature_shifts(*arrays, np.float32(update))
    close(result, (expected, (v @ u) ** 2 / 2), rtol=1e-5, atol=1e-6)


def test_curvature_shifts_are_the_second_order_of_the_objective():
    with jax.enable_x64(True):
        for seed in range(5):
            h, w, a, advantage, update = curvature_sample(1e-2, seed)
            arrays = map(jnp.asarray, (h, w @ h, a, advantage, update))
            shift, policy_shift = curvature_shifts(*arrays)
            before, after = (jax.nn.log_softmax(x @ h)[a] for x in (w, w + update))
            true = advantage * jnp.expm1(after - before)
            # What is left is of third order in the shift of the logits.
            assert abs(shift - true) < abs(advantage) * np.max(np.abs(update @ h)) ** 3
            close(policy_shift, 0.5 * (after - before) ** 2, rtol=0.2)


@pytest.mark.parametrize("at", range(5))
def test_curvature_shifts_refuse_what_does_not_fit(at):
    shapes = [(2, 3), (2, 4), (2,), (2,), (2, 4, 3)]
    arrays = [jnp.zeros(shape, jnp.int32 if i == 2 else None) for i, shape in enumerate(shapes)]
    arrays[at] = arrays[at][:1]
    with pytest.raises(AssertionError):
        weights.curvature_shifts(*arrays)


# all of them


@pytest.mark.parametrize(
    ("function", "num"),
    [
        (lambda a, h: weights.entropy_advantage_weights(a, h, alpha=0.2, temperature=1.0), 2),
        (weights.dependency, 2),
        (lambda x: weights.trajectory_weight(x, jnp.ones(x.shape)), 1),
        (lambda x: weights.duration_weights(x, jnp.ones(x.shape)), 1),
        (lambda x: weights.top_entropy_mask(x, jnp.ones(x.shape)), 1),
        (lambda x, a: weights.second_moment_mask(x, a, jnp.ones(x.shape)), 2),
        (lambda x, a: weights.advantage_log_prob_covariance(a, x, jnp.ones(x.shape)), 2),
    ],
)
def test_a_weight_is_data(function, num):
    """The gradient of a weighted loss is the weighted gradient."""
    x = jnp.abs(normal(2, 4))
    others = (normal(2, 4, seed=1),)[: num - 1]

    def loss(x):
        weight = function(x, *others)
        weight = jnp.broadcast_to(weight if weight.ndim == 2 else weight[:, None], x.shape)
        return jnp.sum(weight * x), weight

    gradient, weight = jax.jit(jax.grad(loss, has_aux=True))(x)
    close(gradient, weight, rtol=1e-6)
