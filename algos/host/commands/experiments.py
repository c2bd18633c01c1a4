"""The experiments of `onejit certify`, as data: what is trained, certified and attacked."""

from typing import Any, NamedTuple


class Experiment(NamedTuple):
    """What is trained, and how its return is certified and attacked.

    Attributes:
      env: the environment.
      env_options: given to `envs.make`.
      flatten: show pictures as vectors, for fully connected networks.
      algorithm: its preset for the environment is taken.
      changes: hyperparameters that replace those of the preset.
      num_frames: observations that the policy sees at once.
      sigmas: standard deviations of the noise, a policy for each.
      budgets: of the certificate.
      attack_budgets: of the attack.
      strengths: of the attack, None for the default.
      thresholds: of the return, None for a DKW bound.
      success_threshold: certify the probability of a return of at least this much.
      minimum: a return below which no episode can fall.
    """

    env: str
    env_options: dict[str, Any] = {}
    flatten: bool = False
    algorithm: str = "ppo"
    changes: dict[str, Any] = {}
    num_frames: int = 1
    sigmas: tuple[float, ...] = (0.0, 0.2)
    budgets: tuple[float, ...] = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
    attack_budgets: tuple[float, ...] = (0.2, 0.6, 1.0)
    strengths: tuple[float, ...] | None = None
    thresholds: tuple[float, ...] | None = None
    success_threshold: float | None = None
    minimum: float = 0.0


EXPERIMENTS = {
    # As in the paper: episodes of 200 steps, five frames.
    "cartpole": Experiment(
        env="gymnax/CartPole-v1",
        env_options={"max_steps_in_episode": 200},
        changes={"total_steps": 3_000_000},
        num_frames=5,
        sigmas=(0.0, 0.2, 0.4, 0.6, 0.8),
        thresholds=tuple(range(1, 201)),
    ),
    # The same with the collection's other algorithms for discrete actions.
    "cartpole_sac": Experiment(
        env="gymnax/CartPole-v1",
        env_options={"max_steps_in_episode": 200},
        algorithm="sac",
        changes={"num_envs": 16, "num_updates": 4, "learning_rate": 1e-3, "total_steps": 200_000},
        num_frames=5,
        sigmas=(0.2,),
        attack_budgets=(1.0,),
        thresholds=tuple(range(1, 201)),
    ),
    "cartpole_staq": Experiment(
        env="gymnax/CartPole-v1",
        env_options={"max_steps_in_episode": 200},
        algorithm="staq",
        changes={"memory": 10},
        num_frames=5,
        sigmas=(0.2,),
        attack_budgets=(1.0,),
        thresholds=tuple(range(1, 201)),
    ),
    # Success is to reach the goal in less than a thousand steps. The noise is three times the range
    # of the velocity.
    "mountain_car": Experiment(
        env="gymnax/MountainCar-v0",
        env_options={"max_steps_in_episode": 1000},
        changes={
            "learning_rate": 1e-3,
            "gamma": 0.999,
            "gae_lambda": 0.98,
            "ent_coef": 0.01,
            "num_envs": 256,
            "num_steps": 128,
            "num_minibatches": 8,
            "normalize_obs": True,
            "normalize_reward": True,
            "total_steps": 5_000_000,
        },
        num_frames=15,
        sigmas=(0.0, 0.2, 0.4),
        success_threshold=-999.0,
    ),
    # In place of the paper's Atari games, with 250 steps as there. One strength of the attack,
    # which costs most time.
    "freeway": Experiment(
        env="gymnax/Freeway-MinAtar",
        env_options={"max_steps_in_episode": 250},
        flatten=True,
        changes={"hidden_sizes": (64, 64), "total_steps": 2_000_000},
        sigmas=(0.0, 0.2, 0.4),
        attack_budgets=(0.4, 1.0, 2.0),
        strengths=(0.0,),
        thresholds=tuple(range(1, 10)),
    ),
    "pong": Experiment(
        env="gymnax/Pong-misc",
        env_options={"max_steps_in_episode": 250},
        flatten=True,
        changes={
            "hidden_sizes": (64, 64),
            "activation": "relu",
            "learning_rate": 1e-3,
            "total_steps": 2_000_000,
        },
        sigmas=(0.0, 0.2),
        attack_budgets=(0.4,),
        strengths=(0.0,),
        thresholds=tuple(range(10, 251, 10)),
    ),
    # A robot whose reward, one for each step that the pole stands, has a known minimum.
    "inverted_pendulum": Experiment(
        env="brax/inverted_pendulum",
        env_options={"episode_length": 250},
        changes={
            "num_steps": 64,
            "num_minibatches": 8,
            "normalize_obs": True,
            "gae_lambda": 0.9,
            "total_steps": 1_000_000,
        },
        num_frames=5,
        sigmas=(0.0, 0.1, 0.2),
        budgets=(0.0, 0.1, 0.2, 0.3, 0.4, 0.5),
        attack_budgets=(0.1, 0.3, 0.5),
        thresholds=tuple(range(1, 251)),
    ),
}
