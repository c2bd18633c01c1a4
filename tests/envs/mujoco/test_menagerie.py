"""Where robots' models are looked for, and in which order."""

import importlib.util
from importlib.machinery import ModuleSpec

import pytest

from onejit.envs.mujoco.menagerie import Menagerie, MissingModelError


@pytest.fixture
def folders(tmp_path, monkeypatch):
    """A folder for each place, by its name; all but the option's are where they are looked for."""
    made = {each: tmp_path / each for each in ("option", "variable", "own", "package")}
    for folder in made.values():
        folder.mkdir()
    spec = ModuleSpec("assets", None, is_package=True)
    spec.submodule_search_locations = [str(made["package"])]
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: spec)
    monkeypatch.setenv("ONEJIT_MENAGERIE", str(made["variable"]))
    return made


def test_the_first_folder_that_has_the_robot_is_taken(folders):
    g1 = "mujoco/playground/assets/mujoco_menagerie/unitree_g1"
    inside = {"option": "unitree_g1", "variable": "unitree_g1", "own": "unitree_g1", "package": g1}
    for place in ("package", "own", "variable"):
        (folders[place] / inside[place]).mkdir(parents=True)
        menagerie = Menagerie("playground/G1", folders["own"], "0a1b")
        assert menagerie / "unitree_g1" == folders[place] / inside[place]
    # What is named by the option stands in for the variable.
    named = Menagerie("playground/G1", folders["own"], "0a1b", str(folders["option"]))
    assert named / "unitree_g1" == folders["own"] / "unitree_g1"
    (folders["option"] / "unitree_g1").mkdir()
    assert named / "unitree_g1" == folders["option"] / "unitree_g1"


def test_a_robot_that_is_nowhere_is_an_error_that_says_where_it_was_looked_for(folders):
    menagerie = Menagerie("playground/Spot", folders["own"], "0a1b")
    looked = f"{folders['variable']} or {folders['own']}"
    with pytest.raises(MissingModelError, match=rf"Spot needs .* is not in {looked};.*0a1b"):
        menagerie / "boston_dynamics_spot"


def test_a_named_folder_must_be_there(folders, monkeypatch):
    monkeypatch.setenv("ONEJIT_MENAGERIE", "nowhere")
    with pytest.raises(ValueError, match="ONEJIT_MENAGERIE='nowhere': must be a folder"):
        Menagerie("playground/G1", folders["own"], "0a1b")
