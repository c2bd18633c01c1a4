"""losses/smoothing.py against scipy, numbers worked out by hand, published ones, and simulated
adversaries.
"""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose
from scipy import stats

from onejit import losses


@pytest.mark.parametrize("successes", [0, 1, 37, 99, 100])
@pytest.mark.parametrize("alpha", [0.05, 0.05 / 200])
def test_clopper_pearson_is_scipys_exact_one_sided_interval(successes, alpha):
    interval = stats.binomtest(successes, 100, alternative="greater").proportion_ci(
        1.0 - alpha, method="exact"
    )
    # A root that scipy searches.
    assert_allclose(
        losses.clopper_pearson_lower(successes, 100, alpha=alpha), interval.low, rtol=1e-9
    )


def test_clopper_pearson_by_hand():
    # all of n succeed: p^n = α, so p = 0.05^(1/10)
    assert_allclose(losses.clopper_pearson_lower(10, 10, alpha=0.05), 0.05**0.1)
    # one of n succeeds: 1 − (1 − p)^n = α, so p = 1 − 0.95^(1/10)
    assert_allclose(
        losses.clopper_pearson_lower(np.array([1, 0]), 10, alpha=0.05), [1.0 - 0.95**0.1, 0.0]
    )


def test_dkw_by_hand():
    # √(ln 20 / 20000) = √(2.9957 / 20000) = 0.012239
    assert_allclose(
        losses.dkw_lower([0.5, 1.0, 0.01], 10_000, alpha=0.05), [0.487761, 0.987761, 0.0], atol=1e-6
    )


def test_certified_probability_by_hand():
    # Φ(0 − 1) = 0.158655; Φ(1.644854 − 0.5) = Φ(1.144854) = 0.873865
    assert_allclose(losses.certified_probability(0.5, sigma=0.2, budget=0.2), 0.158655, atol=1e-6)
    assert_allclose(losses.certified_probability(0.95, sigma=0.4, budget=0.2), 0.873865, atol=1e-6)
    assert_allclose(
        losses.certified_probability([0.0, 0.3, 1.0], sigma=1.0, budget=0.0), [0.0, 0.3, 1.0]
    )
    assert_allclose(losses.certified_probability([0.0, 1.0], sigma=1.0, budget=3.0), [0.0, 1.0])


def test_probabilities_near_one_keep_their_digits():
    # Φ(6 − 1) with p = Φ(6) = 1 − 9.87e-10, which float32 cannot tell from 1
    lower = losses.certified_probability(stats.norm.cdf(6.0), sigma=1.0, budget=1.0)
    assert lower.dtype == np.float64
    assert_allclose(1.0 - lower, stats.norm.sf(5.0), rtol=1e-6)


@given(
    p=st.floats(0.0, 1.0),
    first=st.floats(0.0, 2.0),
    second=st.floats(0.0, 2.0),
    sigma=st.floats(0.1, 2.0),
)
def test_more_budget_certifies_less_and_more_noise_more(p, first, second, sigma):
    small, large = (
        losses.certified_probability(p, sigma=sigma, budget=b) for b in (first, first + second)
    )
    assert large <= small <= p + 1e-12
    assert large <= losses.certified_probability(p, sigma=2.0 * sigma, budget=first + second)
    # One adversary after the other.
    both = losses.certified_probability(small, sigma=sigma, budget=second)
    assert_allclose(both, large, atol=1e-9)


def test_certified_return_by_hand():
    returns = np.array([1.0] * 25 + [3.0] * 75)
    # thresholds 1 and 3 at α/2 = 0.025: P(R ≥ 1) ≥ 0.025^(1/100) = 0.963783, P(R ≥ 3) ≥ the
    # quantile of Beta(75, 26)
    p3 = stats.beta.ppf(0.025, 75, 26)
    options = {"sigma": 0.5, "alpha": 0.05}
    at_rest = losses.certified_return(returns, budget=0.0, thresholds=[1.0, 3.0], **options)
    assert_allclose(at_rest, 1.0 * 0.963783 + 2.0 * p3, atol=1e-6)
    # Φ(1.796385 − 1) = Φ(0.796385) = 0.787096 at budget 0.5
    attacked = losses.certified_return(returns, budget=[0.0, 0.5], thresholds=[1.0, 3.0], **options)
    assert_allclose(
        attacked, [at_rest, 0.787096 + 2.0 * stats.norm.cdf(stats.norm.ppf(p3) - 1.0)], atol=1e-5
    )
    # DKW: √(ln 20 / 200) = 0.122387, so 1·0.877613 + 2·0.627613 = 2.132839
    assert_allclose(
        losses.certified_return(returns, budget=0.0, bound="dkw", **options), 2.132839, atol=1e-5
    )


@pytest.mark.parametrize("bound", ["clopper_pearson", "dkw"])
def test_the_certificate_is_below_the_mean_and_falls_with_the_budget(bound):
    returns = np.random.default_rng(0).integers(0, 20, size=500).astype(float)
    options = {"alpha": 0.05, "bound": bound, "thresholds": range(1, 20)}
    budgets = np.linspace(0.0, 2.0, 9)
    weak, strong = (
        losses.certified_return(returns, sigma=sigma, budget=budgets, **options)
        for sigma in (0.3, 0.6)
    )
    assert weak[0] == strong[0] < returns.mean()
    assert np.all(np.diff(weak) < 0.0)
    assert np.all(weak[1:] < strong[1:])
    more = losses.certified_return(np.tile(returns, 10), sigma=0.3, budget=budgets, **options)
    assert np.all(more > weak)


def test_returns_with_a_negative_minimum_are_shifted():
    returns = np.random.default_rng(0).uniform(0.0, 10.0, size=200)
    options = {"sigma": 0.5, "budget": [0.0, 0.3], "alpha": 0.05}
    for bound, thresholds in (("dkw", None), ("clopper_pearson", np.arange(1.0, 10.0))):
        expected = (
            losses.certified_return(returns, bound=bound, thresholds=thresholds, **options) - 7.0
        )
        moved = None if thresholds is None else thresholds - 7.0
        found = losses.certified_return(
            returns - 7.0, bound=bound, thresholds=moved, minimum=-7.0, **options
        )
        assert_allclose(found, expected, atol=1e-12)


# P(R ≥ v) in ten-thousandths for v = 125..200 of the agent that ReCePS (github.com/mrh996/ReCePS,
# test_plot.ipynb) has trained on CartPole with sigma 0.2, from 10,000 episodes; it is 1 for v up to
# 124.
SURVIVAL = """
    9999 9999 9999 9997 9997 9997 9995 9995 9994 9992 9992 9990 9987 9984 9984 9979 9978 9977 9975
    9971 9971 9967
    9965 9961 9959 9954 9951 9948 9942 9933 9929 9921 9916 9914 9909 9897 9888 9875 9864 9859 9855
    9851 9833 9817
    9803 9786 9769 9749 9727 9712 9695 9681 9661 9650 9617 9587 9565 9535 9506 9478 9447 9413 9384
    9363 9328 9292
    9259 9219 9177 9142 9098 9060 9013 8972 8933 8882
"""


def test_certificate_of_a_published_survival_function():
    reached = np.array([10_000] * 124 + [int(each) for each in SURVIVAL.split()])
    assert len(reached) == 200
    ended = np.append(reached[:-1] - reached[1:], reached[-1])  # episodes with a return of v
    returns = np.repeat(np.arange(1.0, 201.0), ended)
    assert len(returns) == 10_000
    lower = losses.certified_return(
        returns,
        sigma=0.2,
        budget=[0.0, 0.2, 0.4, 0.6, 0.8, 1.0],
        alpha=0.05,
        thresholds=range(1, 201),
    )
    assert_allclose(lower, [197.4, 185.3, 149.3, 86.0, 28.1, 4.4], atol=0.06)


@pytest.mark.parametrize(
    ("bound", "steps"),
    [("clopper_pearson", [1.0]), ("clopper_pearson", [0.0, 0.5, 1.0]), ("dkw", [0.0, 0.5, 1.0])],
)
def test_the_certificate_fails_no_more_often_than_its_confidence_allows(bound, steps):
    """A family of games whose worst case is known.

    Over T steps the agent sees δ_t + σ·ε_t, δ the adversary's, and its return is the number of
    thresholds −c_i that the sum of what it saw, divided by √T, exceeds. Best for the adversary is
    to push all steps alike, δ_t = −B/√T, and the return then is Σ Φ((c_i − B)/σ), whatever T is:
    what the certificate says of exact probabilities.
    """
    rng = np.random.default_rng(0)
    sigma = 0.5
    alpha = 0.05
    thresholds = np.arange(1.0, len(steps) + 1.0)
    levels = np.sort(steps)[::-1]  # of c: the first threshold is the easiest to exceed
    budgets = np.array([0.0, 0.4, 1.2])
    worst = np.sum(stats.norm.cdf((levels - budgets[:, None]) / sigma), axis=1)
    lower = []
    for _ in range(1000):
        total = sigma * rng.normal(size=200)
        returns = np.sum(total[:, None] > -levels, axis=1).astype(float)
        lower.append(
            losses.certified_return(
                returns,
                sigma=sigma,
                budget=budgets,
                alpha=alpha,
                bound=bound,
                thresholds=thresholds,
            )
        )
    violated = np.sum(np.array(lower) > worst, axis=0)
    # 73 where the confidence is exact.
    assert np.all(violated <= stats.binom.ppf(0.999, 1000, alpha))
    assert np.all(np.mean(lower, axis=0) > worst - 0.2 * len(steps))  # and it says something
    exact = losses.certified_probability(
        stats.norm.cdf(levels / sigma), sigma=sigma, budget=budgets[:, None]
    )
    assert_allclose(np.sum(exact, axis=1), worst, atol=1e-12)


def test_no_adaptive_adversary_gets_below_the_certificate():
    """Survival: each of ten steps is survived if what the agent sees exceeds −c, and the return
    counts those survived.

    The adversary sees whether the agent has survived, and divides what is left of its budget anew
    at each step. Its best play by dynamic programming over squared budgets, in 100 parts, is above
    the certificate of exact probabilities, and near it for small budgets.
    """
    sigma, c, parts = 0.5, 0.9, 100
    survive = stats.norm.cdf(c / sigma) ** np.arange(1, 11)
    for budget in (0.1, 0.3, 0.6, 1.0):
        spent = budget * np.sqrt(np.arange(parts + 1) / parts)
        pass_step = stats.norm.cdf((c - spent) / sigma)
        value = np.zeros(parts + 1)  # by what is left
        for _ in range(10):
            value = np.array(
                [
                    np.min(pass_step[: left + 1] * (1.0 + value[left::-1]))
                    for left in range(parts + 1)
                ]
            )
        certified = np.sum(losses.certified_probability(survive, sigma=sigma, budget=budget))
        assert certified <= value[-1]
        if budget == 0.1:
            assert certified > 0.9 * value[-1]


BAD = {
    "sigma": ({"sigma": 0.0}, "sigma=0.0: must be above 0"),
    "negative sigma": ({"sigma": -1.0}, "sigma=-1.0: must be above 0"),
    "budget": ({"budget": [-0.1]}, "budget=.*must be at least 0"),
    "alpha": ({"alpha": 0.0}, "alpha=0.0: must be in"),
    "alpha of dkw": ({"alpha": 0.7, "bound": "dkw"}, "alpha=0.7: must be in .0, 0.5."),
    "bound": ({"bound": "hoeffding"}, "bound='hoeffding': must be one of clopper_pearson, dkw"),
    "thresholds": ({"thresholds": None}, "thresholds that do not depend on the returns"),
    "order": ({"thresholds": [2.0, 1.0]}, "thresholds: must have one axis, increase"),
    "low threshold": ({"thresholds": [0.0, 1.0]}, "be above minimum"),
    "unknown minimum": (
        {"returns": np.full(100, -3.0)},
        "go down to -3, below minimum=0: give a lower bound",
    ),
    "nan": ({"returns": np.array([1.0, np.nan])}, "must be finite"),
    # 0.5^n ≤ 0.05/2 needs n ≥ 5.3
    "few episodes": ({"returns": np.ones(5)}, "5 episodes are too few for alpha=0.05 .*at least 6"),
    # √(ln 20 / 2n) ≤ 1/2 needs n ≥ 5.99
    "few for dkw": (
        {"returns": np.ones(5), "bound": "dkw"},
        "5 episodes are too few .* with dkw: at least 6",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_refused_with_what_is_allowed(case):
    changes, message = BAD[case]
    valid = {"sigma": 0.2, "budget": 0.1, "alpha": 0.05, "thresholds": [1.0, 2.0]}
    call = {"returns": np.ones(100), **valid, **changes}
    with pytest.raises(ValueError, match=message):
        losses.certified_return(call.pop("returns"), **call)
    losses.certified_return(np.ones(100), **valid)


def test_the_bounds_refuse_what_is_no_count_or_probability():
    with pytest.raises(ValueError, match="successes=11: must be between 0 and trials=10"):
        losses.clopper_pearson_lower(11, 10, alpha=0.05)
    with pytest.raises(ValueError, match="trials=0: must be at least 1"):
        losses.clopper_pearson_lower(0, 0, alpha=0.05)
    with pytest.raises(ValueError, match="probability=1.2: must be between 0 and 1"):
        losses.dkw_lower(1.2, 10, alpha=0.05)
    with pytest.raises(ValueError, match="p_lower=-0.1: must be between 0 and 1"):
        losses.certified_probability(-0.1, sigma=1.0, budget=0.0)
