"""Preferences, demonstrations and denoising: value and gradient in float64 against plain Python, a
loop over rows written from the formula, and its finite differences.
"""

import functools
import inspect
import math

import jax
import numpy as np
import pytest

from onejit.losses import denoising, preferences, supervised

# Worked numbers and the contract of every loss are in `make test`.
pytestmark = pytest.mark.slow

close = np.testing.assert_allclose


def rng():
    return np.random.default_rng(0)


def normal(*shape):
    return rng().normal(size=shape)


# The loops. Their defaults are the hyperparameters that the functions are called with.


def logistic(x):
    return 1.0 / (1.0 + math.exp(-x))


def softmax(x):
    weights = [math.exp(each) for each in x]
    return [each / sum(weights) for each in weights]


def mean(x):
    return sum(x) / len(x)


def dpo(margin, beta=0.4, label_smoothing=0.1):
    right = -(1 - label_smoothing) * math.log(logistic(beta * margin))
    return right - label_smoothing * math.log(1 - logistic(beta * margin))


def ipo(margin, beta=0.4):
    return (margin - 1 / (2 * beta)) ** 2


def exo_pair(margin, beta=0.4, label_smoothing=0.01):
    p = logistic(beta * margin)
    return p * math.log(p / (1 - label_smoothing)) + (1 - p) * math.log((1 - p) / label_smoothing)


def exo(log_ratio, rewards, beta=0.4, reward_beta=0.7):
    p, q = softmax(beta * log_ratio), softmax(rewards / reward_beta)
    return sum(a * math.log(a / b) for a, b in zip(p, q, strict=True))


def p3o(log_ratio, rewards, clip_eps=0.3):
    total = 0.0
    for i in (0, 1):
        ratio, advantage = math.exp(log_ratio[i]), rewards[i] - rewards[1 - i]
        clipped = min(max(ratio, 1 - clip_eps), 1 + clip_eps)
        total -= min(ratio * advantage, clipped * advantage) / 2
    return total


def sppo(log_ratio, win_prob, beta=0.4):
    return (log_ratio - (win_prob - 0.5) / beta) ** 2 / 2


def copg(rewards, log_prob, ref_log_prob, beta=0.4):
    r = [a - beta * (b - c) for a, b, c in zip(rewards, log_prob, ref_log_prob, strict=True)]
    return sum((r[i] - r[j]) ** 2 for i in range(len(r)) for j in range(i)) / (len(r) - 1)


def optimal_value(rewards, beta=0.5):
    return beta * math.log(mean([math.exp(r / beta) for r in rewards]))


def optimal_advantage(log_ratio, reward, value, beta=0.2):
    return (beta * log_ratio + value - reward) ** 2


def cross_entropy(logit, correct):
    return -math.log(logistic(logit)) if correct else -math.log(logistic(-logit))


def pacs(score, correct):
    others = [mean([*score[:i], *score[i + 1 :]]) for i in range(len(score))]
    return np.array([cross_entropy(*each) for each in zip(score - others, correct, strict=True)])


def outcome(log_ratio, correct, beta=0.5):
    return cross_entropy(beta * log_ratio, correct)


def success_pairs(reward, success):
    of_pairs = [
        -math.log(logistic(good - bad))
        for good, won in zip(reward, success, strict=True)
        for bad, won_too in zip(reward, success, strict=True)
        if won and not won_too
    ]
    return mean(of_pairs) if of_pairs else 0.0


def information(log_prob, ref_log_prob):
    return np.log(softmax(log_prob - ref_log_prob))


def rejected(chosen, target, ref, beta=0.4):
    return np.log(softmax(chosen - beta * (target - ref)))


def one_token(log_probs, label, samples, miss_reward=-0.1):
    return -mean([(1.0 if a == label else miss_reward) * log_probs[a] for a in samples])


def one_token_expected(log_probs, behaviour_probs, label, miss_reward=-0.1):
    rewards = [1.0 if a == label else miss_reward for a in range(len(log_probs))]
    return -sum(a * b * c for a, b, c in zip(behaviour_probs, rewards, log_probs, strict=True))


def unified(log_prob, denominator_log_prob, advantage):
    return -advantage * math.exp(log_prob - denominator_log_prob)


def hybrid(sft_loss, rl_loss, successes, gate=1.0, sft_coef=0.3, rl_coef=2.0):
    return sft_coef * sft_loss if successes <= gate else rl_coef * rl_loss


def implicit_reward(log_prob, ref_log_prob, beta=0.4):
    return beta * (log_prob - ref_log_prob)


DIVERGENCES = {
    "total_variation": lambda x: -x,
    "pearson": lambda x: -(x - x**2 / 4),
    "hellinger": lambda x: -x / (1 + x),
    "jensen_shannon": lambda x: -math.log(2 - math.exp(-x)),
}


def densities(x, means, stds):
    return [
        -((a - b) ** 2) / (2 * c**2) - math.log(c * math.sqrt(2 * math.pi))
        for a, b, c in zip(x, means, stds, strict=True)
    ]


def step(x, means, std=0.4):
    return sum(densities(x, means, [std] * len(x)))


def regulated(log_ratio, shift_sq, step_std=0.4):
    return step_std * (log_ratio + shift_sq / (2 * step_std**2))


def step_weight(dt, t, eta=0.5):
    return (1 + eta**2 * (1 - t) / (2 * t)) / dt


def initial_noise(noise, means, stds):
    return mean(densities(noise, means, stds))


def noise_prior(means, stds):
    return mean(means**2 + (stds - 1) ** 2)


def flow(error, ref_error, advantage, temperature=0.7, clip=0.8, reference_coef=0.3):
    weight = math.exp(min(max(advantage, -clip), clip) / temperature)
    return weight * error + reference_coef * ref_error


def composed(scores, weights):
    return sum(s * w for s, w in zip(scores, weights, strict=True))


PLACES, ROWS = (2, 7), (2, 3, 5)
CORRECT = rng().random(ROWS) < 0.5
TOKENS = rng().integers(4, size=(2, 3))
LAW = rng().dirichlet([1.0] * 4, (2, 3))
# Loop: the function; the axes that the loop takes of each array and gives, None where it is per
# element; arrays; the places of those that are differentiated.
CASES = {
    dpo: (preferences.dpo_loss, None, [3 * normal(*PLACES)], [0]),
    ipo: (preferences.ipo_loss, None, [3 * normal(*PLACES)], [0]),
    exo_pair: (preferences.exo_pair_loss, None, [3 * normal(*PLACES)], [0]),
    exo: (preferences.exo_loss, "(k),(k)->()", normal(2, *ROWS), [0]),
    p3o: (preferences.p3o_loss, "(k),(k)->()", normal(2, 6, 5, 2), [0]),
    sppo: (preferences.sppo_loss, None, [normal(*PLACES), rng().random(PLACES)], [0]),
    copg: (preferences.copg_loss, "(k),(k),(k)->()", normal(3, *ROWS), [1]),
    optimal_value: (preferences.optimal_value, "(k)->()", [normal(*ROWS)], []),
    optimal_advantage: (preferences.optimal_advantage_loss, None, normal(3, *PLACES), [0]),
    pacs: (preferences.pacs_loss, "(k),(k)->(k)", [normal(*ROWS), CORRECT], [0]),
    outcome: (preferences.outcome_cross_entropy, None, [normal(*ROWS), CORRECT], [0]),
    success_pairs: (preferences.success_pair_loss, "(k),(k)->()", [normal(*ROWS), CORRECT], [0]),
    information: (preferences.differential_information, "(k),(k)->(k)", normal(2, *ROWS), [0]),
    rejected: (preferences.rejected_log_prob, "(k),(k),(k)->(k)", normal(3, *ROWS), [0, 1]),
    one_token: (
        supervised.one_token_rollout_loss,
        "(v),(),(k)->()",
        [normal(2, 3, 4), TOKENS, rng().integers(4, size=(2, 3, 6))],
        [0],
    ),
    one_token_expected: (
        supervised.one_token_rollout_expectation,
        "(v),(v),()->()",
        [normal(2, 3, 4), LAW, TOKENS],
        [0],
    ),
    unified: (supervised.unified_surrogate, None, normal(3, *PLACES), [0]),
    hybrid: (
        supervised.hybrid_loss,
        None,
        [*normal(2, *PLACES), rng().integers(4, size=PLACES)],
        [0, 1],
    ),
    implicit_reward: (supervised.implicit_reward, None, normal(2, *PLACES), [0]),
    **{
        loop: (
            functools.partial(supervised.sft_divergence_loss, divergence=name),
            None,
            [rng().uniform(-0.6, 3.0, PLACES)],
            [0],
        )
        for name, loop in DIVERGENCES.items()
    },
    step: (denoising.step_log_prob, "(d),(d)->()", normal(2, *ROWS), [0, 1]),
    regulated: (denoising.regulated_log_ratio, None, normal(2, *PLACES), [0, 1]),
    step_weight: (denoising.step_weight, None, rng().uniform(0.1, 1.0, (2, *PLACES)), []),
    initial_noise: (
        denoising.initial_noise_log_prob,
        "(d),(d),(d)->()",
        [*normal(2, *ROWS), rng().uniform(0.5, 1.5, ROWS)],
        [0, 1, 2],
    ),
    noise_prior: (denoising.noise_prior_penalty, "(d),(d)->()", normal(2, *ROWS), [0, 1]),
    flow: (denoising.advantage_weighted_flow_loss, None, normal(3, *PLACES), [0, 1]),
    composed: (denoising.compose_scores, "(p,k),(p)->(k)", [normal(3, 4), normal(3)], [0, 1]),
}


@pytest.mark.parametrize("loop", CASES, ids=lambda loop: loop.__name__)
def test_value_and_gradient_equal_those_of_a_loop(loop):
    function, signature, arrays, differentiated = CASES[loop]
    looped = np.vectorize(lambda *data: loop(*data), otypes=[float], signature=signature)
    parameters = inspect.signature(loop).parameters.values()
    hyperparameters = {
        each.name: each.default for each in parameters if each.default is not each.empty
    }
    expected = looped(*arrays)
    weights = np.random.default_rng(1).normal(size=expected.shape)
    floating = [i for i, array in enumerate(arrays) if array.dtype == np.float64]

    def total(*data):
        value = function(*data, **hyperparameters)
        return (weights * value).sum(), value

    with jax.enable_x64(True):
        gradient = jax.jit(jax.grad(total, argnums=floating, has_aux=True))
        slopes, value = gradient(*arrays)
    close(value, expected, rtol=1e-12, atol=1e-14)
    for i, slope in zip(floating, slopes, strict=True):
        if i not in differentiated:
            assert not slope.any(), f"argument {i} is data"
            continue
        finite = np.zeros_like(arrays[i])
        for place in np.ndindex(finite.shape):
            change = np.zeros_like(finite)
            change[place] = 1e-5
            around = [arrays[i] + change, arrays[i] - change]
            above, below = (looped(*arrays[:i], each, *arrays[i + 1 :]) for each in around)
            finite[place] = np.sum(weights * (above - below)) / 2e-5
        close(slope, finite, rtol=1e-6, atol=1e-8)


def test_there_is_a_loop_for_every_function():
    names = {
        name
        for module in (preferences, supervised, denoising)
        for name, function in inspect.getmembers(module, inspect.isfunction)
        if function.__module__.startswith(module.__name__) and name[0] != "_"
    }
    assert names == {getattr(case[0], "func", case[0]).__name__ for case in CASES.values()}
