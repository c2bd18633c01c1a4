"""Runs on the host of the same algorithm and sizes share their compiled programs."""

import pytest

from onejit.algos.host import runner

_PROGRAMS = {}


@pytest.fixture(autouse=True)
def compiled_once(monkeypatch):
    """`runner.Programs` is made once for each algorithm, number of seeds and of episodes."""
    make = runner.Programs

    def shared(algorithm, settings):
        key = (id(algorithm), settings.num_seeds, settings.eval_episodes)
        if key not in _PROGRAMS:
            _PROGRAMS[key] = algorithm, make(algorithm, settings)  # kept, so that the id is its own
        return _PROGRAMS[key][1]

    monkeypatch.setattr(runner, "Programs", shared)
