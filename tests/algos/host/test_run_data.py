"""What config.json says of a run's data, and of the environment that they are of."""

import numpy as np
import pytest

from onejit import envs
from onejit.algos import Dataset, bc
from onejit.algos.core.collect import Transition
from onejit.algos.host import cli, dataset_files, run_data
from onejit.algos.host.script_flags import define_flags

ENV = envs.make("probe/observation", continuous=True)
OPTIONS = {"continuous": True, "limit": 7, "range": (-float("inf"), float("inf"))}


@pytest.fixture
def file(tmp_path):
    """A data set of a single transition, and of an environment with two options."""
    obs, flags = np.zeros((1, *ENV.observation_space.shape), np.float32), np.ones(1, bool)
    reward, action = np.zeros(1, np.float32), np.zeros((1, 1), np.float32)
    data = Dataset(
        transitions=Transition(obs, action, reward, flags, ~flags, obs),
        observation_space=ENV.observation_space,
        action_space=ENV.action_space,
        env_id="probe/observation",
        env_options=OPTIONS,
    )
    return dataset_files.save(tmp_path / "data.npz", data)


def described(*arguments):
    values = define_flags(bc.Config, "gymnax/CartPole-v1")
    cli.parse(values, ["bc", *arguments])
    run = cli.new_run(bc, values, "bc")
    return run["env"], run["env_options"], run["data"]


def test_the_file_is_found_from_another_working_directory(file, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    found = described(f"--data={file.name}")[2]
    monkeypatch.chdir("/")
    assert run_data.options({"data": found})["data"].checksum == found["checksum"]


def test_the_environment_is_that_of_the_data_with_the_options_of_both(file):
    data = f"--data={file}"
    mine = "--env_options=limit=9,more=1"
    both = OPTIONS | {"limit": 9, "more": 1}
    assert described(data)[:2] == ("probe/observation", OPTIONS)
    assert described(data, mine)[:2] == ("probe/observation", both)
    # The same environment, by name; and another one, of which the data's options say nothing.
    assert described(data, mine, "--env=probe/observation")[:2] == ("probe/observation", both)
    assert described(data, "--env=probe/value")[:2] == ("probe/value", {})
