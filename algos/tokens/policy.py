"""The policy of the tokens: a small recurrent network, and reading, writing and scoring with it."""

from typing import Any, NamedTuple

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp

from ... import losses
from ...envs import TokenEnvironment
from ..core.initialisers import dense
from ..core.keys import split_for_scan, unpack_keys


class Recurrent(nn.Module):
    """A token embedded, a gated recurrent unit, a relu layer and logits, all of one width.

    A network of your own is a module with these two functions.

    Attributes:
      num_tokens: V.
      size: width of every layer.
    """

    num_tokens: int
    size: int = 64

    @nn.compact
    def __call__(self, memory: Any, token: chex.Array) -> tuple[Any, chex.Array]:
        """Reads a token, int32 `[...]`; returns the memory after it, leaves `[..., *shape]`, and
        the logits of the next one, `[..., V]`.
        """
        size = self.size
        embedded = dense(size, "lecun")(jax.nn.one_hot(token, self.num_tokens))
        given = jnp.split(dense(3 * size, "lecun")(embedded), 3, axis=-1)
        kept = jnp.split(dense(3 * size, "orthogonal", scale=1.0)(memory), 3, axis=-1)
        reset, update = (nn.sigmoid(given[i] + kept[i]) for i in (0, 1))
        new = nn.tanh(given[2] + reset * kept[2])
        memory = (1.0 - update) * new + update * memory
        hidden = nn.relu(dense(size, "lecun")(memory))
        return memory, dense(self.num_tokens, "lecun")(hidden)

    def start(self, *lead: int) -> Any:
        """The memory before the first token, leaves `[*lead, *shape]`."""
        return jnp.zeros((*lead, self.size), jnp.float32)


class Answers(NamedTuple):
    """Answers to N prompts, G each, as they were drawn.

    Attributes:
      tokens: int32 `[N, G, T]`, `pad` behind the end.
      mask: bool `[N, G, T]`, what the policy wrote: everything up to the first end.
      log_prob: of each token under the policy that wrote it, nats, `[N, G, T]`.
      entropy: of that policy at each place, nats, `[N, G, T]`.
    """

    tokens: chex.Array
    mask: chex.Array
    log_prob: chex.Array
    entropy: chex.Array


def read(network: nn.Module, params: Any, tokens: chex.Array) -> tuple[Any, chex.Array]:
    """Reads tokens `[..., L]`: the memory after them, and the logits after each, `[..., L, V]`."""

    def step(memory, token):
        return network.apply(params, memory, token)

    memory = network.start(*tokens.shape[:-1])
    memory, logits = jax.lax.scan(step, memory, jnp.moveaxis(tokens, -1, 0))
    return memory, jnp.moveaxis(logits, 0, -2)


def _begin(network, params, prompts, group_size):
    """The memory and the logits after each prompt, once for every answer; leaves `[N, G, ...]`."""
    memory, logits = read(network, params, prompts)
    after = memory, logits[..., -1, :]
    return jax.tree.map(lambda x: jnp.repeat(x[:, None], group_size, axis=1), after)


def sample(
    network: nn.Module,
    params: Any,
    prompts: chex.Array,
    key: chex.PRNGKey,
    *,
    env: TokenEnvironment,
    group_size: int,
) -> Answers:
    """Writes group_size answers to each prompt, int32 `[N, P]`."""

    def step(carry, key_data):
        memory, logits, over = carry
        (token_key,) = unpack_keys(key_data, key)
        drawn = jax.random.categorical(token_key, logits)
        token = jnp.where(over, env.pad, drawn).astype(jnp.int32)
        row = Answers(
            tokens=token,
            mask=~over,
            log_prob=losses.categorical_log_prob(token, logits),
            entropy=losses.categorical_entropy(logits),
        )
        memory, logits = network.apply(params, memory, token)
        return (memory, logits, over | (token == env.end)), row

    memory, logits = _begin(network, params, prompts, group_size)
    over = jnp.zeros((prompts.shape[0], group_size), bool)
    key_data = split_for_scan(key, env.response_length, 1)
    _, rows = jax.lax.scan(step, (memory, logits, over), key_data)
    return jax.tree.map(lambda x: jnp.moveaxis(x, 0, -1), rows)


def score(
    network: nn.Module, params: Any, prompts: chex.Array, tokens: chex.Array
) -> tuple[chex.Array, chex.Array]:
    """The log-probability of each token of answers, int32 `[N, G, T]`, to prompts `[N, P]`, and the
    entropy there, nats; `[N, G, T]` both.
    """

    def step(memory, token):
        return network.apply(params, memory, token)

    memory, first = _begin(network, params, prompts, tokens.shape[1])
    _, rest = jax.lax.scan(step, memory, jnp.moveaxis(tokens[..., :-1], -1, 0))
    logits = jnp.concatenate([first[..., None, :], jnp.moveaxis(rest, 0, -2)], axis=-2)
    return losses.categorical_log_prob(tokens, logits), losses.categorical_entropy(logits)
