"""GoRL: the limit in which it is PPO, what happens between stages and nowhere else, exact resume
across them, and that nothing is written by a fit that fails.
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from onejit import algos, envs
from onejit.algos import gorl, ppo
from onejit.algos.core import flow_fitting, population
from onejit.algos.core.config import ConfigError
from onejit.algos.core.generative import Field, euler
from onejit.algos.core.networks import MLP
from onejit.envs.wrapper import Wrapper

pytestmark = pytest.mark.slow

ENV = envs.make("probe/observation", continuous=True)
SIZES = {
    "num_envs": 4,
    "num_steps": 8,
    "num_minibatches": 2,
    "update_epochs": 2,
    "hidden_sizes": (8,),
    "learning_rate": 1e-2,
}
FITS = {
    "num_stages": 2,
    "stage_iterations": 2,
    "kept_rollouts": 2,
    "decoder_hidden_sizes": (8,),
    "flow_steps": 4,
    "fit_steps": 20,
    "fit_checks": 2,
    "fit_batch": 16,
}
CONFIG = gorl.Config(**SIZES, **FITS)


@pytest.fixture(scope="module")
def programs():
    algorithm = gorl.make(ENV, CONFIG)
    return algorithm, jax.jit(algorithm.init), jax.jit(algorithm.step)


def states_of(algorithm, iterations):
    step = jax.jit(algorithm.step)
    found = [jax.jit(algorithm.init)(jax.random.key(0))]
    for _ in range(iterations):
        found.append(step(found[-1])[0])
    return found


def test_with_one_stage_it_is_ppo_on_what_goes_into_a_tanh():
    """The rollouts are the same, and what is learned is to rounding."""
    one = {"num_stages": 1, "latent_coef": 0.0}
    mine = states_of(gorl.make(ENV, CONFIG.replace(**one)), 3)[-1]
    config = ppo.Config(**SIZES, policy="tanh_gaussian")
    theirs = states_of(ppo.make(ENV, config), 3)[-1]
    close = partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-5)
    jax.tree.map(close, mine.learner.params, theirs.learner.params)
    np.testing.assert_array_equal(mine.collection.obs, theirs.collection.obs)
    np.testing.assert_array_equal(jax.random.key_data(mine.key), jax.random.key_data(theirs.key))


def leaves(state):
    return np.concatenate([np.ravel(x) for x in jax.tree.leaves(state.behaviour.decoder)])


def test_a_stage_begins_with_a_new_decoder_and_encoder_and_the_last_has_no_end(programs):
    _, init, step = programs
    states = [init(jax.random.key(0))]
    for _ in range(5):
        states.append(step(states[-1])[0])
    first, _, end, third, _, last = map(leaves, states)
    assert not first.any() and not end.any()  # the identity
    assert np.abs(third).max() > 0.01
    np.testing.assert_array_equal(last, third)  # no stage begins after 4 iterations
    # The third iteration begins with a network of its own and Adam's state of none: after its four
    # gradient steps of 0.01 a bias, which begins at 0, is at most 0.04 away.
    adam = [x for x in jax.tree.leaves(states[3].learner.opt_state) if x.dtype == jnp.int32]
    assert [int(x) for x in adam] == [4] * len(adam) and adam
    bias = states[3].learner.params["value"]["params"]["Dense_0"]["bias"]
    assert np.abs(bias).max() <= 0.0401
    # The observations that are kept are those of the last two rollouts, oldest first.
    kept, before = (np.asarray(s.behaviour.action) for s in (states[5], states[4]))
    np.testing.assert_array_equal(kept[0], before[1])
    assert np.abs(kept[1] - before[1]).max() > 0.0


def test_resume_is_exact_across_the_border_of_a_stage(programs, assert_resume_is_exact):
    assert_resume_is_exact(*programs, 1)


def test_seeds_side_by_side_are_seeds_alone(programs):
    algorithm = programs[0]

    def run(key):
        return algos.train(algorithm, key, num_iterations=3, log_every=3)[0]

    keys = jax.random.split(jax.random.key(0), 2)
    together = jax.jit(jax.vmap(run))(keys)
    alone = jax.jit(run)(jax.random.clone(keys)[1])
    close = partial(np.testing.assert_allclose, rtol=1e-3, atol=1e-4)
    second = jax.tree.map(lambda x: x[1], (together.learner.params, together.behaviour.decoder))
    jax.tree.map(close, second, (alone.learner.params, alone.behaviour.decoder))


def test_a_fit_to_what_is_not_finite_writes_nothing(programs, assert_bitwise_equal):
    _, init, step = programs
    state = init(jax.random.key(0))
    for _ in range(2):
        state, _ = step(state)
    broken = state.behaviour._replace(action=state.behaviour.action * jnp.nan)
    after, _ = step(state._replace(behaviour=broken, key=jax.random.clone(state.key)))
    assert algos.describe_fault(after.learner.fault) == "non-finite parameter in iteration 2"
    assert_bitwise_equal(after.learner.params, state.learner.params)
    assert_bitwise_equal(after.behaviour.decoder, state.behaviour.decoder)


class Poisoned(Wrapper):
    """No reward is a number."""

    def step(self, key, state, action):
        state, result = super().step(key, state, action)
        return state, result._replace(reward=result.reward * jnp.nan)


def test_a_reward_that_is_none_is_named_with_its_place():
    after = states_of(gorl.make(Poisoned(ENV), CONFIG), 1)[-1]
    words = "non-finite reward in iteration 0, step 0 of the rollout, environment 0"
    assert algos.describe_fault(after.learner.fault) == words


def test_a_copy_in_a_population_has_the_decoder_too(programs, assert_bitwise_equal):
    _, init, step = programs
    states = jax.vmap(init)(jax.random.split(jax.random.key(0), 2))
    for _ in range(3):
        states, _ = jax.vmap(step)(states)
    copied, parents = population.exploit(jax.random.key(1), states, jnp.arange(2.0), fraction=0.5)
    assert parents.tolist() == [1, 1] and np.any(leaves(states))
    assert_bitwise_equal(*(population.members(copied.behaviour, i) for i in (0, 1)))
    assert_bitwise_equal(copied.collection, states.collection)


def test_the_learning_rate_of_a_stage_begins_anew():
    algorithm = gorl.make(ENV, CONFIG.replace(adaptive_lr=True, desired_kl=1e3, update_epochs=1))
    step = jax.jit(algorithm.step)
    state = states_of(algorithm, 2)[-1]
    low = state.learner._replace(learning_rate=jnp.float32(1e-5))
    after, _ = step(state._replace(learner=low))
    # From there on it is raised, since no divergence is near what is desired.
    assert after.learner.learning_rate >= np.float32(algorithm.config.learning_rate)


def test_networks_that_remember_are_refused():
    networks = ppo.make_networks(ENV, ppo.Config(**SIZES, memory="gru"))
    with pytest.raises(ConfigError, match="networks that remember: must not remember"):
        gorl.make(ENV, CONFIG, networks._replace(head=gorl.latent_head(ENV.action_space)))


def test_the_whole_training_lowers_for_tpu_and_cuda(programs):
    algorithm = programs[0]
    run = jax.jit(lambda key: algos.train(algorithm, key, num_iterations=2))
    lowered = run.trace(jax.random.key(0)).lower(lowering_platforms=("tpu", "cuda"))
    assert "stablehlo.while" in lowered.as_text()


def test_it_solves_the_probes_in_its_second_stage(jit_to_learn):
    """What a truncated episode bootstraps from is PPO's affair, and a probe of all of them."""
    env = envs.make("probe/all", continuous=True)
    config = gorl.Config(
        learning_rate=3e-3,
        gamma=0.9,
        num_envs=32,
        num_steps=16,
        hidden_sizes=(16,),
        total_steps=240 * 512,
        max_grad_norm=10.0,
        num_stages=2,
        stage_iterations=120,
        decoder_hidden_sizes=(32, 32),
        decoder_learning_rate=3e-3,
    )
    algorithm = gorl.make(env, config)
    run = jit_to_learn(lambda k: algos.train(algorithm, k, num_iterations=240, log_every=240)[0])
    state = run(jax.random.key(0))
    assert algos.describe_fault(state.learner.fault) is None
    observations = jnp.eye(env.observation_space.shape[0])
    action = algorithm.act(state, observations, jax.random.key(1), True)[:, 0] > 0
    best = env.solve(gamma=0.9)[1]
    for probe in ("action", "delay", "observation", "truncation", "termination"):
        place = env.first_state[probe]
        assert action[place] == best[place], probe


def test_a_flow_is_fitted_to_what_depends_on_observations():
    """±1 after the sign of the observation, of which a tenth is held out; none without rounds."""
    obs = jnp.tile(jnp.array([[1.0], [-1.0]]), (100, 1))
    field = Field(MLP((32,), "silu"), 1)
    options = {"steps_per_round": 150, "batch_size": 64, "learning_rate": 1e-2}
    fit = jax.jit(
        lambda rounds: flow_fitting.fit_flow(
            field, obs, obs, jax.random.key(0), num_rounds=rounds, **options
        )
    )
    params, untrained = fit(2), fit(0)
    noise = jax.random.normal(jax.random.key(1), (200, 1))

    def error(params):
        found = euler(partial(field.apply, params, obs), noise, 10)
        return np.abs(found - obs).mean()

    assert error(params) < 0.2 < error(untrained)


def test_an_average_over_stages_is_refused(programs):
    with pytest.raises(ConfigError, match="ema_decay=0.5: must be 0"):
        algos.averaged(programs[0], 0.5)


@pytest.mark.parametrize(
    "changes, words",
    [
        ({"kept_rollouts": 3}, "kept_rollouts=3: must be at most stage_iterations = 2"),
        ({"fit_checks": 3}, "fit_checks=3: must divide fit_steps = 20"),
        ({"staleness": 1}, "staleness=1: must be 0: encoder and decoder go together"),
        ({"memory": "gru"}, "memory=gru: must be 'none' for this algorithm"),
        ({"policy": "tanh_gaussian"}, "policy=tanh_gaussian: must be 'gaussian': encoder and"),
    ],
)
def test_what_does_not_go_together_is_refused(changes, words):
    with pytest.raises(ConfigError, match=words):
        gorl.make(ENV, CONFIG.replace(**changes))


def test_actions_are_continuous_and_observations_vectors():
    with pytest.raises(ConfigError, match="env.action_space"):
        gorl.make(envs.make("probe/observation"), CONFIG)
    env = Wrapper(ENV)
    env.observation_space = envs.Box(0.0, 1.0, (8, 8, 1))
    with pytest.raises(ConfigError, match=r"env.observation_space=\(8, 8, 1\): must be a vector"):
        CONFIG.validate(env)


def test_a_fit_takes_actions_by_their_advantage():
    """Advantages of mean 0 and standard deviation 1 as they are: with β = ½·ln 9 the shares are as
    9 to 1, 0.45, 0.05, 0.45 and 0.05, and their sums 0.45, 0.5, 0.95 and 1; of the places 0.125,
    0.375, 0.625 and 0.875 two are below 0.45 and two between 0.5 and 0.95.
    """
    rows = gorl.resample(jnp.array([1.0, -1.0, 1.0, -1.0]), 0.5 * np.log(9.0))
    np.testing.assert_array_equal(rows, [0, 0, 2, 2])
    # As published: each once.
    some = jax.random.normal(jax.random.key(0), (10_000,))
    np.testing.assert_array_equal(gorl.resample(some, 0.0), np.arange(10_000))
    # Equal ones too, whatever β is.
    np.testing.assert_array_equal(gorl.resample(jnp.ones(7), 3.0), np.arange(7))
