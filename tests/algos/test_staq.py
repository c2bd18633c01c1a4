"""StaQ: it solves the probes, its cached logits are those of the whole stack, it resumes and
compiles as a whole.
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from onejit import algos, envs
from onejit.algos import staq
from onejit.algos.core import guard
from onejit.algos.core.config import ConfigError
from onejit.algos.off_policy import q_learner, q_stack

SMALL = staq.Config(
    num_envs=4,
    num_steps=4,
    memory=3,
    buffer_size=4 * 22,  # writes of four rows straddle its end
    learning_starts=16,
    batch_size=8,
    hidden_sizes=(8,),
    total_steps=16 * 20,
    anneal_fraction=0.25,
)
PROBE_CONFIG = staq.Config(
    gamma=0.9,
    learning_rate=2e-3,
    kl_weight=2.0,
    entropy_start=1.0,
    entropy_end=0.05,
    reward_scale=1.0,
    memory=30,
    num_envs=16,
    num_steps=16,
    buffer_size=8192,
    batch_size=128,
    hidden_sizes=(32,),
    target_interval=50,
    total_steps=256 * 120,
)
# The states of each probe, counted from its first, in which the two actions differ and which are
# visited.
DECISIONS = {
    "action": [0],
    "delay": [0],
    "observation": [0, 1],
    "truncation": [0],
    "termination": [0],
}


@pytest.fixture(scope="module")
def small():
    """The algorithm, its network, and its init and step, compiled once."""
    algorithm = staq.make(envs.make("gymnax/CartPole-v1"), SMALL)
    init = jax.jit(algorithm.init)
    step = jax.jit(algorithm.step).lower(jax.eval_shape(init, jax.random.key(0))).compile()
    return algorithm, staq.make_networks(algorithm.env, SMALL), init, step


def trained(jit):
    env = envs.make("probe/all")
    algorithm = staq.make(env, PROBE_CONFIG)
    run = jit(lambda key: algos.train(algorithm, key, num_iterations=120, log_every=120)[0])
    state = run(jax.random.key(0))
    assert guard.describe(state.learner.fault) is None
    return env, algorithm, state


# That the probe of truncation fails where truncation is wrong is shown in test_off_policy, with the
# same replay.
def test_solves_the_probes_and_its_values_are_right(jit_to_learn):
    env, algorithm, state = trained(jit_to_learn)
    observations = jnp.eye(env.observation_space.shape[0])
    action = np.asarray(algorithm.act(state, observations, jax.random.key(1), True))
    values, best_action = env.solve(0.9)
    for probe, states in DECISIONS.items():
        places = env.first_state[probe] + np.array(states)
        np.testing.assert_array_equal(
            action[places], best_action[places], err_msg=f"fails probe/{probe}"
        )
    networks = staq.make_networks(env, PROBE_CONFIG)
    q = q_stack.mean_q(networks, state.learner.params, observations)
    visited = np.ones(len(values), bool)
    visited[[env.first_state["delay"] + 1, env.first_state["termination"] + 2]] = False
    # the entropy weight is 0.05/log 2 at the end, and adds a little to the values
    np.testing.assert_allclose(
        np.asarray(q).max(axis=1)[visited], values[visited], rtol=0.05, atol=0.3
    )


def expected_cache(before, after, networks):
    """The logits of the policy of a step at all successors in the replay, by the whole stack."""
    weights = staq.mirror_descent(before.learner.iteration, 2, after.config)
    obs = after.replay.rows.next_obs
    return q_stack.logits(before.learner.stack, weights, obs, networks)


def test_cached_logits_are_those_of_the_whole_stack(small, monkeypatch):
    """While the entropy weight is annealed (5 iterations), after, and after the stack and the
    replay have wrapped.
    """
    algorithm, networks, init, _ = small
    monkeypatch.setattr(q_stack, "_BLOCK", 2)  # of 3 Q-functions: a remainder
    # 10 of 88 entries at once by the whole stack: a remainder.
    monkeypatch.setattr(q_stack, "_CHUNK", 4 * 10)
    step = jax.jit(algorithm.step)
    whole_stack = jax.jit(lambda before, after: expected_cache(before, after, networks))
    state = init(jax.random.key(0))
    coefs = []
    for _ in range(12):
        before = state
        state, metrics = step(state)
        size = int(state.replay.size)
        expected = np.asarray(whole_stack(before, state))[:size]
        np.testing.assert_allclose(
            np.asarray(state.cache.logits)[:size], expected, rtol=1e-4, atol=1e-4
        )
        coefs.append(float(metrics["charts/entropy_coef"]))
    assert np.abs(expected).max() > 1e-3
    assert size == 22
    assert len(set(coefs)) == 6  # annealed in iterations 0 to 4, then constant
    assert coefs[-1] == pytest.approx(0.4 / np.log(2))

    # The recursion sees the newest and the outgoing Q-function only: others may be anything.
    newest = (state.learner.stack.pushed - 1) % 3
    spoilt = jax.tree.map(
        lambda x: jnp.where((jnp.arange(3) == newest).reshape(3, *[1] * (x.ndim - 1)), x, 1e3),
        state.learner.stack.params,
    )
    weights = staq.mirror_descent(state.learner.iteration, 2, state.config)
    obs = state.replay.rows.next_obs
    one, other = (
        q_stack.refresh(
            state.cache, state.learner.stack._replace(params=params), weights, obs, 22, networks
        ).logits
        for params in (state.learner.stack.params, spoilt)
    )
    np.testing.assert_array_equal(one, other)

    # Another weight of the divergence makes another policy of the same stack: the cache is made
    # anew.
    before = state._replace(config=state.config.replace(kl_weight=jnp.float32(5.0)))
    state, _ = step(before)
    expected = whole_stack(before, state)
    np.testing.assert_allclose(state.cache.logits, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.slow
def test_the_choice_between_recursion_and_whole_stack_stays_one_under_vmap(small):
    algorithm, _, _, _ = small
    states = jax.eval_shape(jax.vmap(algorithm.init), jax.random.split(jax.random.key(0), 2))
    assert "cond[" in str(jax.make_jaxpr(jax.vmap(algorithm.step))(states))


@pytest.mark.slow
def test_the_stack_is_skipped_where_empty_also_under_vmap_in_vmap(small):
    _, networks, init, _ = small
    stack = init(jax.random.key(0)).learner.stack
    stacks = jax.tree.map(lambda x: jnp.broadcast_to(x, (2, 3, *x.shape)), stack)
    weights = q_stack.Weights(jnp.float32(0.1), jnp.float32(0.5))

    def logits(stack):
        return q_stack.logits(stack, weights, jnp.ones(4), networks)

    assert "cond[" in str(jax.make_jaxpr(jax.vmap(jax.vmap(logits)))(stacks))


def test_exactly_memory_networks_count(small):
    _, networks, init, step = small
    state = init(jax.random.key(0))
    history = []
    for _ in range(8):
        state, _ = step(state)
        history.append(state.learner.params)
    assert {leaf.shape[:2] for leaf in jax.tree.leaves(state.learner.stack.params)} == {(3, 2)}
    obs = jax.random.normal(jax.random.key(1), (5, 4))
    eta, beta = (float(x) for x in staq.mirror_descent(state.learner.iteration, 2, state.config))
    q = [np.asarray(q_stack.mean_q(networks, params, obs), float) for params in history[:-4:-1]]
    expected = sum(eta * beta**i / (1 - beta**3) * each for i, each in enumerate(q))
    actual = staq.policy_logits(
        state.learner, obs, networks=networks, num_actions=2, config=state.config
    )
    np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-5)


def test_the_first_policy_is_uniform(small):
    algorithm, networks, init, _ = small
    state = init(jax.random.key(0))
    obs = jax.random.normal(jax.random.key(1), (5, 4))
    options = {"networks": networks, "num_actions": 2, "config": state.config}
    assert not np.any(staq.policy_logits(state.learner, obs, **options))
    actions = algorithm.act(state, jnp.zeros((2000, 4)), jax.random.key(2), False)
    assert abs(float(actions.mean()) - 0.5) < 0.05


def test_the_target_follows_at_its_interval(small):
    """Every second gradient step here: by a quarter of the way, or by all of it."""
    _, networks, init, _ = small
    rng = np.random.default_rng(0)
    before = init(jax.random.key(0)).learner
    obs, action = rng.normal(size=(8, 4)).astype(np.float32), rng.integers(2, size=8)
    batch = staq.Batch(
        obs, action, np.ones(8, np.float32), np.full(8, 0.9, np.float32), obs, np.zeros((8, 2))
    )
    for tau in (0.25, 1.0):
        config = SMALL.replace(tau=tau, target_interval=2)
        update = jax.jit(partial(staq.update, networks=networks, config=config))
        first, _ = update(before, batch)
        second, _ = update(first, batch)
        expected = jax.tree.map(
            lambda new, old, tau=tau: tau * new + (1.0 - tau) * old, second.params, before.targets
        )
        jax.tree.map(np.testing.assert_array_equal, first.targets, before.targets)
        jax.tree.map(
            lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-6, atol=1e-7),
            second.targets,
            expected,
        )


def test_epsilon_is_how_often_actions_are_random(small):
    """With a stack that wants action 1 alone: no other without ε, both with ε = 1, also of
    `act`.
    """
    algorithm, _, init, step = small
    state = init(jax.random.key(0))
    sure = jax.tree.map(
        lambda x: (
            jnp.zeros_like(x).at[..., 1].set(1e4) if x.shape[1:] == (2,) else jnp.zeros_like(x)
        ),
        state.learner.params,
    )
    learner = state.learner._replace(stack=q_stack.push(state.learner.stack, sure))
    for epsilon, expected in ((0.0, {1}), (1.0, {0, 1})):
        config = state.config.replace(epsilon=jnp.float32(epsilon))
        after, _ = step(state._replace(config=config, learner=learner))
        old, new = int(state.replay.size), int(after.replay.size)
        assert set(np.asarray(after.replay.rows.action)[old:new].ravel().tolist()) == expected
        action = algorithm.act(
            after._replace(learner=learner), jnp.zeros((4, 16, 4)), jax.random.key(1), False
        )
        assert action.shape == (4, 16)
        assert set(np.asarray(action).ravel().tolist()) == expected


def test_resume_is_exact_with_stack_and_replay_included(small, assert_resume_is_exact):
    algorithm, _, init, step = small
    # The annealing ends with the fifth, and the stack holds three.
    assert_resume_is_exact(algorithm, init, step, 7)


@pytest.mark.slow
def test_vmapped_seeds_equal_single_runs():
    algorithm = staq.make(envs.make("probe/delay"), SMALL)

    def run(key):
        return algos.train(algorithm, key, num_iterations=8)[0].learner.stack.params

    keys = jax.random.split(jax.random.key(0), 2)
    many, single = jax.jit(jax.vmap(run))(keys), jax.jit(run)
    for i in range(2):
        one = single(jax.random.clone(keys)[i])
        jax.tree.map(
            lambda a, b, i=i: np.testing.assert_allclose(a[i], b, rtol=2e-4, atol=2e-5), many, one
        )
    assert max(float(jnp.abs(leaf[0] - leaf[1]).max()) for leaf in jax.tree.leaves(many)) > 0.1


@pytest.mark.parametrize(
    "env_id",
    ["gymnax/Breakout-MinAtar", pytest.param("brax/inverted_pendulum", marks=pytest.mark.slow)],
)
def test_the_whole_training_lowers_for_tpu_and_cuda(env_id):
    algorithm = staq.make(envs.make(env_id), SMALL.replace(memory=300))
    run = jax.jit(
        lambda key: algos.train(
            algorithm, key, num_iterations=2, evaluate=algos.evaluator(algorithm)
        )
    )
    lowered = run.trace(jax.random.key(0)).lower(lowering_platforms=("tpu", "cuda"))
    assert "stablehlo.while" in lowered.as_text()


@pytest.mark.slow
def test_a_stack_of_300_runs():
    algorithm = staq.make(envs.make("gymnax/CartPole-v1"), SMALL.replace(memory=300))
    # The config is a constant of this program.
    state, history = jax.jit(lambda key: algos.train(algorithm, key, num_iterations=3))(
        jax.random.key(0)
    )
    assert np.all(np.isfinite(history["losses/critic_loss"]))
    assert guard.describe(state.learner.fault) is None
    assert q_stack.size(state.learner.stack) == 300


@pytest.mark.parametrize(
    "field, value, allowed",
    [
        ("memory", 0, "at least 1"),
        ("memory", 10**9, "the stack of Q-functions would take"),
        ("buffer_size", 8, "must hold an iteration, num_envs·num_steps = 16"),
        ("epsilon", 1.5, "at most 1"),
        ("kl_weight", -1.0, "at least 0"),
        ("num_critics", 0, "at least 1"),
        ("entropy_end", 0.0, "above 0"),
    ],
)
def test_invalid_values_are_refused(field, value, allowed):
    with pytest.raises(ConfigError, match=allowed) as caught:
        staq.make(envs.make("gymnax/CartPole-v1"), SMALL.replace(**{field: value}))
    assert caught.value.field == field


def test_a_grid_that_is_too_fine_is_refused():
    with pytest.raises(ConfigError, match="are too many"):
        staq.make(envs.make("brax/humanoid"), SMALL.replace(bins=5))
    with pytest.raises(ConfigError, match="logits of 131,072 actions in the replay would take"):
        staq.make(envs.make("brax/humanoid"), SMALL.replace(buffer_size=10**6))


def test_a_bad_transition_spoils_nothing(small, assert_bitwise_equal):
    algorithm, networks, init, step = small
    state, _ = step(init(jax.random.key(0)))
    batch = q_learner.sample(state.replay, state.cache.logits, jax.random.key(1), state.config)
    bad = batch._replace(reward=batch.reward.at[0].set(jnp.inf))
    update = jax.jit(partial(staq.update, networks=networks, config=state.config))
    after, _ = update(state.learner, bad)
    assert guard.describe(after.fault) == "non-finite loss in iteration 1"
    assert_bitwise_equal(after._replace(fault=state.learner.fault), state.learner)
    rewards = state.replay.rows.reward
    replay = state.replay._replace(
        rows=state.replay.rows._replace(reward=jnp.full_like(rewards, jnp.nan))
    )
    spoilt, _ = step(state._replace(replay=replay))
    assert guard.describe(spoilt.learner.fault) == "non-finite loss in iteration 1"
    for name in ("params", "targets", "opt_state"):
        assert_bitwise_equal(getattr(spoilt.learner, name), getattr(state.learner, name))
    assert_bitwise_equal(spoilt.learner.stack.params, state.learner.stack.params)


def test_what_overflows_in_the_cache_is_a_fault_at_once(small, assert_bitwise_equal):
    _, _, init, step = small
    state = init(jax.random.key(0))
    for _ in range(2):
        state, metrics = step(state)
    assert metrics["charts/fault"] == 0
    rows = state.replay.rows
    huge = rows._replace(next_obs=rows.next_obs.at[0, 0].set(3e38))
    replay = state.replay._replace(rows=huge)
    after, metrics = step(state._replace(replay=replay))
    assert guard.describe(after.learner.fault) == "non-finite cached logits in iteration 2"
    assert guard.describe(metrics["charts/fault"]) == "non-finite cached logits"
    for name in ("params", "targets", "opt_state"):
        assert_bitwise_equal(getattr(after.learner, name), getattr(state.learner, name))


def test_diverged_parameters_are_a_fault(small, assert_bitwise_equal):
    _, _, init, step = small
    state = init(jax.random.key(0))
    after, _ = step(state._replace(config=state.config.replace(learning_rate=jnp.float32(1e7))))
    assert guard.describe(after.learner.fault) == "diverged: a parameter beyond 1e6 in iteration 0"
    assert_bitwise_equal(after.learner.params, state.learner.params)
    assert after.learner.stack.pushed == 0


def test_the_policy_does_not_see_privileged_observations():
    class Privileged:
        observation_space = {
            "state": envs.Box(-1.0, 1.0, (2,)),
            "privileged_state": envs.Box(-1.0, 1.0, (3,)),
        }
        action_space = envs.Box(-1.0, 1.0, (2,))

    config = SMALL.replace(bins=3)
    networks = staq.make_networks(Privileged(), config)
    params = networks.init(
        jax.random.key(0), {"state": jnp.zeros(2), "privileged_state": jnp.zeros(3)}
    )
    q = networks.apply(params, {"state": jnp.ones((5, 2))})
    assert q.shape == (5, 9)
