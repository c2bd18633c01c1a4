"""Objectives of preferences, of which the answers of a group are the candidates, ranked by their
rewards.

Those that improve the policy that wrote step by step have it as reference; DPO, IPO and EXO have
the reference policy of the loop, `ref_alpha=1` to make it the one that wrote. IPO and EXO end at a
fixed distance from their reference. Losses with β in them are multiplied by a constant such that
their gradient at the reference is of the size of a policy gradient: the entropy bonus then weighs
as much as beside the other objectives.
"""

import chex
import jax.numpy as jnp

from ....losses import preferences
from ....losses.sequences import reductions
from ..batch import Batch


def _log_ratio(batch: Batch, reference: chex.Array) -> chex.Array:
    """Of whole answers to a reference, `[N, G]`."""
    return reductions.sequence_sum(batch.log_prob - reference, batch.mask)


def _pairs(x: chex.Array) -> chex.Array:
    """x of the first minus x of the second answer of each pair, `[N, G]` to `[N, G, G]`."""
    return x[..., :, None] - x[..., None, :]


def dpo(batch: Batch, *, beta=0.1) -> chex.Array:
    """DPO (arXiv 2305.18290), of all pairs of a better and a worse answer."""
    margin = _pairs(_log_ratio(batch, batch.ref_log_prob))
    loss = preferences.dpo_loss(margin, beta=beta) / beta
    return reductions.masked_mean(loss, _pairs(batch.rewards) > 0.0)


def ipo(batch: Batch, *, beta=0.1) -> chex.Array:
    """IPO (arXiv 2310.12036), of all pairs of a better and a worse answer."""
    margin = _pairs(_log_ratio(batch, batch.ref_log_prob))
    loss = preferences.ipo_loss(margin, beta=beta) * beta
    return reductions.masked_mean(loss, _pairs(batch.rewards) > 0.0)


def exo(batch: Batch, *, beta=0.5, reward_beta=0.5) -> chex.Array:
    """EXO (arXiv 2402.00856): reverse KL of the group to the softmax of its rewards."""
    log_ratio = _log_ratio(batch, batch.ref_log_prob)
    loss = preferences.exo_loss(log_ratio, batch.rewards, beta=beta, reward_beta=reward_beta)
    return jnp.mean(loss) / beta


def sppo(batch: Batch, *, beta=1e-3) -> chex.Array:
    """SPPO (arXiv 2405.00675): log-ratios to the policy that wrote follow the win rates."""
    difference = _pairs(batch.rewards)
    wins = jnp.mean(0.5 + 0.5 * jnp.sign(difference), axis=-1)
    log_ratio = _log_ratio(batch, batch.old_log_prob)
    return jnp.mean(preferences.sppo_loss(log_ratio, wins, beta=beta)) * beta


def copg(batch: Batch, *, beta=0.1) -> chex.Array:
    """CoPG (arXiv 2406.19185): regularised rewards of a group are made equal."""
    log_prob, old_log_prob = (
        reductions.sequence_sum(x, batch.mask) for x in (batch.log_prob, batch.old_log_prob)
    )
    loss = preferences.copg_loss(batch.rewards, log_prob, old_log_prob, beta=beta)
    return jnp.mean(loss) / (2.0 * beta)


def p3o(batch: Batch) -> chex.Array:
    """P3O (arXiv 2310.00212), of all pairs of answers."""
    log_ratio = _log_ratio(batch, batch.old_log_prob)

    def both(x):
        size = x.shape[-1]
        shape = (*x.shape, size)
        first, second = (jnp.broadcast_to(y, shape) for y in (x[..., :, None], x[..., None, :]))
        return jnp.stack([first, second], axis=-1)

    return jnp.mean(preferences.p3o_loss(both(log_ratio), both(batch.rewards)))


def a_star_po(batch: Batch, *, beta=1e-3, value_beta=0.5) -> chex.Array:
    """A*-PO (arXiv 2505.20686): regression of log-ratios to advantages over the optimal value,
    which here the group itself estimates, and not answers of the first policy drawn beforehand.
    """
    value = preferences.optimal_value(batch.rewards, beta=value_beta)
    value = jnp.broadcast_to(value[..., None], batch.rewards.shape)
    log_ratio = _log_ratio(batch, batch.old_log_prob)
    loss = preferences.optimal_advantage_loss(log_ratio, batch.rewards, value, beta=beta)
    return jnp.mean(loss) / (2.0 * beta)


def pacs(batch: Batch, *, beta=1.0) -> chex.Array:
    """PACS (arXiv 2509.02522): log-ratios, centred in the group, classify right and wrong."""
    score = beta * _log_ratio(batch, batch.old_log_prob)
    return jnp.mean(preferences.pacs_loss(score, batch.rewards))
