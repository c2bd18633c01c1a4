"""Own optimisers, schedules of the learning rate, and what follows the divergence from the old
policy.
"""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from onejit import envs
from onejit.algos import fast_sac, mdpo, mdpo_off_policy, ppo, sac, spo, staq, td3
from onejit.algos.core.config import ConfigError
from onejit.algos.on_policy import gradient_steps

ENV = envs.make("probe/delay")
BOX = envs.make("probe/delay", continuous=True)
ON_POLICY = {
    "num_envs": 4,
    "num_steps": 8,
    "num_minibatches": 2,
    "update_epochs": 3,
    "hidden_sizes": (4,),
    "total_steps": 320,
}
OFF_POLICY = {
    "num_envs": 2,
    "learning_starts": 8,
    "buffer_size": 64,
    "batch_size": 8,
    "actor_hidden_sizes": (4,),
    "critic_hidden_sizes": (4,),
    "total_steps": 64,
}
STAQ = {
    "num_envs": 2,
    "num_steps": 2,
    "memory": 2,
    "hidden_sizes": (4,),
    "learning_starts": 8,
    "buffer_size": 64,
    "batch_size": 8,
    "total_steps": 64,
}


def run(module, env, config, steps=1, **options):
    """States before and after some iterations, and the metrics of each."""
    algorithm = module.make(env, config, **options)
    step = jax.jit(algorithm.step)
    states, rows = [jax.jit(algorithm.init)(jax.random.key(0))], []
    for _ in range(steps):
        state, metrics = step(states[-1])
        states.append(state)
        rows.append(metrics)
    assert step._cache_size() == 1
    assert not np.any(rows[-1]["charts/fault"])
    return states, rows


def assert_close(a, b, **tolerance):
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        np.testing.assert_allclose(x, y, **tolerance)


@pytest.mark.slow
def test_the_default_written_as_an_own_optimiser_learns_the_same():
    config = ppo.Config(**ON_POLICY, learning_rate=1e-2)
    own = optax.chain(optax.clip_by_global_norm(0.5), optax.adam(1e-2, eps=1e-5))
    # Parameters as a pytree and as a flat vector differ in the order of sums alone.
    default, _ = run(ppo, ENV, config.replace(anneal_lr=False))
    mine, _ = run(ppo, ENV, config, optimiser=own)
    assert_close(default[-1].learner.params, mine[-1].learner.params, rtol=1e-4, atol=1e-6)

    # A function of the learning rate is called with the annealed one.
    def made(learning_rate):
        return optax.chain(optax.clip_by_global_norm(0.5), optax.adam(learning_rate, eps=1e-5))

    default, rows = run(ppo, ENV, config, 2)
    mine, _ = run(ppo, ENV, config, 2, optimiser=made)
    assert_close(default[-1].learner.params, mine[-1].learner.params, rtol=1e-4, atol=1e-6)
    # 32 of 320 steps were done before the second iteration.
    np.testing.assert_allclose([row["charts/learning_rate"] for row in rows], [1e-2, 9e-3])


def moved(states, *path):
    """Whether a part of the parameters changed."""
    old, new = (state.learner.params for state in (states[0], states[-1]))
    for name in path:
        old, new = old[name], new[name]
    return any(np.any(x != y) for x, y in zip(*map(jax.tree.leaves, (old, new)), strict=True))


@pytest.mark.slow
def test_masks_by_name_and_an_optimiser_for_each_part():
    config = ppo.Config(**ON_POLICY)
    frozen = optax.partition(
        {"train": optax.adam(1e-2), "freeze": optax.set_to_zero()},
        lambda params: jax.tree.map_with_path(
            lambda path, _: "freeze" if "torso" in jax.tree_util.keystr(path) else "train", params
        ),
    )
    states, _ = run(ppo, ENV, config, optimiser=frozen)
    for name in ("policy", "value"):
        assert not moved(states, name, "params", "torso")
        assert moved(states, name, "params", "Dense_0")
    each = {"policy": optax.sgd(0.0), "value": optax.adam}
    states, rows = run(ppo, ENV, config, optimiser=each)
    assert not moved(states, "policy") and moved(states, "value")
    assert "charts/learning_rate" in rows[0]


@pytest.mark.slow
def test_a_learning_rate_that_nothing_uses_is_no_metric():
    _, rows = run(ppo, ENV, ppo.Config(**ON_POLICY), optimiser=optax.sgd(1e-2))
    assert "charts/learning_rate" not in rows[0]
    config = td3.Config(**OFF_POLICY)
    # The networks may bring the optimiser along.
    networks = td3.make_networks(BOX, config)._replace(optimiser=optax.sgd(0.0))
    states, rows = run(td3, BOX, config, networks=networks)
    assert not moved(states) and "charts/learning_rate" not in rows[0]


@pytest.mark.slow
@pytest.mark.parametrize("as_dict", [False, True], ids=["one", "dict"])
def test_each_of_the_series_of_mdpo_decays_the_weights_of_its_own_network_alone(as_dict):
    def decay(rate):
        return lambda _: optax.chain(optax.scale(0.0), optax.add_decayed_weights(-rate))

    config = mdpo.Config(**ON_POLICY, policy_steps=2)  # and 3 · 2 steps of the value network
    optimiser = {"policy": decay(0.1), "value": decay(0.2)} if as_dict else decay(0.1)
    states, _ = run(mdpo, ENV, config, optimiser=optimiser)
    for name, factor in (("policy", 0.9**2), ("value", 0.8**6 if as_dict else 0.9**6)):
        before, after = (state.learner.params[name]["params"]["torso"] for state in states)
        wanted = jax.tree.map(lambda x, factor=factor: factor * x, before)
        assert_close(after, wanted, rtol=1e-5)


OFF_POLICY_CASES = {
    "sac": (sac, ENV, OFF_POLICY, ("actor", "critic", "log_alpha")),
    "td3": (td3, BOX, OFF_POLICY, ("actor", "critic")),
    "fast_sac": (fast_sac, BOX, OFF_POLICY | {"num_atoms": 5}, ("actor", "critic", "log_alpha")),
    "mdpo_off_policy": (mdpo_off_policy, BOX, OFF_POLICY, ("actor", "critic")),
}
CASES = [
    pytest.param(name, marks=[] if name == "td3" else pytest.mark.slow) for name in OFF_POLICY_CASES
]


@pytest.mark.parametrize("name", CASES)
def test_actor_critic_and_temperature_have_optimisers_of_their_own(name):
    module, env, settings, parts = OFF_POLICY_CASES[name]
    config = module.Config(**settings, learning_rate=1e-2, anneal_lr=True)
    each = dict.fromkeys(parts, optax.adam) | {"actor": optax.sgd(0.0)}
    states, rows = run(module, env, config, 2, optimiser=each)
    assert not moved(states, "actor")
    assert all(moved(states, part) for part in parts[1:])
    # 8 of 64 steps are of the prefill.
    steps = module.make(env, config).steps_per_iteration
    rates = [row["charts/learning_rate"] for row in rows]
    left = np.array([56, 56 - steps]) / 64
    np.testing.assert_allclose(rates, 1e-2 * left, rtol=1e-6)


@pytest.mark.slow
def test_an_optimiser_that_comes_with_own_networks_is_used_too():
    config = td3.Config(**OFF_POLICY)
    networks = td3.make_networks(BOX, config)._replace(optimiser=optax.sgd(0.0))
    states, rows = run(td3, BOX, config, networks=networks)
    assert not moved(states) and "charts/learning_rate" not in rows[0]


@pytest.mark.slow
def test_staq_anneals_and_takes_an_own_optimiser():
    config = staq.Config(**STAQ)
    states, _ = run(staq, ENV, config, optimiser=optax.sgd(0.0))
    assert not moved(states)
    default, _ = run(staq, ENV, config)
    mine, _ = run(staq, ENV, config, optimiser=optax.adam(config.learning_rate))
    assert_close(default[-1].learner.params, mine[-1].learner.params, rtol=1e-6)
    # All is done after 64 steps of 4 each: the last iteration learns nothing more.
    states, rows = run(staq, ENV, config.replace(anneal_lr=True), 17)
    assert moved(states) and not moved(states[-2:])
    # 8 of 64 steps are of the prefill, and an iteration takes 4.
    rates = [rows[i]["charts/learning_rate"] for i in (0, 8, 16)]
    left = np.array([56, 24, 0]) / 64
    np.testing.assert_allclose(rates, config.learning_rate * left, rtol=1e-5)


def sweep(module, targets, **changes):
    """Metrics of an update for each target_kl, all in one program, and the learners."""
    config = module.Config(**ON_POLICY | {"update_epochs": 10} | changes, learning_rate=3e-2)
    algorithm = module.make(ENV, config)
    keys = jax.vmap(jax.random.key)(np.zeros(len(targets), np.uint32))
    configs = jax.vmap(lambda target: config.replace(target_kl=target).as_leaves())(targets)
    states = jax.vmap(algorithm.init)(keys, configs)
    return jax.jit(jax.vmap(algorithm.step))(states)


def test_an_update_stops_at_target_kl_and_one_minibatch_beyond_it_at_most():
    targets = jnp.array([1e-6, 5e-3, 2e-2, jnp.inf])
    _, metrics = sweep(ppo, targets)
    taken = np.asarray(metrics["losses/steps_taken"])
    # The first step is from the old policy itself, at a divergence of 0; each minibatch is looked
    # at before its step: the last policy is one step beyond one that was within the target.
    assert taken[0] == pytest.approx(1 / 20)
    assert np.all(np.diff(taken) > 0) and taken[-1] == 1.0


@pytest.mark.slow
def test_a_target_is_the_same_alone_as_in_a_sweep():
    targets = jnp.array([5e-3, jnp.inf])
    states, _ = sweep(ppo, targets)
    settings = ON_POLICY | {"update_epochs": 10, "target_kl": float(targets[0])}
    alone, _ = run(ppo, ENV, ppo.Config(**settings, learning_rate=3e-2))
    swept = jax.tree.map(lambda x: x[0], states.learner.params)
    assert_close(alone[-1].learner.params, swept, rtol=1e-4, atol=1e-6)


@pytest.mark.slow
def test_target_kl_takes_the_steps_that_another_program_takes_one_by_one():
    config = ppo.Config(**ON_POLICY | {"num_minibatches": 1, "update_epochs": 1})
    # While the value network stands still so do advantages: passes one by one are those of an
    # update.
    networks = ppo.make_networks(ENV, config)._replace(
        optimiser={"policy": optax.adam(1e-2), "value": optax.sgd(0.0)}
    )
    start = ppo.init_learner(jax.random.key(0), env=ENV, networks=networks, config=config)
    obs = jax.random.uniform(jax.random.key(1), (8, 4, *ENV.observation_space.shape))
    out = networks.policy.apply(start.params["policy"], obs)
    action = networks.head.sample(jax.random.key(2), out)
    ended = jnp.zeros((8, 4), bool)
    batch = ppo.Transition(
        obs=obs,
        action=action,
        reward=jax.random.normal(jax.random.key(3), (8, 4)),
        next_obs=obs,
        terminated=ended,
        truncated=ended,
        log_prob=networks.head.log_prob(action, out),
    )

    @jax.jit
    def one_pass(learner, key):
        return ppo.update(learner, batch, key, networks=networks, config=config)

    learners, divergences = [start], []
    for key in jax.random.split(jax.random.key(4), 10):
        learner, metrics = one_pass(learners[-1], key)
        learners.append(learner)
        divergences.append(float(metrics["losses/approx_kl"]))  # of the policy before its step
    assert divergences[1] > 0 and max(divergences) > 4 * divergences[1]
    targets = np.array([0.5, 1.5, 3.0]) * divergences[1]

    @jax.jit
    @jax.vmap
    def at_once(target):
        stopping = config.replace(update_epochs=10, target_kl=target)
        key = jax.random.key(4)
        learner, metrics = ppo.update(start, batch, key, networks=networks, config=stopping)
        return learner.params, metrics["losses/steps_taken"]

    params, taken = at_once(jnp.asarray(targets))
    for i, target in enumerate(targets):
        # Up to the first policy beyond the target, which is one step from one within it.
        steps = next(k for k, kl in enumerate(divergences) if kl > target)
        assert round(10 * float(taken[i])) == steps and 0 < steps < 10
        assert_close(jax.tree.map(lambda x, i=i: x[i], params), learners[steps].params, rtol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("module", [spo, mdpo], ids=["spo", "mdpo"])
def test_the_siblings_stop_too(module):
    _, metrics = sweep(module, jnp.array([1e-6, jnp.inf]))
    assert metrics["losses/steps_taken"][0] < 0.2 and metrics["losses/steps_taken"][1] == 1.0


def test_the_learning_rate_follows_the_divergence():
    def after(kl):
        return gradient_steps.adapted(jnp.float32(3e-3), jnp.float32(kl), desired_kl=0.01)

    # Above 0.02 it falls by a factor of 1.5, below 0.005 it rises, between and at 0 it stays.
    np.testing.assert_allclose(
        [after(kl) for kl in (0.021, 0.004, 0.01, 0.0)], [2e-3, 4.5e-3, 3e-3, 3e-3], rtol=1e-6
    )
    bounds = [
        gradient_steps.adapted(jnp.float32(rate), jnp.float32(kl), desired_kl=0.01)
        for rate, kl in ((1.2e-5, 1.0), (9e-3, 1e-4))
    ]
    np.testing.assert_allclose(bounds, [1e-5, 1e-2], rtol=1e-6)


@pytest.mark.slow
def test_the_adapted_rate_is_carried_from_update_to_update():
    config = ppo.Config(**ON_POLICY, learning_rate=1e-4, adaptive_lr=True)
    assert config.schedules(0.5) == {}  # in place of the annealing, which is the default
    states, rows = run(ppo, ENV, config, 2)
    rates = [float(row["charts/learning_rate"]) for row in rows]
    assert rates == [float(state.learner.learning_rate) for state in states[1:]]
    assert float(states[0].learner.learning_rate) == pytest.approx(1e-4)
    assert len({*rates, 1e-4}) > 2
    # Every change is by a factor of 1.5.
    powers = np.log(np.array(rates) / 1e-4) / np.log(1.5)
    np.testing.assert_allclose(powers, np.round(powers), atol=1e-3)


@pytest.mark.slow
def test_a_rate_that_is_adapted_falls_once_for_the_step_that_target_kl_stops_at():
    changes = {"update_epochs": 10, "target_kl": 1e-4, "desired_kl": 1e-5, "learning_rate": 9e-3}
    algorithm = ppo.make(ENV, ppo.Config(**ON_POLICY | changes, adaptive_lr=True))
    state = algorithm.init(jax.random.key(0))  # not compiled: no two of its leaves are one buffer
    _, metrics = jax.jit(algorithm.step, donate_argnums=0)(state)
    assert metrics["losses/steps_taken"] < 0.5
    # Rounding may let it rise to 1e-2 where the divergence is 0; each further fall would be by 1.5.
    assert 9e-3 / 1.5 * 0.999 < metrics["charts/learning_rate"] < 1e-2 / 1.5 * 1.001


@pytest.mark.parametrize(
    "module, optimiser, message",
    [
        (ppo, {"policy": optax.adam}, "optimiser=a dict with ['policy']: must have one for each"),
        (ppo, 3e-4, "optimiser=0.0003: must be an optax.GradientTransformation"),
        (ppo, {"policy": optax.adam, "value": jnp.tanh}, "must be an optax.GradientTransformation"),
        (sac, {"actor": optax.adam, "critic": optax.adam}, "'actor', 'critic', 'log_alpha'"),
        (staq, {}, "must be no dict"),
        (ppo, lambda rate: optax.adam(float(rate)), "by gradients: ConcretizationTypeError"),
        (
            ppo,
            lambda rate: optax.inject_hyperparams(optax.adam)(learning_rate=rate),
            "must not keep a learning rate in its state",
        ),
        (sac, optax.lbfgs(), "must take a step on the parameters by gradients: TypeError"),
        (staq, optax.lbfgs(), "must take a step on the parameters by gradients: TypeError"),
    ],
)
def test_what_is_no_optimiser_is_refused(module, optimiser, message):
    with pytest.raises(ConfigError) as error:
        module.make(ENV, optimiser=optimiser)
    assert message in str(error.value).replace("'0.0003'", "0.0003")


def test_an_optimiser_that_networks_bring_along_is_checked_too():
    for module, env in ((ppo, ENV), (td3, BOX)):
        networks = module.make_networks(env, module.Config())._replace(optimiser=3e-4)
        with pytest.raises(ConfigError, match="must be an optax.GradientTransformation"):
            module.make(env, networks=networks)


def test_a_rate_that_nothing_uses_is_not_adapted():
    with pytest.raises(ConfigError, match="adaptive_lr=True: must be False"):
        ppo.make(ENV, ppo.Config(adaptive_lr=True), optimiser=optax.sgd(1e-2))
