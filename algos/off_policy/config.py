"""What the Configs of the off-policy algorithms have in common."""

from typing import Any, Self

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax

from ...envs import Environment
from ...envs.vector import RESETS
from ..core import device_memory, parallel
from ..core.config import BaseConfig, ConfigError, configclass, static, traced
from ..core.device_memory import Part
from ..core.initialisers import INITIALISERS
from ..core.networks import ACTIVATIONS
from ..core.recurrent import MEMORIES

DTYPES = {"float32": jnp.float32, "bfloat16": jnp.bfloat16}


@configclass
class UpdateConfig(BaseConfig):
    """What all algorithms that bootstrap from stored transitions have in common; each says which
    part of its run is `done` at an iteration.
    """

    learning_rate: float = traced(3e-4, "Step size of Adam.", above=0)
    gamma: float = traced(0.99, "Discount per environment step.", low=0, high=1)
    tau: float = traced(
        0.005, "Weight of the new parameters in the target networks.", above=0, high=1
    )
    reward_scale: float = traced(1.0, "Rewards are multiplied by it before anything else.", above=0)
    total_steps: int = traced(1_000_000, "Environment steps of the run.", low=1, high=2**31 - 1)
    anneal_lr: bool = static(
        False, "Whether the learning rate falls linearly to 0 over total_steps."
    )
    batch_size: int = static(256, "Transitions in a minibatch.", low=1)

    def schedules(self, done: float | chex.Array) -> dict[str, Any]:
        """The learning rate when this part of total_steps is done, in [0, 1], if it is annealed."""
        return {"learning_rate": self.learning_rate * (1.0 - done)} if self.anneal_lr else {}

    def annealed(self, iteration: chex.Array) -> Self:
        """The config with the learning rate of an iteration."""
        if not self.anneal_lr:
            return self
        return self.replace(learning_rate=self.schedules(self.done(iteration))["learning_rate"])


@configclass
class ReplayConfig(UpdateConfig):
    """What the algorithms that learn from a replay have in common; each says its rows_per_step, an
    int.
    """

    num_envs: int = static(1, "Environments that are stepped together.", low=1)
    buffer_size: int = static(
        1_000_000, "Transitions that the replay holds, of all environments together.", low=1
    )
    learning_starts: int = static(
        1_000, "Environment steps of random actions before the first update.", low=1
    )
    replay_dtype: str = static("float32", "What observations are stored in.", choices=tuple(DTYPES))
    reset: str = static("full", "Where episodes start, see envs.VectorEnv.", choices=RESETS)

    SHARED = ("num_envs", "batch_size")

    def validate(self, env: Environment) -> None:
        """Checks the fields, and that they go together and with the environment.

        Raises:
          ConfigError: names the field, its value and what is allowed.
        """
        super().validate(env)
        if self.buffer_size // self.num_envs < self.window:
            allowed = f"must be at least num_envs·{self.window} = {self.num_envs * self.window}"
            raise ConfigError("buffer_size", self.buffer_size, allowed)
        if not isinstance(self.total_steps, jax.core.Tracer):
            needed = (self.prefill_rows + self.rows_per_step) * self.num_envs
            if np.min(self.total_steps) < needed:
                allowed = f"must be at least learning_starts and one step, {needed}"
                raise ConfigError("total_steps", self.total_steps, allowed)
        device_memory.require(self, *self.memory_parts(env))

    def done(self, iteration: chex.Array) -> chex.Array:
        """The part of total_steps that was done before an iteration, in [0, 1]."""
        rows = self.prefill_rows + iteration * self.rows_per_step
        return jnp.minimum(rows * (self.num_envs / jnp.float32(self.total_steps)), 1.0)

    def memory_parts(self, env: Environment) -> list[Part]:
        """What a run holds at once, beside its networks and the environments' own states."""
        obs, action = (
            device_memory.space_bytes(env.observation_space),
            device_memory.space_bytes(env.action_space),
        )
        stored = 2 * obs * DTYPES[self.replay_dtype].dtype.itemsize // 4 + action + 4 + 2
        rows = float(max(self.prefill_rows, self.rows_per_step) * self.num_envs)
        return [
            Part(
                ("buffer_size",),
                self.buffer_size * stored,
                f"a replay of {self.buffer_size:,} transitions",
            ),
            # whether an episode ended, its return and its length
            Part(
                ("learning_starts", "num_envs"), 9 * rows, "the episodes that end before an update"
            ),
        ]

    @property
    def window(self) -> int:
        """Consecutive steps that a sample is made of."""
        return 1

    @property
    def prefill_rows(self) -> int:
        """Vector steps of random actions in `init`; 0 where the replay begins with data."""
        rows = -(-self.learning_starts // self.num_envs)
        return max(self.window, rows) if rows else 0


@configclass
class ActorCriticConfig(UpdateConfig):
    """What algorithms with an actor and critics have in common."""

    policy_delay: int = static(1, "Critic updates per actor update.", low=1)
    num_critics: int = static(2, "Critics that are learned side by side.", low=1)
    normalize_obs: bool = static(
        False, "Whether observations are normalised by running statistics."
    )
    actor_hidden_sizes: tuple[int, ...] = static(
        (256, 256), "Widths of the actor's hidden layers.", low=1
    )
    critic_hidden_sizes: tuple[int, ...] = static(
        (256, 256), "Widths of the critics' hidden layers.", low=1
    )
    activation: str = static("relu", "Activation of all networks.", choices=tuple(ACTIVATIONS))
    layer_norm: bool = static(False, "Whether the hidden layers are normalised.")
    initialiser: str = static(
        "uniform", "Initialisation of all networks.", choices=tuple(INITIALISERS)
    )
    dtype: str = static("float32", "What the networks compute in.", choices=tuple(DTYPES))

    def optimiser(self, name: str) -> optax.GradientTransformation:
        """The optimiser of a set of parameters, the same for all."""
        del name
        return optax.adam(self.learning_rate)


@configclass
class OffPolicyConfig(ActorCriticConfig, ReplayConfig):
    """What the off-policy actor-critic algorithms have in common."""

    learning_rate: float = traced(
        3e-4, "Step size of Adam, for all that is learned and has no step size of its own.", above=0
    )
    learning_starts: int = static(
        1_000,
        "Environment steps of random actions before the first update; with data in the replay 0,"
        " whatever it says.",
        low=0,
    )
    num_updates: int = static(1, "Critic updates per vector step.", low=1)
    n_step: int = static(1, "Rewards that are summed before bootstrapping.", low=1)
    memory: str = static(
        "none",
        "Recurrent cell behind the first hidden layer of all networks, so that they remember within"
        " an episode.",
        choices=MEMORIES,
    )
    memory_size: int = static(128, "Width of the recurrent cell.", low=1)
    sequence_length: int = static(
        32,
        "Consecutive steps that networks with a memory learn from; a minibatch is"
        " batch_size/sequence_length sequences.",
        low=1,
    )
    burn_in: int = static(
        8, "Steps before a sequence that only bring what is remembered up to date.", low=0
    )

    def validate(self, env: Environment) -> None:
        """Checks the fields, and that they go together and with the environment.

        Raises:
          ConfigError: names the field, its value and what is allowed.
        """
        super().validate(env)
        if self.num_updates % self.policy_delay and self.policy_delay % self.num_updates:
            allowed = f"must divide num_updates = {self.num_updates}, or be a multiple of it"
            raise ConfigError("policy_delay", self.policy_delay, allowed)
        if self.memory == "none":
            return
        if self.batch_size % self.sequence_length:
            allowed = f"must be a multiple of sequence_length = {self.sequence_length}"
            raise ConfigError("batch_size", self.batch_size, allowed)
        if self.n_step != 1:
            raise ConfigError("n_step", self.n_step, "must be 1 where networks remember")

    def require_shares(self, num_devices: int) -> None:
        """Checks that so many devices can share a run evenly, sequence by sequence.

        Raises:
          ConfigError: they cannot; it names the field and the numbers around it that can.
        """
        super().require_shares(num_devices)
        unit = self.batch_size // self.samples
        parallel.require_multiple("batch_size", self.batch_size, num_devices, unit)

    @property
    def window(self) -> int:
        """Consecutive steps that a sample is made of."""
        return self.n_step if self.memory == "none" else self.burn_in + self.sequence_length

    @property
    def samples(self) -> int:
        """Samples in a minibatch: transitions, or sequences where networks remember."""
        return self.batch_size // (1 if self.memory == "none" else self.sequence_length)

    @property
    def rows_per_step(self) -> int:
        """Vector steps in one `step`."""
        return max(1, self.policy_delay // self.num_updates)

    def memory_parts(self, env: Environment) -> list[Part]:
        """What a run holds at once, beside its networks and the environments' own states."""
        obs, action = (
            device_memory.space_bytes(env.observation_space),
            device_memory.space_bytes(env.action_space),
        )
        taken = self.batch_size if self.memory == "none" else self.samples * self.window
        rows = float(self.rows_per_step * self.num_updates * taken)
        # obs and next_obs, action, reward, discount; place, reward and flags of each step of a
        # window
        needed = rows * (2 * obs + action + 8 + self.n_step * (8 + 4 + 2))
        sizes = ("batch_size", "num_updates", "policy_delay", "n_step")
        return [*super().memory_parts(env), Part(sizes, needed, "the minibatches of a step")]
