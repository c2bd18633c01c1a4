"""AVG: that without its normalisations it is a plain incremental actor-critic, what they are, and
what a streaming loop owes.
"""

from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from onejit import algos, envs, losses
from onejit.algos import avg
from onejit.algos.core import guard, normalize
from onejit.algos.core.config import ConfigError
from onejit.algos.off_policy import soft, streaming, td_scale
from onejit.algos.off_policy.networks import apply_first

pytestmark = pytest.mark.slow

SIZES = {"actor_hidden_sizes": (8,), "critic_hidden_sizes": (8,), "num_steps": 8}
NOTHING = {"normalize_obs": False, "normalize_features": False, "scale_td_error": False}
ENV = envs.make("probe/delay", continuous=True)
close = np.testing.assert_allclose


class Three:
    observation_space = envs.Box(-1.0, 1.0, (3,))
    action_space = envs.Box(-1.0, 1.0, (1,))


def transition(num, seed=0):
    """A step of so many environments, every third of which terminates."""
    rng = np.random.default_rng(seed)
    shape = (num, *ENV.observation_space.shape)
    flags = jnp.arange(num) % 3 == 0
    return avg.Transition(
        obs=jnp.float32(rng.normal(size=shape)),
        action=jnp.tanh(jnp.float32(rng.normal(size=(num, 1)))),
        reward=jnp.float32(rng.normal(size=num)),
        terminated=flags,
        truncated=~flags & (jnp.arange(num) % 3 == 1),
        next_obs=jnp.float32(rng.normal(size=shape)),
        log_prob=jnp.float32(rng.normal(size=num)),
    )


def fresh(config):
    """Networks and a learner."""
    networks = avg.make_networks(ENV, config)
    init = partial(avg.init_learner, env=ENV, networks=networks, config=config)
    return networks, jax.jit(init)(jax.random.key(0))


def test_without_its_normalisations_both_steps_are_sacs_from_the_parameters_before():
    config = avg.Config(**SIZES, **NOTHING, alpha=0.3, adam_b1=0.5)
    networks, learner = fresh(config)
    data, noise = transition(4), jax.random.normal(jax.random.key(1), (2, 4, 1))
    params = learner.params

    def sampled(actor, obs, noise):
        """The definition: the density of a Gaussian, over the slope of the tanh."""
        mean, log_std = networks.actor.apply(actor, obs)
        before = mean + jnp.exp(log_std) * noise
        density = -0.5 * jnp.square(noise) - log_std - 0.5 * np.log(2 * np.pi)
        log_prob = jnp.sum(density - jnp.log(1 - jnp.square(jnp.tanh(before))), axis=-1)
        return jnp.tanh(before), log_prob

    def q(critic, obs, action):
        return apply_first(networks.critic, critic, obs, action)

    def actor_loss(actor):
        action, log_prob = sampled(actor, data.obs, noise[0])
        return jnp.mean(0.3 * log_prob - q(params["critic"], data.obs, action))

    def critic_loss(critic):
        next_action, next_log_prob = sampled(params["actor"], data.next_obs, noise[1])
        next_q = q(params["critic"], data.next_obs, next_action)
        target = data.reward + 0.99 * ~data.terminated * (next_q - 0.3 * next_log_prob)
        return jnp.mean((target - q(critic, data.obs, data.action)) ** 2)

    found, metrics = jax.jit(partial(avg.learn, networks=networks, config=config))(
        learner, data, noise
    )
    for name, loss, rate in (("actor", actor_loss, 6.3e-3), ("critic", critic_loss, 8.7e-3)):
        value, grads = jax.jit(jax.value_and_grad(loss))(params[name])
        optimiser = optax.adam(rate, b1=0.5)
        updates, _ = jax.jit(optimiser.update)(grads, jax.jit(optimiser.init)(params[name]))
        expected = optax.apply_updates(params[name], updates)
        jax.tree.map(partial(close, rtol=1e-3, atol=2e-6), found.params[name], expected)
        close(metrics[f"losses/{name}_loss"], value, rtol=1e-4)


def test_the_scale_is_that_of_a_loop_also_where_a_time_limit_cuts_an_episode():
    rng = np.random.default_rng(0)
    rewards = rng.normal(1.0, 2.0, 200).astype(np.float32)
    terminated = rng.random(200) < 0.03
    done = terminated | (rng.random(200) < 0.03)
    assert 1 < terminated.sum() < done.sum()

    def step(scale, inputs):
        reward, terminated, done = inputs
        scale = td_scale.update(scale, reward[None], 0.9 * (1.0 - terminated[None]), done[None])
        return scale, td_scale.value(scale)

    _, found = jax.lax.scan(step, td_scale.init(), (rewards, terminated, done))
    squares, total = [], 0.0
    for t in range(200):
        total += float(rewards[t])
        if done[t]:
            squares.append(total**2)
            total = 0.0
        variance = np.var(rewards[: t + 1])
        if squares:
            variance += np.var(0.9 * ~terminated[: t + 1]) * np.mean(squares)
        variance = max(variance, 1e-4)
        expected = 1.0 if not squares and variance <= 0.01 else np.sqrt(variance)
        close(found[t], expected, rtol=2e-4)


def test_the_scale_of_several_environments_is_that_of_all():
    """Two that end with returns 3 and 1, one that goes on: E[G²] = 5; the variance of 3, 1, 2 is
    2/3, that of 0, 0, 0.9 is 0.18: √(2/3 + 0.9).
    """
    rewards, ends = jnp.array([3.0, 1.0, 2.0]), jnp.array([True, True, False])
    scale = td_scale.update(td_scale.init(3), rewards, 0.9 * ~ends, ends)
    close(td_scale.value(scale), np.sqrt(2 / 3 + 0.9), rtol=1e-5)
    np.testing.assert_array_equal(scale.running_return, [0, 0, 2])


def test_the_scale_divides_the_error_and_not_the_reward():
    """A larger scale makes for smaller losses; the target is the same."""
    config = avg.Config(**SIZES, normalize_obs=False)
    networks, learner = fresh(config)
    data, noise = transition(1), jnp.zeros((2, 1, 1))
    seen = td_scale.update(learner.td_scale, data.reward + 9.0, data.reward, data.terminated)
    learner = learner._replace(td_scale=seen)
    scaled, plain = (
        jax.jit(partial(avg.learn, networks=networks, config=each))(learner, data, noise)[1]
        for each in (config, config.replace(scale_td_error=False))
    )
    sigma = scaled["charts/td_scale"]
    assert sigma > 2.0 and plain["charts/td_scale"] == 1.0
    close(scaled["losses/critic_loss"] * sigma**2, plain["losses/critic_loss"], rtol=1e-5)
    close(scaled["losses/actor_loss"], plain["losses/actor_loss"])


def test_features_have_length_1_and_zeros_a_gradient():
    x = jnp.array([[3.0, 4.0], [0.0, 0.0]])
    close(avg.unit_length(x), [[0.6, 0.8], [0.0, 0.0]], rtol=1e-6)
    assert np.all(np.isfinite(jax.jacobian(avg.unit_length)(x)))
    # With them the scale of the first layer does not matter.
    for scaled in (True, False):
        config = avg.Config(**SIZES, normalize_features=scaled, activation="relu")
        networks = avg.make_networks(ENV, config)
        obs = jnp.eye(ENV.observation_space.shape[0])
        params = networks.actor.init(jax.random.key(0), obs)
        hidden = next(name for name in params["params"] if name.startswith("torso"))
        larger = params["params"] | {
            hidden: jax.tree.map(lambda w: 3.0 * w, params["params"][hidden])
        }
        means = (networks.actor.apply(each, obs).mean for each in (params, {"params": larger}))
        assert np.allclose(*means, rtol=1e-5, atol=1e-6) == scaled


def test_log_std_is_cut_off_and_not_squeezed():
    """What the last layer puts out is the logarithm itself, up to 2 and down to −20."""
    obs = jnp.eye(3)
    raw = jnp.array([[0.1, -3.0], [0.2, 5.0], [0.3, -30.0]])  # mean and logarithm, of each obs
    actor = avg.make_networks(Three, avg.Config(**SIZES, **NOTHING)).actor.clone(torso=lambda x: x)
    layer = {"Dense_0": {"kernel": raw, "bias": jnp.zeros(2)}}
    out = actor.apply({"params": layer}, obs)
    np.testing.assert_array_equal(out.mean[:, 0], raw[:, 0])
    np.testing.assert_array_equal(out.log_std[:, 0], [-3.0, 2.0, -20.0])


def algorithm(env=ENV, **changes):
    return avg.make(env, avg.Config(**SIZES).replace(**changes))


def test_the_executed_action_is_what_the_actor_is_moved_at():
    """Its log-probability is that of the actor's at the noise that it learns with."""

    def watched(learner, transition, noise, *, networks, config):
        distribution = networks.actor.apply(
            learner.params["actor"], normalize.obs(learner, transition.obs)
        )
        found = soft.squash(distribution, noise[0])
        gaps = jax.tree.map(jnp.subtract, found, (transition.action, transition.log_prob))
        learner, metrics = avg.learn(learner, transition, noise, networks=networks, config=config)
        return learner, metrics | {"gap": sum(jnp.sum(jnp.abs(x)) for x in gaps)}

    make = streaming.maker(avg.Config, avg.make_networks, watched)
    run = make(ENV, avg.Config(**SIZES))
    _, metrics = jax.jit(run.step)(jax.jit(run.init)(jax.random.key(0)))
    assert metrics["gap"] < 1e-5


def test_resume_is_exact(assert_resume_is_exact):
    run = algorithm()
    init = jax.jit(run.init)
    step = jax.jit(run.step).lower(jax.eval_shape(init, jax.random.key(0))).compile()
    assert_resume_is_exact(run, init, step, 2)


def test_vmapped_seeds_are_single_runs():
    run = algorithm()

    def train(key):
        return algos.train(run, key, num_iterations=3)[0].learner.params

    keys = jax.random.split(jax.random.key(0), 3)
    many = jax.jit(jax.vmap(train))(keys)
    single = jax.jit(train)
    for i in range(3):
        one = single(jax.random.clone(keys)[i])
        jax.tree.map(lambda a, b, i=i: close(a[i], b, rtol=2e-4, atol=5e-6), many, one)
    leaf = jax.tree.leaves(many)[-1]
    assert np.abs(leaf[0] - leaf[1]).max() > 1e-3


def test_the_whole_training_lowers_for_tpu_and_cuda():
    run = algorithm(envs.make("gymnax/Pendulum-v1"))
    train = jax.jit(
        lambda key: algos.train(run, key, num_iterations=2, evaluate=algos.evaluator(run))
    )
    lowered = train.trace(jax.random.key(0)).lower(lowering_platforms=("tpu", "cuda"))
    assert "stablehlo.while" in lowered.as_text()


class Breaks:
    """The reward of the sixth step is no number."""

    observation_space = envs.Box(-1.0, 1.0, (2,))
    action_space = envs.Box(-1.0, 1.0, (1,))

    def reset(self, key):
        return jnp.int32(0), jax.random.uniform(key, (2,))

    def step(self, key, state, action):
        reward = jnp.where(state == 5, jnp.nan, 1.0)
        false = jnp.bool_(False)
        return state + 1, envs.Step(jax.random.uniform(key, (2,)), reward, false, false, {})


def test_a_number_that_is_none_stays_out_and_is_named():
    run = algorithm(Breaks(), num_steps=4)
    states = [jax.jit(run.init)(jax.random.key(0))]
    step = jax.jit(run.step)
    for _ in range(3):
        states.append(step(states[-1])[0])
    _, good, bad, after = (state.learner for state in states)
    assert guard.describe(good.fault) is None
    found = "non-finite reward in iteration 1, step 1 of the rollout, environment 0"
    assert guard.describe(bad.fault) == guard.describe(after.fault) == found
    for later in (bad, after):
        for name in ("params", "opt_state", "obs_statistics", "td_scale"):
            jax.tree.map(np.testing.assert_array_equal, getattr(later, name), getattr(good, name))


def test_an_update_of_ones_own_data_is_guarded():
    config = avg.Config(**SIZES)
    networks, learner = fresh(config)
    data = transition(1)
    update = jax.jit(partial(avg.update, networks=networks, config=config))
    good, metrics = update(learner, data, jax.random.key(1))
    assert np.isfinite(metrics["losses/critic_loss"]) and good.obs_statistics.count == 1.0
    bad, _ = update(good, data._replace(reward=data.reward + jnp.inf), jax.random.key(2))
    assert guard.describe(bad.fault).startswith("non-finite reward in iteration 1")
    jax.tree.map(np.testing.assert_array_equal, bad.params, good.params)


@pytest.mark.parametrize(
    "field, value, allowed",
    [("num_steps", 0, "at least 1"), ("adam_b1", 1.0, "at most"), ("alpha", -1.0, "at least 0")],
)
def test_what_does_not_fit_is_refused(field, value, allowed):
    with pytest.raises(ConfigError, match=f"{field}=.*{allowed}"):
        algorithm(**{field: value})


def test_discrete_actions_are_refused():
    with pytest.raises(ConfigError, match="the policy is for continuous actions"):
        algorithm(envs.make("probe/delay"))


def test_the_error_by_hand():
    # y = 0.3 + 0.99·(1.5 + 0.07·0.8): the terminated one has no bootstrap: (0.3 − 1)/0.5
    target = losses.sac_target(
        jnp.full(2, 0.3), jnp.array([0.99, 0.0]), jnp.full(2, 1.5), jnp.full(2, -0.8), alpha=0.07
    )
    error = losses.scaled_td_error(jnp.ones(2), target, jnp.full(2, 0.5))
    close(error, [1.68088, -1.4], rtol=1e-5)


def test_it_solves_the_probes(jit_to_learn):
    """All at once, one transition at a time: of four seeds three."""
    env = envs.make("probe/all", continuous=True)
    rates = {"learning_rate": 1e-3, "critic_learning_rate": 3e-3, "gamma": 0.9, "alpha": 0.05}
    run = avg.make(env, avg.Config(actor_hidden_sizes=(32,), critic_hidden_sizes=(64,), **rates))

    @jit_to_learn
    @jax.vmap
    def trained(key):
        state, _ = algos.train(run, key, num_iterations=600, log_every=600)
        observations = jnp.eye(env.observation_space.shape[0])
        return run.act(state, observations, jax.random.key(1), True)

    action = np.asarray(trained(jax.random.split(jax.random.key(0), 4)))[..., 0] > 0
    best = env.solve(0.9)[1]
    for probe in ("action", "delay", "observation", "truncation", "termination"):
        places = env.first_state[probe] + np.arange(2 if probe == "observation" else 1)
        solved = (action[:, places] == best[places]).all(axis=1)
        assert solved.sum() >= 3, f"fails probe/{probe}: {solved}"


def test_an_update_is_of_one_environment():
    env = envs.make("gymnax/Pendulum-v1")
    config = avg.Config(actor_hidden_sizes=(4,), critic_hidden_sizes=(4,))
    networks = avg.make_networks(env, config)
    learner = avg.init_learner(jax.random.key(0), env=env, networks=networks, config=config)
    flags, number = jnp.zeros(4, bool), jnp.zeros(4)
    obs, action = jnp.zeros((4, 3)), jnp.zeros((4, 1))
    batch = avg.Transition(obs, action, number, flags, flags, obs, number)
    with pytest.raises(ConfigError, match=r"shape \[4\]: must be of shape \[1\]"):
        avg.update(learner, batch, jax.random.key(1), networks=networks, config=config)


def test_networks_that_train_otherwise_are_refused():
    class Dropped(nn.Module):
        inner: nn.Module

        @nn.compact
        def __call__(self, obs, action, train=False):
            q = self.inner(obs, action)
            return nn.Dropout(0.5, deterministic=not train)(q)

    env = envs.make("gymnax/Pendulum-v1")
    config = avg.Config(actor_hidden_sizes=(4,), critic_hidden_sizes=(4,))
    networks = avg.make_networks(env, config)
    with pytest.raises(ConfigError, match="networks.critic=a network with dropout"):
        avg.make(env, config, networks._replace(critic=Dropped(networks.critic)))
