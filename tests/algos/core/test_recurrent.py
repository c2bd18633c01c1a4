"""Networks that remember: what is unrolled in an update is what was stepped in the collection, also
where episodes end, and successors are seen with the memory of the step that led to them.
"""

from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from onejit import algos, envs
from onejit.algos import fast_td3, mdpo, mdpo_off_policy, ppo, sac, spo, td3
from onejit.algos.core import recurrent
from onejit.algos.core.config import ConfigError
from onejit.algos.core.networks import VECTOR, Networks, Policy, Value, make_torso
from onejit.algos.core.recurrent import Recurrent, Sequence
from onejit.algos.off_policy import sequences
from onejit.algos.off_policy.networks import apply_ensemble


class Weather:
    """Observations that no one can foresee; an episode is cut after three steps, or ends before
    that when the action is above 0.
    """

    observation_space = envs.Box(-10.0, 10.0, (2,))
    action_space = envs.Box(-1.0, 1.0, (1,))

    def reset(self, key):
        return jnp.int32(0), jax.random.normal(key, (2,))

    def step(self, key, state, action):
        obs = jax.random.normal(key, (2,))
        over = action[0] > 0.6
        return state + 1, envs.Step(obs, obs[0], over, state == 2, {})


ON_POLICY = {
    "num_envs": 4,
    "num_steps": 8,
    "num_minibatches": 1,
    "hidden_sizes": (4, 4),
    "memory_size": 3,
}
OFF_POLICY = {
    "num_envs": 3,
    "learning_starts": 60,
    "buffer_size": 90,
    "batch_size": 16,
    "sequence_length": 4,
    "burn_in": 3,
    "actor_hidden_sizes": (4, 4),
    "critic_hidden_sizes": (4, 4),
    "memory_size": 3,
}


def of_row(tree, index):
    return jax.tree.map(lambda x: x[index], tree)


@pytest.mark.parametrize("cell", ["gru", pytest.param("lstm", marks=pytest.mark.slow)])
def test_unrolling_is_stepping_with_a_new_beginning_where_an_episode_starts(cell):
    config = ppo.Config(memory=cell, memory_size=3)
    module = Recurrent("policy", recurrent.make_cell(config), nn.Dense(5), nn.Dense(2))
    obs = jax.random.normal(jax.random.key(0), (6, 2, 4))
    params = module.init(jax.random.key(1), obs[0, 0])
    start = jnp.array([[0, 0], [0, 1], [1, 0], [0, 0], [0, 1], [1, 1]], bool)
    memory = jax.tree.map(lambda x: x + 0.3, module.initial_memory(2))

    def by_hand(params):
        carry, outputs, successors = memory, [], []
        for t in range(6):
            fresh = module.initial_memory(2)
            carry = jax.tree.map(
                lambda new, old, t=t: jnp.where(start[t][:, None], new, old), fresh, carry
            )
            out, carry = module.apply(params, obs[t], carry, method="step")
            outputs.append(out)
            successors.append(module.apply(params, -obs[t], carry, method="step")[0])
        return jnp.stack(outputs), jnp.stack(successors)

    sequence = Sequence(obs, start, {"policy": memory})
    outputs, successors = jax.jit(by_hand)(params)
    apply = jax.jit(module.apply)
    np.testing.assert_allclose(apply(params, sequence), outputs, rtol=1e-5, atol=1e-6)
    after = apply(params, sequence._replace(next_obs=-obs))
    np.testing.assert_allclose(after, successors, rtol=1e-5, atol=1e-6)
    # With the first two steps as the past, the rest is the same, and takes no gradient through it.
    later = Sequence(obs[2:], start[2:], {"policy": memory}, (obs[:2], start[:2]))
    np.testing.assert_allclose(apply(params, later), outputs[2:], rtol=1e-5, atol=1e-6)
    # Alone, observations are the first of an episode.
    first = module.apply(params, obs[0], module.initial_memory(2), method="step")[0]
    np.testing.assert_allclose(apply(params, obs[0]), first, rtol=1e-5, atol=1e-6)


@pytest.mark.slow
def test_no_gradient_goes_through_the_past():
    module = Recurrent("policy", nn.GRUCell(3), lambda obs: obs, nn.Dense(1))
    obs = jnp.ones((2, 1, 4))
    params = module.init(jax.random.key(0), obs[0, 0])
    memory, start = {"policy": module.initial_memory(1)}, jnp.zeros((2, 1), bool)

    def output(past):
        return jnp.sum(module.apply(params, Sequence(obs, start, memory, (past, start))))

    def unrolled(past):
        both = jnp.concatenate([past, obs]), jnp.concatenate([start, start])
        return jnp.sum(module.apply(params, Sequence(*both, memory))[2:])

    assert not jnp.any(jax.jit(jax.grad(output))(obs))
    assert jnp.all(jax.jit(jax.grad(unrolled))(obs) != 0.0)
    np.testing.assert_allclose(output(obs), unrolled(obs), rtol=1e-6)


def first_step(module=ppo, **changes):
    """Metrics of the first gradient step on a rollout in which episodes end in both ways."""
    config = module.Config(**ON_POLICY, memory="gru", update_epochs=1, **changes)
    algorithm = module.make(Weather(), config)
    _, metrics = jax.jit(lambda key: algorithm.step(algorithm.init(key)))(jax.random.key(0))
    assert metrics["charts/episodes"] > 4.0
    return metrics


@pytest.mark.slow
@pytest.mark.parametrize("shared", [False, True])
def test_the_ratio_is_one_before_the_first_gradient_step_also_where_episodes_ended(shared):
    assert first_step(shared_torso=shared)["losses/ratio_deviation"] < 1e-6


@pytest.mark.slow
@pytest.mark.parametrize(
    "wrong",
    [
        pytest.param(lambda done: jnp.zeros_like(done), id="never begun anew"),
        pytest.param(lambda done: done, id="begun anew one step early"),
    ],
)
def test_a_memory_that_is_begun_anew_at_the_wrong_step_shows(monkeypatch, wrong):
    monkeypatch.setattr(recurrent, "begins", wrong)
    assert first_step()["losses/ratio_deviation"] > 1e-4


def rollout(config):
    """A learner, and a rollout of its own, `[T, N, ...]`, with the networks."""
    env = Weather()
    networks = ppo.make_networks(env, config)
    algorithm = ppo.make(env, config, networks)
    state = jax.jit(algorithm.init)(jax.random.key(0))
    memory = state.collection.memory
    steps = []
    act = jax.jit(lambda obs, key, memory: algorithm.act(state, obs, key, False, memory))
    step = jax.jit(jax.vmap(env.step))
    obs, env_state = state.collection.obs, jnp.zeros(config.num_envs, jnp.int32)
    for t in range(config.num_steps):
        keys = jax.random.split(jax.random.key(t), config.num_envs)
        action, memory = act(obs, jax.random.key(100 + t), memory)
        env_state, result = step(keys, env_state, action)
        steps.append((obs, action, result))
        obs = result.obs
    return networks, state, steps


def test_values_of_successors_come_from_the_memory_of_the_step_that_led_to_them():
    from onejit.algos.on_policy import estimation

    config = ppo.Config(**ON_POLICY, memory="gru")
    networks, state, steps = rollout(config)
    obs = jnp.stack([obs for obs, _, _ in steps])
    next_obs = jnp.stack([result.obs for _, _, result in steps])
    truncated = jnp.stack([result.truncated for _, _, result in steps])
    nothing = jnp.zeros_like(truncated)
    batch = ppo.Transition(
        obs, obs, obs[..., 0], nothing, truncated, next_obs, memory=state.collection.memory
    )
    seen = estimation.seen(batch, obs, next_obs, networks)
    values = jax.jit(partial(estimation.values_of, networks=networks))
    found = values(state.learner, *seen)
    # By hand: the memory after each step, then the successor; anew where the step before was cut.
    params = state.learner.params["value"]
    step = jax.jit(partial(networks.value.apply, method="step"))
    carry = state.collection.memory["value"]
    for t in range(config.num_steps):
        value, carry = step(params, obs[t], carry)
        successor, _ = step(params, next_obs[t], carry)
        np.testing.assert_allclose(found[0][t], value, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(found[1][t], successor, rtol=1e-5, atol=1e-6)
        fresh = networks.value.initial_memory(config.num_envs)
        carry = jnp.where(truncated[t][:, None], fresh, carry)
    # With the memory of the next episode's start, cut episodes would be worth something else.
    anew, _ = step(params, next_obs[2], networks.value.initial_memory(config.num_envs))
    assert jnp.all(truncated[2]) and not jnp.any(jnp.isclose(found[1][2], anew))


@pytest.mark.slow
@pytest.mark.parametrize("module", [sac, td3], ids=["sac", "td3"])
def test_what_the_replay_remembers_is_what_the_burn_in_arrives_at(module):
    # Before the first update no parameter has changed: then the memory after the burn-in is the one
    # that was stored at the first step that is learned from, whatever ended in between.
    env = Weather()
    config = module.Config(**OFF_POLICY, memory="gru")
    networks = module.make_networks(env, config)
    algorithm = module.make(env, config, networks)
    state = jax.jit(algorithm.init)(jax.random.key(0))
    ring = state.replay
    row = jnp.array([[[start + t for start in (2, 5, 11)]] for t in range(7)])
    at_env = jnp.array([[0, 1, 2]])
    batch = jax.tree.map(lambda x: x[0], sequences.batch_at(ring, row, at_env, config))
    stored = jax.tree.map(lambda x: x[row[3, 0], at_env[0]], ring.rows.memory)
    assert jnp.any(batch.obs.past[1]) and jnp.any(batch.obs.start)

    def features(obs):
        probe = Recurrent("actor", networks.actor.cell, networks.actor.encoder, lambda x: x)
        params = {"params": {k: v for k, v in actor["params"].items() if "readout" not in k}}
        return probe.apply(params, obs)

    actor = state.learner.params["actor"]
    learned = jax.jit(features)(batch.obs)
    start_here = batch.obs._replace(memory=stored, past=None)
    np.testing.assert_allclose(learned, jax.jit(features)(start_here), rtol=1e-5, atol=1e-6)
    assert jax.tree.map(jnp.shape, ring.rows.memory) == {
        "actor": (30, 3, 3),
        "critic": (30, 3, 2, 3),
    }
    # Each successor is seen with the memory of the step that led to it, by each critic's own.
    rows = jax.tree.map(lambda x: x[row[3:, 0], at_env[0]], ring.rows)
    critics = state.learner.params["critic"]

    def second(tree, axis=0):
        return jax.tree.map(lambda x: jnp.take(x, 1, axis), tree)

    def critic(obs):
        return second(apply_ensemble(networks.critic, critics, obs, rows.action))

    whole = partial(networks.actor.apply, actor)
    cases = {
        "actor": (actor, (), rows.memory["actor"], whole),
        "critic": (second(critics), (rows.action,), second(rows.memory["critic"], 2), critic),
    }
    for name, (params, inputs, memory, unrolled) in cases.items():
        step = jax.jit(partial(getattr(networks, name).apply, method="step"))
        _, after = step(params, rows.obs, memory, *inputs)
        expected, _ = step(params, rows.next_obs, after, *inputs)
        found = jax.jit(unrolled)(batch.next_obs)
        for x, y in zip(*map(jax.tree.leaves, (found, expected)), strict=True):
            np.testing.assert_allclose(x, y, rtol=1e-5, atol=1e-6)


FAMILIES = {
    "ppo": (ppo, ON_POLICY | {"memory": "gru", "num_minibatches": 2}),
    "spo lstm": (spo, ON_POLICY | {"memory": "lstm", "normalize_obs": True}),
    "mdpo shared": (mdpo, ON_POLICY | {"memory": "gru", "shared_torso": True, "policy_steps": 2}),
    "sac": (sac, OFF_POLICY | {"memory": "lstm", "normalize_obs": True}),
    "td3": (td3, OFF_POLICY | {"memory": "gru", "burn_in": 0}),
    "fast_td3": (fast_td3, OFF_POLICY | {"memory": "gru", "num_atoms": 5}),
    "mdpo_off_policy": (mdpo_off_policy, OFF_POLICY | {"memory": "gru"}),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", FAMILIES)
def test_resume_is_exact_and_vmapped_seeds_equal_single_runs(
    name, assert_resume_is_exact, jit_to_learn
):
    module, settings = FAMILIES[name]
    algorithm = module.make(Weather(), module.Config(**settings))
    init, step = jax.jit(algorithm.init), jax.jit(algorithm.step)
    assert_resume_is_exact(algorithm, init, step, 2)
    both = jax.jit(jax.vmap(lambda seed: algorithm.step(algorithm.init(jax.random.key(seed)))))
    many, metrics = both(np.arange(2))
    one = step(init(jax.random.key(1)))
    assert not np.any(metrics["charts/fault"])
    for whole, single in zip(
        jax.tree.leaves((many.learner.params, many.collection.memory)),
        jax.tree.leaves((one[0].learner.params, one[0].collection.memory)),
        strict=True,
    ):
        np.testing.assert_allclose(whole[1], single, rtol=2e-4, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize(
    "module, changes",
    [
        (ppo, {"memory": "gru"}),
        (spo, {"memory": "lstm"}),
        (mdpo, {"memory": "gru", "num_minibatches": 4, "learning_rate": 3e-3}),
        (ppo, {"memory": "gru", "shared_torso": True}),
    ],
    ids=["ppo", "spo", "mdpo", "ppo shared"],
)
def test_what_was_told_four_steps_ago_is_answered(module, changes, jit_to_learn):
    env = envs.make("probe/recall", steps=4)
    settings = {"num_envs": 32, "num_steps": 20, "learning_rate": 2e-3, "memory_size": 16}
    config = module.Config(**settings | {"hidden_sizes": (16,), "total_steps": 120_000} | changes)
    algorithm = module.make(env, config)
    iterations = algorithm.iterations(config.total_steps)
    run = jit_to_learn(lambda key: algos.train(algorithm, key, num_iterations=iterations)[0])
    evaluate = algos.evaluator(algorithm, num_episodes=64)
    state = run(jax.random.key(0))
    assert jax.jit(evaluate)(state, jax.random.key(1))["eval/episodic_return"] == 1.0


@pytest.mark.slow
def test_own_cells_are_networks_of_ones_own():
    class Sum(nn.RNNCellBase):
        """Remembers the sum of all that it was given."""

        @nn.compact
        def __call__(self, carry, x):
            total = carry + x
            return total, total

        @nn.nowrap
        def initialize_carry(self, rng, input_shape):
            del rng
            return jnp.zeros((*input_shape[:-1], 2))

        @property
        def num_feature_axes(self):
            return 1

    env = Weather()
    config = ppo.Config(**ON_POLICY, update_epochs=1)
    layers = make_torso(VECTOR, (), "tanh", "orthogonal")
    own = Networks(
        Recurrent("policy", Sum(), lambda obs: obs, Policy(layers, 1, gaussian=True)),
        Value(layers),
        ppo.make_networks(env, config).head,
    )
    algorithm = ppo.make(env, config, own)
    state = jax.jit(algorithm.init)(jax.random.key(0))
    state, metrics = jax.jit(algorithm.step)(state)
    assert metrics["losses/ratio_deviation"] < 1e-6
    obs = jnp.ones((2, 2))
    memory = algorithm.memory(state, jax.random.key(0), 2)
    _, memory = algorithm.act(state, obs, jax.random.key(1), True, memory)
    _, memory = algorithm.act(state, obs, jax.random.key(2), True, memory)
    np.testing.assert_array_equal(memory["policy"], 2.0 * obs)


@pytest.mark.parametrize(
    "make, message",
    [
        (
            lambda env: ppo.make(env, ppo.Config(num_envs=6, num_minibatches=4, memory="gru")),
            "num_minibatches=4: must divide num_envs = 6 where networks remember",
        ),
        (
            lambda env: ppo.make(env, ppo.Config(memory="elman")),
            "memory='elman': must be one of 'none', 'gru', 'lstm'",
        ),
        (
            lambda env: sac.make(env, sac.Config(memory="gru", batch_size=100)),
            "batch_size=100: must be a multiple of sequence_length = 32",
        ),
        (
            lambda env: sac.make(env, sac.Config(memory="gru", n_step=3)),
            "n_step=3: must be 1 where networks remember",
        ),
        (
            lambda env: sac.make(
                env, sac.Config(), sac.make_networks(env, sac.Config(memory="gru"))
            ),
            'memory=none: must not be "none": networks.actor or networks.critic remembers',
        ),
        (
            lambda env: sac.make(
                env, sac.Config(memory="gru"), sac.make_networks(env, sac.Config())
            ),
            'memory=gru: must be "none": neither networks.actor nor networks.critic remembers',
        ),
        (
            lambda env: ppo.make(
                env,
                ppo.Config(),
                ppo.make_networks(env, ppo.Config(memory="gru"))._replace(
                    torso=ppo.make_networks(env, ppo.Config(memory="gru", shared_torso=True)).torso
                ),
            ),
            "networks.policy=a network that remembers: must not remember, as networks.torso does",
        ),
    ],
)
def test_what_does_not_go_together_is_refused_by_name(make, message):
    with pytest.raises(ConfigError) as error:
        make(Weather())
    assert message in str(error.value)
