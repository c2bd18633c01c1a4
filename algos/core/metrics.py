"""How the metrics of several iterations, or of several devices, become those of all: sums first,
then means.
"""

import chex
import jax.numpy as jnp

from .algorithm import Metrics


def _is_episodic(name: str) -> bool:
    return name.startswith("charts/episodic_")


def summands(metrics: Metrics) -> Metrics:
    """What can be added up: means over episodes become sums over them."""
    episodes = metrics["charts/episodes"]
    return {
        name: jnp.where(episodes > 0, x * episodes, 0.0) if _is_episodic(name) else x
        for name, x in metrics.items()
    }


def mean_of(sums: Metrics, number: int | chex.Array) -> Metrics:
    """The metrics of which so many summands were added up: episodic ones averaged over the episodes
    that ended (NaN if none did), their number summed, all others averaged.
    """

    def mean(name):
        if name == "charts/episodes":
            return sums[name]
        return sums[name] / (sums["charts/episodes"] if _is_episodic(name) else number)

    return {name: mean(name) for name in sums}
