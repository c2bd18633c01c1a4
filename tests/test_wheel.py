"""What is shipped: the sdist and the wheel that is built of it, and that `onejit` works where the
wheel alone is.
"""

import configparser
import os
import runpy
import subprocess
import sys
import tarfile
import zipfile
from email.parser import Parser
from pathlib import Path

import pytest

from onejit import __version__

ROOT = Path(__file__).parents[1]
SCRIPT = runpy.run_path(str(ROOT / "scripts" / "evidence" / "interpreters.py"))
TINY = ["--num_envs=2", "--num_steps=4", "--num_minibatches=1", "--hidden_sizes=4"]
TINY += ["--total_steps=16", "--eval_episodes=1"]
FILES = {"__init__.py", "__main__.py", "py.typed", "envs/mujoco/page.html"}
FILES |= {
    path.relative_to(ROOT).as_posix()
    for package in ("losses", "envs", "algos")
    for path in (ROOT / package).rglob("*.py")
}
OF_THE_SDIST = {"CHANGELOG.md", "CITATION.cff", "LICENSE", "MANIFEST.in", "PKG-INFO", "README.md"}
OF_THE_SDIST |= {"pyproject.toml", "setup.cfg"}
# Two tests of one build.
pytestmark = pytest.mark.xdist_group("wheel")


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    return SCRIPT["build"](tmp_path_factory.mktemp("built"))


def test_sdist_and_wheel_have_the_package_and_nothing_else(built):
    sdist, wheel = built
    with tarfile.open(sdist) as file:
        names = {each.name.partition("/")[2] for each in file if each.isfile()}
    assert {name for name in names if ".egg-info/" not in name} == FILES | OF_THE_SDIST
    with zipfile.ZipFile(wheel) as file:
        names = set(file.namelist())
        about = f"onejit-{__version__}.dist-info/"
        assert {n for n in names if not n.startswith(about)} == {f"onejit/{n}" for n in FILES}
        commands, metadata = (
            file.read(about + name).decode() for name in ("entry_points.txt", "METADATA")
        )
    assert commands == "[console_scripts]\nonejit = onejit.__main__:main\n"
    metadata = Parser().parsestr(metadata)
    assert (metadata["Name"], metadata["Version"]) == ("onejit", __version__)
    versions = [f"Programming Language :: Python :: 3.{minor}" for minor in (11, 12, 13)]
    assert set(versions) <= set(metadata.get_all("Classifier"))
    assert "wandb" in metadata.get_all("Provides-Extra")


def test_one_version_is_said_everywhere():
    settings = configparser.ConfigParser()
    settings.read(ROOT / "setup.cfg")
    assert settings["metadata"]["version"] == "attr: onejit.__version__"
    assert f"\nversion: {__version__}\n" in (ROOT / "CITATION.cff").read_text()
    first = (ROOT / "CHANGELOG.md").read_text().split("\n## ")[1]
    assert first.splitlines()[0] == __version__


def test_this_python_is_among_those_that_the_script_tries_and_what_fails_is_said(tmp_path):
    found = SCRIPT["interpreters"]()
    assert f"{sys.version_info[0]}.{sys.version_info[1]}" in {x.rpartition(".")[0] for x in found}
    assert set(SCRIPT["named"]()) == {"3.11", "3.12", "3.13"}
    with pytest.raises(RuntimeError, match="^no room in ./x$"):
        SCRIPT["said"](sys.executable, "-c", f"exit('no room in {tmp_path}/x')", cwd=tmp_path)


@pytest.mark.slow
def test_the_command_trains_and_draws_where_the_wheel_alone_is(built, tmp_path):
    site = tmp_path / "site"
    environment = os.environ | {"PYTHONPATH": str(site), "ONEJIT_COMPILATION_CACHE": "off"}

    def said(*command):
        done = subprocess.run(
            list(map(str, command)),
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    pip = (sys.executable, "-m", "pip", "--disable-pip-version-check")
    said(*pip, "install", "--no-deps", f"--target={site}", built[1])
    where = said(sys.executable, "-c", "import onejit; print(onejit.__file__)")
    assert Path(where.strip()).is_relative_to(site)
    command = site / "bin" / "onejit"
    assert "\n  ppo " in said(command)
    printed = said(command, "ppo", "--env=gymnax/CartPole-v1", *TINY)
    [folder] = (tmp_path / "runs").iterdir()
    assert {"config.json", "metrics.jsonl", "checkpoints"} <= {
        each.name for each in folder.iterdir()
    }
    assert f"-m onejit ppo --resume=runs/{folder.name}" in printed
    assert said(command, "render", folder, "--max_steps=3").startswith("3 steps, in ")
    steps = "--total_steps=32"
    said(sys.executable, "-m", "onejit", "ppo", f"--resume=runs/{folder.name}", steps)
