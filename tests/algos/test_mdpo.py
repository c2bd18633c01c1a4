"""MDPO, on-policy and off-policy: its schedules, its divergence, and its limit SAC."""

from functools import partial

import distrax
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

from onejit import algos, envs
from onejit.algos import mdpo, mdpo_off_policy, sac
from onejit.algos.core.config import ConfigError
from onejit.algos.core.heads import Gaussian

SMALL = {
    "num_envs": 8,
    "num_steps": 8,
    "num_minibatches": 2,
    "update_epochs": 2,
    "hidden_sizes": (8,),
}


@pytest.mark.slow
def test_step_size_falls_over_total_steps_and_stops_at_its_bound():
    config = mdpo.Config(**SMALL, step_size=2.0, min_step_size=0.1, total_steps=4 * 64)
    algorithm = mdpo.make(envs.make("probe/value"), config)
    history = jax.jit(lambda k: algos.train(algorithm, k, num_iterations=6))(jax.random.key(0))[1]
    # 4 iterations of 64 steps are total_steps: 2·(1, 3/4, 1/2, 1/4, 0, 0), and 0.1 at least
    np.testing.assert_allclose(
        history["charts/step_size"], [2.0, 1.5, 1.0, 0.5, 0.1, 0.1], rtol=1e-6
    )


@pytest.mark.slow
def test_policy_and_value_network_take_their_own_steps():
    config = mdpo.Config(**SMALL, policy_steps=3)
    algorithm = mdpo.make(envs.make("probe/observation"), config)
    state, _ = jax.jit(algorithm.step)(jax.jit(algorithm.init)(jax.random.key(0)))
    counts = [int(each[1][0].count) for each in state.learner.opt_state]
    # 3 full-batch steps of the policy; 2 passes of 2 minibatches of the value network.
    assert counts == [
        3,
        4,
    ]
    # Adam's moments are zero for the parameters that a pass does not train: it never moves them.
    policy_size = sum(leaf.size for leaf in jax.tree.leaves(state.learner.params["policy"]))
    for each, trained in zip(
        state.learner.opt_state, [slice(policy_size), slice(policy_size, None)], strict=True
    ):
        other = np.ones(each[1][0].mu.size, bool)
        other[trained] = False
        assert np.abs(each[1][0].mu[trained]).max() > 0.0
        assert not each[1][0].mu[other].any()


def test_the_divergence_is_that_of_the_new_policy_from_the_old_one():
    env = envs.make("probe/observation", continuous=True)
    config = mdpo.Config(**SMALL)
    networks = mdpo.make_networks(env, config)
    params = {
        "policy": networks.policy.init(jax.random.key(0), jnp.zeros(env.observation_space.shape)),
        "value": networks.value.init(jax.random.key(1), jnp.zeros(env.observation_space.shape)),
    }
    obs = jax.random.normal(jax.random.key(2), (16, *env.observation_space.shape))
    mean = jax.random.normal(jax.random.key(3), (16, 1))
    old = Gaussian(mean, jnp.full((16, 1), -1.0))  # narrow; the new one has standard deviation 1
    new = networks.policy.apply(params["policy"], obs)
    zeros = jnp.zeros(16)
    data = mdpo.Minibatch(obs, mean, networks.head.log_prob(mean, old), old, zeros, zeros, zeros)
    metrics = mdpo.policy_loss(params, data, jax.random.key(4), networks=networks, config=config)[1]
    p, q = (
        distrax.Normal(new.mean, jnp.exp(new.log_std)),
        distrax.Normal(old.mean, jnp.exp(old.log_std)),
    )
    np.testing.assert_allclose(metrics["losses/kl"], p.kl_divergence(q)[:, 0], rtol=1e-5)
    assert jnp.abs(metrics["losses/kl"] - q.kl_divergence(p)[:, 0]).min() > 0.5


@pytest.mark.parametrize("policy_steps", [1, pytest.param(3, marks=pytest.mark.slow)])
def test_the_divergence_starts_from_zero_in_every_iteration(policy_steps):
    """The old distribution belongs to the samples, in their order, and to the normaliser that they
    were drawn with.
    """
    config = mdpo.Config(
        **SMALL,
        policy_steps=policy_steps,
        normalize_obs=True,
        learning_rate=1e-2,
        anneal_step_size=False,
    )
    algorithm = mdpo.make(envs.make("gymnax/Pendulum-v1"), config)
    step = jax.jit(algorithm.step)
    state = jax.jit(algorithm.init)(jax.random.key(0))
    for _ in range(3):
        state, metrics = step(state)
        assert metrics["charts/step_size"] == 1.0
        # measured before the last of the policy's steps: before the first, the divergence is 0
        if policy_steps == 1:
            assert abs(metrics["losses/kl"]) < 1e-6
            assert metrics["losses/ratio_deviation"] < 1e-5
        else:
            assert metrics["losses/kl"] > 1e-6


def ensemble(networks, params, obs, action):
    """What each critic puts out, `[C, ...]`."""
    return jax.vmap(lambda each: networks.critic.apply(each, obs, action))(params)


def off_policy_case(**config):
    """A learner of off-policy MDPO, its networks and config, and a minibatch."""
    env = envs.make("brax/reacher")
    config = mdpo_off_policy.Config(
        **config, actor_hidden_sizes=(16,), critic_hidden_sizes=(16,), num_envs=2, batch_size=32
    )
    networks = mdpo_off_policy.make_networks(env, config)
    init = jax.jit(
        lambda key: mdpo_off_policy.init_learner(key, env=env, networks=networks, config=config)
    )
    learner = init(jax.random.key(0))
    obs, next_obs = jax.random.normal(jax.random.key(1), (2, 32, *env.observation_space.shape))
    action = jax.random.uniform(jax.random.key(2), (32, 2), minval=-1.0)
    batch = mdpo_off_policy.Batch(obs, action, jnp.ones(32), jnp.full(32, 0.9), next_obs)
    return env, learner, networks, config, batch


@pytest.mark.slow
def test_with_kappa_as_lam_the_actor_takes_the_step_of_sac():
    alpha = 0.2
    env, learner, networks, config, batch = off_policy_case(kappa=alpha, lam=alpha)
    # SAC climbs the smaller of two critics, MDPO the first: here both are the first.
    twice = jax.tree.map(lambda x: jnp.stack([x[0], x[0]]), learner.params["critic"])
    learner = learner._replace(params=learner.params | {"critic": twice})
    sac_config = sac.Config(
        initial_alpha=alpha, actor_hidden_sizes=(16,), critic_hidden_sizes=(16,)
    )
    params = learner.params | {"log_alpha": jnp.log(alpha)}

    @jax.jit
    def first_moments(learner, key):
        """Of Adam, a tenth of the gradient: of MDPO's and SAC's actor, and of their critics."""
        sac_learner = sac.init_learner(
            jax.random.key(0), env=env, networks=networks, config=sac_config
        )
        sac_learner = sac_learner._replace(params=params)
        moments = {}
        for part in ("actor", "critic"):
            mine, theirs = (getattr(module, f"{part}_update") for module in (mdpo_off_policy, sac))
            updated = (
                mine(learner, batch, jax.random.clone(key), networks=networks, config=config)[0],
                theirs(
                    sac_learner, batch, jax.random.clone(key), networks=networks, config=sac_config
                )[0],
            )
            moments[part] = [jax.tree.leaves(each.opt_state[part][0].mu) for each in updated]
        return moments

    moments = first_moments(learner, jax.random.key(3))
    for part in ("actor", "critic"):
        for a, b in zip(*moments[part], strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-7)
            assert jnp.abs(a).max() > 1e-6


@pytest.mark.slow
def test_a_larger_kappa_holds_the_actor_near_the_old_one():
    def divergence(kappa):
        _, learner, networks, config, batch = off_policy_case(kappa=kappa, learning_rate=3e-3)

        @jax.jit
        def many_steps(learner):
            def one(learner, key_data):
                key = jax.random.wrap_key_data(key_data)
                return mdpo_off_policy.actor_update(
                    learner, batch, key, networks=networks, config=config
                )

            keys = jax.random.key_data(jax.random.split(jax.random.key(5), 200))
            return jax.lax.scan(one, learner, keys)[1]["losses/kl"][-20:].mean()

        return many_steps(learner)

    assert divergence(20.0) < 0.2 * divergence(0.3)


@pytest.mark.slow
def test_the_old_actor_is_copied_at_its_interval():
    _, learner, networks, config, batch = off_policy_case(old_actor_interval=6)
    batches = jax.tree.map(lambda x: x[None], batch)
    step = jax.jit(
        lambda learner, key: mdpo_off_policy.update(
            learner, batches, key, networks=networks, config=config
        )
    )

    def flat(params):
        return np.asarray(ravel_pytree(params["actor"])[0])

    copied = []
    for i in range(7):
        before = flat(learner.params)
        learner, _ = step(learner, jax.random.key(i))
        copied.append(bool((flat(learner.targets) == before).all()))
        assert (flat(learner.targets) != flat(learner.params)).any()
    # Two environment steps in an iteration: intervals of 6 begin with iterations 0, 3 and 6.
    assert copied == [True, False, False, True, False, False, True]


@pytest.mark.slow
def test_a_bad_batch_changes_nothing_where_a_copy_is_due():
    _, learner, networks, config, batch = off_policy_case(old_actor_interval=6)
    step = jax.jit(
        lambda learner, batch: mdpo_off_policy.update(
            learner, batch, jax.random.key(9), networks=networks, config=config
        )
    )
    batches = jax.tree.map(lambda x: x[None], batch)
    for _ in range(3):
        learner, _ = step(learner, batches)
    # Iteration 3.
    after, _ = step(learner, batches._replace(reward=batches.reward.at[0, 3].set(jnp.nan)))
    assert after.fault[0] > 0
    for name in ("params", "targets", "opt_state"):
        jax.tree.map(np.testing.assert_array_equal, getattr(after, name), getattr(learner, name))


@pytest.mark.slow
def test_vmapped_seeds_and_weights_equal_single_runs():
    env = envs.make("gymnax/Pendulum-v1")
    sizes = {
        "actor_hidden_sizes": (8,),
        "critic_hidden_sizes": (8,),
        "learning_starts": 8,
        "batch_size": 8,
    }
    config = mdpo_off_policy.Config(**sizes, num_envs=4, buffer_size=400)
    algorithm = mdpo_off_policy.make(env, config)
    changes = [
        {"kappa": 0.9, "lam": 0.1, "tsallis_q": 0.5, "old_actor_interval": 8},
        {"kappa": 2.0, "lam": 0.3, "tsallis_q": 1.0, "old_actor_interval": 12},
    ]

    def run(key, config):
        return algos.train(algorithm, key, config=config, num_iterations=6)[0].learner.params[
            "actor"
        ]

    configs = [config.replace(**change).as_leaves() for change in changes]
    keys = jax.random.split(jax.random.key(9))
    many = jax.jit(jax.vmap(run))(
        jax.random.clone(keys), jax.tree.map(lambda *x: jnp.stack(x), *configs)
    )
    single = jax.jit(run)
    for i, each in enumerate(configs):
        one = single(keys[i], each)
        jax.tree.map(
            lambda a, b, i=i: np.testing.assert_allclose(a[i], b, rtol=2e-4, atol=2e-5), many, one
        )
    assert single._cache_size() == 1
    assert any(float(jnp.abs(leaf[0] - leaf[1]).max()) > 1e-4 for leaf in jax.tree.leaves(many))


@pytest.mark.parametrize(
    "make, message",
    [
        (
            lambda: mdpo.Config(step_size=0.1, min_step_size=0.2),
            "min_step_size=0.2: must be at most step_size = 0.1",
        ),
        (
            lambda: mdpo_off_policy.Config(kappa=0.1, lam=0.2),
            "lam=0.2: must be at most kappa = 0.1",
        ),
        (
            lambda: mdpo_off_policy.Config(old_actor_interval=1),
            "old_actor_interval=1: must be above the 1 ",
        ),
        (lambda: mdpo_off_policy.Config(tsallis_q=1.5), "tsallis_q=1.5: .* at most 1"),
    ],
)
def test_what_would_be_another_algorithm_is_refused(make, message):
    config = make()
    module = mdpo if isinstance(config, mdpo.Config) else mdpo_off_policy
    with pytest.raises(ConfigError, match=message):
        module.make(envs.make("gymnax/Pendulum-v1"), config)


@pytest.mark.slow
def test_target_uses_the_entropy_of_the_convention():
    """With q = 0, log_0 x = x − 1: the target is r + γ·(Q' − λ·(Σ p_i − d)) per dimension, Q' −
    λ·(Π p_i − 1) joint.
    """
    grads = {}
    for tsallis in ("per_dimension", "joint"):
        _, learner, networks, config, batch = off_policy_case(
            kappa=1.0, lam=5.0, tsallis_q=0.0, tsallis=tsallis
        )
        key = jax.random.key(7)
        distribution = networks.actor.apply(learner.params["actor"], batch.next_obs)
        pre_tanh = distribution.mean + jnp.exp(distribution.log_std) * jax.random.normal(
            key, (32, 2)
        )
        action = jnp.tanh(pre_tanh)
        normal = distrax.Normal(distribution.mean, jnp.exp(distribution.log_std))
        density = jnp.exp(normal.log_prob(pre_tanh)) / (1.0 - action**2)
        entropy = (
            jnp.sum(density - 1.0, -1)
            if tsallis == "per_dimension"
            else jnp.prod(density, -1) - 1.0
        )
        next_q = ensemble(networks, learner.targets["critic"], batch.next_obs, action).min(0)
        target = 1.0 + 0.9 * (next_q - 5.0 * entropy)

        def loss(params, target=target, networks=networks, batch=batch):
            q = ensemble(networks, params, batch.obs, batch.action)
            return 0.5 * jnp.sum(jnp.mean((q - target[None]) ** 2, axis=1))

        expected = jax.jit(jax.grad(loss))(learner.params["critic"])
        update = partial(mdpo_off_policy.critic_update, networks=networks, config=config)
        after, _ = jax.jit(update)(learner, batch, jax.random.clone(key))
        grads[tsallis] = jax.tree.leaves(expected)
        for a, b in zip(
            jax.tree.leaves(after.opt_state["critic"][0].mu), grads[tsallis], strict=True
        ):
            np.testing.assert_allclose(10.0 * a, b, rtol=1e-3, atol=1e-4 * float(jnp.abs(b).max()))
    assert any(float(jnp.abs(a - b).max()) > 1e-3 for a, b in zip(*grads.values(), strict=True))
