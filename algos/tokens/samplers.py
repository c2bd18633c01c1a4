"""Which prompts an iteration takes up, as pure functions of a State that the run carries.

`uniform` has the environment draw new prompts each time. The others choose from a pool of
config.pool_size prompts that the environment drew once, and learn from what the answers to them
were worth: `mopps(env, config)` is a `Sampler`, `mopps(env, config, decay=0.9)` another one, and
`tokens.make(env, config, sampler=...)` takes any of your own. A name says how prompts are chosen,
and nothing else of a paper. Rewards count as rates of success, clipped to [0, 1].
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp

from ...envs import TokenEnvironment
from ...losses import bandits, curricula
from ...losses.sequences import advantages


class Sampler(NamedTuple):
    """Chooses the N prompts of an iteration.

    Attributes:
      init: `init(key) -> State`, a pytree of arrays.
      draw: `draw(State, key) -> (prompts, places)`: int32 `[N, P]`, and what `update` is to know of
        them, leaves `[N, ...]`.
      update: `update(State, places, rewards) -> State` after G answers to each, rewards `[N, G]`.
    """

    init: Callable[[chex.PRNGKey], Any]
    draw: Callable[[Any, chex.PRNGKey], tuple[chex.Array, Any]]
    update: Callable[[Any, Any, chex.Array], Any]


class Posterior(NamedTuple):
    """A pool of M prompts, int32 `[M, P]`, and the Beta posterior of each one's success, `[M]`."""

    prompts: chex.Array
    alpha: chex.Array
    beta: chex.Array


class Values(NamedTuple):
    """A pool of M prompts, int32 `[M, P]`, their categories, int32 `[M]`, and what there is to
    learn from each category, `[K]`.
    """

    prompts: chex.Array
    category: chex.Array
    values: chex.Array


def uniform(env: TokenEnvironment, config: Any) -> Sampler:
    """New prompts, as the environment draws them."""

    def draw(state, key):
        del state
        return prompts_of(env, key, config.num_prompts), ()

    return Sampler(lambda key: (), draw, lambda state, places, rewards: state)


def mopps(env: TokenEnvironment, config: Any, *, decay: float = 0.5) -> Sampler:
    """The prompts whose success rate, drawn from its posterior, is nearest to one half; decay is
    what a new group of answers leaves of the old ones.

    Source: MoPPS (arXiv 2507.04632), its choice of the nearest.
    """

    def choose(state, key):
        success = curricula.thompson_success(key, state.alpha, state.beta)
        return curricula.top_prompts(-jnp.square(success - 0.5), num=config.num_prompts)

    return _posterior(env, config, choose, decay, 1.0)


def vade(
    env: TokenEnvironment, config: Any, *, decay: float = 0.5, other_decay: float = 0.95
) -> Sampler:
    """The prompts whose success, at a rate drawn from its posterior, has the largest variance; all
    forget, the prompts just drawn at decay and the others, towards the prior, at other_decay.

    Source: after VADE (arXiv 2511.18902), whose exact form was not available: both decays are ours.
    """

    def choose(state, key):
        success = curricula.thompson_success(key, state.alpha, state.beta)
        score = curricula.prompt_informativeness(success)
        return curricula.top_prompts(score, num=config.num_prompts)

    return _posterior(env, config, choose, decay, other_decay)


def knapsack(
    env: TokenEnvironment, config: Any, *, decay: float = 0.5, low: int = 2, high: int = 4
) -> Sampler:
    """Shares out the N·G answers over N prompts of the pool, drawn at random, by what they are
    worth at the success rate seen so far, one half at first: at least low answers each, at most
    those of high groups. Prompts that always or never succeed get low.

    A batch is whole groups of G: of the answers in a row, prompt by prompt, every G-th from a
    random one on says whose group it is. So a prompt has as many groups as its share on average,
    often none and often several, and each group is a group of its own to the objective.

    Source: Knapsack RL (arXiv 2509.25849), whose groups have the sizes themselves, and which knows
    success from the epoch before.
    """
    num, size = config.num_prompts, config.group_size

    def choose(state, key):
        prompt_key, start_key = jax.random.split(key)
        candidates = jax.random.choice(prompt_key, config.pool_size, (num,), replace=False)
        success = (state.alpha / (state.alpha + state.beta))[candidates]
        numbers = curricula.allocate_rollouts(
            success, budget=num * size, low=min(low, size), high=high * size
        )
        answers = jnp.repeat(candidates, numbers, total_repeat_length=num * size)
        return answers.reshape(num, size)[:, jax.random.randint(start_key, (), 0, size)]

    return _posterior(env, config, choose, decay, 1.0, prior=1e-6)


def sec(
    env: TokenEnvironment, config: Any, *, step_size: float = 0.1, temperature: float = 1.0
) -> Sampler:
    """A category for each prompt, by how much there is to learn from it, then a prompt of it: mean
    |A| of the category, A the advantage in units of the group's standard deviation.

    `env.category` says which it is; categories without a prompt in the pool are not drawn.

    Source: SEC (arXiv 2505.14970).
    """
    num_categories = env.num_categories

    def init(key):
        prompts = prompts_of(env, key, config.pool_size)
        category = jax.vmap(env.category)(prompts).astype(jnp.int32)
        return Values(prompts, category, jnp.zeros(num_categories, jnp.float32))

    def draw(state, key):
        in_pool = jnp.bincount(state.category, length=num_categories)
        share = bandits.value_steering(state.values, temperature=temperature) / in_pool
        logits = jnp.log(share[state.category])
        places = jax.random.categorical(key, logits, shape=(config.num_prompts,))
        return state.prompts[places], places

    def update(state, places, rewards):
        category = state.category[places]
        size = jnp.mean(jnp.abs(advantages.group_normalize(rewards)), axis=-1)
        groups = jnp.bincount(category, length=num_categories)
        total = jnp.zeros_like(state.values).at[category].add(size)
        mean = total / jnp.maximum(groups, 1)
        values = curricula.curriculum_update(state.values, mean, groups > 0, step_size=step_size)
        return state._replace(values=values)

    return Sampler(init, draw, update)


SAMPLERS: dict[str, Callable[..., Sampler]] = {
    function.__name__: function for function in (uniform, mopps, sec, vade, knapsack)
}


def prompts_of(env: TokenEnvironment, key: chex.PRNGKey, num: int) -> chex.Array:
    """Prompts as the environment draws them, int32 `[num, P]`."""
    return jax.vmap(env.prompt)(jax.random.split(key, num))


def _posterior(env, config, choose, decay, other_decay, prior=1.0):
    """A sampler that keeps a Beta posterior of each prompt of the pool, from which `choose(state,
    key)` takes the places of the N prompts. Both parameters start at prior.
    """
    size = config.pool_size

    def init(key):
        start = jnp.full(size, prior, jnp.float32)
        return Posterior(prompts_of(env, key, size), start, start)

    def draw(state, key):
        places = choose(state, key)
        return state.prompts[places], places

    def update(state, places, rewards):
        success = jnp.clip(rewards, 0.0, 1.0)
        drawn = jnp.zeros(size, bool).at[places].set(True)
        nothing = jnp.zeros(size, jnp.float32)
        alpha, beta = curricula.beta_update(
            state.alpha,
            state.beta,
            nothing.at[places].add(jnp.sum(success, axis=-1)),
            nothing.at[places].add(jnp.sum(1.0 - success, axis=-1)),
            decay=jnp.where(drawn, decay, other_decay),
            prior_alpha=prior,
            prior_beta=prior,
        )
        return state._replace(alpha=alpha, beta=beta)

    return Sampler(init, draw, update)
