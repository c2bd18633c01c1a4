"""Certificates of smoothed policies: what an adversary cannot undercut (Kumar et al. 2022, arXiv
2106.11420).

A smoothed policy acts on observations with Gaussian noise of standard deviation σ, one draw for
each. An adversary adds perturbations to the observations before the noise, as it likes and knowing
all that went before, as long as the square root of the sum of their squared L2 norms over the
episode is at most its budget B. By the adaptive Neyman–Pearson lemma there, whatever has
probability p without adversary has at least Φ(Φ⁻¹(p) − B/σ) with it, in episodes of any length.

These functions are plain numpy and scipy in float64, not traced: they run once, after all episodes,
and Φ⁻¹ near 1, where a good policy's probabilities are, has no digits left in float32.
"""

import numpy as np

BOUNDS = ("clopper_pearson", "dkw")


def clopper_pearson_lower(successes: np.ndarray, trials: int, *, alpha: float) -> np.ndarray:
    """One-sided exact lower bound on a success probability.

    Source: Clopper and Pearson (1934).

    Args:
      successes: how many of the trials succeeded, integers `[...]` in 0..trials.
      trials: how many there were, at least 1.
      alpha: the bound is above the true probability with at most this probability, in (0, 1).

    Returns:
      float64 `[...]`: the α-quantile of Beta(k, n − k + 1); 0 where there was no success.

    Raises:
      ValueError: an argument is outside its range.
    """
    successes = np.asarray(successes)
    _require_trials(trials)
    _require_alpha(alpha)
    if np.any(successes < 0) or np.any(successes > trials):
        raise ValueError(f"successes={successes}: must be between 0 and trials={trials}")
    from scipy import special  # a fifth of a second, which whoever imports the losses would wait

    quantile = special.betaincinv(np.maximum(successes, 1), trials - successes + 1, alpha)
    return np.where(successes == 0, 0.0, quantile)


def dkw_lower(probability: np.ndarray, trials: int, *, alpha: float) -> np.ndarray:
    """Lower bounds on all values of a survival function at once: max(p̂ − √(ln(1/α) / 2n), 0).

    Source: the one-sided inequality of Dvoretzky, Kiefer and Wolfowitz (1956) with Massart's
    constant (1990). The code released with Kumar et al. (2022) subtracts √(ln(2/α) / 2n), which
    bounds both sides.

    Args:
      probability: estimates p̂(v) = (number of samples ≥ v) / n, `[...]` in [0, 1].
      trials: n, at least 1.
      alpha: any of the bounds is above the truth with at most this probability, in (0, 0.5].

    Returns:
      float64 `[...]`.

    Raises:
      ValueError: an argument is outside its range.
    """
    probability = _require_probability("probability", probability)
    _require_trials(trials)
    if not 0.0 < alpha <= 0.5:
        raise ValueError(f"alpha={alpha}: must be in (0, 0.5] for the one-sided inequality")
    return np.maximum(probability - np.sqrt(np.log(1.0 / alpha) / (2.0 * trials)), 0.0)


def certified_probability(p_lower: np.ndarray, *, sigma: float, budget: np.ndarray) -> np.ndarray:
    """The least probability under attack: Φ(Φ⁻¹(p) − B/σ), for p `[...]` and budgets that broadcast
    with it.

    Source: Kumar et al. (2022), arXiv 2106.11420, the adaptive Neyman–Pearson lemma.

    Args:
      p_lower: a lower bound on the probability without adversary, in [0, 1].
      sigma: standard deviation of the noise, above 0.
      budget: L2 norm of the adversary's perturbations over an episode, at least 0, in the units of
        sigma.

    Returns:
      float64; 0 stays 0 and 1 stays 1.

    Raises:
      ValueError: an argument is outside its range.
    """
    if not 0.0 < sigma < np.inf:
        raise ValueError(f"sigma={sigma}: must be above 0 and finite")
    budget = np.asarray(budget, np.float64)
    if not np.all((budget >= 0.0) & (budget < np.inf)):
        raise ValueError(f"budget={budget}: must be at least 0 and finite")
    p_lower = _require_probability("p_lower", p_lower)
    from scipy import special  # see above

    return special.ndtr(special.ndtri(p_lower) - budget / sigma)


def certified_return(
    returns: np.ndarray,
    *,
    sigma: float,
    budget: np.ndarray,
    alpha: float,
    bound: str = "clopper_pearson",
    thresholds: np.ndarray | None = None,
    minimum: float = 0.0,
) -> np.ndarray:
    """A lower bound on the expected return under attack, from returns without one.

    v₀ + Σᵢ (vᵢ − vᵢ₋₁)·Φ(Φ⁻¹(pᵢ) − B/σ), where pᵢ is a lower bound on P(R ≥ vᵢ) and v₀ = `minimum`.
    All pᵢ hold together with probability 1 − alpha: with Clopper–Pearson each of the n thresholds
    has confidence alpha/n, by the union bound; with DKW the whole survival function has alpha.
    Clopper–Pearson is tighter where probabilities are near 1, with few thresholds; they must then
    be chosen without looking at the returns. To bound the probability of a success, pass 1.0 for
    each success and 0.0 for each failure, with thresholds=[1.0].

    Source: Kumar et al. (2022), arXiv 2106.11420, the certificates of the total reward.

    Args:
      returns: of independent episodes with noise and without adversary, `[N]`.
      sigma: standard deviation of the noise, above 0.
      budget: of the adversary, a number or an array `[...]`, at least 0.
      alpha: the bound fails with at most this probability, over the draw of the returns; in (0, 1),
        (0, 0.5] for DKW.
      bound: "clopper_pearson" or "dkw".
      thresholds: v₁ < v₂ < … `[n]`, above minimum; with DKW None stands for the distinct returns.
      minimum: a return below which no episode can fall, whatever the adversary does. 0 is right for
        rewards that are never negative; others need to know theirs, the lowest that was seen is not
        a bound.

    Returns:
      float64, of the shape of budget.

    Raises:
      ValueError: a return is not finite or below minimum, thresholds are missing, out of order or
        not above minimum, there are too few episodes to certify even half of a return that all of
        them reach, or a number is out of range.
    """
    returns = np.asarray(returns, np.float64)
    _require_alpha(alpha)
    if bound not in BOUNDS:
        raise ValueError(f"bound={bound!r}: must be one of {', '.join(BOUNDS)}")
    if returns.ndim != 1 or not np.all(np.isfinite(returns)):
        raise ValueError("returns: must be finite and have one axis, the episodes")
    if np.any(returns < minimum):
        raise ValueError(
            f"returns go down to {returns.min():g}, below minimum={minimum:g}: give a lower bound"
            " on the return that holds for every episode under any attack"
        )
    if thresholds is None:
        if bound == "clopper_pearson":
            raise ValueError(
                "thresholds: Clopper–Pearson needs thresholds that do not depend on the returns"
            )
        thresholds = np.unique(returns[returns > minimum])
    thresholds = np.asarray(thresholds, np.float64)
    if thresholds.ndim != 1 or np.any(np.diff(thresholds, prepend=minimum) <= 0.0):
        raise ValueError("thresholds: must have one axis, increase, and be above minimum")
    trials = len(returns)
    splits = len(thresholds) if bound == "clopper_pearson" else 1
    needed = _min_episodes(alpha, bound, max(1, splits))
    if trials < needed:
        raise ValueError(
            f"{trials} episodes are too few for alpha={alpha} with {bound}: at least {needed} are"
            " needed"
        )
    reached = trials - np.searchsorted(np.sort(returns), thresholds)  # episodes with R ≥ v
    if bound == "clopper_pearson":
        p_lower = clopper_pearson_lower(reached, trials, alpha=alpha / max(1, splits))
    else:
        p_lower = dkw_lower(reached / trials, trials, alpha=alpha)
    p_certified = certified_probability(
        p_lower, sigma=sigma, budget=np.asarray(budget, np.float64)[..., None]
    )
    return minimum + np.sum(np.diff(thresholds, prepend=minimum) * p_certified, axis=-1)


def _min_episodes(alpha: float, bound: str, num_thresholds: int) -> int:
    """The fewest episodes with which p = 1 in all of them is certified to be at least one half."""
    if bound == "clopper_pearson":
        return int(np.ceil(np.log(alpha / num_thresholds) / np.log(0.5)))
    return int(np.ceil(2.0 * np.log(1.0 / alpha)))


def _require_alpha(alpha):
    if not 0.0 < alpha < 1.0:
        raise ValueError(f"alpha={alpha}: must be in (0, 1)")


def _require_trials(trials):
    if trials < 1:
        raise ValueError(f"trials={trials}: must be at least 1")


def _require_probability(name, value):
    value = np.asarray(value, np.float64)
    if not np.all((value >= 0.0) & (value <= 1.0)):
        raise ValueError(f"{name}={value}: must be between 0 and 1")
    return value
