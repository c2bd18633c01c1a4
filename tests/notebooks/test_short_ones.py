"""The notebooks of one idea each run from top to bottom, on a small budget."""

import pytest

# What is made smaller, how many pictures there are, and a part of what is said.
RUNS = {
    "population": (
        {
            "num_agents = 256": "num_agents = 4",
            "32_768": "4_096",
            "num_episodes=64": "num_episodes=2",
        },
        1,
        "4 agents, 16,384 steps",
    ),
    "own_loss": ({"131_072, 16": "8_192, 2"}, 2, "-2.0"),
    "own_environment": (
        {"163_840": "4_096", "20_480, b": "1_200, b", "(64, 64)": "(4,)", "128": "8"},
        1,
        "the state.time is int32[] after reset and float32[] (weak type) after step",
    ),
    "certified": (
        {
            "num_iterations = 240": "num_iterations = 2",
            "2_000,": "20,",
            "50, strengths": "4, strengths",
        },
        1,
        "budget 1.0: a return of at least",
    ),
}

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("name", RUNS)
def test_it_runs(name, outputs_of):
    smaller, pictures, said = RUNS[name]
    outputs = outputs_of(name, smaller)
    assert all(output.output_type != "error" for output in outputs)
    assert sum("image/png" in output.get("data", {}) for output in outputs) == pictures
    assert said in "".join(output.get("text", "") for output in outputs)
