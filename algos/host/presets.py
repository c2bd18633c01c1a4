"""Hyperparameters per algorithm and environment, as data; the scripts take them unless a flag says
otherwise.

`scripts/evidence/learning_curves.py` runs them; `results/learning/` holds what came out of those
that it has run. `published.py` has those of others, for an accelerator.
"""

from typing import Any

from .published import PUBLISHED

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

_PPO_PLAYGROUND = {
    "num_envs": 64,
    "num_steps": 64,
    "num_minibatches": 16,
    "update_epochs": 10,
    "normalize_obs": True,
    "normalize_reward": True,
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

# A teacher for scripts/evidence/offline_table.py; small networks, and many updates per step.
_SAC_HOPPER = {
    "learning_rate": 1e-3,
    "num_envs": 8,
    "num_updates": 4,
    "policy_delay": 2,
    "batch_size": 128,
    "buffer_size": 100_000,
    "learning_starts": 2_000,
    "total_steps": 100_000,
    "actor_hidden_sizes": (64, 64),
    "critic_hidden_sizes": (64, 64),
}

# What scripts/evidence/offline_table.py runs; small, and the same for all, nothing is tuned.
_OFFLINE = ("bc", "flow_bc", "cdsa_lite", "td3_bc", "iql", "rebrac", "prdc", "famo2o")
_OFFLINE_SMALL = {
    "learning_rate": 1e-3,
    "batch_size": 128,
    "total_steps": 10_000,
    "actor_hidden_sizes": (64, 64),
    "critic_hidden_sizes": (64, 64),
}
_OFFLINE_TASKS = {
    "gymnax/Pendulum-v1": {**_OFFLINE_SMALL, "gamma": 0.98},
    "brax/hopper": _OFFLINE_SMALL,
}

# Many environments on a CPU: the published recipe with smaller networks and minibatches.
_FAST_PENDULUM = {"gamma": 0.98, "total_steps": 100_000, "buffer_size": 100_000}
_ATOMS_PENDULUM = {**_FAST_PENDULUM, "v_min": -600.0, "v_max": 0.0}
_FAST_ROBOT = {
    "gamma": 0.97,
    "total_steps": 500_000,
    "buffer_size": 500_000,
    "learning_starts": 2_000,
}

# As released (2026): 1000 iterations of 5000 steps; classic control, and MinAtar (arXiv
# 2506.13862).
_STAQ_PUBLISHED = {
    "learning_rate": 1e-4,
    "memory": 300,
    "num_envs": 20,
    "num_steps": 250,
    "total_steps": 5_000_000,
    "hidden_sizes": (256, 256),
}
_STAQ_MINATAR = {
    **_STAQ_PUBLISHED,
    "reward_scale": 200.0,
    "anneal_fraction": 0.2,
    "hidden_sizes": (128,),
}
# The same on a laptop: fewer steps, smaller networks, a larger learning rate.
_STAQ_SMALL = {"memory": 300, "total_steps": 300_000}

_CARTPOLE = {"learning_rate": 1e-3, "reward_scale": 0.1, "total_steps": 500_000}

_PPO_PENDULUM = {
    "learning_rate": 1e-3,
    "gamma": 0.95,
    "reward_scale": 0.1,
    "total_steps": 1_000_000,
}
# Nothing is tuned for these: what PPO has, and their own defaults.
_AS_PPO = {"gymnax/CartPole-v1": _CARTPOLE, "gymnax/Pendulum-v1": _PPO_PENDULUM}
# Few environments, as it is meant for; the published numbers for discrete actions.
_PROPS_CARTPOLE = {
    **_CARTPOLE,
    "num_envs": 1,
    "num_steps": 256,
    "refresh_every": 16,
    "behaviour_minibatches": 4,
    "behaviour_kl": 0.01,
    "total_steps": 100_000,
}
# Chosen by hand among two step sizes of each network and two temperatures; smaller networks than
# the published ones.
_AVG_PENDULUM = {
    "learning_rate": 1e-3,
    "critic_learning_rate": 1e-3,
    "alpha": 0.2,
    "gamma": 0.97,
    "actor_hidden_sizes": (64, 64),
    "critic_hidden_sizes": (64, 64),
}

PRESETS: dict[str, dict[str, dict[str, Any]]] = {
    "ppo": {
        "gymnax/CartPole-v1": _CARTPOLE,
        "gymnax/Acrobot-v1": {
            "learning_rate": 1e-3,
            "reward_scale": 0.1,
            "ent_coef": 0.01,
            "total_steps": 1_000_000,
        },
        "gymnax/Pendulum-v1": _PPO_PENDULUM,
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
        "mjx/InvertedPendulum-v5": {**_PPO_ROBOT, "total_steps": 300_000},
        "mjx/InvertedDoublePendulum-v5": {
            "num_envs": 16,
            "num_steps": 128,
            "num_minibatches": 8,
            "update_epochs": 10,
            "normalize_obs": True,
            "normalize_reward": True,
            "total_steps": 500_000,
        },
        "playground/CartpoleBalance": {**_PPO_PLAYGROUND, "total_steps": 1_000_000},
        # 0.99 and 0.95 over four steps: a hundredth of a second is a short step.
        "playground/CartpoleSwingup": {
            **_PPO_PLAYGROUND,
            "gamma": 0.9975,
            "gae_lambda": 0.987,
            "num_steps": 256,
            "total_steps": 2_000_000,
        },
    },
    "spo": {
        "gymnax/CartPole-v1": _CARTPOLE,
        "brax/halfcheetah": {**_PPO_ROBOT, "total_steps": 1_500_000},
    },
    "mdpo": {
        "gymnax/CartPole-v1": _CARTPOLE,
        "brax/halfcheetah": {
            "normalize_obs": True,
            "normalize_reward": True,
            "total_steps": 1_500_000,
        },
    },
    "ppo_ewma": _AS_PPO,
    "fixpo": _AS_PPO,
    "r2vpo": _AS_PPO,
    "gorl": {"gymnax/Pendulum-v1": _PPO_PENDULUM},
    "props": {"gymnax/CartPole-v1": _PROPS_CARTPOLE},
    "hnpg": {
        "probe/lock": {
            "gamma": 1.0,
            "num_steps": 10,  # whole episodes
            "offline_batch": 640,
            "total_steps": 250 * 640,
        },
    },
    "trpo": {"gymnax/CartPole-v1": {"reward_scale": 0.1, "total_steps": 500_000}},
    "pathwise": {
        "inventory/store": {
            "learning_rate": 3e-3,
            "policy": "gaussian",  # clipped: the least order, 0, is then a mean and no limit
            "horizon": 50,  # whole episodes
            "hidden_sizes": (32, 32, 32),
            "total_steps": 400 * 64 * 50,
        },
    },
    "td3": {"gymnax/Pendulum-v1": _PENDULUM},
    "sac": {
        "gymnax/Pendulum-v1": _PENDULUM,
        "brax/hopper": _SAC_HOPPER,
        # With --env_options=action_repeat=4, see docs/results.md.
        "playground/CartpoleSwingup": {
            "learning_rate": 1e-3,
            "buffer_size": 100_000,
            "learning_starts": 1_000,
            "actor_hidden_sizes": (128, 128),
            "critic_hidden_sizes": (128, 128),
            "total_steps": 40_000,
        },
    },
    "aq_td3": {"gymnax/Pendulum-v1": _PENDULUM},
    "aq_sac": {"gymnax/Pendulum-v1": _PENDULUM},
    # Critics without atoms have to reach returns of −600 by small steps.
    "aq_fast_sac": {
        "gymnax/Pendulum-v1": {**_FAST_PENDULUM, "learning_rate": 1e-3, "reward_scale": 0.1},
    },
    "crossq": {
        "gymnax/Pendulum-v1": {**_PENDULUM, "learning_starts": 1_000},
    },
    "avg": {"gymnax/Pendulum-v1": _AVG_PENDULUM},
    "expo": {"gymnax/Pendulum-v1": _PENDULUM},
    "mdpo_off_policy": {"gymnax/Pendulum-v1": _PENDULUM},
    **dict.fromkeys(_OFFLINE, _OFFLINE_TASKS),
    "a2pr": {
        env_id: {**preset, "vae_hidden_sizes": (64, 64)}
        for env_id, preset in _OFFLINE_TASKS.items()
    },
    "staq": {
        "gymnax/CartPole-v1": _STAQ_SMALL,
        "gymnax/Acrobot-v1": _STAQ_SMALL,
        "gymnax/MountainCar-v0": _STAQ_PUBLISHED,
        "gymnax/Asterix-MinAtar": _STAQ_MINATAR,
        "gymnax/Breakout-MinAtar": _STAQ_MINATAR,
        "gymnax/Freeway-MinAtar": _STAQ_MINATAR,
        "gymnax/SpaceInvaders-MinAtar": _STAQ_MINATAR,
    },
    "fast_td3": {
        "gymnax/Pendulum-v1": _ATOMS_PENDULUM,
        "brax/halfcheetah": {**_FAST_ROBOT, "v_min": -50.0, "v_max": 250.0},
        "mjx/InvertedPendulum-v5": {
            **_FAST_ROBOT,
            "v_min": 0.0,
            "v_max": 40.0,
            "total_steps": 200_000,
        },
        "mjx/InvertedDoublePendulum-v5": {
            **_FAST_ROBOT,
            "v_min": 0.0,
            "v_max": 350.0,
            "total_steps": 200_000,
        },
        "playground/CartpoleBalance": {
            **_FAST_ROBOT,
            "gamma": 0.99,
            "v_min": 0.0,
            "v_max": 100.0,
            "total_steps": 300_000,
        },
    },
    "fast_sac": {
        "gymnax/Pendulum-v1": _ATOMS_PENDULUM,
        "brax/halfcheetah": {**_FAST_ROBOT, "v_min": -50.0, "v_max": 250.0},
    },
}


def default_env(algorithm: str) -> str:
    """Where an algorithm is trained if nothing is said: the first environment of its presets."""
    elsewhere = "tokens/brackets" if algorithm == "tokens" else "gymnax/CartPole-v1"
    return next(iter(PRESETS.get(algorithm, {})), elsewhere)


def get(algorithm: str, env_id: str) -> dict[str, Any]:
    """The preset of an algorithm for an environment, or what is published; empty if there is
    neither.
    """
    own, published = (each.get(algorithm, {}) for each in (PRESETS, PUBLISHED))
    return dict(own.get(env_id, published.get(env_id, {})))
