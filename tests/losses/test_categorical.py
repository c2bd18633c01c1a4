"""Categorical critics: the projection conserves mass and mean, and equals that of rlax and a loop
over atoms.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import rlax

from onejit import losses

close = np.testing.assert_allclose
SUPPORT = np.linspace(-2.0, 2.0, 5, dtype=np.float32)  # −2, −1, 0, 1, 2


def project(probs, reward, discount, support=SUPPORT):
    return losses.categorical_projection(
        jnp.asarray(probs, jnp.float32),
        jnp.float32(reward),
        jnp.float32(discount),
        support=jnp.asarray(support),
    )


@pytest.mark.parametrize(
    ("reward", "discount", "expected"),
    [
        (0.0, 1.0, [0.1, 0.2, 0.4, 0.2, 0.1]),  # onto itself
        (1.0, 1.0, [0.0, 0.1, 0.2, 0.4, 0.3]),  # one atom up: the last two meet at 2
        # Half an atom up: halves to both neighbours, 0.1 + ½·0.2 at 2.
        (
            0.5,
            1.0,
            [0.05, 0.15, 0.3, 0.3, 0.2],
        ),
        # Halved: −2 to −1, −1 to −½ in halves; 0.1 + 0.1, 0.4 + 2·0.1.
        (
            0.0,
            0.5,
            [0.0, 0.2, 0.6, 0.2, 0.0],
        ),
        (0.25, 0.0, [0.0, 0.0, 0.75, 0.25, 0.0]),  # terminated: the reward alone
        (1.0, 0.0, [0.0, 0.0, 0.0, 1.0, 0.0]),  # terminated on the grid: all on one atom
        (9.0, 1.0, [0.0, 0.0, 0.0, 0.0, 1.0]),  # off the upper end
        (-9.0, 1.0, [1.0, 0.0, 0.0, 0.0, 0.0]),  # off the lower end
        (2.0, 0.0, [0.0, 0.0, 0.0, 0.0, 1.0]),  # exactly the upper end
        (-2.0, 0.0, [1.0, 0.0, 0.0, 0.0, 0.0]),  # exactly the lower end
    ],
)
def test_projection_by_hand(reward, discount, expected):
    close(project([0.1, 0.2, 0.4, 0.2, 0.1], reward, discount), expected, atol=1e-6)


def loop(probs, reward, discount, support):
    """Bellemare et al. 2017, algorithm 1, in float64, one atom after the other."""
    support = np.linspace(support[0], support[-1], len(support))
    spacing = support[1] - support[0]
    result = np.zeros(len(support))
    for p, z in zip(np.asarray(probs, float), support, strict=True):
        b = (np.clip(reward + discount * z, support[0], support[-1]) - support[0]) / spacing
        b = min(b, len(support) - 1.0)
        low = int(np.floor(b))
        result[low] += p * (1 - (b - low))
        if b > low:
            result[low + 1] += p * (b - low)
    return result


@pytest.mark.parametrize(
    "num_atoms", [51, *(pytest.param(n, marks=pytest.mark.slow) for n in (2, 101))]
)
def test_projection_equals_a_loop_and_rlax(num_atoms):
    rng = np.random.default_rng(num_atoms)
    support = np.linspace(-10.0, 10.0, num_atoms, dtype=np.float32)
    probs = rng.dirichlet(np.ones(num_atoms), size=64).astype(np.float32)
    # Many on the grid.
    reward = np.where(rng.random(64) < 0.3, 0.0, rng.normal(0.0, 4.0, 64)).astype(np.float32)
    discount = np.where(rng.random(64) < 0.2, 0.0, 0.97).astype(np.float32)
    ours = losses.categorical_projection(probs, reward, discount, support=support)
    # A place on the grid, up to 100, is known to a few units of its last digit, 100·2⁻²³ = 1e-5
    # each.
    for i in range(64):
        close(ours[i], loop(probs[i], float(reward[i]), float(discount[i]), support), atol=1e-4)
    project_all = jax.vmap(rlax.categorical_l2_project, in_axes=(0, 0, None))
    theirs = jax.jit(project_all)(reward[:, None] + discount[:, None] * support, probs, support)
    close(ours, theirs, atol=1e-4)


def test_projection_conserves_mass_and_inside_the_grid_the_mean():
    rng = np.random.default_rng(0)
    support = np.linspace(-250.0, 250.0, 101, dtype=np.float32)
    probs = rng.dirichlet(np.full(101, 0.1), size=(200, 3)).astype(np.float32)
    reward = rng.choice([0.0, 5.0, -250.0, 250.0, 1e6, 0.3], size=(200, 3)).astype(np.float32)
    discount = rng.choice([0.0, 1.0, 0.99], size=(200, 3)).astype(np.float32)
    projected = losses.categorical_projection(probs, reward, discount, support=support)
    close(projected.sum(-1), np.ones((200, 3)), atol=1e-5)
    assert (projected >= 0).all()
    # A distribution that stays inside keeps its mean: r + discount·E[Z].
    inside = np.where(np.abs(support) < 100.0, probs, 0.0)
    inside /= inside.sum(-1, keepdims=True)
    small = np.clip(reward, -100.0, 100.0)
    projected = losses.categorical_projection(inside, small, discount, support=support)
    means = losses.categorical_mean(projected, support=support)
    close(means, small + discount * (inside @ support), rtol=1e-4, atol=1e-2)


def test_clipped_double_takes_the_whole_distribution_with_the_lower_mean():
    # Means 0 and 0.1.
    low, high = (
        np.array([0.5, 0.0, 0.0, 0.0, 0.5]),
        np.array([0.0, 0.0, 0.9, 0.1, 0.0]),
    )
    probs1, probs2 = jnp.array([low, high, low]), jnp.array([high, low, low])
    chosen = losses.clipped_double_categorical(probs1, probs2, support=SUPPORT)
    close(chosen, [low, low, low])


def test_cross_entropy_equals_rlax_and_its_gradient_is_softmax_minus_target():
    logits = np.random.default_rng(0).normal(size=(20, 5)).astype(np.float32)
    target = np.random.default_rng(1).dirichlet(np.ones(5), size=20).astype(np.float32)
    loss = losses.categorical_cross_entropy(logits, target)
    close(loss, jax.vmap(rlax.categorical_cross_entropy)(target, logits), rtol=1e-5)
    gradient = jax.grad(lambda x: jnp.sum(losses.categorical_cross_entropy(x, target)))(logits)
    close(gradient, jax.nn.softmax(logits) - target, rtol=1e-4, atol=1e-6)


def test_mean_by_hand():
    # −2·0.1 − 1·0.2 + 0 + 1·0.3 + 2·0.2 = 0.3
    close(
        losses.categorical_mean(jnp.array([0.1, 0.2, 0.2, 0.3, 0.2]), support=SUPPORT),
        0.3,
        rtol=1e-6,
    )


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_projection_of_probabilities_in_half_precision_conserves_mass(dtype):
    # All reward, no bootstrap: a thousand atoms' mass is added up in two places.
    probs = jnp.full((1, 1001), 1 / 1001, dtype)
    support = jnp.linspace(-10.0, 10.0, 1001)
    projected = losses.categorical_projection(
        probs, jnp.full(1, 0.003), jnp.zeros(1), support=support
    )
    close(projected.sum(), probs.astype(jnp.float32).sum(), rtol=1e-5)
