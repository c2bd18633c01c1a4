"""Populations: settings, selection among members, and sweeps in one program or in chunks."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from onejit import algos, envs
from onejit.algos import ppo, sac, staq, td3
from onejit.algos.core import device_memory, population
from onejit.algos.core.config import ConfigError
from onejit.algos.core.sweep import largest_chunk

CONFIG = ppo.Config(
    num_envs=4,
    num_steps=8,
    num_minibatches=1,
    update_epochs=1,
    hidden_sizes=(8,),
    normalize_reward=True,
)
PPO = ppo.make(envs.make("probe/observation"), CONFIG)
INIT = jax.jit(jax.vmap(PPO.init))
STEP = jax.jit(jax.vmap(PPO.step))
SIZE = 5
RATES = jnp.array([1e-4, 3e-4, 1e-3, 3e-3, 1e-2])


@pytest.fixture(scope="module")
def states():
    config = CONFIG.as_leaves()
    config = jax.tree.map(lambda x: jnp.broadcast_to(x, (SIZE,)), config)
    keys = jax.random.split(jax.random.key(0), SIZE)
    return STEP(INIT(keys, config.replace(learning_rate=RATES)))[0]


def clone(states):
    """Keys may be used again."""
    return states._replace(key=jax.random.clone(states.key))


def test_a_grid_is_every_combination_the_last_name_varying_fastest():
    settings = algos.grid(learning_rate=[1e-4, 1e-3], hidden_sizes=[(8,), (8, 8)], num_steps=[4])
    np.testing.assert_array_equal(settings["learning_rate"], [1e-4, 1e-4, 1e-3, 1e-3])
    assert list(settings["hidden_sizes"]) == [(8,), (8, 8), (8,), (8, 8)]
    np.testing.assert_array_equal(settings["num_steps"], [4, 4, 4, 4])


def test_random_settings_are_within_their_bounds_and_those_of_their_seed():
    drawn = {
        "learning_rate": population.log_uniform(1e-5, 1e-1),
        "gamma": population.uniform(0.9, 1.0),
        "num_steps": population.choice([16, 32]),
    }
    settings = algos.draw(3, 4000, **drawn)
    rate, gamma = settings["learning_rate"], settings["gamma"]
    assert rate.min() >= 1e-5 and rate.max() < 1e-1
    assert gamma.min() >= 0.9 and gamma.max() < 1.0
    # Half of the numbers are below 10^-3, the middle of -5 and -1; 0.5 ± 4·0.5/√4000 = 0.5 ± 0.032.
    assert abs(np.mean(rate < 1e-3) - 0.5) < 0.032
    assert abs(np.mean(gamma < 0.95) - 0.5) < 0.032
    assert abs(np.mean(settings["num_steps"] == 16) - 0.5) < 0.032
    np.testing.assert_array_equal(algos.draw(3, 4000, **drawn)["gamma"], gamma)


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: algos.grid(gamma=0.9), "gamma=0.9: must be a sequence"),
        (lambda: algos.grid(gamma=[]), "gamma=.*: must be a sequence of at least one"),
        (lambda: population.uniform(1.0, 1.0), "uniform=.*the smaller first"),
        (lambda: population.log_uniform(0.0, 1.0), "log_uniform=.*above 0"),
        (lambda: population.choice("ab"), "choice=ab: must be a sequence"),
    ],
)
def test_bad_settings_are_refused(make, message):
    with pytest.raises(ConfigError, match=message):
        make()


def test_the_worst_become_copies_of_the_best_and_keep_their_environments(
    states, assert_bitwise_equal
):
    scores = jnp.array([3.0, jnp.nan, 5.0, 1.0, 4.0])
    # 0.4·5 = 2: NaN and 1 go, of 5 and 4 copies are made.
    exploit = jax.jit(population.exploit, static_argnames="fraction")
    copied, parents = exploit(jax.random.key(1), states, scores, fraction=0.4)
    assert parents[::2].tolist() == [0, 2, 4]
    assert {int(parents[1]), int(parents[3])} <= {2, 4}
    sources = population.members(states, parents)
    own = states.learner.discounted_return
    assert_bitwise_equal(copied.learner, sources.learner._replace(discounted_return=own))
    assert_bitwise_equal(copied.config, sources.config)
    assert_bitwise_equal(copied.collection, states.collection)
    assert_bitwise_equal(copied.key, states.key)


def test_a_copy_goes_on_exactly_as_its_source_would(states, assert_bitwise_equal):
    scores = jnp.arange(5.0)
    # The copy has the learner of its source: it does what the source does when it is given the
    # copy's environments and key.
    copied, parents = population.exploit(jax.random.key(1), clone(states), scores)
    assert parents.tolist() == [4, 1, 2, 3, 4]
    source = population.members(states, jnp.full(SIZE, 4))
    given = clone(states)
    source = source._replace(
        collection=given.collection,
        key=given.key,
        learner=source.learner._replace(discounted_return=given.learner.discounted_return),
    )
    after = STEP(STEP(copied)[0])[0]
    expected = STEP(STEP(source)[0])[0]
    assert_bitwise_equal(population.members(after, 0), population.members(expected, 0))
    # With every part it does what the source itself does.
    whole, _ = population.exploit(jax.random.key(1), clone(states), scores, parts=states._fields)
    whole = STEP(STEP(whole)[0])[0]
    assert_bitwise_equal(population.members(whole, 0), population.members(whole, 4))
    with pytest.raises(ConfigError, match="parts=replay: must be of config, learner"):
        population.exploit(jax.random.key(1), states, scores, parts=["replay"])
    with pytest.raises(ConfigError, match="fraction=0.6: must be between 0 and 0.5"):
        population.exploit(jax.random.key(1), states, scores, fraction=0.6)


def test_copies_are_perturbed_within_bounds_and_others_are_not(states):
    parents = jnp.array([4, 1, 4, 3, 0])
    fields = {"learning_rate": (1e-4, 1.1e-3), "gamma": None}
    perturbed = population.explore(jax.random.key(2), states, parents, fields)
    rate = perturbed.config.learning_rate
    # 0.8·1e-4 is below the bounds; 1.2·1e-3 and all of 1e-2 above.
    assert rate[0] in (np.float32(1e-4), np.float32(1e-4) * np.float32(1.2))
    assert rate[2] in (np.float32(1e-3) * np.float32(0.8), np.float32(1.1e-3))
    assert rate[4] == np.float32(1.1e-3)
    assert rate[1::2].tolist() == RATES[1::2].tolist()
    # 1.2·0.99 is more than 1, the largest that there is.
    assert set(perturbed.config.gamma[::2].tolist()) <= {
        1.0,
        float(np.float32(0.99) * np.float32(0.8)),
    }
    assert perturbed.config.clip_eps.tolist() == states.config.clip_eps.tolist()


@pytest.mark.parametrize(
    "fields, message",
    [
        ({"gamma": (0.5, 1.5)}, "gamma=.*: must be two numbers, ascending, at least 0 and at most"),
        ({"total_steps": None}, "total_steps=int: must be a traced field of floats"),
        ({"num_envs": None}, "num_envs=int: must be a traced field of floats"),
        ({"speed": None}, "fields=speed: is no hyperparameter"),
    ],
)
def test_what_cannot_be_perturbed_is_refused(fields, message, states):
    with pytest.raises(ConfigError, match=message):
        population.explore(jax.random.key(2), states, jnp.arange(SIZE), fields)


def test_halving_keeps_the_best_as_they_are(states, assert_bitwise_equal):
    scores = jnp.array([3.0, jnp.nan, 5.0, 1.0, 4.0])
    kept, survivors = jax.jit(population.keep_best, static_argnums=2)(states, scores, 2)
    assert survivors.tolist() == [2, 4]
    assert_bitwise_equal(kept, population.members(states, jnp.array([2, 4])))
    with pytest.raises(ConfigError, match="num=6: must be between 1 and the population's 5"):
        population.keep_best(states, scores, 6)


SETTINGS = algos.grid(learning_rate=[1e-3, 1e-2], clip_eps=[0.1, 0.3])


@pytest.mark.slow
def test_a_sweep_in_chunks_is_that_in_one_and_each_member_a_run_of_its_own():
    keys = jax.random.split(jax.random.key(0), 2)
    run = {"num_iterations": 2}
    whole = algos.sweep(PPO, jax.random.clone(keys), SETTINGS, **run)
    assert whole.chunk == 8
    assert whole.history["losses/policy_loss"].shape == (8, 2)
    np.testing.assert_allclose(whole.configs.clip_eps, [0.1, 0.1, 0.3, 0.3] * 2)
    member = jax.jit(algos.train, static_argnums=0, static_argnames="num_iterations")
    config = CONFIG.replace(learning_rate=1e-2, clip_eps=0.1).as_leaves()
    state, history = member(PPO, jax.random.clone(keys)[1], config=config, **run)
    # Setting 2 is (1e-2, 0.1), so setting 2 with key 1 is member 5.
    close = {"rtol": 2e-4, "atol": 2e-5}
    for name, x in history.items():
        np.testing.assert_allclose(whole.history[name][5], x, **close, err_msg=name)
    jax.tree.map(
        lambda x, y: np.testing.assert_allclose(x[5], y, **close),
        whole.states.learner.params,
        state.learner.params,
    )
    # In threes the last chunk is filled up by one.
    limited = algos.sweep(
        PPO,
        jax.random.clone(keys),
        SETTINGS,
        **run,
        max_chunk=3,
        keep=lambda state: state.learner.params,
    )
    assert limited.chunk == 3
    jax.tree.map(
        lambda x, y: np.testing.assert_allclose(x, y, **close),
        (limited.states, limited.history),
        (whole.states.learner.params, whole.history),
    )


def test_chunks_leave_room_for_what_is_kept():
    # All fit: 8·10 = 80.
    assert largest_chunk(each=10, kept=1, size=8, memory_bytes=80) == 8
    # (79 − 2·8·1)/10 = 6.3.
    assert largest_chunk(each=10, kept=1, size=8, memory_bytes=79) == 6
    assert largest_chunk(each=10, kept=1, size=8, memory_bytes=25) == 0
    assert largest_chunk(each=10, kept=1, size=8, memory_bytes=None) == 8


def test_a_sweep_that_does_not_fit_is_cut_or_refused_before_anything_runs():
    keys = jax.random.split(jax.random.key(0), 1)
    with pytest.raises(ConfigError, match=r"the population=4: must be smaller: a member takes"):
        algos.sweep(PPO, keys, SETTINGS, num_iterations=1, memory_bytes=1000)


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"num_steps": [8, 16]}, "is static, each of its values is a program of its own"),
        ({"speed": [1.0]}, "speed=swept: is no hyperparameter"),
        ({"gamma": [0.9, 1.5]}, "gamma=1.5: must be a number"),
        ({"gamma": [0.9, 0.99], "clip_eps": [0.1]}, "must have the shape of gamma"),
    ],
)
def test_bad_sweeps_are_refused(settings, message):
    keys = jax.random.split(jax.random.key(0), 1)
    settings = {name: np.array(each) for name, each in settings.items()}
    with pytest.raises(ConfigError, match=message):
        algos.sweep(PPO, keys, settings, num_iterations=1)
    with pytest.raises(ValueError, match="must be typed keys"):
        algos.sweep(PPO, jax.random.key(0), SETTINGS, num_iterations=1)


def test_static_values_are_programs_of_their_own():
    settings = algos.grid(num_steps=[8, 16], gamma=[0.9, 0.99])
    first, second = algos.static_combinations(CONFIG, settings)
    assert (first[0].num_steps, second[0].num_steps) == (8, 16)
    assert second[0].hidden_sizes == CONFIG.hidden_sizes
    np.testing.assert_array_equal(second[1]["gamma"], [0.9, 0.99])
    np.testing.assert_array_equal(second[2], [2, 3])
    [(config, columns, places)] = algos.static_combinations(CONFIG, algos.grid(gamma=[0.9]))
    assert config == CONFIG and list(columns) == ["gamma"] and places.tolist() == [0]
    with pytest.raises(ConfigError, match="speed=swept: is no hyperparameter"):
        list(algos.static_combinations(CONFIG, {"speed": [1]}))


OFF_POLICY = {"num_envs": 4, "learning_starts": 100, "buffer_size": 4000, "batch_size": 32}
MEASURED = {
    "ppo": (ppo, "gymnax/CartPole-v1", {"num_envs": 16, "num_steps": 32, "hidden_sizes": (32, 32)}),
    "ppo of 8 units": (ppo, "gymnax/CartPole-v1", {"num_envs": 4, "hidden_sizes": (8,)}),
    "td3": (td3, "gymnax/Pendulum-v1", OFF_POLICY),
    "sac": (sac, "gymnax/Pendulum-v1", OFF_POLICY),
    "staq": (staq, "gymnax/CartPole-v1", {}),
}


@pytest.mark.slow
@pytest.mark.parametrize(
    "name, size",
    [("ppo", 4), ("ppo", 64), ("ppo of 8 units", 4), ("sac", 16), ("staq", 4), ("td3", 4)],
)
def test_the_estimate_of_memory_is_the_truth_within_a_factor_of_one_and_a_half(name, size):
    module, env, changes = MEASURED[name]
    algorithm = module.make(envs.make(env), module.Config(**changes))

    def run(key):
        return algos.train(algorithm, key, num_iterations=2)

    keys = jax.random.split(jax.random.key(0), size)
    truth = device_memory.program_bytes(jax.jit(jax.vmap(run)).lower(keys).compile())
    # What a sweep does: one member's, times their number.
    estimate = size * device_memory.peak_bytes(jax.vmap(run), keys[:1])
    assert truth / 1.5 < estimate < truth * 1.5


def test_what_an_equation_reads_last_stays_for_another():
    def chain(x):
        for _ in range(4):
            x = jnp.sin(x)
        return x

    # Of four arrays of 4000 bytes input and output count; of the three between, two are still to
    # be used at a time, and the one before stays.
    assert device_memory.peak_bytes(chain, jnp.zeros(1000)) == (2 + 3) * 4000.0
