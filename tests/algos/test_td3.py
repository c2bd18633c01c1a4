"""TD3's updates against code that shares nothing with them but the networks."""

import math
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from onejit import algos, envs
from onejit.algos import fast_td3, td3
from onejit.algos.off_policy import categorical, loop

CONFIG = td3.Config(actor_hidden_sizes=(8,), critic_hidden_sizes=(8,), batch_size=32)


def some_batches(num_batches, size=32, seed=0):
    rng = np.random.default_rng(seed)

    def normal(*shape):
        return jnp.asarray(rng.normal(size=(num_batches, size, *shape)), jnp.float32)

    action = jnp.tanh(normal(1))
    discount = 0.99 * (rng.random((num_batches, size)) < 0.8).astype(np.float32)
    return td3.Batch(normal(3), action, normal(), jnp.asarray(discount), normal(3))


def start(module, config, seed=0):
    env = envs.make("gymnax/Pendulum-v1")
    networks = module.make_networks(env, config)
    init = partial(module.init_learner, env=env, networks=networks, config=config)
    return networks, jax.jit(init)(jax.random.key(seed))


def updated(module, learner, batches, *, networks, config):
    """What `update` returns."""
    update = partial(module.update, networks=networks, config=config)
    return jax.jit(update)(learner, batches, jax.random.key(1))


def test_with_delay_1_and_no_noise_it_is_ddpg_with_clipped_double_q():
    config = CONFIG.replace(policy_delay=1, policy_noise=0.0)
    networks, learner = start(td3, config)
    batches = some_batches(3)

    # DDPG, two critics apart and the smaller target: Lillicrap et al. 2015, algorithm 1.
    actor = learner.params["actor"]
    critics = [jax.tree.map(lambda x, i=i: x[i], learner.params["critic"]) for i in range(2)]
    actor_target, critic_targets = actor, list(critics)
    adam = optax.adam(config.learning_rate)
    actor_opt, critic_opts = adam.init(actor), [adam.init(critic) for critic in critics]

    def critic_loss(critic, obs, action, target):
        return jnp.mean((networks.critic.apply(critic, obs, action) - target) ** 2)

    def actor_loss(actor, critic, obs):
        return -jnp.mean(networks.critic.apply(critic, obs, networks.actor.apply(actor, obs)))

    def mixed(target, new):
        return jax.tree.map(lambda t, n: 0.995 * t + 0.005 * n, target, new)

    @jax.jit
    def step(k, actor, critics, actor_target, critic_targets, actor_opt, critic_opts):
        obs, action, reward, discount, next_obs = (x[k] for x in batches[:5])
        next_action = networks.actor.apply(actor_target, next_obs)
        y = reward + discount * jnp.minimum(
            *[networks.critic.apply(t, next_obs, next_action) for t in critic_targets]
        )
        for i in range(2):
            changes, critic_opts[i] = adam.update(
                jax.grad(critic_loss)(critics[i], obs, action, y), critic_opts[i]
            )
            critics[i] = optax.apply_updates(critics[i], changes)
        changes, actor_opt = adam.update(jax.grad(actor_loss)(actor, critics[0], obs), actor_opt)
        actor = optax.apply_updates(actor, changes)
        actor_target = mixed(actor_target, actor)
        critic_targets = [
            mixed(target, new) for target, new in zip(critic_targets, critics, strict=True)
        ]
        return actor, critics, actor_target, critic_targets, actor_opt, critic_opts

    parts = actor, critics, actor_target, critic_targets, actor_opt, critic_opts
    for k in range(3):
        parts = step(k, *parts)
    actor, critics, actor_target, critic_targets = parts[:4]

    learner, metrics = updated(td3, learner, batches, networks=networks, config=config)
    expected = {"actor": actor, "critic": jax.tree.map(lambda *x: jnp.stack(x), *critics)}
    targets = {
        "actor": actor_target,
        "critic": jax.tree.map(lambda *x: jnp.stack(x), *critic_targets),
    }
    # Adam divides by the gradient's size: what is nearly zero may differ by a good part of a step
    # of 3e-4.
    for mine, theirs in ((learner.params, expected), (learner.targets, targets)):
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=2e-5), mine, theirs
        )
    assert set(metrics) >= {
        "losses/critic_loss",
        "losses/actor_loss",
        "losses/q",
        "losses/critic_grad_norm",
    }


def test_actor_and_targets_move_only_every_policy_delay_updates():
    config = CONFIG.replace(policy_delay=3)
    networks, learner = start(td3, config)
    batches = some_batches(6)

    after, _ = updated(td3, learner, batches, networks=networks, config=config)
    assert optax.tree.get(after.opt_state["critic"], "count") == 6
    assert optax.tree.get(after.opt_state["actor"], "count") == 2


def test_fast_td3_moves_its_targets_after_every_critic_update():
    config = fast_td3.Config(
        actor_hidden_sizes=(8,),
        critic_hidden_sizes=(8,),
        num_atoms=11,
        policy_delay=4,
        normalize_obs=False,
        tau=0.5,
    )
    networks, learner = start(fast_td3, config)
    batches = some_batches(4)
    moved = learner
    targets = learner.targets["critic"]
    critic_update = jax.jit(partial(fast_td3.critic_update, networks=networks, config=config))
    for k, key in enumerate(jax.random.split(jax.random.key(1), 4)):
        batch = jax.tree.map(lambda x, k=k: x[k], batches)
        moved, _ = critic_update(moved, batch, key)
        targets = jax.tree.map(lambda t, n: 0.5 * t + 0.5 * n, targets, moved.params["critic"])
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), moved.targets["critic"], targets
    )
    assert set(moved.targets) == {"critic"}  # the actor has none


@pytest.mark.slow
def test_exploration_of_fast_td3_is_redrawn_when_an_episode_ends():
    env = envs.make("gymnax/Pendulum-v1", max_steps_in_episode=5)
    config = fast_td3.Config(
        num_envs=8,
        batch_size=8,
        learning_starts=8,
        buffer_size=800,
        actor_hidden_sizes=(8,),
        critic_hidden_sizes=(8,),
    )
    algorithm = fast_td3.make(env, config)
    state = jax.jit(algorithm.init)(jax.random.key(0))
    step = jax.jit(algorithm.step)
    scales = [np.asarray(state.collection.memory["std"])]
    for _ in range(6):
        state, _ = step(state)
        scales.append(np.asarray(state.collection.memory["std"]))
    scales = np.stack(scales)
    # One step in init, so that the fifth step of each episode is in iterations 3 and 8.
    changed = (scales[1:] != scales[:-1]).all(axis=1)
    np.testing.assert_array_equal(changed, [False, False, False, True, False, False])
    assert (scales >= 0.001).all() and (scales <= 0.4).all() and len(np.unique(scales[0])) == 8


class Privileged:
    """Shows the policy noise and the critic a number, which is the reward."""

    observation_space = {
        "state": envs.Box(-1.0, 1.0, (2,)),
        "privileged_state": envs.Box(0.0, 1.0, (3,)),
    }
    action_space = envs.Box(-1.0, 1.0, (1,))

    def reset(self, key):
        number_key, noise_key = jax.random.split(key)
        number, noise = jax.random.uniform(number_key), jax.random.uniform(noise_key, (2,))
        return number, {"state": noise, "privileged_state": jnp.full(3, number)}

    def step(self, key, state, action):
        _, obs = self.reset(key)
        return state, envs.Step(obs, state, jnp.bool_(True), jnp.bool_(False), {})


@pytest.mark.slow
def test_the_critics_of_fast_td3_see_privileged_observations_and_the_actor_does_not():
    config = fast_td3.Config(
        num_envs=32,
        batch_size=128,
        learning_starts=640,
        buffer_size=6400,
        total_steps=32_000,
        v_min=-0.5,
        v_max=1.5,
        num_atoms=21,
        learning_rate=3e-3,
        actor_hidden_sizes=(8,),
        critic_hidden_sizes=(16,),
        normalize_obs=False,
    )
    algorithm = fast_td3.make(Privileged(), config)
    state = jax.jit(lambda key: algos.train(algorithm, key, num_iterations=400, log_every=400)[0])(
        jax.random.key(0)
    )
    networks = fast_td3.make_networks(Privileged(), config)
    numbers = jnp.linspace(0.1, 0.9, 5)
    obs = {
        "state": jnp.full((5, 2), 0.5),
        "privileged_state": jnp.broadcast_to(numbers[:, None], (5, 3)),
    }
    action = algorithm.act(state, obs, jax.random.key(1), True)
    np.testing.assert_array_equal(action, jnp.broadcast_to(action[:1], action.shape))
    critics = state.learner.params["critic"]
    logits = jax.vmap(lambda each: networks.critic.apply(each, obs, action))(critics)
    q = categorical.mean_q(logits, config)
    # One step long: the value is the number.
    np.testing.assert_allclose(q.mean(axis=0), numbers, atol=0.1)


def acting(module, config):
    """The algorithm on Pendulum, whose torques are twice the actions, and a state that can act."""
    algorithm = module.make(envs.make("gymnax/Pendulum-v1"), config)
    _, learner = start(module, config)
    return algorithm, loop.State(config.as_leaves(), learner, None, None, None, None)


SMALL = {"actor_hidden_sizes": (8,), "critic_hidden_sizes": (8,), "normalize_obs": False}


@pytest.mark.parametrize(
    "module, settings, std",
    [
        (td3, {"exploration_noise": 0.1}, 0.1),
        pytest.param(td3, {"exploration_noise": 0.0}, 0.0, marks=pytest.mark.slow),
        # Of a standard deviation that is uniform in [a, b], the mean square is (a² + ab + b²)/3.
        pytest.param(
            fast_td3,
            {"min_noise": 0.05, "max_noise": 0.2},
            math.sqrt((0.0025 + 0.01 + 0.04) / 3),
            marks=pytest.mark.slow,
        ),
    ],
)
def test_acting_without_determinism_explores_as_in_training(module, settings, std):
    algorithm, state = acting(module, module.Config(**SMALL, **settings))
    obs = jnp.full((40, 100, 3), 0.1)
    mean = algorithm.act(state, obs, jax.random.key(1), True)
    action = algorithm.act(state, obs, jax.random.key(2), False)
    assert action.shape == mean.shape == (40, 100, 1)
    assert np.std((action - mean) / 2.0) == pytest.approx(std, rel=0.06)
    assert np.mean((action - mean) / 2.0) == pytest.approx(0.0, abs=0.01)
    one = jnp.full(3, 0.1)
    np.testing.assert_allclose(
        algorithm.act(state, one, jax.random.key(1), True), mean[0, 0], rtol=1e-5
    )
    moved = algorithm.act(state, one, jax.random.key(3), False)
    assert moved.shape == (1,)
    assert (float(jnp.abs(moved - mean[0, 0])[0]) > 1e-4) == (std > 0.0)


def test_each_observation_has_an_environment_with_a_noise_of_its_own():
    # With one standard deviation for all, 200 draws would have a kurtosis of 3 within half a unit;
    # uniform in [0, 0.4] it is 3·(b⁴/5)/(b²/3)² = 27/5.
    algorithm, state = acting(fast_td3, fast_td3.Config(**SMALL, min_noise=0.0, max_noise=0.4))
    obs = jnp.full((20_000, 3), 0.1)
    mean, action = (algorithm.act(state, obs, jax.random.key(4), flag) for flag in (True, False))
    noise = np.asarray(action - mean).ravel() / 2.0
    assert np.mean(noise**4) / np.mean(noise**2) ** 2 == pytest.approx(5.4, rel=0.1)
