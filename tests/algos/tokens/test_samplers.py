"""Samplers of prompts: what they know and draw against plain loops and known success rates, and in
the loop of the tokens.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from onejit import algos, envs, losses
from onejit.algos import tokens
from onejit.algos.core.config import ConfigError
from onejit.algos.tokens import samplers
from onejit.envs.brackets import Brackets

ENV = envs.make("tokens/brackets", depth=3)
SIZES = tokens.Config(num_prompts=8, group_size=4, pool_size=24)
POOLED = ("mopps", "sec", "vade", "knapsack")
PLACES = np.array([3, 5, 5, 0, 23, 7, 9, 5])  # of a batch, one prompt three times
REWARDS = np.random.default_rng(0).integers(0, 2, (8, 4)).astype(np.float32)
close = np.testing.assert_allclose


@functools.cache
def life(name, num_updates=40):
    """A sampler's draws while the success rates of its pool are 0, ½ and 1 by place, or, for
    categories, 0 in all but the second: places `[updates, N]`, and the last State.
    """
    sampler = samplers.SAMPLERS[name](ENV, SIZES)

    def turn(state, key):
        draw_key, answer_key = jax.random.split(key)
        prompts, places = sampler.draw(state, draw_key)
        if name == "sec":
            success = 0.5 * (jax.vmap(ENV.category)(prompts) == 1)
        else:
            success = 0.5 * (places % 3)
        rewards = jax.random.uniform(answer_key, (8, 4)) < success[:, None]
        return sampler.update(state, places, rewards.astype(jnp.float32)), places

    @jax.jit
    def run(key):
        init_key, key = jax.random.split(key)
        with jax.debug_key_reuse(False):  # which refuses a scan over keys
            return jax.lax.scan(turn, sampler.init(init_key), jax.random.split(key, num_updates))

    state, places = run(jax.random.key(0))
    return np.array(places), state


def share(places, which):
    """How much of the draws of the later half is of a third of the pool."""
    return np.mean(places[len(places) // 2 :] % 3 == which)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["mopps", "vade"])
def test_prompts_of_a_success_near_one_half_are_drawn(name):
    places, state = life(name)
    assert share(places, 1) > 0.6  # of chance 1/3
    success = np.array(state.alpha / (state.alpha + state.beta))
    near = np.abs(success - 0.5)
    assert near[1::3].max() < min(near[0::3].mean(), near[2::3].mean())
    # All of a batch are different prompts.
    assert all(len(set(row)) == 8 for row in places.tolist())


@pytest.mark.slow
def test_the_knapsack_gives_dead_prompts_fewest_and_what_their_value_says():
    places, state = life("knapsack")
    wrong, even, right = (share(places, which) for which in range(3))
    assert even > 2.0 * max(wrong, right)
    assert min(wrong, right) > 0.0
    # With as many prompts as places all are in each batch, in proportion to their answers.
    config = SIZES.replace(pool_size=8)
    alpha = jnp.array([1.0, 1.0, 4.0, 4.0, 8.0, 2.0, 9.0, 1.0])
    beta = jnp.array([1.0, 9.0, 4.0, 1.0, 8.0, 6.0, 1.0, 99.0])
    state = samplers.Posterior(jnp.zeros((8, 3), jnp.int32), alpha, beta)
    keys = jax.random.split(jax.random.key(0), 1000)
    draw = samplers.knapsack(ENV, config).draw
    drawn = np.array(jax.jit(jax.vmap(draw, (None, 0)))(state, keys)[1])
    groups = np.mean(drawn[..., None] == np.arange(8), axis=0).sum(axis=0)
    numbers = losses.curricula.allocate_rollouts(alpha / (alpha + beta), budget=32, low=2, high=16)
    assert set(np.array(numbers).tolist()) > {2}
    close(groups, numbers / 4.0, atol=0.08)  # five standard deviations


@pytest.mark.slow
def test_sec_moves_its_draws_to_the_category_with_the_largest_advantages():
    places, state = life("sec")
    category = np.array(state.category)
    later = category[places[len(places) // 2 :]]
    values = np.array(state.values)
    assert values[1] > 0.5 and values[0] == values[2] == 0.0
    expected = np.exp(values) / np.exp(values).sum()
    close(np.bincount(later.ravel(), minlength=3) / later.size, expected, atol=0.1)
    close(np.mean(category[places[:3]] == 1), 1 / 3, atol=0.25)
    # Colder, it draws nothing else; and the prompts of a category equally often.
    cold = samplers.sec(ENV, SIZES, temperature=0.05)
    keys = jax.random.split(jax.random.key(1), 200)
    drawn = np.array(jax.jit(jax.vmap(cold.draw, (None, 0)))(state, keys)[1])
    counts = np.bincount(drawn.ravel(), minlength=24)
    assert (category[drawn] == 1).mean() > 0.999
    close(counts[category == 1] * sum(category == 1) / counts.sum(), 1.0, atol=0.35)


@pytest.mark.slow
def test_what_is_known_is_updated_as_by_a_loop():
    """One prompt is thrice in the batch, most are not in it."""
    alpha, beta = np.random.default_rng(1).uniform(1.0, 5.0, (2, 24)).astype(np.float32)
    prompts = samplers.prompts_of(ENV, jax.random.key(0), 24)
    state = samplers.Posterior(prompts, alpha, beta)
    for name, other, prior in (("mopps", 1.0, 1.0), ("vade", 0.9, 1.0), ("knapsack", 1.0, 1e-6)):
        options = {"other_decay": 0.9} if name == "vade" else {}
        sampler = samplers.SAMPLERS[name](ENV, SIZES, decay=0.25, **options)
        after = jax.jit(sampler.update)(state, PLACES, REWARDS)
        for got, before, marks in (
            (after.alpha, alpha, REWARDS),
            (after.beta, beta, 1.0 - REWARDS),
        ):
            kept = [0.25 if place in PLACES else other for place in range(24)]
            expected = [
                k * x + (1.0 - k) * prior + np.sum(marks[place == PLACES])
                for place, (k, x) in enumerate(zip(kept, before, strict=True))
            ]
            close(got, expected, rtol=1e-6)
    category = np.array(jax.vmap(ENV.category)(prompts))
    category[PLACES] = np.minimum(category[PLACES], 1)  # nothing of the third in the batch
    values = np.array([0.5, 0.25, 2.0], np.float32)
    state = samplers.Values(prompts, category, values)
    after = jax.jit(samplers.sec(ENV, SIZES, step_size=0.25).update)(state, PLACES, REWARDS)
    expected = values.copy()
    for each in set(category[PLACES].tolist()):
        groups = REWARDS[category[PLACES] == each]
        spread = groups.std(axis=-1, ddof=1, keepdims=True)
        size = np.abs((groups - groups.mean(axis=-1, keepdims=True)) / (spread + 1e-6)).mean()
        expected[each] += 0.25 * (size - expected[each])
    assert expected[2] == 2.0
    close(after.values, expected, rtol=1e-5)


def test_the_category_of_a_prompt_is_its_depth():
    prompts = jnp.array([[5, 5, 1], [5, 3, 1], [1, 1, 3]])
    np.testing.assert_array_equal(jax.vmap(ENV.category)(prompts), [0, 1, 2])
    assert ENV.num_categories == 3


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["knapsack", *(pytest.param(name, marks=pytest.mark.slow) for name in POOLED[:3])]
)
def test_the_same_state_and_key_draw_the_same_and_states_are_vmapped(name, assert_bitwise_equal):
    sampler = samplers.SAMPLERS[name](ENV, SIZES)
    init, draw = jax.jit(sampler.init), jax.jit(sampler.draw)
    states = [init(jax.random.key(seed)) for seed in (0, 1)]
    states = [sampler.update(state, PLACES, REWARDS) for state in states]
    one = [draw(state, jax.random.key(5 + i)) for i, state in enumerate(states)]
    again = draw(states[0], jax.random.key(5))
    assert_bitwise_equal(one[0], again)
    both = jax.tree.map(lambda *x: jnp.stack(x), *states)
    keys = jax.vmap(jax.random.key)(jnp.arange(5, 7))
    assert_bitwise_equal(
        jax.jit(jax.vmap(sampler.draw))(both, keys), jax.tree.map(lambda *x: jnp.stack(x), *one)
    )
    prompts, places = one[0]
    np.testing.assert_array_equal(prompts, states[0].prompts[places])


# In the loop


class Ending(Brackets):
    """An answer is right if it ends, which some of a fresh policy's do."""

    def reward(self, prompt, response):
        return self.stages(prompt, response)[2]


SMALL = tokens.Config(num_prompts=4, group_size=4, hidden_size=8, pool_size=8, total_steps=96 * 8)


@functools.cache
def programs(name):
    algorithm = tokens.make(Ending(), SMALL.replace(sampler=name))
    return algorithm, jax.jit(algorithm.init), jax.jit(algorithm.step)


@pytest.mark.slow
def test_resume_is_exact_and_a_fault_leaves_what_a_sampler_knows(
    assert_resume_is_exact, assert_bitwise_equal
):
    algorithm, init, step = programs("knapsack")
    assert_resume_is_exact(algorithm, init, step, 2)
    start = init(jax.random.key(0))
    known = jax.tree.map(jnp.copy, start.sampler)
    params = jax.tree.map(lambda x: x + jnp.nan, start.learner.params)
    state, metrics = step(start._replace(learner=start.learner._replace(params=params)))
    assert metrics["charts/fault"] > 0.0
    assert_bitwise_equal(state.sampler, known)


@pytest.mark.slow
@pytest.mark.parametrize("name", POOLED)
def test_vmapped_seeds_equal_single_ones(name, assert_resume_is_exact, assert_bitwise_equal):
    algorithm, init, step = programs(name)
    assert_resume_is_exact(algorithm, init, step, 2)
    keys = jax.random.split(jax.random.key(1), 2)
    states = jax.jit(jax.vmap(algorithm.init))(keys)
    many = jax.jit(jax.vmap(lambda state: step(state)[0]))(states)
    singles = []
    for key in jax.random.split(jax.random.key(1), 2):
        singles.append(step(init(key))[0])
    singles = jax.tree.map(lambda *x: jnp.stack(x), *singles)
    assert_bitwise_equal(many.sampler, singles.sampler)
    for a, b in zip(
        jax.tree.leaves(many.learner.params), jax.tree.leaves(singles.learner.params), strict=True
    ):
        close(a, b, rtol=2e-4, atol=2e-6)
    start = jax.tree.map(lambda x: x[0], states.sampler)
    assert any((a[0] != b).any() for a, b in zip(many.sampler, start, strict=True))


@pytest.mark.slow
def test_a_sampler_of_ones_own():
    """The same prompts in every iteration, and how often that was."""
    prompts = jnp.array([[5, 5, 1]] * 4, jnp.int32)
    sampler = samplers.Sampler(
        lambda key: jnp.int32(0),
        lambda state, key: (prompts, ()),
        lambda state, places, rewards: state + 1,
    )
    algorithm = tokens.make(ENV, SMALL, sampler=sampler)
    state, _ = algos.train(algorithm, jax.random.key(0), num_iterations=2)
    assert state.sampler == 2


@pytest.mark.slow
@pytest.mark.parametrize("name", POOLED)
def test_grpo_learns_from_a_pool(name, jit_to_learn):
    env = envs.make("tokens/brackets", depth=2)
    algorithm = tokens.make(env, tokens.Config(learning_rate=3e-3, sampler=name, pool_size=64))

    def learn(key):
        evaluate = algos.evaluator(algorithm, num_episodes=64)
        return algos.train(algorithm, key, num_iterations=60, log_every=60, evaluate=evaluate)[1]

    history = jit_to_learn(learn)(jax.random.key(0))
    assert history["eval/pass_at_1"][-1] > 0.5  # not always all kinds of prompts, as for uniform


KEEP = samplers.uniform(ENV, SMALL)
REFUSED = [
    ({"config": SMALL.replace(sampler="sce")}, "sampler='sce': must be one of 'uniform'"),
    (
        {"config": SMALL.replace(sampler="vade", pool_size=3)},
        "num_prompts=4: must be at most pool_size = 3",
    ),
    (
        {"sampler": KEEP._replace(update=lambda state, places, rewards: rewards)},
        r"must leave its State in shape, and updates \(\) to float32\[4, 4\]",
    ),
    (
        {"sampler": samplers.uniform(ENV, SMALL.replace(num_prompts=5))},
        r"sampler=Sampler: must draw prompts \[4, 3\], and draws \[5, 3\]",
    ),
    ({"sampler": "sec"}, "sampler=str: cannot be traced by jax: AttributeError"),
]


@pytest.mark.parametrize("arguments, message", REFUSED)
def test_what_does_not_fit_is_refused_in_a_sentence(arguments, message):
    with pytest.raises(ConfigError, match=message):
        tokens.make(**{"env": ENV, "config": SMALL} | arguments)
