"""Bracket completion, `tokens/brackets`: close what a prompt opens.

Vocabulary: 0 ends the answer, 1 to 4 are ( ) [ ], 5 stands before short prompts. A prompt is a row
of 1 to `depth` opening brackets of random kinds, each number as likely. An answer is right if
prompt and answer together are balanced, and it has ended; pairs that are opened and closed again on
the way are allowed, so that most prompts have several right answers. Reward 1 for a right answer,
else 0. Nearly all prompts of three and more are out of reach of a random policy: short ones have to
be learned first.
"""

import chex
import jax
import jax.numpy as jnp

from .options import checked
from .tokens import TokenEnvironment

END, PAD = 0, 5
_DEEPEST = 100


def names() -> list[str]:
    """The names of the tasks with tokens."""
    return ["brackets"]


def make(name: str, **options) -> "Brackets":
    """Makes the task.

    Args:
      name: one of `names()`.
      **options: depth, the most brackets that a prompt opens (3); response_length, the most tokens
        of an answer, its end included (2·depth).

    Raises:
      ValueError: there is no such option, or it has a value that is not allowed.
    """
    env_id = f"tokens/{name}"
    defaults = {"depth": 3, "response_length": 6}
    options = checked(env_id, options, defaults, low={"depth": 1, "response_length": 1})
    depth = options.get("depth", defaults["depth"])
    return Brackets(depth, options.get("response_length", 2 * depth))


class Brackets(TokenEnvironment):
    """Bracket completion, see the module.

    Raises:
      ValueError: depth is beyond 100, or no answer to the deepest prompt fits into response_length.
    """

    def __init__(self, depth: int = 3, response_length: int | None = None):
        if depth > _DEEPEST:
            raise ValueError(f"depth={depth}: must be at most {_DEEPEST}")
        length = 2 * depth if response_length is None else response_length
        super().__init__(
            num_tokens=6, prompt_length=depth, response_length=length, end=END, pad=PAD
        )
        if not depth < length <= 2 * _DEEPEST:
            raise ValueError(
                f"response_length={length}: must be above depth={depth}, to hold that many closing"
                f" brackets and the end, and at most {2 * _DEEPEST}"
            )
        self.num_categories = depth
        self.options = {"depth": depth, "response_length": length}

    def prompt(self, key: chex.PRNGKey) -> chex.Array:
        """Draws a prompt, int32 `[depth]`."""
        number_key, kind_key = jax.random.split(key)
        number = jax.random.randint(number_key, (), 1, self.prompt_length + 1)
        kinds = jax.random.randint(kind_key, (self.prompt_length,), 0, 2, jnp.int32)
        place = jnp.arange(self.prompt_length)
        return jnp.where(place >= self.prompt_length - number, 1 + 2 * kinds, PAD)

    def category(self, prompt: chex.Array) -> chex.Array:
        """How many brackets a prompt opens, less one."""
        return jnp.sum(prompt != PAD, dtype=jnp.int32) - 1

    def reward(self, prompt: chex.Array, response: chex.Array) -> chex.Array:
        """1 for a right answer, else 0."""
        return jnp.min(self.stages(prompt, response))

    def stages(self, prompt: chex.Array, response: chex.Array) -> chex.Array:
        """What is right about an answer, 0 or 1 each, `[3]`: every bracket of it, that nothing is
        left open, that it has ended.
        """
        response = jnp.where(self.answered(response), response, END)
        tokens = jnp.concatenate([prompt, response])
        opens = (tokens == 1) | (tokens == 3)
        closes = (tokens == 2) | (tokens == 4)
        level = jnp.cumsum(opens.astype(jnp.int32) - closes)
        # A closing bracket closes the last one that opened the level it leaves.
        place = jnp.arange(tokens.size)
        earlier = place[None] < place[:, None]
        candidate = opens[None] & (level[None] == level[:, None] + 1) & earlier
        opener = jnp.max(jnp.where(candidate, place[None], -1), axis=1)
        fits = (opener >= 0) & (tokens[opener] == tokens - 1)
        no_wrong = jnp.all(fits | ~closes) & ~jnp.any(response == PAD)
        stages = [no_wrong, level[-1] == 0, jnp.any(response == END)]
        return jnp.stack(stages).astype(jnp.float32)
