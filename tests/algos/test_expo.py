"""EXPO: the limit in which it is cloning and the critics of the clone, what is chosen, what acts,
and how it begins with data. Probes, resume and lowering are in off_policy/test_loop.py.
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from onejit import algos, envs, losses
from onejit.algos import expo, flow_bc
from onejit.algos.core.config import ConfigError
from onejit.algos.off_policy import actor_critic, flow
from onejit.algos.off_policy.networks import apply_ensemble

pytestmark = pytest.mark.slow

ENV = envs.make("gymnax/Pendulum-v1")
SMALL = {
    "num_envs": 2,
    "batch_size": 8,
    "buffer_size": 200,
    "learning_starts": 16,
    "num_updates": 2,
    "policy_delay": 2,
    "actor_hidden_sizes": (8,),
    "critic_hidden_sizes": (8,),
    "flow_steps": 3,
    "num_samples": 3,
    "num_edits": 2,
    "learning_rate": 1e-2,
    "edit_scale": 0.2,
}
CONFIG = expo.Config(**SMALL)
NETWORKS = expo.make_networks(ENV, CONFIG)
close = partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-5)


def fresh(config=CONFIG, seed=0):
    key = jax.random.key(seed)
    return expo.init_learner(key, env=ENV, networks=NETWORKS, config=config)


def some_batch(size=8):
    rng = np.random.default_rng(0)
    obs, next_obs = rng.normal(size=(2, size, 3)).astype(np.float32)
    return expo.Batch(
        *map(jnp.asarray, (obs, np.tanh(rng.normal(size=(size, 1))).astype(np.float32))),
        jnp.asarray(rng.normal(size=size), jnp.float32),
        jnp.asarray(np.where(np.arange(size) % 2, 0.99, 0.0), jnp.float32),
        jnp.asarray(next_obs),
    )


def test_without_edits_and_with_one_sample_it_is_cloning_and_the_critics_of_the_clone():
    config = CONFIG.replace(num_edits=0, num_samples=1)
    learner, batch, key = fresh(config), some_batch(), jax.random.key(1)
    options = {"networks": NETWORKS, "config": config}
    # The critics regress to r + γ·(1 − terminated)·min Q̄(s', a'), a' an action of the clone.
    noise_key, _, step_key = jax.random.split(jax.random.clone(key), 3)
    noise = jax.random.normal(jax.random.split(noise_key)[0], (8, 1, 1))
    targets = learner.targets
    action = flow.sample(NETWORKS.base, targets["base"], batch.next_obs, noise[:, 0], 3)
    q = apply_ensemble(NETWORKS.critic, targets["critic"], batch.next_obs, action)
    target = batch.reward + batch.discount * jnp.minimum(q[0], q[1])
    expected, _ = actor_critic.update_critics(
        learner, batch, target, step_key, scale=0.5, **options
    )
    actual, _ = jax.jit(partial(expo.critic_update, **options))(learner, batch, key)
    jax.tree.map(close, actual.params, expected.params)
    # The base imitates as flow BC does.
    clone = learner._replace(
        params={"actor": learner.params["base"]}, opt_state={"actor": learner.opt_state["base"]}
    )
    networks = flow_bc.Networks(NETWORKS.base, None)
    key = jax.random.key(2)
    base_key = jax.random.split(jax.random.clone(key), 3)[0]
    cloning = flow_bc.Config(learning_rate=1e-2)
    expected, _ = flow_bc.actor_update(clone, batch, base_key, networks=networks, config=cloning)
    actual, _ = jax.jit(partial(expo.actor_update, **options))(learner, batch, key)
    jax.tree.map(close, actual.params["base"], expected.params["actor"])


def test_the_best_of_base_and_edited_actions_is_taken():
    """By a critic that likes small actions, beside one that likes them better, it is the smallest
    of all; edits lie within edit_scale of what is edited.
    """

    class Smallness:
        def apply(self, offset, obs, action):
            return offset - jnp.abs(action[..., 0])

    networks = NETWORKS._replace(critic=Smallness())
    params = expo.acting(fresh(), CONFIG) | {"critic": jnp.array([0.0, 1.0])}
    without = params | {"config": CONFIG.replace(num_edits=0)}
    obs = some_batch().obs

    @jax.jit
    def run(noise):
        base = [
            flow.sample(NETWORKS.base, params["base"], obs, noise.base[:, i], 3) for i in (0, 1, 2)
        ]
        found = (expo.best_action(networks, each, obs, noise) for each in (params, without))
        return jnp.stack(base, axis=1), *found

    base, (best, value), (_, least) = run(expo.draw_noise(jax.random.key(3), (8,), 1, CONFIG))
    np.testing.assert_allclose(value, -jnp.abs(best[:, 0]), rtol=1e-6)
    np.testing.assert_allclose(least, -jnp.min(jnp.abs(base), axis=(1, 2)), rtol=1e-5)
    assert (value >= least).all() and (value > least).any()
    assert (jnp.min(jnp.abs(best[:, None] - base), axis=(1, 2)) <= 0.2 + 1e-6).all()


def test_the_temperature_holds_an_entropy_that_edits_can_have():
    """−½ + log 0.2 = −2.109438 in one dimension; the most that they can have is log 0.4 = −0.92."""
    options = {"networks": NETWORKS, "config": CONFIG}
    _, metrics = jax.jit(partial(expo.actor_update, **options))(
        fresh(), some_batch(), jax.random.key(1)
    )
    by_hand = losses.sac_temperature_loss(
        jnp.float32(0.0), -metrics["losses/entropy"], target_entropy=-2.109438
    )
    close(metrics["losses/alpha_loss"], by_hand)
    assert metrics["losses/entropy"] < np.log(0.4)


@pytest.fixture(scope="module")
def data():
    return algos.dataset.record_random(ENV, jax.random.key(0), num_steps=40)


def test_half_of_each_minibatch_is_data_and_seeds_side_by_side_are_seeds_alone(data):
    config = CONFIG.replace(num_critics=3, target_critics=2, normalize_obs=True)
    algorithm = expo.make(ENV, config, data=data, data_share=0.5)

    def run(key, scale):
        state = algorithm.init(key, config.replace(edit_scale=scale))
        return algorithm.step(state)

    keys, scales = jax.random.split(jax.random.key(0), 2), jnp.array([0.1, 0.5])
    together, _ = jax.jit(jax.vmap(run))(keys, scales)
    alone, metrics = jax.jit(run)(jax.random.clone(keys)[1], scales[1])
    second = jax.tree.map(lambda x: x[1], together.learner.params)
    jax.tree.map(
        partial(np.testing.assert_allclose, rtol=1e-3, atol=1e-4), second, alone.learner.params
    )
    assert metrics["charts/fault"] == 0.0 and np.isfinite(metrics["losses/base_loss"])


def test_the_targets_act_and_no_other_average(data):
    algorithm = expo.make(ENV, CONFIG, data=data)
    assert algorithm.initial_steps == 0
    state = jax.jit(algorithm.init)(jax.random.key(0))
    obs = jnp.asarray(data.transitions.obs[:5])
    act = jax.jit(algorithm.act, static_argnums=3)

    def action_with(**changed):
        learner = state.learner._replace(**changed)
        return act(state._replace(learner=learner), obs, jax.random.key(1), True)

    params, targets = state.learner.params, state.learner.targets
    halved = jax.tree.map(lambda x: 0.5 * x, targets["base"])
    before = action_with()
    np.testing.assert_array_equal(action_with(params=params | {"base": halved}), before)
    assert np.abs(action_with(targets=targets | {"base": halved}) - before).max() > 1e-4
    with pytest.raises(ConfigError, match="ema_decay=0.5: must be 0"):
        algos.averaged(algorithm, 0.5)


@pytest.mark.parametrize(
    "changes, words",
    [
        ({"num_edits": 4}, "num_edits"),
        ({"target_critics": 3}, "target_critics"),
        ({"edit_scale": 0.0}, "edit_scale=0.0: must be a number at least 0.01"),
        ({"memory": "gru", "sequence_length": 4}, "memory=gru: must be"),
    ],
)
def test_what_does_not_go_together_is_refused(changes, words):
    with pytest.raises(ConfigError, match=words):
        expo.make(ENV, CONFIG.replace(**changes))
