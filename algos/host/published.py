"""Hyperparameters as others have published them, for an accelerator, per algorithm and environment.
None of these has been run here to its end, and nothing was tuned.
"""

from typing import Any

# MuJoCo Playground 0.2, config/locomotion_params.py, and the defaults of Brax 0.14's PPO. There the
# standard deviations are the network's, and a reset goes back to the copy's first state.
_PPO = {
    "gamma": 0.97,
    "ent_coef": 1e-2,
    "max_grad_norm": 1.0,
    "clip_eps": 0.3,
    "num_envs": 8192,
    "num_steps": 20,
    "num_minibatches": 32,
    "anneal_lr": False,
    "normalize_obs": True,
    "policy": "tanh_gaussian",
    "hidden_sizes": (512, 256, 128),
    "activation": "silu",
    "initialiser": "lecun",
    "total_steps": 100_000_000,
}
_PPO_GO1 = {**_PPO, "total_steps": 200_000_000}
_PPO_HUMANOID = {**_PPO_GO1, "ent_coef": 5e-3, "clip_eps": 0.2}
_PPO_BERKELEY = {**_PPO_HUMANOID, "total_steps": 150_000_000}
# There the value network is another one, five layers of 256.
_PPO_DEFAULT = {**_PPO, "hidden_sizes": (128, 128, 128, 128)}

# FastTD3's hyperparams.py of 2026-05, for MuJoCo Playground; vector steps and replay times
# environments.
_FAST_TD3 = {
    "gamma": 0.97,
    "num_envs": 1024,
    "batch_size": 32_768,
    "buffer_size": 1024 * 10_240,
    "learning_starts": 10 * 1024,
    "total_steps": 150_000 * 1024,
    "actor_hidden_sizes": (512, 256, 128),
    "critic_hidden_sizes": (1024, 512, 256),
    "dtype": "bfloat16",
}
_FAST_TD3_JOYSTICK = {**_FAST_TD3, "total_steps": 100_000 * 1024}
_FAST_TD3_GO1 = {
    **_FAST_TD3,
    "total_steps": 50_000 * 1024,
    "num_updates": 8,
    "min_noise": 0.2,
    "max_noise": 0.8,
    "policy_noise": 0.2,
}
_FAST_TD3_LEAP = {**_FAST_TD3, "gamma": 0.99, "policy_noise": 0.2, "clipped_double_q": False}

# holosoma of 2026-01, for its own tasks of the robots G1 and T1.
_FAST_SAC = {
    "num_envs": 4096,
    "batch_size": 8192,
    "buffer_size": 4096 * 1024,
    "learning_starts": 10 * 4096,
    "total_steps": 50_000 * 4096,
    "num_updates": 8,
    "actor_hidden_sizes": (512, 256, 128),
    "critic_hidden_sizes": (768, 384, 192),
    "dtype": "bfloat16",
}
_FAST_SAC_T1 = {**_FAST_SAC, "total_steps": 100_000 * 4096}

# Bhatt et al., 2024.
_CROSSQ = {"critic_hidden_sizes": (2048, 2048)}

PUBLISHED: dict[str, dict[str, dict[str, Any]]] = {
    "ppo": {
        "playground/ApolloJoystickFlatTerrain": _PPO_HUMANOID,
        "playground/BarkourJoystick": _PPO_DEFAULT,
        "playground/BerkeleyHumanoidJoystickFlatTerrain": _PPO_BERKELEY,
        "playground/BerkeleyHumanoidJoystickRoughTerrain": _PPO_BERKELEY,
        "playground/G1JoystickFlatTerrain": _PPO_HUMANOID,
        "playground/G1JoystickRoughTerrain": _PPO_HUMANOID,
        "playground/Go1JoystickFlatTerrain": _PPO_GO1,
        "playground/Go1JoystickRoughTerrain": _PPO_GO1,
        "playground/Go1Getup": {**_PPO_GO1, "total_steps": 50_000_000},
        "playground/Go1Handstand": _PPO,
        "playground/Go1Footstand": _PPO,
        "playground/H1InplaceGaitTracking": _PPO_DEFAULT,
        "playground/H1JoystickGaitTracking": _PPO_DEFAULT,
        "playground/Op3Joystick": _PPO_DEFAULT,
        "playground/SpotFlatTerrainJoystick": _PPO_DEFAULT,
        "playground/SpotGetup": _PPO_DEFAULT,
        "playground/SpotJoystickGaitTracking": _PPO_DEFAULT,
        "playground/T1JoystickFlatTerrain": _PPO_HUMANOID,
        "playground/T1JoystickRoughTerrain": _PPO_HUMANOID,
    },
    "fast_td3": {
        # What the release has for any task of Playground's that it does not name.
        "playground/ApolloJoystickFlatTerrain": _FAST_TD3,
        "playground/BerkeleyHumanoidJoystickFlatTerrain": _FAST_TD3,
        "playground/BerkeleyHumanoidJoystickRoughTerrain": _FAST_TD3,
        "playground/H1InplaceGaitTracking": _FAST_TD3,
        "playground/H1JoystickGaitTracking": _FAST_TD3,
        "playground/Op3Joystick": _FAST_TD3,
        # What it has for these.
        "playground/G1JoystickFlatTerrain": _FAST_TD3_JOYSTICK,
        "playground/G1JoystickRoughTerrain": _FAST_TD3_JOYSTICK,
        "playground/T1JoystickFlatTerrain": _FAST_TD3_JOYSTICK,
        "playground/T1JoystickRoughTerrain": _FAST_TD3_JOYSTICK,
        "playground/Go1JoystickFlatTerrain": _FAST_TD3_GO1,
        "playground/Go1JoystickRoughTerrain": _FAST_TD3_GO1,
        "playground/Go1Getup": _FAST_TD3_GO1,
        "playground/CheetahRun": {
            **_FAST_TD3,
            "reset": "bank",  # a reset takes 200 steps of the physics
            "v_min": -500.0,
            "v_max": 500.0,
            "n_step": 3,
            "min_noise": 0.1,
            "policy_noise": 0.1,
        },
        "playground/LeapCubeReorient": {
            **_FAST_TD3_LEAP,
            "v_min": -50.0,
            "v_max": 50.0,
            "n_step": 3,
        },
        "playground/LeapCubeRotateZAxis": _FAST_TD3_LEAP,
    },
    "fast_sac": {
        "playground/G1JoystickFlatTerrain": _FAST_SAC,
        "playground/G1JoystickRoughTerrain": _FAST_SAC,
        "playground/T1JoystickFlatTerrain": _FAST_SAC_T1,
        "playground/T1JoystickRoughTerrain": _FAST_SAC_T1,
    },
    "crossq": {
        "mjx/HalfCheetah-v5": _CROSSQ,
        "mjx/Hopper-v5": _CROSSQ,
        "mjx/Walker2d-v5": _CROSSQ,
    },
}
