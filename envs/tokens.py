"""Tasks for policies that write: a prompt, an answer of tokens, a reward that judges the whole."""

from typing import NamedTuple

import chex
import jax.numpy as jnp

from .base import Step
from .options import require_count
from .spaces import Box, Discrete

NOTHING = -1  # in an observation, where no token stands yet


class TokenState(NamedTuple):
    """The prompt and what was answered so far, int32 `[P + T]`, and the tokens of the answer,
    int32.
    """

    tokens: chex.Array
    time: chex.Array


class TokenEnvironment:
    """Prompts of P tokens and answers of up to T; the base class of tasks of your own.

    A subclass says its sizes to `__init__`, and has `prompt` and `reward`; where answers pass
    stages, `stages` too; where prompts are of several kinds, `num_categories` and `category`. That
    is all that `onejit.algos.tokens` uses, which draws and judges whole groups of answers. As an
    `Environment`, for everything else, an action is the next token and the observation all that
    stands there, `[P + T]`, −1 where nothing does yet; the action that is `end`, or the T-th, pays
    the reward and terminates.

    Attributes:
      num_categories: how many kinds of prompts there are, for samplers that choose among these.

    Args:
      num_tokens: V, the tokens are 0 to V − 1.
      prompt_length: P.
      response_length: T.
      end: the token that ends an answer.
      pad: the token before prompts that are shorter than P and behind answers that have ended.

    Raises:
      ValueError: a size is no integer above 0, or end or pad is no token.
    """

    num_categories = 1

    def __init__(
        self, *, num_tokens: int, prompt_length: int, response_length: int, end: int, pad: int
    ):
        sizes = {
            "num_tokens": num_tokens,
            "prompt_length": prompt_length,
            "response_length": response_length,
        }
        for name, size in sizes.items():
            require_count(name, size)
        for name, token in {"end": end, "pad": pad}.items():
            require_count(name, token, low=0)
            if token >= num_tokens:
                raise ValueError(f"{name}={token}: must be below num_tokens={num_tokens}")
        self.num_tokens = num_tokens
        self.prompt_length = prompt_length
        self.response_length = response_length
        self.end = end
        self.pad = pad
        length = (prompt_length + response_length,)
        self.observation_space = Box(NOTHING, num_tokens - 1, length, "int32", normalize=False)
        self.action_space = Discrete(num_tokens)

    def prompt(self, key: chex.PRNGKey) -> chex.Array:
        """Draws a prompt, int32 `[P]`."""
        raise NotImplementedError

    def reward(self, prompt: chex.Array, response: chex.Array) -> chex.Array:
        """Judges one answer.

        Args:
          prompt: as `prompt` draws it, int32 `[P]`.
          response: the answer, int32 `[T]`, `pad` behind `end`; without `end` it was cut.

        Returns:
          The reward, a float32 scalar.
        """
        raise NotImplementedError

    def stages(self, prompt: chex.Array, response: chex.Array) -> chex.Array:
        """What an answer passes on its way to the reward, float32 `[S]`; here the reward alone."""
        return self.reward(prompt, response)[None]

    def category(self, prompt: chex.Array) -> chex.Array:
        """The kind of a prompt, int32 from 0 to num_categories − 1; here all are of one."""
        del prompt
        return jnp.int32(0)

    def reset(self, key: chex.PRNGKey) -> tuple[TokenState, chex.Array]:
        """Starts an episode with a new prompt."""
        nothing = jnp.full(self.response_length, NOTHING, jnp.int32)
        tokens = jnp.concatenate([self.prompt(key), nothing])
        return TokenState(tokens, jnp.int32(0)), tokens

    def step(
        self, key: chex.PRNGKey, state: TokenState, action: chex.Array
    ) -> tuple[TokenState, Step]:
        """Writes a token; the key is not used."""
        del key
        prompt_length = self.prompt_length
        tokens = state.tokens.at[prompt_length + state.time].set(action)
        time = state.time + 1
        over = (action == self.end) | (time == self.response_length)
        response = tokens[prompt_length:]
        response = jnp.where(response == NOTHING, self.pad, response)
        reward = self.reward(tokens[:prompt_length], response)
        step = Step(
            obs=tokens,
            reward=jnp.where(over, reward, jnp.zeros_like(reward)),
            terminated=over,
            truncated=jnp.bool_(False),
            info={},
        )
        return TokenState(tokens, time), step

    def answered(self, response: chex.Array) -> chex.Array:
        """Which tokens of answers the policy wrote: those up to the first `end`; `[..., T]` to
        bool.
        """
        ends = (response == self.end).astype(jnp.int32)
        return jnp.cumsum(ends, axis=-1) - ends == 0
