"""Named objectives: each is a paper's composition of `onejit.losses`, in one short function.

`grpo(batch) -> scalar` with a `Batch`. Hyperparameters are keyword arguments with the paper's
values: `functools.partial(objectives.grpo, kl_coef=0.01)` is an objective too, and so is any
function of your own.
"""

from collections.abc import Callable

from ..batch import Batch, Result
from . import policy_gradient, preference, with_ratio

OBJECTIVES: dict[str, Callable[[Batch], Result]] = {
    function.__name__: function
    for function in (
        with_ratio.grpo,
        with_ratio.dr_grpo,
        with_ratio.dapo,
        with_ratio.gspo,
        with_ratio.reinforce_plus_plus,
        with_ratio.cispo,
        with_ratio.rapid,
        with_ratio.gmpo,
        with_ratio.bnpo,
        with_ratio.pass_at_k,
        with_ratio.cpgd,
        with_ratio.r2vpo,
        with_ratio.aspo,
        with_ratio.aepo,
        with_ratio.dcpo,
        with_ratio.hapo,
        with_ratio.bapo,
        with_ratio.m2po,
        with_ratio.top_entropy,
        with_ratio.d3s,
        with_ratio.cppo,
        with_ratio.seed_grpo,
        with_ratio.polychromic,
        with_ratio.redit,
        with_ratio.tempsamp_r1,
        with_ratio.prs,
        with_ratio.epo,
        with_ratio.egsw,
        with_ratio.rec,
        with_ratio.clip_cov,
        policy_gradient.rloo,
        policy_gradient.max_at_k,
        policy_gradient.asymre,
        policy_gradient.opmd,
        policy_gradient.nsr,
        policy_gradient.psr,
        policy_gradient.w_reinforce,
        policy_gradient.gtpo,
        policy_gradient.haepo,
        preference.dpo,
        preference.ipo,
        preference.exo,
        preference.sppo,
        preference.copg,
        preference.p3o,
        preference.a_star_po,
        preference.pacs,
    )
}
# Those that hold for one pass over an answer.
ONE_PASS = frozenset(
    name for name, function in OBJECTIVES.items() if function.__module__ == policy_gradient.__name__
)
