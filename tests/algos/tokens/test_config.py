"""What does not fit together, of Config, environment, network and objective, is refused."""

import jax.numpy as jnp
import pytest

from onejit import envs
from onejit.algos import tokens
from onejit.algos.core.config import ConfigError

ENV = envs.make("tokens/brackets", depth=2)
SMALL = tokens.Config(num_prompts=4, group_size=4, hidden_size=8, total_steps=64 * 8)


class Deaf(tokens.Recurrent):
    """Puts out one logit too many."""

    def __call__(self, memory, token):
        memory, logits = super().__call__(memory, token)
        return memory, jnp.concatenate([logits, logits[..., :1]], axis=-1)


def wrong_shape(batch):
    return batch.log_prob


def wrong_name(batch):
    return batch.log_probs.mean()


REFUSED = [
    ({"env": envs.make("probe/value")}, "env=a Probe: must be a TokenEnvironment"),
    ({"config": SMALL.replace(eval_k=20)}, "eval_k=20: must be at most eval_samples = 16"),
    ({"config": SMALL.replace(total_steps=63)}, "total_steps=63: must be at least one iteration"),
    ({"config": SMALL.replace(objective="gpro")}, "objective='gpro': must be one of 'grpo'"),
    ({"config": SMALL.replace(ref_alpha=1.5)}, "ref_alpha=1.5: must be a number at least 0"),
    ({"objective": wrong_shape}, "objective=wrong_shape: must return a scalar, .*float32.4, 4, 4"),
    ({"objective": wrong_name}, "objective=wrong_name: cannot be traced by jax: AttributeError"),
    ({"objective": lambda batch: (0.0, 1.0)}, "must return a scalar, or"),
    ({"network": Deaf(6, 8)}, r"network=logits \[3, 2, 7\]: must put out logits \[3, 2, 6\]"),
    ({"network": 5}, "network=int: cannot be traced by jax: AttributeError"),
    (
        {"config": SMALL.replace(objective="max_at_k", group_size=2)},
        "objective=max_at_k: cannot be traced by jax: ValueError: k=4",
    ),
]


@pytest.mark.parametrize("arguments, message", REFUSED)
def test_what_does_not_fit_is_refused_in_a_sentence(arguments, message):
    with pytest.raises(ConfigError, match=message):
        tokens.make(**{"env": ENV, "config": SMALL} | arguments)
