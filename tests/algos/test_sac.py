"""SAC's values and temperature against the closed form of a small task, and its two kinds of
actions.
"""

from functools import partial
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from onejit import algos, envs
from onejit.algos import fast_sac, sac
from onejit.algos.core import guard, normalize
from onejit.algos.off_policy import soft
from onejit.envs.probes import Probe, Table

# In each of two states one action pays 1 and stays, the other pays 0 and goes to the other state.
# By symmetry V = α·log(e^((1 + γV)/α) + e^(γV/α)) = γV + α·log(1 + e^(1/α)).
STAY_OR_GO = Table(
    reward=((1, 0), (0, 1)),
    next_state=((0, 1), (0, 1)),
    terminated=((False, False),) * 2,
    start=(0.5, 0.5),
)


@pytest.mark.slow
def test_discrete_sac_learns_the_soft_values_of_a_task_with_a_closed_form(jit_to_learn):
    alpha = 0.5
    gamma = 0.9
    # α = ½: V = 0.5·log(1 + e²)/(1 − 0.9) = 0.5·2.1269/0.1 = 10.635; π(stay) = σ(2) = 0.8808, whose
    # entropy 0.3653 nats is the target, so that the temperature stays where it is.
    value = alpha * np.log(1 + np.exp(1 / alpha)) / (1 - gamma)
    stay = 1 / (1 + np.exp(-1 / alpha))
    entropy = -stay * np.log(stay) - (1 - stay) * np.log(1 - stay)
    config = sac.Config(
        gamma=gamma,
        learning_rate=2e-3,
        tau=0.05,
        num_envs=16,
        batch_size=128,
        buffer_size=16_384,
        num_updates=2,
        actor_hidden_sizes=(16,),
        critic_hidden_sizes=(16,),
        initial_alpha=0.4,
        target_entropy=float(entropy),
    )
    env = Probe(STAY_OR_GO)
    algorithm = sac.make(env, config)
    run = jit_to_learn(lambda key: algos.train(algorithm, key, num_iterations=2000, log_every=1000))
    state, history = run(jax.random.key(0))
    networks = sac.make_networks(env, config)
    q = jax.vmap(lambda each: networks.critic.apply(each, jnp.eye(2)))(
        state.learner.params["critic"]
    )
    expected = np.array([[1.0, 0.0], [0.0, 1.0]]) + gamma * value
    np.testing.assert_allclose(q, np.stack([expected, expected]), rtol=0.04)
    policy = jax.nn.softmax(networks.actor.apply(state.learner.params["actor"], jnp.eye(2)))
    np.testing.assert_allclose(policy, [[stay, 1 - stay], [1 - stay, stay]], atol=0.04)
    np.testing.assert_allclose(history["losses/alpha"][-1], alpha, rtol=0.1)


def test_discrete_sac_takes_the_expectation_of_the_smaller_critic_of_each_action():
    """π = (½, ½), Q₁ = (1, 0), Q₂ = (0, 1): Σ π·min Q = 0, while the smaller of the two
    expectations is ½.
    """
    actor = SimpleNamespace(apply=lambda params, obs: jnp.broadcast_to(params, (len(obs), 2)))
    config = sac.Config(gamma=0.5)
    params = {"actor": jnp.zeros(2), "critic": jnp.eye(2), "log_alpha": jnp.log(jnp.float32(0.1))}
    optimisers = {name: config.optimiser(name).init(each) for name, each in params.items()}
    targets = {"critic": jnp.eye(2)}
    learner = sac.Learner(params, targets, optimisers, (), jnp.int32(0), guard.init())
    batch = sac.Batch(
        jnp.zeros((1, 3)), jnp.array([0]), jnp.array([1.0]), jnp.array([0.5]), jnp.zeros((1, 3))
    )
    networks = sac.Networks(actor, actor)  # the critics, too, are tables
    parts = {"networks": networks, "config": config}
    _, critic = jax.jit(partial(sac.critic_update, **parts))(learner, batch, jax.random.key(0))
    # y = 1 + 0.5·(0 + 0.1·log 2), and the loss is ½·((1 − y)² + (0 − y)²)
    y = 1.0 + 0.5 * 0.1 * np.log(2)
    np.testing.assert_allclose(critic["losses/critic_loss"], 0.5 * ((1 - y) ** 2 + y**2), rtol=1e-5)
    _, actor = jax.jit(partial(sac.actor_update, **parts))(learner, batch, jax.random.key(0))
    np.testing.assert_allclose(actor["losses/actor_loss"], -0.1 * np.log(2) - 0.0, rtol=1e-5)


@pytest.mark.parametrize("module", [sac, fast_sac])
def test_actions_stay_in_the_box_and_the_deterministic_one_is_the_mode(module):
    env = envs.make("gymnax/Pendulum-v1")  # actions in [−2, 2]
    config = module.Config(
        num_envs=2,
        learning_starts=2,
        batch_size=4,
        actor_hidden_sizes=(8,),
        critic_hidden_sizes=(8,),
        buffer_size=100,
    )
    algorithm = module.make(env, config)
    state = jax.jit(algorithm.init)(jax.random.key(0))
    obs = jnp.ones((200, 3))
    sampled = algorithm.act(state, obs, jax.random.key(1), False)
    assert sampled.shape == (200, 1)
    assert (jnp.abs(sampled) <= 2.0).all() and sampled.std() > 0.01
    mode = algorithm.act(state, obs, jax.random.key(1), True)
    distribution = module.make_networks(env, config).actor.apply(
        state.learner.params["actor"], normalize.obs(state.learner, obs)
    )
    np.testing.assert_allclose(mode, 2.0 * jnp.tanh(distribution.mean), rtol=1e-5)


@pytest.mark.parametrize(
    "env_id, target, automatic",
    [
        ("gymnax/Pendulum-v1", -1.0, True),
        ("gymnax/CartPole-v1", 0.5 * np.log(2), True),
        ("gymnax/CartPole-v1", 0.1, False),
    ],
)
def test_target_entropy(env_id, target, automatic):
    env = envs.make(env_id)
    config = sac.Config(
        actor_hidden_sizes=(4,), target_entropy=float("inf") if automatic else target
    )
    networks = sac.make_networks(env, config)
    learner = jax.eval_shape(
        lambda key: sac.init_learner(key, env=env, networks=networks, config=config),
        jax.random.key(0),
    )
    obs = jnp.zeros((2, *env.observation_space.shape))
    batch = sac.Batch(obs, None, None, None, obs)
    np.testing.assert_allclose(
        soft.target_entropy(networks, learner, batch, config), target, rtol=1e-6
    )
