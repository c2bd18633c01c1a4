"""One paper becomes another: where a named objective has to agree with one that it builds on, in
value and gradient.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from onejit.algos import tokens
from onejit.losses.sequences.ratios import balanced_clip_bounds

N, G, T = 3, 4, 5
OBJECTIVES = tokens.OBJECTIVES


def batch_of(num_tokens, seed=0):
    """A batch without dead groups, whose log-ratios cross every bound."""
    rng = np.random.default_rng(seed)
    shape = (N, G, num_tokens)

    def normal(scale):
        return jnp.asarray(scale * rng.normal(size=shape), jnp.float32)

    log_prob = -1.0 + normal(0.2)
    return tokens.Batch(
        log_prob=log_prob,
        entropy=1.0 + 0.1 * normal(1.0),
        old_log_prob=log_prob + normal(0.5),
        ref_log_prob=log_prob + normal(0.5),
        rewards=jnp.array([[1, 0, 0, 1], [0, 1, 0, 0], [1, 1, 0, 1]], jnp.float32),
        mask=jnp.ones(shape, bool),
        tokens=jnp.asarray(rng.integers(6, size=shape)),
        prompts=jnp.zeros((N, 1), jnp.int32),
        stages=jnp.ones((N, G, 3)),
        entropy_history=jnp.float32(1.0),
        progress=jnp.float32(0.5),
        key=jax.random.key(0),
    )


def unclipped(batch):
    """−A·ρ, the mean over tokens."""
    mean = jnp.mean(batch.rewards, axis=-1, keepdims=True)
    std = jnp.std(batch.rewards, axis=-1, keepdims=True, ddof=1)
    advantage = ((batch.rewards - mean) / (std + 1e-6))[..., None]
    return -jnp.mean(advantage * jnp.exp(batch.log_ratio))


def rapid_of_one_token(batch):
    ratio = jnp.exp(batch.log_ratio[..., 0])
    advantage = batch.rewards - jnp.mean(ratio * batch.rewards, axis=-1, keepdims=True)
    weight = jax.lax.stop_gradient(jnp.minimum(ratio, 2.0) * advantage)
    return -jnp.mean(weight * batch.log_prob[..., 0])


def hapo_over_dapo(batch):
    """Its standard deviation is that of n."""
    return (G / (G - 1)) ** 0.5 * OBJECTIVES["dapo"](batch)


@pytest.mark.slow
def test_objectives_in_the_limits_in_which_they_are_others():
    several, single = batch_of(T), batch_of(1)
    grpo = functools.partial(OBJECTIVES["grpo"], kl_coef=0.0)
    pairs = {
        "GSPO of one token is GRPO": (
            functools.partial(OBJECTIVES["gspo"], low=0.8, high=1.2),
            grpo,
            single,
        ),
        "GMPO of one token is GRPO": (
            OBJECTIVES["gmpo"],
            functools.partial(grpo, low=np.exp(-0.4), high=np.exp(0.4)),
            single,
        ),
        "RAPID of one token has the ratio of the token": (
            OBJECTIVES["rapid"],
            rapid_of_one_token,
            single,
        ),
        "M2PO without a threshold has no clip": (
            functools.partial(OBJECTIVES["m2po"], threshold=jnp.inf),
            unclipped,
            several,
        ),
        "EGSW at an infinite temperature is GRPO": (
            functools.partial(OBJECTIVES["egsw"], temperature=jnp.inf, kl_coef=0.1),
            functools.partial(OBJECTIVES["grpo"], kl_coef=0.1),
            several,
        ),
        "HAPO of equal entropies and lengths is a plain clip": (
            OBJECTIVES["hapo"],
            hapo_over_dapo,
            several._replace(entropy=jnp.full((N, G, T), 0.7)),
        ),
    }

    @jax.jit
    def both():
        def value_and_gradient(objective, batch):
            return jax.value_and_grad(lambda x: objective(batch._replace(log_prob=x)))(
                batch.log_prob
            )

        return {
            name: [value_and_gradient(each, batch) for each in two]
            for name, (*two, batch) in pairs.items()
        }

    for name, ((one, one_gradient), (other, other_gradient)) in both().items():
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6, err_msg=name)
        np.testing.assert_allclose(one_gradient, other_gradient, rtol=1e-4, atol=1e-6, err_msg=name)
        assert np.any(np.asarray(one_gradient) != 0.0), name


def test_rapid_where_nothing_moved_has_the_gradient_of_dr_grpo():
    def gradient(name):
        def loss(log_prob):
            return OBJECTIVES[name](batch._replace(log_prob=log_prob))

        return jax.grad(loss)(batch.old_log_prob)

    batch = batch_of(T)
    rapid, dr_grpo = jax.jit(lambda: (gradient("rapid"), gradient("dr_grpo")))()
    # Dr. GRPO divides by the number of tokens, RAPID does not.
    np.testing.assert_allclose(rapid, T * dr_grpo, rtol=1e-4, atol=1e-6)


def test_the_bounds_of_bapo_stay_where_good_and_bad_are_in_balance():
    ratio, mask = jnp.ones((2, 4)), jnp.ones((2, 4), bool)
    advantage = jnp.array([[1.0, -1.0, 1.0, -1.0], [2.0, -2.0, -0.5, 0.5]])
    low, high = jax.jit(balanced_clip_bounds)(ratio, advantage, mask)
    np.testing.assert_allclose((low, high), (0.6, 1.2), rtol=1e-6)
