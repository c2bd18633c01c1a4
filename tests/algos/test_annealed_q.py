"""Annealed Q-learning: with ½ it is TD3 and SAC, and its schedule."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from onejit import algos, envs
from onejit.algos import aq_sac, aq_td3, sac, td3
from onejit.algos.core.config import ConfigError

pytestmark = pytest.mark.slow

SMALL = {
    "num_envs": 4,
    "batch_size": 16,
    "buffer_size": 400,
    "learning_starts": 16,
    "total_steps": 416,
    "actor_hidden_sizes": (8,),
    "critic_hidden_sizes": (8,),
    "learning_rate": 1e-2,
}
ENV = envs.make("probe/delay", continuous=True)


def trained(module, **changes):
    algorithm = module.make(ENV, module.Config(**SMALL, **changes))
    run = jax.jit(lambda key: algos.train(algorithm, key, num_iterations=20))
    return run(jax.random.key(0))


@pytest.mark.parametrize(
    "module, sibling",
    [
        pytest.param(aq_td3, td3, id="td3"),
        pytest.param(aq_sac, sac, id="sac"),
    ],
)
def test_with_one_half_it_is_its_sibling_and_else_it_is_not(module, sibling):
    """The loss is the same bit for bit; XLA fuses the rest of the program otherwise, and adds up in
    another order.
    """
    expected = trained(sibling)[0].learner
    actual = trained(module, expectile=0.5)[0].learner
    close = functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-5)
    jax.tree.map(close, actual.params, expected.params)
    other = trained(module)[0].learner
    kernel = lambda learner: jax.tree.leaves(learner.params["critic"])[1]  # noqa: E731
    assert np.abs(kernel(other) - kernel(expected)).max() > 1e-3


def test_the_expectile_falls_over_its_part_of_total_steps():
    """16 of 416 steps are done when the first update comes, and 8 more with each of policy_delay 2:
    over half of 416 steps 0.9 falls by 0.4·(16 + 8·i)/208.
    """
    history = trained(aq_td3, anneal_fraction=0.5)[1]["charts/expectile"]
    expected = np.maximum(0.9 - 0.4 * (16 + 8 * np.arange(20)) / 208, 0.5)
    np.testing.assert_allclose(history, expected, rtol=1e-5)
    fixed = aq_td3.Config(expectile=0.8, final_expectile=0.8)
    assert fixed.schedules(0.3)["expectile"] == pytest.approx(0.8)
    both = aq_td3.Config(anneal_lr=True, learning_rate=1.0).annealed(jnp.int32(0))
    assert both.learning_rate == pytest.approx(0.999)  # 1000 of a million steps are done
    assert both.expectile == pytest.approx(0.8996)


@pytest.mark.parametrize("module", [aq_td3, aq_sac])
def test_vmapped_seeds_and_expectiles_equal_single_runs_and_differ_from_each_other(module):
    algorithm = module.make(ENV, module.Config(**SMALL))

    def run(key, expectile):
        config = algorithm.config.replace(expectile=expectile)
        return algos.train(algorithm, key, config=config, num_iterations=5)[0].learner.params

    keys, expectiles = jax.random.split(jax.random.key(0), 2), jnp.array([0.6, 0.9])
    many = jax.jit(jax.vmap(run))(keys, expectiles)
    single = jax.jit(run)
    close = functools.partial(np.testing.assert_allclose, rtol=2e-4, atol=5e-6)
    for i in range(2):
        one = single(jax.random.clone(keys)[i], expectiles[i])
        jax.tree.map(lambda many, one, i=i: close(many[i], one), many, one)
    kernel = jax.tree.leaves(many["critic"])[1]
    assert np.abs(kernel[0] - kernel[1]).max() > 1e-2


@pytest.mark.parametrize("value", [0.4, 1.0])
def test_what_is_no_expectile_is_refused(value):
    with pytest.raises(ConfigError, match="expectile="):
        aq_td3.make(ENV, aq_td3.Config(**SMALL, expectile=value))
