"""The Config of the loop that trains policies of tokens."""

import chex
import jax
import numpy as np

from ...envs import Environment, TokenEnvironment
from ..core import device_memory
from ..core.config import BaseConfig, ConfigError, configclass, require_at_most, static, traced
from ..core.device_memory import Part
from .objectives import OBJECTIVES, ONE_PASS
from .samplers import SAMPLERS


@configclass
class Config(BaseConfig):
    """Hyperparameters of the loop; those of an objective are its own keyword arguments."""

    learning_rate: float = traced(2e-3, "Step size of Adam.", above=0)
    ent_coef: float = traced(
        0.01, "Weight of the mean entropy per token, a bonus beside the objective.", low=0
    )
    max_grad_norm: float = traced(
        1.0, "Largest global norm of the gradient.", above=0, high=float("inf")
    )
    adam_eps: float = traced(1e-8, "ε of Adam.", above=0)
    sample_every: int = traced(
        1,
        "Iterations after which the policy that writes becomes the trained one; 1 writes with the"
        " present policy, more makes answers stale.",
        low=1,
    )
    ref_every: int = traced(1, "Iterations after which the reference policy moves.", low=1)
    ref_alpha: float = traced(
        0.0,
        "How far it then moves towards the trained policy: 0 keeps the initial one, 1 copies.",
        low=0,
        high=1,
    )
    total_steps: int = traced(
        300_000,
        "Tokens of the run, padding included: num_prompts·group_size·response_length in an"
        " iteration.",
        low=1,
        high=2**31 - 1,
    )
    anneal_lr: bool = static(
        False, "Whether the learning rate falls linearly to 0 over total_steps."
    )
    objective: str = static("grpo", "What is minimised, by name.", choices=tuple(OBJECTIVES))
    sampler: str = static(
        "uniform",
        "Which prompts an iteration takes up: new ones, or those of a pool that a paper would.",
        choices=tuple(SAMPLERS),
    )
    pool_size: int = static(
        128, "Prompts that samplers but uniform choose from, drawn once for each seed.", low=1
    )
    num_prompts: int = static(32, "Prompts in an iteration.", low=1)
    group_size: int = static(8, "Answers to each prompt.", low=1)
    update_passes: int = static(
        0,
        "Gradient steps on the answers of an iteration, all of them in each; 0 leaves it to the"
        " objective: 1 for those without a ratio, which hold for the policy that wrote alone,"
        " else 2.",
        low=0,
    )
    hidden_size: int = static(64, "Width of every layer of the policy.", low=1)
    eval_samples: int = static(16, "Answers to each prompt of an evaluation.", low=1)
    eval_k: int = static(4, "k of the evaluated pass@k.", low=1)

    SHARED = ("num_prompts",)

    def validate(self, env: Environment) -> None:
        """Checks the fields, and that they go together and with the environment.

        Raises:
          ConfigError: names the field, its value and what is allowed.
        """
        super().validate(env)
        if not isinstance(env, TokenEnvironment):
            allowed = 'must be a TokenEnvironment, such as envs.make("tokens/brackets")'
            raise ConfigError("env", f"a {type(env).__name__}", allowed)
        require_at_most(self, "eval_k", "eval_samples")
        if self.sampler != "uniform":
            require_at_most(self, "num_prompts", "pool_size")
        steps = self.steps(env)
        if steps >= 2**31:
            allowed = f"must be smaller: an iteration would have {steps:,} tokens"
            raise ConfigError("num_prompts", self.num_prompts, allowed)
        if not isinstance(self.total_steps, jax.core.Tracer) and np.min(self.total_steps) < steps:
            raise ConfigError(
                "total_steps",
                self.total_steps,
                f"must be at least one iteration, num_prompts·group_size·response_length = {steps}",
            )
        device_memory.require(self, *self.memory_parts(env))

    def steps(self, env: TokenEnvironment) -> int:
        """Tokens in an iteration, padding included."""
        return self.num_prompts * self.group_size * env.response_length

    @property
    def passes(self) -> int:
        """Gradient steps in an iteration."""
        return self.update_passes or (1 if self.objective in ONE_PASS else 2)

    def memory_parts(self, env: TokenEnvironment) -> list[Part]:
        """What a run holds at once: answers, what the backward pass keeps of a network of the
        default form, that network with its optimiser and copies, and an answer's evaluation.
        """
        sizes = ("num_prompts", "group_size")
        size = float(self.hidden_size)
        row = 12 * size + 3 * env.num_tokens  # floats that reading one token leaves for later
        parameters = 6 * size**2 + (2.0 * env.num_tokens + 8) * size
        length = env.prompt_length + env.response_length
        pool = 0.0 if self.sampler == "uniform" else 4.0 * self.pool_size
        return [
            Part((*sizes, "hidden_size"), 4 * self.steps(env) * (row + 12), "the answers"),
            Part((*sizes,), 16.0 * self.num_prompts * self.group_size**2, "pairs of answers"),
            Part(("hidden_size",), 4 * 8 * parameters, "the policy and its optimiser"),
            Part(("update_passes",), 64.0 * self.passes, "a row of metrics for each pass"),
            Part(("pool_size",), pool * (env.prompt_length + 8), "the prompts to choose from"),
            Part(("eval_samples",), 4.0 * self.eval_samples**2 * length, "an evaluated prompt"),
        ]

    def progress(self, iteration: chex.Array, env: TokenEnvironment) -> chex.Array:
        """The part of total_steps that was done before this iteration, in [0, 1]."""
        return jax.numpy.minimum(iteration * (self.steps(env) / self.total_steps), 1.0)
