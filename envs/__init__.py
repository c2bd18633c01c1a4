"""Environments that run on the accelerator, behind one functional contract.

`make("gymnax/CartPole-v1")` gives a single `Environment`; `VectorEnv(env, num_envs)` steps many of
it, resets them and keeps the true successor. A suite's package is imported when one of its
environments is made.
"""

from .base import Environment, Step
from .bridges import to_gymnasium, to_gymnasium_single, to_stable_baselines3
from .checking import check
from .contract import ContractError
from .discretize import Discretized
from .observations import (
    Adversary,
    Flattened,
    Frames,
    FrameStack,
    NoisyObservations,
    PartialObservations,
)
from .registry import env_ids, from_gymnax, make, register
from .risk import RiskAverse
from .spaces import Box, Discrete, MultiDiscrete, Space
from .stateful import Stateful
from .tokens import TokenEnvironment
from .vector import VectorEnv, VectorState, VectorStep
from .wrapper import Wrapper

__all__ = [
    "Adversary",
    "Box",
    "ContractError",
    "Discrete",
    "Discretized",
    "Environment",
    "Flattened",
    "FrameStack",
    "Frames",
    "MultiDiscrete",
    "NoisyObservations",
    "PartialObservations",
    "RiskAverse",
    "Space",
    "Stateful",
    "Step",
    "TokenEnvironment",
    "VectorEnv",
    "VectorState",
    "VectorStep",
    "Wrapper",
    "check",
    "env_ids",
    "from_gymnax",
    "make",
    "register",
    "to_gymnasium",
    "to_gymnasium_single",
    "to_stable_baselines3",
]
