"""The program in docs/own_robot.md is typed in, and keeps the contract."""

import runpy
from pathlib import Path

from onejit import envs

PAGE = Path(__file__).parents[1] / "docs" / "own_robot.md"


def test_the_robot_of_ones_own_is_an_environment(tmp_path):
    program = tmp_path / "swing_up.py"
    program.write_text(PAGE.read_text().partition("```python\n")[2].partition("```")[0])
    runpy.run_path(str(program))
    env = envs.make("mine/SwingUp", episode_length=7)
    envs.check(env, num_steps=10)
    assert env.observation_space.shape == (3,)
    assert env.step_seconds == 0.05
