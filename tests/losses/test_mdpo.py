"""The losses of MDPO by hand, in their limits, and against the closed form of mirror descent."""

import distrax
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from onejit import losses

close = np.testing.assert_allclose


def normal(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def test_on_policy_loss_by_hand():
    # −1.5·2 + 0.3/0.5 = −2.4
    loss = losses.mdpo_on_policy_loss(
        jnp.log(1.5), jnp.float32(0.0), jnp.float32(2.0), jnp.float32(0.3), step_size=0.5
    )
    close(loss, -2.4, rtol=1e-6)


def test_on_policy_gradient_at_the_old_policy_is_the_policy_gradient():
    logits, advantage = normal(30, 5), normal(30)
    action = np.random.default_rng(1).integers(5, size=30)

    def loss(new_logits):
        log_prob = losses.categorical_log_prob(action, new_logits)
        old_log_prob = losses.categorical_log_prob(action, logits)
        kl = losses.categorical_kl(new_logits, logits)
        return jnp.sum(
            losses.mdpo_on_policy_loss(log_prob, old_log_prob, advantage, kl, step_size=1e-2)
        )

    # −A·∇log π(a|s) of a softmax: −A·(one_hot(a) − π); however small the step size
    expected = -advantage[:, None] * (np.eye(5)[action] - jax.nn.softmax(logits))
    close(jax.grad(loss)(logits), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("step_size", [0.3, 2.0])
def test_many_inner_steps_on_a_bandit_reach_the_closed_form_of_mirror_descent(step_size):
    old_logits, advantage = normal(2, 4)
    old_log_probs = jax.nn.log_softmax(old_logits)

    def loss(logits):
        log_probs = jax.nn.log_softmax(logits)
        kl = jnp.full(4, losses.categorical_kl(logits, old_logits))
        per_action = losses.mdpo_on_policy_loss(
            log_probs, old_log_probs, advantage, kl, step_size=step_size
        )
        # The expectation over actions of the old policy.
        return jnp.sum(jnp.exp(old_log_probs) * per_action)

    def inner_step(logits, _):
        return logits - 0.5 * step_size * jax.grad(loss)(logits), None

    logits, _ = jax.lax.scan(inner_step, jnp.asarray(old_logits), None, 2_000)
    # argmax of ⟨π, A⟩ − KL(π‖π_old)/t is π ∝ π_old·exp(t·A); with the KL the other way round it is
    # not
    close(jax.nn.softmax(logits), jax.nn.softmax(old_logits + step_size * advantage), rtol=1e-3)


def test_off_policy_loss_by_hand():
    # 0.5·(−1) + (0.2 − 0.5)·(−3) − 2 = −0.5 + 0.9 − 2
    loss = losses.mdpo_off_policy_actor_loss(
        jnp.float32(-1.0), jnp.float32(-3.0), jnp.float32(2.0), kappa=0.5, lam=0.2
    )
    close(loss, -1.6, rtol=1e-6)


def test_off_policy_loss_is_that_of_sac_where_kappa_is_lam():
    log_prob, old_log_prob, q_value = normal(3, 50)
    mdpo = losses.mdpo_off_policy_actor_loss(log_prob, old_log_prob, q_value, kappa=0.3, lam=0.3)
    close(mdpo, losses.sac_actor_loss(log_prob, q_value, alpha=0.3), rtol=1e-6)


def test_off_policy_loss_is_sac_plus_the_divergence_from_the_old_policy():
    mean, log_std, old_mean, old_log_std = normal(4, 1, 3)
    new, old = distrax.Normal(mean, np.exp(log_std)), distrax.Normal(old_mean, np.exp(old_log_std))
    action = mean + np.exp(log_std) * normal(400_000, 3, seed=2)
    log_prob, old_log_prob = new.log_prob(action).sum(-1), old.log_prob(action).sum(-1)
    mdpo = losses.mdpo_off_policy_actor_loss(
        log_prob, old_log_prob, jnp.zeros_like(log_prob), kappa=1.0, lam=0.2
    )
    # the new policy first: KL(π‖π_old), not KL(π_old‖π)
    kl, other = new.kl_divergence(old).sum(), old.kl_divergence(new).sum()
    assert abs(kl - other) > 0.3
    close(jnp.mean(mdpo) - 0.2 * jnp.mean(log_prob), (1.0 - 0.2) * kl, rtol=2e-2)


@pytest.mark.parametrize("q", [1.0, 1.0 - 1e-5])
def test_tsallis_losses_are_shannons_at_index_1(q):
    log_probs, old_log_probs = normal(2, 50, 3)
    q_value = normal(50, seed=1)
    log_prob, old_log_prob = log_probs.sum(-1), old_log_probs.sum(-1)
    weights = {"kappa": 0.7, "lam": 0.2}
    shannon = losses.mdpo_off_policy_actor_loss(log_prob, old_log_prob, q_value, **weights)
    joint = losses.mdpo_off_policy_tsallis_joint_actor_loss(
        log_prob, old_log_prob, q_value, **weights, q=q
    )
    each = losses.mdpo_off_policy_tsallis_per_dimension_actor_loss(
        log_probs, old_log_probs, q_value, **weights, q=q
    )
    close(joint, shannon, rtol=1e-3, atol=1e-3)
    close(each, shannon, rtol=1e-3, atol=1e-3)


def test_tsallis_losses_by_hand_at_index_0():
    # log_0 x = x − 1; the old policy's weight is 2·(λ − κ). Densities 2 and 3, old ones 1 and 0.5;
    # Q = κ = 1, λ = 0.5.
    log_probs, old_log_probs = jnp.log(jnp.array([2.0, 3.0])), jnp.log(jnp.array([1.0, 0.5]))
    options = {"kappa": 1.0, "lam": 0.5, "q": 0.0}
    each = losses.mdpo_off_policy_tsallis_per_dimension_actor_loss(
        log_probs, old_log_probs, jnp.float32(1.0), **options
    )
    # (1 + 2) + 2·(−0.5)·(0 − 0.5) − 1
    close(each, 2.5, rtol=1e-5)
    joint = losses.mdpo_off_policy_tsallis_joint_actor_loss(
        log_probs.sum(), old_log_probs.sum(), jnp.float32(1.0), **options
    )
    # (6 − 1) − (0.5 − 1) − 1
    close(joint, 4.5, rtol=1e-5)


@pytest.mark.parametrize(
    "log_prob",
    [-100.0, 100.0, *(pytest.param(x, marks=pytest.mark.slow) for x in (20.0, 45.0, 60.0, 79.0))],
)
def test_losses_and_the_squares_of_their_gradients_stay_finite(log_prob):
    new, old, one = jnp.float32(log_prob), jnp.float32(0.0), jnp.float32(1.0)
    on_policy = jax.value_and_grad(
        lambda x: losses.mdpo_on_policy_loss(x, old, -one, jnp.abs(x), step_size=0.1)
    )(new)
    options = {"kappa": 1.0, "lam": 0.2, "q": 0.0}
    joint = jax.value_and_grad(
        lambda x: losses.mdpo_off_policy_tsallis_joint_actor_loss(x, old, one, **options)
    )(new)
    each = jax.value_and_grad(
        lambda x: losses.mdpo_off_policy_tsallis_per_dimension_actor_loss(
            x[None], old[None], one, **options
        )
    )(new)
    for value, slope in (on_policy, joint, each):
        assert np.isfinite(value)
        assert np.isfinite(slope**2)
        # The density is never so high that its penalty has no gradient.
        assert slope > 0.0 or log_prob < 0.0
