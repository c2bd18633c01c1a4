"""What the Configs of the on-policy algorithms have in common."""

from typing import Any

import chex
import jax
import numpy as np

from ...envs import Environment
from ...envs.vector import RESETS
from ..core import device_memory, parallel
from ..core.config import BaseConfig, ConfigError, configclass, static, traced
from ..core.device_memory import Part
from ..core.heads import CONTINUOUS_HEADS
from ..core.initialisers import INITIALISERS
from ..core.networks import ACTIVATIONS
from ..core.recurrent import MEMORIES


@configclass
class OnPolicyConfig(BaseConfig):
    """What the on-policy algorithms have in common."""

    learning_rate: float = traced(3e-4, "Step size of Adam.", above=0)
    gamma: float = traced(0.99, "Discount per environment step.", low=0, high=1)
    gae_lambda: float = traced(0.95, "λ of generalised advantage estimation.", low=0, high=1)
    vf_coef: float = traced(0.5, "Weight of the value loss.", low=0)
    vf_clip_eps: float = traced(
        float("inf"),
        "Half-width of the interval of values that are not clipped, in units of return; inf does"
        " not clip.",
        above=0,
        high=float("inf"),
    )
    ent_coef: float = traced(0.0, "Weight of the entropy bonus.", low=0)
    max_grad_norm: float = traced(
        0.5, "Largest global norm of the gradient.", above=0, high=float("inf")
    )
    adam_eps: float = traced(1e-5, "ε of Adam.", above=0)
    reward_scale: float = traced(1.0, "Rewards are multiplied by it before anything else.", above=0)
    target_kl: float = traced(
        float("inf"),
        "Divergence from the old policy, in nats, after which an update takes no further gradient"
        " step of the policy; inf takes all.",
        above=0,
        high=float("inf"),
    )
    desired_kl: float = traced(
        0.01, "Divergence from the old policy, in nats, that adaptive_lr aims at.", above=0
    )
    total_steps: int = traced(
        500_000, "Environment steps of the run; schedules run over them.", low=1, high=2**31 - 1
    )
    num_envs: int = static(64, "Environments that are stepped together.", low=1)
    num_steps: int = static(32, "Steps of each environment in a rollout.", low=1)
    staleness: int = static(
        0,
        "Iterations by which the policy that collects lags behind the one that is updated, as where"
        " collecting and learning are apart.",
        low=0,
    )
    num_minibatches: int = static(4, "Minibatches that a rollout is cut into.", low=1)
    update_epochs: int = static(4, "Passes over a rollout.", low=1)
    anneal_lr: bool = static(
        True, "Whether the learning rate falls linearly to 0 over total_steps."
    )
    adaptive_lr: bool = static(
        False,
        "Whether the learning rate, instead of being annealed, follows the divergence from the old"
        " policy, between 1e-5 and 1e-2.",
    )
    normalize_advantage: bool = static(
        True, "Whether advantages get mean 0 and std 1 in each minibatch."
    )
    normalize_obs: bool = static(
        False, "Whether observations are normalised by running statistics."
    )
    normalize_reward: bool = static(
        False, "Whether rewards are divided by the running std of the return, and clipped to ±10."
    )
    policy: str = static(
        "gaussian", "Policy for continuous actions.", choices=tuple(CONTINUOUS_HEADS)
    )
    hidden_sizes: tuple[int, ...] = static(
        (64, 64), "Widths of the hidden layers of both networks.", low=1
    )
    activation: str = static("tanh", "Activation of both networks.", choices=tuple(ACTIVATIONS))
    initialiser: str = static(
        "orthogonal", "Initialisation of both networks.", choices=tuple(INITIALISERS)
    )
    shared_torso: bool = static(
        False, "Whether policy and value network share all layers but their last."
    )
    memory: str = static(
        "none",
        "Recurrent cell behind the first hidden layer of both networks, so that they remember"
        " within an episode.",
        choices=MEMORIES,
    )
    memory_size: int = static(128, "Width of the recurrent cell.", low=1)
    reset: str = static("full", "Where episodes start, see envs.VectorEnv.", choices=RESETS)

    ACTION_SPACES = ()
    MAY_REMEMBER = True  # whether the algorithm takes networks that remember
    MINIBATCHES = ("num_minibatches",)  # the fields that say into how many a rollout is cut
    PASSES = ("update_epochs",)  # the fields that say how many passes there are in each of `passes`

    def validate(self, env: Environment) -> None:
        """Checks the fields, and that they go together and with the environment.

        Raises:
          ConfigError: names the field, its value and what is allowed.
        """
        super().validate(env)
        batch = self.num_envs * self.num_steps
        policy_minibatches = self.passes[0][1]
        if batch % self.num_minibatches:
            raise ConfigError(
                "num_minibatches", self.num_minibatches, f"must divide num_envs·num_steps = {batch}"
            )
        if self.memory != "none":
            self.require_whole_environments()
        if self.normalize_advantage and batch // policy_minibatches < 2:
            raise ConfigError(
                "num_minibatches",
                self.num_minibatches,
                "normalize_advantage needs at least 2 samples in a minibatch",
            )
        if not isinstance(self.total_steps, jax.core.Tracer) and np.min(self.total_steps) < batch:
            raise ConfigError(
                "total_steps",
                self.total_steps,
                f"must be at least one rollout, num_envs·num_steps = {batch}",
            )
        device_memory.require(self, *self.memory_parts(env))

    def require_whole_environments(self) -> None:
        """Checks that the algorithm takes networks that remember, and that minibatches can be made
        of whole environments, as they need them.

        Raises:
          ConfigError: it does not, or num_minibatches does not divide num_envs.
        """
        if not self.MAY_REMEMBER:
            if self.memory != "none":
                raise ConfigError("memory", self.memory, "must be 'none' for this algorithm")
            raise ConfigError("networks", "networks that remember", "must not remember")
        if self.num_envs % self.num_minibatches:
            allowed = f"must divide num_envs = {self.num_envs} where networks remember"
            raise ConfigError("num_minibatches", self.num_minibatches, allowed)

    def require_shares(self, num_devices: int) -> None:
        """Checks that so many devices can share a run evenly, and cut what they have of a rollout
        into minibatches.

        Raises:
          ConfigError: they cannot; it names the field and the numbers around it that can.
        """
        super().require_shares(num_devices)
        remembers = self.memory != "none"
        rows = (self.num_envs if remembers else self.rows) // num_devices
        what = f"{rows} {'environments' if remembers else 'transitions'} of each device"
        for name in self.MINIBATCHES:
            parallel.require_divisor(name, getattr(self, name), rows, what)

    @property
    def rows(self) -> int:
        """What an iteration cuts into minibatches."""
        return self.num_envs * self.num_steps

    def schedules(self, done: float | chex.Array) -> dict[str, Any]:
        """The learning rate when this part of total_steps is done, in [0, 1], if it is annealed."""
        annealed = self.anneal_lr and not self.adaptive_lr
        return {"learning_rate": self.learning_rate * (1.0 - done)} if annealed else {}

    @property
    def passes(self) -> tuple[tuple[int, int], ...]:
        """(epochs, minibatches) of each series of gradient steps on a rollout, the policy's first.

        Each series has an optimiser of its own.
        """
        return ((self.update_epochs, self.num_minibatches),)

    def memory_parts(self, env: Environment) -> list[Part]:
        """What a run holds at once, beside its networks and the environments' own states."""
        sizes = ("num_envs", "num_steps")
        rows = float(self.num_envs * self.num_steps)
        # obs and next_obs, the action; log_prob, reward, value, next value, advantage, target; two
        # flags
        row = (
            2 * device_memory.space_bytes(env.observation_space)
            + device_memory.space_bytes(env.action_space)
            + 6 * 4
            + 2
        )
        parts = [Part(sizes, rows * row, f"a rollout of {self.num_envs} × {self.num_steps} steps")]
        for field, (num_passes, num_minibatches) in zip(self.PASSES, self.passes, strict=True):
            # The order of the rows, and what sorting takes; a key and a row of metrics for each
            # gradient step.
            order = 16 * rows if num_minibatches > 1 else 0.0
            needed = num_passes * (order + 64.0 * num_minibatches)
            parts.append(
                Part((field, *sizes), needed, f"the order of the rows in {num_passes} passes")
            )
        return parts
