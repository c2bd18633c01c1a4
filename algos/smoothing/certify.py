"""Smoothed policies (Kumar et al. 2022, arXiv 2106.11420): training under noise, certified returns,
adaptive attacks.

Any algorithm becomes a smoothed one by training in `smoothed(env, sigma)`, where each observation
gets one draw of Gaussian noise. `certify` plays many episodes of what was learned and bounds from
below the expected return under every adversary of a given budget; `attack` plays against one and
shows how low it can push it. Between the two lies the truth. Both add the noise themselves: give
them the environment without it. Budgets and sigma are in the units of the raw observation; running
statistics of an algorithm normalise after the noise, and do not touch the certificate.
"""

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np

from ... import losses
from ...envs import Adversary, Box, Discrete, Environment, FrameStack, NoisyObservations
from ..core.algorithm import Algorithm, State
from ..core.evaluation import Act, Memory, evaluate, remembering
from ..core.keys import seed_key
from .attacks import Policy, deviation_adversary, targeted_adversary


class Certificate(NamedTuple):
    """What `certify` found.

    Attributes:
      sigma: standard deviation of the noise.
      budgets: of the adversary, `[n]`.
      lower: bounds that hold for the expected return under attack, together with probability 1 −
        alpha, `[n]`.
      returns: of the episodes without attack, `[num_episodes]`; 1 and 0 with a success_threshold.
      alpha: probability with which the bounds may fail.
      bound: "clopper_pearson" or "dkw".
    """

    sigma: float
    budgets: np.ndarray
    lower: np.ndarray
    returns: np.ndarray
    alpha: float
    bound: str


class Attack(NamedTuple):
    """What `attack` found: the worst of several strengths for each budget.

    Attributes:
      sigma: standard deviation of the policy's noise.
      budgets: of the adversary, `[n]`.
      returns: `[n, num_episodes]`, under the strength with the lowest mean; 1 and 0 with a
        success_threshold.
      strengths: that strength, `[n]`.
    """

    sigma: float
    budgets: np.ndarray
    returns: np.ndarray
    strengths: np.ndarray


def smoothed(
    env: Environment,
    sigma: float | chex.Array,
    *,
    num_frames: int = 1,
    adversary: Adversary | None = None,
    budget: float | chex.Array = 0.0,
) -> Environment:
    """The environment of a smoothed policy: one draw of noise per observation, then the last frames
    side by side.

    Args:
      env: a single environment with a Box of observations.
      sigma: standard deviation of the noise.
      num_frames: observations that the policy sees at once.
      adversary: who perturbs before the noise, or None.
      budget: its L2 norm over an episode.
    """
    noisy = NoisyObservations(env, sigma, adversary, budget)
    return noisy if num_frames == 1 else FrameStack(noisy, num_frames)


def policy_of(algorithm: Algorithm, state: State) -> Policy:
    """What `attack` works on: observations to logits for discrete actions, to the deterministic
    action else.

    Raises:
      ValueError: the policy remembers, and would be attacked as if each observation were the first
        of an episode.
    """
    memory = jax.eval_shape(lambda: algorithm.memory(state, jax.random.key(0), 1))
    if isinstance(memory, dict):  # TD3's noise does not matter to what is deterministic
        memory = {name: x for name, x in memory.items() if name != "std"}
    if jax.tree.leaves(memory):
        raise ValueError("algorithm: its policy remembers, which the adversaries do not know of")
    if algorithm.logits:
        return partial(algorithm.logits, state)
    # The key of a deterministic action does not matter.
    return lambda obs: algorithm.act(state, obs, jax.random.key(0), True)


def certifier(
    sigma: float,
    budgets: Sequence[float],
    num_episodes: int,
    *,
    alpha: float = 0.05,
    bound: str | None = None,
    thresholds: Sequence[float] | None = None,
    success_threshold: float | None = None,
    minimum: float = 0.0,
) -> Callable[[np.ndarray], Certificate]:
    """Checks what `certify` is asked for; returns the function of the returns that it then applies.

    Raises:
      ValueError: what `losses.certified_return` refuses whatever the returns are, or what does not
        go together.
    """
    if success_threshold is not None:
        if thresholds is not None or bound == "dkw" or minimum:
            raise ValueError(
                "success_threshold: goes with none of thresholds, bound='dkw' and minimum"
            )
        thresholds = (1.0,)
    chosen = bound or ("dkw" if thresholds is None else "clopper_pearson")
    budgets = np.asarray(budgets, np.float64)
    options = {"alpha": alpha, "bound": chosen, "thresholds": thresholds, "minimum": minimum}
    lower = partial(losses.certified_return, sigma=sigma, budget=budgets, **options)
    _require_positive(num_episodes=num_episodes)
    lower(np.full(num_episodes, minimum))  # refuses what is wrong before any episode is played

    def certificate(returns):
        if success_threshold is not None:
            returns = _successes(returns, success_threshold)
        return Certificate(float(sigma), budgets, lower(returns), returns, alpha, chosen)

    return certificate


def certify(
    env: Environment,
    act: Act,
    sigma: float,
    budgets: Sequence[float],
    num_episodes: int = 10_000,
    *,
    num_frames: int = 1,
    max_steps: int = 10_000,
    batch_size: int = 10_000,
    seed: int = 0,
    memory: Memory | None = None,
    track: Callable[[Sequence[Any]], Iterable[Any]] = iter,
    **options: Any,
) -> Certificate:
    """Lower bounds on the expected return of a smoothed policy under any attack.

    All episodes of a batch run in one compiled program.

    Args:
      env: a single environment, without noise.
      act: (obs `[B, ...]`, key) -> actions `[B, ...]`; it sees noisy observations, stacked if
        num_frames is above 1.
      sigma: standard deviation of the noise, above 0.
      budgets: L2 norms of the adversary over an episode.
      num_episodes: how many.
      num_frames: observations that the policy sees at once.
      max_steps: steps of an episode, if it has no earlier end; the return is of these.
      batch_size: episodes that run together.
      seed: of the episodes, which have nothing in common with a training from the same seed; at
        least 0, below 2^32.
      memory: of policies that remember, see `algos.evaluate`.
      track: what the batches are taken through, for a progress bar: `rich.progress.track`, say.
      **options: of the certificate:
        alpha: probability with which the bounds may fail, for all budgets together; 0.05.
        bound: see `losses.certified_return`; by default "clopper_pearson" if there are thresholds,
          else "dkw".
        thresholds: of the return, fixed beforehand; CartPole's with its 200 steps are `range(1,
          201)`.
        success_threshold: certify the probability of a return of at least this much, instead of the
          return.
        minimum: a return below which no episode can fall; 0.

    Raises:
      ValueError: what `losses.certified_return` refuses, before any episode where that can be
        known; a number is below 1; the seed is no seed; or act's actions are not of the
        environment's action space.
    """
    certificate = certifier(sigma, budgets, num_episodes, **options)
    key = _key(seed, 0)
    _require_positive(batch_size=batch_size, max_steps=max_steps)
    batch = min(num_episodes, batch_size)
    noisy_env = smoothed(env, sigma, num_frames=num_frames)
    _require_actions(noisy_env, act, memory)
    limits = {"num_episodes": batch, "max_steps": max_steps}

    @jax.jit
    def play(key):
        return evaluate(noisy_env, act, key, memory=memory, **limits).returns

    num_batches = -(-num_episodes // batch)
    keys = jax.random.split(key, num_batches)
    returns = np.concatenate([np.asarray(play(key)) for key in track(list(keys))])
    return certificate(returns[:num_episodes])


def attack(
    env: Environment,
    policy: Policy,
    sigma: float,
    budgets: Sequence[float],
    num_episodes: int = 1000,
    *,
    strengths: Sequence[float] | None = None,
    success_threshold: float | None = None,
    num_frames: int = 1,
    num_draws: int = 16,
    num_steps: int = 40,
    max_steps: int = 10_000,
    seed: int = 0,
) -> Attack:
    """Returns of a policy under adaptive attack, the worst of several strengths for each budget.

    One compiled program plays all episodes of a budget and a strength.

    Args:
      env: a single environment, without noise.
      policy: observations `[..., *obs_shape]` to logits `[..., n]`, of which the agent takes the
        largest, or to continuous actions; see `policy_of`.
      sigma: standard deviation of the agent's noise; 0 attacks one without it.
      budgets: L2 norms over an episode.
      num_episodes: of each budget and strength.
      strengths: discrete actions: gaps of `attacks.targeted_adversary`, by default 1, 6 and 20,
        which suits the logits of a policy gradient; continuous ones: fractions of the budget that
        `attacks.deviation_adversary` spends at a step, by default 0.1, 0.3 and 1.
      success_threshold: count returns of at least this much as 1 and others as 0.
      num_frames: observations that the policy sees at once.
      num_draws: of the noise, which the adversary averages over.
      num_steps: of its gradient, at each time step.
      max_steps: steps of an episode, if it has no earlier end.
      seed: of the episodes; the same for all budgets; at least 0, below 2^32.

    Raises:
      ValueError: sigma or a budget is negative, a number is below 1, the seed is no seed, there are
        no strengths, the environment's actions are neither a Box nor Discrete, or the policy's are
        not of its action space.
    """
    if not isinstance(env.action_space, Box | Discrete):
        raise ValueError(f"env.action_space={env.action_space}: must be a Box or Discrete")
    discrete = isinstance(env.action_space, Discrete)
    key = _key(seed, 1)
    strengths = (
        ((1.0, 6.0, 20.0) if discrete else (0.1, 0.3, 1.0))
        if strengths is None
        else tuple(strengths)
    )
    require_attack(sigma, budgets, strengths)
    _require_positive(
        num_episodes=num_episodes, num_draws=num_draws, num_steps=num_steps, max_steps=max_steps
    )

    def act(obs, key):
        del key
        out = policy(obs)
        return jnp.argmax(out, axis=-1).astype(jnp.int32) if discrete else out

    _require_actions(smoothed(env, sigma, num_frames=num_frames), act)
    # Without noise all draws are the same.
    options = {
        "num_frames": num_frames,
        "num_draws": num_draws if sigma else 1,
        "num_steps": num_steps,
    }

    @jax.jit
    def play(budget, strength, key):
        if discrete:
            adversary = targeted_adversary(policy, sigma, strength, **options)
        else:
            adversary = deviation_adversary(policy, sigma, strength * budget, **options)

        attacked = smoothed(env, sigma, num_frames=num_frames, adversary=adversary, budget=budget)
        return evaluate(attacked, act, key, num_episodes=num_episodes, max_steps=max_steps).returns

    def outcome(budget, strength):
        returns = np.asarray(play(budget, strength, jax.random.clone(key)))
        return returns if success_threshold is None else _successes(returns, success_threshold)

    worst = []
    for budget in budgets:
        played = [(outcome(budget, strength), strength) for strength in strengths]
        worst.append(min(played, key=lambda pair: pair[0].mean()))
    returns, chosen = (np.array(column) for column in zip(*worst, strict=True))
    return Attack(float(sigma), np.asarray(budgets, np.float64), returns, chosen)


def require_attack(
    sigma: float, budgets: Sequence[float], strengths: Sequence[float] | None
) -> None:
    """Raises ValueError for what `attack` refuses of these."""
    if strengths is not None and not len(strengths):
        raise ValueError("strengths: must not be empty")
    for name, value in (("sigma", sigma), *(("budgets", budget) for budget in budgets)):
        if not 0.0 <= value < np.inf:
            raise ValueError(f"{name}: must be finite and at least 0, got {value}")


def _key(seed, purpose):
    """A key that no training has: `split(key(seed), 1)` begins as `split(key(seed), 2)` does."""
    return jax.random.fold_in(jax.random.fold_in(seed_key(seed), 0x5300714E), purpose)


def _successes(returns, threshold):
    return (returns >= threshold).astype(np.float64)


def _require_actions(env, act, memory=None):
    act, memory = remembering(act, memory)

    def first_action(key):
        reset_key, memory_key, key = jax.random.split(key, 3)
        return act(env.reset(reset_key)[1][None], key, memory(memory_key, 1))[0]

    action = jax.eval_shape(first_action, jax.random.key(0))
    space = env.action_space
    whole, should_be = (jnp.issubdtype(x.dtype, jnp.integer) for x in (action, space))
    if action.shape != (1, *space.shape) or whole != should_be:
        raise ValueError(
            f"the policy's actions are {action.dtype}{list(action.shape[1:])}, the environment's"
            f" {space}; for an algorithm that cuts actions into a grid give envs.Discretized(env,"
            " bins)"
        )


def _require_positive(**numbers):
    for name, value in numbers.items():
        if not isinstance(value, int | np.integer) or value < 1:
            raise ValueError(f"{name}={value}: must be at least 1, an integer")
