"""The notebook on learning from data runs on a small budget."""

import re

import pytest

SMALLER = {
    '"actor_hidden_sizes": (64, 64)': '"actor_hidden_sizes": (4,)',
    '"critic_hidden_sizes": (64, 64)': '"critic_hidden_sizes": (4,)',
    '"batch_size": 128': '"batch_size": 8, "num_updates": 2',
    "jax.random.key(0)), 2_000)": "jax.random.key(0)), 2)",
    "teach(medium, 4_000)": "teach(medium, 2)",
    "num_steps=10_000": "num_steps=2_000",
    "num_seeds = 5": "num_seeds = 2",
    "num_updates = 5_000": "num_updates = 20",
    "num_steps = 4_000": "num_steps = 8",
    "eval_every = 200": "eval_every = 4",
    "num_episodes=32": "num_episodes=2",
    # Of a policy that has learned nothing it may be below that of random actions.
    "    expert_score=expert_score,": "    expert_score=0.0,",
}

pytestmark = pytest.mark.slow


def test_it_runs(outputs_of):
    outputs = outputs_of("offline", SMALLER)
    assert sum("image/png" in output.get("data", {}) for output in outputs) == 1
    said = "".join(output.get("text", "") for output in outputs)
    assert "2,000 transitions; the policy that acted scores " in said
    number = r"-?\d+\.\d"
    lines = rf"^[\w+]+ +{number}  \({number} to {number}\)$"
    assert len(re.findall(lines, said, re.MULTILINE)) == 3
