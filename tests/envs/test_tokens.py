"""Tasks of tokens: brackets against a checker in plain Python, and a task as an environment."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from onejit import algos, envs
from onejit.envs.brackets import END, PAD, Brackets


def judge(prompt, response):
    """What is right about an answer, in the order of `stages`, with a stack."""
    stack = [token for token in prompt if token != PAD]
    wrong = False
    height = len(stack)
    for token in itertools.takewhile(lambda token: token != END, response):
        if token in (1, 3):
            stack.append(token)
        elif token in (2, 4):
            wrong |= not stack or stack.pop() != token - 1
        else:
            wrong = True
        height += {1: 1, 3: 1, 2: -1, 4: -1}.get(token, 0)
    return [not wrong, height == 0, END in response]


def stages_of(env, prompts, responses):
    return jax.jit(jax.vmap(jax.vmap(env.stages, (None, 0)), (0, None)))(prompts, responses)


def all_prompts(depth):
    kinds = [row for d in range(1, depth + 1) for row in itertools.product((1, 3), repeat=d)]
    return np.array([(PAD,) * (depth - len(row)) + row for row in kinds], np.int32)


def test_every_answer_to_every_prompt_of_two_is_judged_as_by_a_stack():
    env = envs.make("tokens/brackets", depth=2)
    prompts = all_prompts(2)
    responses = np.array(list(itertools.product(range(6), repeat=4)), np.int32)
    stages = np.array(stages_of(env, prompts, responses))
    expected = [[judge(p, r) for r in responses.tolist()] for p in prompts.tolist()]
    np.testing.assert_array_equal(stages, np.array(expected, np.float32))
    reward = jax.jit(jax.vmap(jax.vmap(env.reward, (None, 0)), (0, None)))(prompts, responses)
    np.testing.assert_array_equal(reward, stages.min(-1))
    # Without what stands behind the end: five answers to one bracket, one to two.
    written = np.array(
        [
            END not in r[:-1] or r[r.index(END) :].count(PAD) == 3 - r.index(END)
            for r in responses.tolist()
        ]
    )
    assert reward[:, written].sum(axis=1).tolist() == [5, 5, 1, 1, 1, 1]


JUDGE_FOUR = jax.jit(Brackets(4).stages)
PROMPT = st.lists(st.sampled_from([1, 3]), min_size=1, max_size=4)


@pytest.mark.slow
@settings(max_examples=200, deadline=None)
@given(PROMPT, st.lists(st.sampled_from([0, 1, 2, 3, 4, 5]), min_size=8, max_size=8))
def test_any_answer_of_eight_tokens_is_judged_as_by_a_stack(prompt, response):
    prompt = [PAD] * (4 - len(prompt)) + prompt
    stages = JUDGE_FOUR(jnp.array(prompt, jnp.int32), jnp.array(response, jnp.int32))
    assert stages.tolist() == judge(prompt, response)


@pytest.mark.slow
@settings(max_examples=100, deadline=None)
@given(PROMPT, st.lists(st.sampled_from([1, 3]), max_size=1), st.integers(0, 4))
def test_right_answers_are_right_also_with_a_pair_on_the_way(prompt, pair, place):
    closing = [token + 1 for token in reversed(prompt)]
    place = min(place, len(closing))
    response = [*closing[:place], *pair, *(token + 1 for token in pair), *closing[place:], END]
    response = (response + [PAD] * 8)[:8]
    prompt = [PAD] * (4 - len(prompt)) + prompt
    stages = JUDGE_FOUR(jnp.array(prompt, jnp.int32), jnp.array(response, jnp.int32))
    assert stages.tolist() == [1.0, 1.0, float(END in response)]


def test_prompts_are_of_every_depth_alike():
    env = Brackets(3)
    prompts = np.array(jax.jit(jax.vmap(env.prompt))(jax.random.split(jax.random.key(0), 3000)))
    assert {tuple(row) for row in prompts.tolist()} == {tuple(row) for row in all_prompts(3)}
    depths = np.bincount((prompts != PAD).sum(axis=1), minlength=4)
    np.testing.assert_allclose(depths[1:] / 3000, 1 / 3, atol=0.04)


def test_a_task_is_an_environment():
    env = envs.make("tokens/brackets", depth=1, response_length=3)
    assert env.options == {"depth": 1, "response_length": 3}
    envs.check(env)

    def close(obs, key):
        del key
        # The bracket that closes the prompt, then the end.
        return jnp.where(obs[:, 1] < 0, obs[:, 0] + 1, END)

    episodes = algos.evaluate(env, close, jax.random.key(0), num_episodes=8)
    np.testing.assert_array_equal(episodes.returns, 1.0)
    np.testing.assert_array_equal(episodes.lengths, 2)

    def open_for_ever(obs, key):
        del key
        return jnp.full(obs.shape[0], 3, jnp.int32)

    episodes = algos.evaluate(env, open_for_ever, jax.random.key(0), num_episodes=2)
    np.testing.assert_array_equal(episodes.returns, 0.0)
    np.testing.assert_array_equal(episodes.lengths, 3)
    assert episodes.finished.all()


def test_the_policys_own_tokens_are_those_up_to_the_first_end():
    response = jnp.array([[1, END, PAD, PAD], [END, 3, END, 1], [1, 2, 3, 4]])
    expected = [[1, 1, 0, 0], [1, 0, 0, 0], [1, 1, 1, 1]]
    np.testing.assert_array_equal(Brackets(2).answered(response), expected)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"deep": 3}, "tokens/brackets has no option 'deep'; it has depth, response_length"),
        ({"depth": 0}, "tokens/brackets: depth=0: must be at least 1"),
        ({"depth": 2.5}, "tokens/brackets: depth=2.5: must be an integer"),
        ({"depth": 101}, "depth=101: must be at most 100"),
        ({"depth": 3, "response_length": 3}, "response_length=3: must be above depth=3"),
        ({"response_length": 10**6}, "and at most 200"),
    ],
)
def test_options_that_do_not_fit_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        envs.make("tokens/brackets", **options)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_tokens": 0}, "num_tokens=0: must be at least 1"),
        ({"end": 4}, "end=4: must be below num_tokens=4"),
        ({"pad": -1}, "pad=-1: must be at least 0"),
    ],
)
def test_sizes_of_ones_own_task_are_checked(changes, message):
    sizes = {"num_tokens": 4, "prompt_length": 1, "response_length": 2, "end": 0, "pad": 3}
    with pytest.raises(ValueError, match=message):
        envs.TokenEnvironment(**sizes | changes)
