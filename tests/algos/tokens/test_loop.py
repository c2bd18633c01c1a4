"""The loop of the tokens: what is written is what is scored; it learns, resumes and sweeps."""

import functools
import io
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from rich.console import Console

from onejit import algos, envs
from onejit.algos import tokens
from onejit.algos.core import guard
from onejit.algos.core.config import ConfigError
from onejit.algos.host import runner
from onejit.algos.host.programs import Settings
from onejit.algos.tokens import objectives
from onejit.algos.tokens.update import moved

pytestmark = pytest.mark.slow

ENV = envs.make("tokens/brackets", depth=2)
SMALL = tokens.Config(num_prompts=4, group_size=4, hidden_size=8, total_steps=64 * 8)
NETWORK = tokens.make_network(ENV, SMALL)


@functools.cache
def programs():
    algorithm = tokens.make(ENV, SMALL)
    return algorithm, jax.jit(algorithm.init), jax.jit(algorithm.step)


@functools.cache
def answers():
    """A fresh policy's parameters, and answers of it."""
    learner = tokens.init_learner(jax.random.key(0), network=NETWORK, config=SMALL)
    sizes = {"num_prompts": 16, "group_size": 8}
    answer = functools.partial(tokens.answer, env=ENV, network=NETWORK, **sizes)
    return learner.params, jax.jit(answer)(learner.params, jax.random.key(1))


def test_what_was_written_is_scored_with_the_probabilities_that_it_was_drawn_with():
    params, answered = answers()
    log_prob, entropy = jax.jit(functools.partial(tokens.score, NETWORK))(
        params, answered.prompts, answered.tokens
    )
    mask = np.array(answered.mask)
    np.testing.assert_allclose(log_prob[mask], answered.log_prob[mask], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(entropy[mask], answered.entropy[mask], rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(mask, ENV.answered(answered.tokens))
    assert np.all(np.where(mask, ENV.pad, answered.tokens) == ENV.pad)
    # Some have ended early, some have not.
    assert mask.all(axis=-1).any() and not mask.all()


def test_acting_is_writing():
    """A step of the environment at a time, from the observation alone."""
    algorithm, init, _ = programs()
    params, answered = answers()
    state = init(jax.random.key(0))
    state = state._replace(learner=state.learner._replace(params=params))
    sequence = jnp.concatenate([answered.prompts, answered.tokens[:, 0]], axis=-1)
    logits = jax.jit(algorithm.logits)
    for t in range(ENV.response_length):
        place = jnp.arange(sequence.shape[1])
        seen = jnp.where(place < ENV.prompt_length + t, sequence, -1)
        log_probs = jax.nn.log_softmax(logits(state, seen))
        token = answered.tokens[:, 0, t]
        written = np.array(answered.mask[:, 0, t])
        np.testing.assert_allclose(
            log_probs[np.arange(16), token][written],
            answered.log_prob[:, 0, t][written],
            rtol=1e-5,
            atol=1e-6,
        )
    best = algorithm.act(state, seen, jax.random.key(0), True)
    np.testing.assert_array_equal(best, log_probs.argmax(axis=-1))


def test_evaluated_numbers_by_enumeration():
    rng = np.random.default_rng(0)
    written = rng.integers(0, 3, (5, 6, 2)).astype(np.int32)
    rewards = np.float32(written[..., 0] > written[..., 1])
    answered = answers()[1]._replace(rewards=jnp.array(rewards), tokens=jnp.array(written))
    metrics = tokens.pass_metrics(answered, 3)
    best = [max(row[list(each)]) for row in rewards for each in itertools.combinations(range(6), 3)]
    right = [
        len({tuple(w) for w, r in zip(ws.tolist(), rs, strict=True) if r > 0})
        for ws, rs in zip(written, rewards, strict=True)
    ]
    np.testing.assert_allclose(metrics["eval/pass_at_1"], rewards.mean(), rtol=1e-6)
    np.testing.assert_allclose(metrics["eval/pass_at_3"], np.mean(best), rtol=1e-6)
    np.testing.assert_allclose(metrics["eval/right_answers"], np.mean(right), rtol=1e-6)


def test_an_update_on_answers_of_ones_own_is_a_policy_gradient():
    params, answered = answers()
    rewards = np.random.default_rng(0).random((16, 8)).astype(np.float32)
    answered = answered._replace(rewards=jnp.array(rewards))
    config = SMALL.replace(ent_coef=0.0, objective="rloo")
    learner = tokens.init_learner(jax.random.key(0), network=NETWORK, config=config)

    @jax.jit
    def once(learner, answered):
        objective = objectives.OBJECTIVES["rloo"]
        parts = {"env": ENV, "network": NETWORK, "objective": objective, "config": config}
        return tokens.update(learner, answered, jax.random.key(1), **parts)

    new, metrics = once(learner, answered)
    advantage = rewards - (rewards.sum(1, keepdims=True) - rewards) / 7.0

    @jax.jit
    @jax.value_and_grad
    def expected(params):
        log_prob, _ = tokens.score(NETWORK, params, answered.prompts, answered.tokens)
        whole = jnp.sum(log_prob * answered.mask, axis=-1)
        return -jnp.mean(advantage * whole)

    loss, gradient = expected(params)
    np.testing.assert_allclose(metrics["losses/policy_loss"], loss, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(metrics["losses/grad_norm"], optax.tree.norm(gradient), rtol=1e-4)
    assert abs(metrics["losses/approx_kl"]) < 1e-10
    assert new.iteration == 1
    # Adam's first step: against the sign of the gradient, by the learning rate.
    for a, b, g in zip(*map(jax.tree.leaves, (new.params, params, gradient)), strict=True):
        moved_by = np.where(np.abs(g) > 1e-4, (a - b) + 2e-3 * np.sign(g), 0.0)
        np.testing.assert_allclose(moved_by, 0.0, atol=1e-5)


def test_an_own_optimiser_follows_the_annealed_learning_rate():
    # total_steps are four iterations, and the rate is that of an iteration's start: 1, 3/4, 1/2.
    sizes = {"num_prompts": 2, "group_size": 4, "hidden_size": 8, "update_passes": 1}
    steps = tokens.Config(**sizes).steps(ENV)
    config = tokens.Config(**sizes, anneal_lr=True, learning_rate=1e-2, total_steps=4 * steps)
    algorithm = tokens.make(ENV, config, optimiser=optax.sign_sgd)
    state = jax.jit(algorithm.init)(jax.random.key(0))
    step = jax.jit(algorithm.step)
    for rate in (1e-2, 7.5e-3, 5e-3):
        before = state.learner.params
        state, _ = step(state)
        moved = jax.tree.map(lambda a, b: jnp.abs(a - b), state.learner.params, before)
        largest = max(float(jnp.max(x)) for x in jax.tree.leaves(moved))
        np.testing.assert_allclose(largest, rate, rtol=1e-4)
    with pytest.raises(ConfigError, match="must be no dict"):
        tokens.make(ENV, config, optimiser={"policy": optax.adam})


def test_grpo_learns_brackets_of_depth_two(jit_to_learn):
    algorithm = tokens.make(ENV, tokens.Config(learning_rate=3e-3))

    def learn(key):
        evaluate = algos.evaluator(algorithm, num_episodes=64)
        before = evaluate(algorithm.init(jax.random.key(7)), jax.random.key(8))
        state, history = algos.train(
            algorithm, key, num_iterations=60, log_every=60, evaluate=evaluate
        )
        return state.learner.fault, before, history

    fault, before, after = jit_to_learn(learn)(jax.random.key(0))
    assert guard.describe(fault) is None
    assert before["eval/pass_at_1"] < 0.05
    assert after["eval/pass_at_1"][-1] > 0.9
    assert after["eval/pass_at_4"][-1] >= after["eval/pass_at_1"][-1]
    assert after["eval/episodic_return"][-1] > 0.9


def test_resume_is_exact(assert_resume_is_exact):
    algorithm, init, step = programs()

    def start(key):
        # Writer and reference of their own, so that these are restored too.
        state = init(key)
        config = state.config.replace(
            sample_every=jnp.int32(2), ref_every=jnp.int32(3), ref_alpha=jnp.float32(0.5)
        )
        return state._replace(config=config)

    assert_resume_is_exact(algorithm, start, step, 2)


def test_vmapped_seeds_and_learning_rates_equal_single_runs():
    algorithm, init, step = programs()
    keys = jax.random.split(jax.random.key(4), 2)
    rates = jnp.array([1e-3, 1e-2])

    @jax.jit
    def together(keys, rates):
        def run(key, rate):
            config = SMALL.replace(learning_rate=rate)
            return algos.train(algorithm, key, config=config, num_iterations=2)[0]

        return jax.vmap(jax.vmap(run, (None, 0)), (0, None))(keys, rates)

    many = together(keys, rates).learner.params
    for i, key in enumerate(jax.random.split(jax.random.key(4), 2)):
        init_key, _ = jax.random.split(key)
        start = init(init_key)
        for j, rate in enumerate(rates):
            config = start.config.replace(learning_rate=rate)
            state = start._replace(config=config, key=jax.random.clone(start.key))
            for _ in range(2):
                state, _ = step(state)
            one = state.learner.params
            for a, b in zip(jax.tree.leaves(many), jax.tree.leaves(one), strict=True):
                np.testing.assert_allclose(a[i, j], b, rtol=2e-4, atol=2e-6)


def test_without_a_sampler_prompts_are_drawn_as_by_answer_bit_for_bit(assert_bitwise_equal):
    _, init, step = programs()
    parts = {"env": ENV, "network": NETWORK}

    @jax.jit
    def plain(state):
        answer_key, update_key = jax.random.split(state.key, 3)[1:]
        learner = moved(state.learner, state.config)
        answered = tokens.answer(learner.writer, answer_key, num_prompts=4, group_size=4, **parts)
        objective = objectives.OBJECTIVES["grpo"]
        parts_of_update = parts | {"objective": objective, "config": state.config}
        return tokens.update(learner, answered, update_key, **parts_of_update)[0]

    start, same = init(jax.random.key(6)), init(jax.random.key(6))
    assert start.sampler == ()
    assert_bitwise_equal(step(start)[0].learner, plain(same))


def test_the_writer_and_the_reference_follow_when_it_is_their_turn():
    config = SMALL.replace(sample_every=2, ref_every=3, ref_alpha=0.25)
    learner = programs()[1](jax.random.key(0)).learner
    learner = learner._replace(params=jax.tree.map(lambda x: x + 1.0, learner.params))

    def distances(iteration):
        later = moved(learner._replace(iteration=jnp.int32(iteration)), config)
        params, writer, reference = (
            np.concatenate([np.ravel(x) for x in jax.tree.leaves(tree)])
            for tree in (later.params, later.writer, later.reference)
        )
        return np.mean(params - writer), np.mean(params - reference)

    expected = {1: (1.0, 1.0), 2: (0.0, 1.0), 3: (1.0, 0.75), 4: (0.0, 1.0), 6: (0.0, 0.75)}
    for iteration, (writer, reference) in expected.items():
        np.testing.assert_allclose(distances(iteration), (writer, reference), atol=1e-6)


def test_stale_answers_are_off_policy_and_fresh_ones_are_not():
    _, init, step = programs()
    state = init(jax.random.key(0))
    rate = jnp.float32(1e-2)
    drift = {}
    for every in (1, 4):
        config = state.config.replace(sample_every=jnp.int32(every), learning_rate=rate)
        one = state._replace(config=config, key=jax.random.clone(state.key))
        for _ in range(4):
            one, metrics = step(one)
        drift[every] = float(metrics["losses/ratio_deviation"])
    assert drift[4] > 2.0 * drift[1] > 0.0


def test_a_nan_from_ones_own_objective_stops_the_run_with_the_usual_message(tmp_path):
    def bad(batch):
        mean = jnp.mean(batch.log_prob)
        return jnp.where(batch.progress > 0.3, jnp.nan, 1.0) * mean

    algorithm = tokens.make(ENV, SMALL, bad)  # of eight iterations
    settings = Settings(folder=tmp_path, title="t", num_logs=8, num_evals=8, eval_episodes=2)
    with pytest.raises(
        runner.NonFiniteError,
        match=r"non-finite loss in iteration 3; parameters .* last good checkpoint is .*000000003",
    ):
        runner.run(algorithm, settings, total_iterations=8, console=Console(file=io.StringIO()))


def test_a_reward_that_is_not_finite_is_named():
    class Poisoned(envs.TokenEnvironment):
        def prompt(self, key):
            return jax.random.randint(key, (1,), 0, 3, jnp.int32)

        def reward(self, prompt, response):
            return jnp.where(response[0] == prompt[0], jnp.inf, 0.0)

    env = Poisoned(num_tokens=3, prompt_length=1, response_length=1, end=0, pad=2)
    algorithm = tokens.make(env, SMALL)
    start = jax.jit(algorithm.init)(jax.random.key(0))
    state, metrics = jax.jit(algorithm.step)(start)
    assert guard.describe(state.learner.fault) == "non-finite reward in iteration 0"
    assert algos.describe_fault(metrics["charts/fault"]) == "non-finite reward"
    jax.tree.map(np.testing.assert_array_equal, state.learner.params, start.learner.params)


def test_the_whole_training_lowers_for_tpu_and_cuda():
    algorithm = programs()[0]
    run = jax.jit(
        lambda key: algos.train(
            algorithm, key, num_iterations=2, evaluate=algos.evaluator(algorithm)
        )
    )
    lowered = run.trace(jax.random.key(0)).lower(lowering_platforms=("tpu", "cuda"))
    assert "stablehlo.while" in lowered.as_text()
