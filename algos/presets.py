"""Hyperparameters per algorithm and environment, as data; the scripts take them unless a flag says otherwise.

Each was found on the results that it is published with (see `results/`).
"""

from typing import Any

PRESETS: dict[str, dict[str, dict[str, Any]]] = {
    "ppo": {
        "gymnax/CartPole-v1": {"learning_rate": 1e-3, "reward_scale": 0.1, "total_steps": 500_000},
    },
}


def get(algorithm: str, env_id: str) -> dict[str, Any]:
    """The preset of an algorithm for an environment, empty if there is none."""
    return dict(PRESETS.get(algorithm, {}).get(env_id, {}))
