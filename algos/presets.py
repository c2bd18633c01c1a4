"""Hyperparameters per algorithm and environment, as data; the scripts take them unless a flag says otherwise.

`scripts/learning_curves.py` runs them; `results/learning/` holds what came out of those that it has run.
"""

from typing import Any

_PPO_ROBOT = {
    "learning_rate": 3e-4,
    "gamma": 0.97,
    "ent_coef": 1e-3,
    "max_grad_norm": 1.0,
    "num_envs": 64,
    "num_steps": 64,
    "num_minibatches": 8,
    "anneal_lr": False,
    "normalize_obs": True,
}

_PPO_MINATAR = {
    "learning_rate": 1e-3,
    "ent_coef": 0.01,
    "num_envs": 64,
    "num_steps": 64,
    "num_minibatches": 8,
    "hidden_sizes": (128,),
    "activation": "relu",
    "total_steps": 2_000_000,
}

# As in the papers: one environment, one update per step, minibatches of 256, 2×256.
_PENDULUM = {"learning_rate": 1e-3, "gamma": 0.98, "buffer_size": 20_000, "total_steps": 20_000}

# Many environments on a CPU: the published recipe with smaller networks and minibatches.
_FAST_PENDULUM = {"gamma": 0.98, "v_min": -600.0, "v_max": 0.0, "total_steps": 100_000, "buffer_size": 100_000}
_FAST_ROBOT = {"gamma": 0.97, "total_steps": 500_000, "buffer_size": 500_000, "learning_starts": 2_000}

PRESETS: dict[str, dict[str, dict[str, Any]]] = {
    "ppo": {
        "gymnax/CartPole-v1": {"learning_rate": 1e-3, "reward_scale": 0.1, "total_steps": 500_000},
        "gymnax/Acrobot-v1": {
            "learning_rate": 1e-3,
            "reward_scale": 0.1,
            "ent_coef": 0.01,
            "total_steps": 1_000_000,
        },
        "gymnax/Pendulum-v1": {
            "learning_rate": 1e-3,
            "gamma": 0.95,
            "reward_scale": 0.1,
            "total_steps": 1_000_000,
        },
        "gymnax/Breakout-MinAtar": _PPO_MINATAR,
        "gymnax/Freeway-MinAtar": _PPO_MINATAR,
        "brax/fast": {
            "learning_rate": 3e-3,
            "gamma": 0.97,
            "reward_scale": 0.1,
            "num_envs": 8,
            "update_epochs": 8,
            "anneal_lr": False,
            "normalize_obs": True,
            "total_steps": 32_768,
        },
        "brax/halfcheetah": {**_PPO_ROBOT, "total_steps": 1_500_000},
    },
    "td3": {"gymnax/Pendulum-v1": _PENDULUM},
    "sac": {"gymnax/Pendulum-v1": _PENDULUM},
    "fast_td3": {
        "gymnax/Pendulum-v1": _FAST_PENDULUM,
        "brax/halfcheetah": {**_FAST_ROBOT, "v_min": -50.0, "v_max": 250.0},
    },
    "fast_sac": {
        "gymnax/Pendulum-v1": _FAST_PENDULUM,
        "brax/halfcheetah": {**_FAST_ROBOT, "v_min": -50.0, "v_max": 250.0},
    },
}


def get(algorithm: str, env_id: str) -> dict[str, Any]:
    """The preset of an algorithm for an environment, empty if there is none."""
    return dict(PRESETS.get(algorithm, {}).get(env_id, {}))
