"""The offline loop, by TD3+BC: what a step is, seeds, resume, other data; and the others by their
limits.
"""

import itertools
import re
from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from onejit import algos, envs
from onejit.algos import (
    DatasetError,
    a2pr,
    bc,
    cdsa_lite,
    famo2o,
    flow_bc,
    iql,
    prdc,
    rebrac,
    td3_bc,
)
from onejit.algos.core import guard
from onejit.algos.core.collect import Transition
from onejit.algos.core.config import ConfigError
from onejit.algos.core.heads import Gaussian
from onejit.algos.off_policy import offline
from onejit.algos.off_policy.neighbours import nearest, pieces_of

pytestmark = pytest.mark.slow

ENV = envs.make("gymnax/Pendulum-v1")
SMALL = {
    "actor_hidden_sizes": (8,),
    "critic_hidden_sizes": (8,),
    "batch_size": 16,
    "num_updates": 4,
    "learning_rate": 1e-2,
}
MODULES = [bc, flow_bc, cdsa_lite, td3_bc, iql, rebrac, prdc, a2pr, famo2o]
OWN = {a2pr: {"vae_hidden_sizes": (8,)}}


def some_data(size=40, seed=0):
    """One record of points on the circle, which ends without an end; no two states are the same."""
    rng = np.random.default_rng(seed)
    angle, speed = rng.uniform(-3.0, 3.0, (2, size + 1))
    points = np.stack([np.cos(angle), np.sin(angle), speed], axis=-1).astype(np.float32)
    flags = np.zeros(size, bool)
    transitions = Transition(
        points[:-1],
        np.tanh(rng.normal(size=(size, 1))).astype(np.float32),
        rng.normal(size=size).astype(np.float32),
        flags,
        flags,
        points[1:],
    )
    spaces = {"observation_space": ENV.observation_space, "action_space": ENV.action_space}
    return algos.Dataset(transitions=transitions, **spaces)


DATA = some_data()


def made(module=td3_bc, data=DATA, **changes):
    return module.make(ENV, module.Config(**SMALL | OWN.get(module, {}) | changes), data=data)


def programs(algorithm):
    return algorithm, jax.jit(algorithm.init), jax.jit(algorithm.step)


TD3_BC = programs(made(data=DATA.replace(random_score=-10.0, expert_score=10.0)))


def test_a_step_is_its_updates_on_normalised_data_and_knows_no_episode():
    algorithm, init, step = TD3_BC
    assert algorithm.steps_per_iteration == 4 and algorithm.initial_steps == 0
    assert algorithm.scores == (-10.0, 10.0)
    state = init(jax.random.key(0))
    after, metrics = step(state)
    assert optax.tree.get(after.learner.opt_state["critic"], "count") == 4
    assert optax.tree.get(after.learner.opt_state["actor"], "count") == 2
    assert metrics["charts/episodes"] == 0.0 and np.isnan(metrics["charts/episodic_return"])
    assert "td_error" not in metrics and metrics["charts/fault"] == 0.0
    obs = DATA.transitions.obs
    for statistics in (state.learner.obs_statistics, after.learner.obs_statistics):
        np.testing.assert_allclose(statistics.mean, obs.mean(axis=0), rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(statistics.var, obs.var(axis=0), rtol=1e-4)
    # With other data it stops with a fault, and nothing has changed.
    other = state._replace(data=state.data + 1, key=jax.random.clone(state.key))
    faulty, metrics = step(other)
    assert (
        guard.describe(faulty.learner.fault) == "other data than the run began with in iteration 0"
    )
    jax.tree.map(np.testing.assert_array_equal, faulty.learner.params, state.learner.params)


def test_a_truncated_transition_is_bootstrapped_and_a_terminated_one_is_not():
    """γ = 0.9 where the episode goes on and where a time limit cut it, 0 where it terminated; and
    rewards are scaled by 2.
    """
    rows = jax.tree.map(lambda x: jnp.asarray(x[:3]), DATA.transitions)
    rows = rows._replace(
        reward=jnp.array([1.0, -2.0, 3.0]),
        truncated=jnp.array([False, True, False]),
        terminated=jnp.array([False, False, True]),
    )
    config = td3_bc.Config(gamma=0.9, reward_scale=2.0)
    batch = offline.batch_of(rows, (), config)
    np.testing.assert_allclose(batch.discount, [0.9, 0.9, 0.0], rtol=1e-6)
    np.testing.assert_array_equal(batch.reward, [2.0, -4.0, 6.0])
    np.testing.assert_array_equal(batch.next_obs, rows.next_obs)


def test_resume_is_exact(assert_resume_is_exact):
    assert_resume_is_exact(*TD3_BC, 2)


@pytest.mark.parametrize("module", MODULES)
def test_seeds_side_by_side_are_seeds_alone_and_resume_is_exact(module, assert_resume_is_exact):
    algorithm, init, step = programs(made(module))
    assert_resume_is_exact(algorithm, init, step, 1)
    keys = jax.random.split(jax.random.key(0), 2)
    together = jax.jit(jax.vmap(algorithm.init))(jax.random.clone(keys))
    together = jax.jit(jax.vmap(algorithm.step))(together)[0]
    alone = step(init(keys[1]))[0]
    second = jax.tree.map(lambda x: x[1], together.learner)
    close = partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-5)
    jax.tree.map(close, second.params, alone.learner.params)


def test_what_does_not_fit_is_refused():
    with pytest.raises(DatasetError, match="data=None: must be a Dataset"):
        made(data=None)
    with pytest.raises(DatasetError, match="the data are of another environment"):
        made(data=DATA.replace(action_space=envs.Box(-1.0, 1.0, (1,))))
    with pytest.raises(ConfigError, match="policy_delay=3: must divide num_updates = 4"):
        made(policy_delay=3)
    with pytest.raises(ConfigError, match="must be a Box: the policy is for continuous actions"):
        td3_bc.make(envs.make("gymnax/CartPole-v1"), td3_bc.Config(), data=DATA)
    with pytest.raises(ConfigError, match="must be a Box: the policy is for continuous actions"):
        famo2o.make_online(envs.make("gymnax/CartPole-v1"))
    with pytest.raises(DatasetError, match="no transition of the data has a next action"):
        made(rebrac, data=some_data(1))


class Choice(nn.Module):
    """A balance of one layer, which is called what no default network calls one."""

    @nn.compact
    def __call__(self, obs):
        mean = nn.Dense(1, name="mine")(obs)
        return Gaussian(mean, jnp.zeros_like(mean))


class Reconstruction(nn.Module):
    """An autoencoder of one layer, likewise."""

    @nn.compact
    def __call__(self, obs, action, noise):
        mean = nn.Dense(2, name="mine")(jnp.concatenate([obs, action, noise], axis=-1))
        return jnp.tanh(mean[..., :1]), mean, jnp.zeros_like(mean)


class ChoosyActor(nn.Module):
    """An actor that must be told of a choice, and so cannot be initialised without one."""

    @nn.compact
    def __call__(self, obs, raw):
        mean = nn.Dense(1)(jnp.concatenate([obs, raw[..., None]], axis=-1))
        return Gaussian(mean, jnp.zeros_like(mean))


@pytest.mark.parametrize(
    "module, part, network", [(a2pr, "vae", Reconstruction()), (famo2o, "balance", Choice())]
)
def test_own_networks_are_taken_in_all_their_parts(module, part, network):
    config = module.Config(**SMALL | OWN.get(module, {}))
    networks = module.make_networks(ENV, config)
    own = networks._replace(**{part: network})
    learner = jax.eval_shape(module.make(ENV, config, own, data=DATA).init, jax.random.key(0))
    assert list(learner.learner.params[part]["params"]) == ["mine"]
    with pytest.raises(ConfigError, match=f"networks.{part}=.*cannot be traced"):
        module.make(ENV, config, networks._replace(**{part: networks.critic}), data=DATA)
    lacking = td3_bc.make_networks(ENV, config)
    with pytest.raises(ConfigError, match=f"a Networks: must have actor, critic, value, {part}"):
        module.make(ENV, config, lacking, data=DATA)


def test_an_own_actor_of_famo2o_is_looked_at_with_a_choice_and_without():
    config = famo2o.Config(**SMALL)
    networks = famo2o.make_networks(ENV, config)
    with pytest.raises(ConfigError, match="networks.actor=.*: cannot be traced"):
        famo2o.make(ENV, config, networks._replace(actor=Choice()), data=DATA)
    with pytest.raises(ConfigError, match="missing 1 required positional argument: 'raw'"):
        famo2o.make(ENV, config, networks._replace(actor=ChoosyActor()), data=DATA)


def test_the_nearest_is_that_of_a_search_through_all():
    """With 4 keys at once and 10 keys the last piece is padded; with β = 0 no state counts."""
    rng = np.random.default_rng(0)
    queries, keys = rng.normal(size=(7, 3)), rng.normal(size=(10, 3))
    (obs, action), (data_obs, data_action) = (
        (jnp.asarray(x[:, :2], jnp.float32), jnp.asarray(x[:, 2:], jnp.float32))
        for x in (queries, keys)
    )
    pieces = pieces_of(data_obs, data_action, chunk_size=4)
    assert pieces.keys.shape == (3, 4, 3)
    for beta in (0.0, 0.5, 3.0):
        weighted = (queries[:, None] - keys[None]) * [beta, beta, 1.0]
        distance2 = np.square(weighted).sum(axis=-1)
        found = jax.jit(nearest)(pieces, obs, action, beta=beta)
        np.testing.assert_array_equal(found.index, distance2.argmin(axis=1))
        np.testing.assert_array_equal(found.action, data_action[found.index])
        np.testing.assert_allclose(found.distance2, distance2.min(axis=1), rtol=1e-4, atol=1e-7)


def test_seeds_of_prdc_share_the_data_in_which_they_look():
    """Nothing in the program of two seeds and betas has the data's 400 rows, or 25 pieces of 16,
    twice.
    """
    algorithm = made(prdc, some_data(400), chunk_size=16)
    keys, beta = jax.random.split(jax.random.key(0), 2), jnp.array([1.0, 2.0])
    config = prdc.Config(**SMALL, chunk_size=16)

    def init(key, beta):
        return algorithm.init(key, config.replace(beta=beta))

    states = jax.eval_shape(jax.vmap(init), keys, beta)
    program = jax.jit(jax.vmap(algorithm.step)).lower(states).as_text()
    assert "tensor<2x16x" in program and not re.search(r"tensor<2x(400|25x16)x", program)


def test_cloning_has_an_average_of_its_own_and_takes_no_other():
    algorithm = algos.averaged(made(), 0.5)
    state = jax.eval_shape(algorithm.init, jax.random.key(0))
    assert jax.tree.structure(state.average.params) == jax.tree.structure(state.learner.params)
    with pytest.raises(ConfigError, match="ema_decay=0.5: must be 0: the policy is not made of"):
        algos.averaged(made(bc), 0.5)


def test_an_average_of_the_parameters_acts():
    """With a decay of 1 it is the mean of those from before and after the step."""
    _, init, step = TD3_BC
    before = init(jax.random.key(0))
    after = step(before)[0]
    algorithm, init, step = programs(algos.averaged(made(), 1.0))
    state = step(init(jax.random.key(0)))[0]
    mean = jax.tree.map(lambda a, b: 0.5 * (a + b), before.learner.params, after.learner.params)
    close = partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-5)
    jax.tree.map(close, state.average.params, mean)
    obs = jnp.asarray(DATA.transitions.obs[:5])
    acting = after._replace(learner=after.learner._replace(params=mean))
    action = algorithm.act(state, obs, jax.random.key(1), True)
    close(action, TD3_BC[0].act(acting, obs, jax.random.key(1), True))
    assert np.abs(action - TD3_BC[0].act(after, obs, jax.random.key(1), True)).max() > 1e-3


def learned(module, **changes):
    """The learner after one step."""
    _, init, step = programs(made(module, **changes)) if changes else TD3_BC
    state, metrics = step(init(jax.random.key(1)))
    return state.learner, metrics


def test_prdc_with_a_large_beta_is_td3_bc_where_states_are_unique():
    expected, _ = learned(td3_bc)
    actual, metrics = learned(prdc, beta=1e3, chunk_size=16)
    close = partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-5)
    jax.tree.map(close, actual.params, expected.params)
    assert metrics["losses/distance"] > 0.01  # of the actions, which are others


def test_prdc_without_states_goes_to_the_nearest_action_of_all():
    _, metrics = learned(prdc, beta=0.0)
    assert metrics["losses/distance"] < 0.05


def test_without_a_penalty_in_their_target_rebracs_critics_are_those_of_td3_bc():
    """Until the actor's first update, which differs and is the last of this step; with a penalty
    they are others.
    """
    same = {"normalize_obs": True, "layer_norm": False, "policy_delay": 4}
    sizes = {"actor_hidden_sizes": (8,), "critic_hidden_sizes": (8,)}
    # All rows have a next action, so that both draw the same ones.
    steps = DATA.transitions
    ended = DATA.replace(transitions=steps._replace(terminated=np.arange(40) == 39))
    expected, _ = learned(td3_bc, data=ended, **same)
    actual, _ = learned(rebrac, data=ended, critic_beta=0.0, **same | sizes)
    close = partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-5)
    jax.tree.map(close, actual.params["critic"], expected.params["critic"])
    other, _ = learned(rebrac, data=ended, critic_beta=5.0, **same | sizes)
    kernel = jax.tree.leaves(other.params["critic"])[1]
    assert np.abs(kernel - jax.tree.leaves(expected.params["critic"])[1]).max() > 1e-3


def test_famo2o_with_one_coefficient_is_iql():
    """Its actor sees a constant code then, as the actor that IQL is given here does."""
    config = famo2o.Config(**SMALL, low=3.0, high=3.0)
    family = famo2o.make_networks(ENV, config)
    networks = iql.Networks(*family[:3])
    _, init, step = programs(iql.make(ENV, iql.Config(**SMALL), networks, data=DATA))
    _, family_init, family_step = programs(famo2o.make(ENV, config, data=DATA))
    start, family_start = init(jax.random.key(1)), family_init(jax.random.key(1))
    learner = family_start.learner
    learner = learner._replace(
        params=learner.params | start.learner.params, targets=start.learner.targets
    )
    actual = family_step(family_start._replace(learner=learner))[0].learner
    expected = step(start)[0].learner
    close = partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-5)
    for name in ("actor", "critic", "value"):
        jax.tree.map(close, actual.params[name], expected.params[name])


@pytest.mark.parametrize("module", [iql, a2pr, famo2o])
def test_no_two_networks_start_alike(module):
    """All layers behind observations have one shape here; critics see actions too."""
    params = jax.jit(made(module).init)(jax.random.key(0)).learner.params
    leaves = [np.asarray(x) for x in jax.tree.leaves(params) if x.ndim > 1]
    pairs = [(a, b) for a, b in itertools.combinations(leaves, 2) if a.shape == b.shape]
    assert pairs and not any((a == b).any() for a, b in pairs)


def test_famo2o_goes_on_online_from_what_it_learned_from_data():
    config = famo2o.Config(**SMALL)
    before = jax.jit(famo2o.make(ENV, config, data=DATA).init)(jax.random.key(0)).learner
    sizes = {name: SMALL[name] for name in SMALL if name != "num_updates"}
    online = famo2o.OnlineConfig(**sizes, normalize_obs=True, num_envs=2, buffer_size=200)
    algorithm = famo2o.make_online(ENV, online, data=DATA)
    learner = before._replace(iteration=jnp.int32(0))
    state = jax.jit(algorithm.init)(jax.random.key(1))._replace(learner=learner)
    state, metrics = jax.jit(algorithm.step)(state)
    assert int(state.replay.size) == 21  # 40 transitions and a step of two environments
    assert metrics["charts/fault"] == 0.0 and np.isfinite(metrics["losses/balance_loss"])


def test_the_average_of_cloning_is_a_mean_of_iterates_or_the_last_one():
    """Iterates 0 and then 3, 6, 9: with power 1 and no floor their running mean, from start on."""

    def run(**changes):
        config = bc.Config(**changes)
        fresh = {"actor": {"w": jnp.zeros(()), "seen": jnp.int32(0)}, "count": jnp.int32(0)}
        learner = bc.Learner({}, fresh, {}, (), jnp.int32(0), guard.init())
        found = []
        for number in (3, 6, 9):
            actor = {"w": jnp.float32(number), "seen": jnp.int32(number)}
            learner = bc.update_average(learner._replace(params={"actor": actor}), config)
            found.append(float(learner.targets["actor"]["w"]))
            assert learner.targets["actor"]["seen"] == number  # a counter is copied
        return found

    assert run(ema_power=1.0, ema_floor=0.0) == pytest.approx([3.0, 4.5, 6.0])
    assert run() == [3.0, 6.0, 9.0]
    # From the second on: 6, and then half of both.
    assert run(ema_power=1.0, ema_floor=0.0, ema_start=1) == pytest.approx([3.0, 6.0, 7.5])


@pytest.mark.parametrize("module", MODULES)
def test_what_the_data_do_is_learned(module, jit_to_learn):
    """The probe pays for the action that its observation says; the data act at random and right in
    three of four, so cloning is right too, and all are close to what they pay at best.
    """
    env = envs.make("probe/observation", continuous=True)
    data = algos.dataset.record_random(env, jax.random.key(0), num_steps=2_000)
    steps = data.transitions
    keep = (steps.reward > 0) | (np.arange(len(data)) % 3 == 0)
    data = data.replace(transitions=jax.tree.map(lambda x: x[keep], steps))
    changes = {"num_updates": 100, "batch_size": 64}
    config = module.Config(**SMALL | OWN.get(module, {}) | changes)
    algorithm = module.make(env, config, data=data)
    evaluate = algos.evaluator(algorithm, num_episodes=64)

    def run(key):
        return algos.train(algorithm, key, num_iterations=20, log_every=20, evaluate=evaluate)[1]

    history = jit_to_learn(run)(jax.random.key(0))
    assert history["eval/episodic_return"][-1] > 0.7
