"""PPO-EWMA: the limit in which it is PPO, what its average is, stale policies, and its rule."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from onejit import algos, envs
from onejit.algos import ppo, ppo_ewma
from onejit.algos.on_policy import loop, policy_gradient
from onejit.algos.on_policy.gradient_steps import Companion

pytestmark = pytest.mark.slow

SIZES = {
    "num_envs": 8,
    "num_steps": 8,
    "num_minibatches": 2,
    "update_epochs": 2,
    "hidden_sizes": (8,),
    "learning_rate": 1e-2,
}
ENV = envs.make("probe/observation")
close = np.testing.assert_allclose


def after(module, iterations=2, update=None, **changes):
    """The learner after some iterations, and the histories."""
    config = module.Config(**SIZES, **changes)
    make = loop.maker(module.Config, update, module.init_learner) if update else module.make
    algorithm = make(ENV, config)
    run = jax.jit(lambda key: algos.train(algorithm, key, num_iterations=iterations))
    state, history = run(jax.random.key(0))
    return state.learner, history


def test_with_an_average_that_is_the_old_policy_it_is_ppo():
    frozen = ppo_ewma.COMPANION._replace(step=lambda average, *_: average)

    def update(learner, batch, key, *, networks, config):
        learner = learner._replace(companion=learner.companion._replace(params=flat(learner)))
        return policy_gradient.update(
            learner,
            batch,
            key,
            networks=networks,
            config=config,
            objectives={"losses/grad_norm": ppo_ewma.loss},
            companion=frozen,
        )

    def flat(learner):
        return jax.flatten_util.ravel_pytree(learner.params)[0]

    expected, history = after(ppo, clip_eps=0.02)
    actual, _ = after(ppo_ewma, update=update, clip_eps=0.02, max_ratio=jnp.inf)
    assert history["losses/clip_fraction"].max() > 0.05
    jax.tree.map(partial(close, rtol=1e-4, atol=1e-5), actual.params, expected.params)


@pytest.mark.parametrize("decay", [0.0, 1.0])
def test_the_average_is_the_last_iterate_or_the_mean_of_all(decay):
    """Of 1 + 2·4 iterates the first counts too."""
    learner, _ = after(ppo_ewma, proximal_decay=decay)
    flat = jax.flatten_util.ravel_pytree(learner.params)[0]
    close(learner.companion.weight, 9.0 if decay else 1.0)
    distance = np.abs(learner.companion.params - flat).max()
    assert (distance > 1e-3) == bool(decay)
    if not decay:
        np.testing.assert_array_equal(learner.companion.params, flat)


def test_a_companion_that_carries_nothing_changes_nothing_of_the_program():
    config = ppo.Config(**SIZES)
    empty = Companion(lambda *_: (), lambda *_: (), lambda *_: ())

    def loss(*args, companion, **kwargs):
        assert companion == ()
        return ppo.loss(*args, **kwargs)

    lowered = []
    for objective, companion in ((ppo.loss, None), (loss, empty)):
        update = partial(
            policy_gradient.update,
            objectives={"losses/grad_norm": objective},
            companion=companion,
        )
        algorithm = loop.maker(ppo.Config, update)(ENV, config)
        state = jax.eval_shape(algorithm.init, jax.random.key(0))
        assert state.learner.companion == ()
        assert state.lagging == ()
        lowered.append(jax.jit(algorithm.step).lower(state).as_text())
    assert lowered[0] == lowered[1]


def test_with_staleness_old_policies_act():
    """Those of two iterations ago: in the third iteration the first that has learned."""
    algorithm = ppo.make(ENV, ppo.Config(**SIZES, staleness=2, normalize_obs=True))
    step = jax.jit(algorithm.step)
    states = [jax.jit(algorithm.init)(jax.random.key(0))]
    histories = []
    for _ in range(3):
        state, metrics = step(states[-1])
        states.append(state)
        histories.append(metrics)
    for place, iteration in ((0, 1), (1, 2)):
        jax.tree.map(
            lambda lagging, params, place=place: np.testing.assert_array_equal(
                lagging[place], params
            ),
            states[3].lagging,
            (states[iteration].learner.params, states[iteration].learner.obs_statistics),
        )
    # Of the first minibatches too are actions of another policy than the one that is trained.
    assert histories[0]["losses/ratio_deviation"] < histories[2]["losses/ratio_deviation"]


def test_the_rule_for_smaller_batches_leaves_the_mean_of_all_what_it_is():
    assert ppo_ewma.Config(proximal_decay=1.0).for_batch_smaller_by(4.0).proximal_decay == 1.0
