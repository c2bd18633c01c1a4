"""What the Configs of the algorithms without a critic have in common."""

import jax
import numpy as np

from ...envs import Environment
from ...envs.vector import RESETS
from ..core import device_memory
from ..core.config import BaseConfig, ConfigError, configclass, static, traced
from ..core.device_memory import Part
from ..core.heads import CONTINUOUS_HEADS
from ..core.initialisers import INITIALISERS
from ..core.networks import ACTIVATIONS


@configclass
class ActorOnlyConfig(BaseConfig):
    """What the algorithms without a critic have in common."""

    learning_rate: float = traced(1e-3, "Step size, at the start.", above=0)
    total_steps: int = traced(500_000, "Environment steps of the run.", low=1, high=2**31 - 1)
    num_envs: int = static(64, "Environments that are stepped together.", low=1)
    horizon: int = static(32, "Steps of each environment in an iteration.", low=1)
    policy: str = static(
        "gaussian", "Policy for continuous actions.", choices=tuple(CONTINUOUS_HEADS)
    )
    hidden_sizes: tuple[int, ...] = static((64, 64), "Widths of the hidden layers.", low=1)
    activation: str = static("tanh", "Activation of the policy.", choices=tuple(ACTIVATIONS))
    initialiser: str = static(
        "orthogonal", "Initialisation of the policy.", choices=tuple(INITIALISERS)
    )
    reset: str = static("full", "Where episodes start, see envs.VectorEnv.", choices=RESETS)

    ACTION_SPACES = ()

    def validate(self, env: Environment) -> None:
        """Checks the fields, and that they go together and with the environment.

        Raises:
          ConfigError: names the field, its value and what is allowed.
        """
        super().validate(env)
        steps = self.steps_per_iteration
        if not isinstance(self.total_steps, jax.core.Tracer) and np.min(self.total_steps) < steps:
            allowed = f"must be at least one iteration, {steps} steps"
            raise ConfigError("total_steps", self.total_steps, allowed)
        device_memory.require(self, *self.memory_parts(env))

    @property
    def steps_per_iteration(self) -> int:
        """Environment steps of an iteration."""
        return self.num_envs * self.horizon

    def memory_parts(self, env: Environment) -> list[Part]:
        """What a run holds at once, beside its network and the environments' own states."""
        row = 2 * device_memory.space_bytes(env.observation_space)
        row += device_memory.space_bytes(env.action_space) + 3 * 4 + 2
        # Beside each step, what the layers of the policy put out, for the way back.
        kept = 4 * sum(self.hidden_sizes)
        what = f"a rollout of {self.num_envs} × {self.horizon} steps"
        return [Part(("num_envs", "horizon"), self.steps_per_iteration * (row + kept), what)]
