"""Does a wheel work elsewhere? `python scripts/evidence/interpreters.py`, one JSON line per Python.

Builds an sdist and from it a wheel, and installs it into an empty environment outside of the
checkout, with the newest of what it asks for, by each Python that setup.cfg names and that is
found: on the PATH, of pyenv or of uv. There `onejit` lists its commands (`list_s`), and `onejit
ppo` trains on CartPole for ten iterations. Lines also go to results/interpreters.jsonl. Exits with
1 if one of them does not work.
"""

import configparser
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
from pathlib import Path
from typing import Any

from absl import app, flags

ROOT = Path(__file__).parents[2]
TRAIN = ["ppo", "--env=gymnax/CartPole-v1", "--total_steps=20480", "--num_evals=2"]
_NOT_COPIED = shutil.ignore_patterns(".*", "__pycache__", "*.egg-info", "build", "dist", "runs")
_BUILD = "import sys; from setuptools import build_meta as b; b.build_{}(sys.argv[1])"


def build(folder: Path) -> tuple[Path, Path]:
    """Builds the sdist of a copy of the checkout, and the wheel of what is in the sdist.

    Args:
      folder: an empty one, for all that it takes.

    Returns:
      The paths of the sdist and of the wheel.
    """
    source = shutil.copytree(ROOT, folder / "source", ignore=_NOT_COPIED)
    dist = folder / "dist"
    said(sys.executable, "-c", _BUILD.format("sdist"), dist, cwd=source)
    [sdist] = dist.glob("*.tar.gz")
    with tarfile.open(sdist) as file:
        file.extractall(folder / "unpacked", filter="data")
    [unpacked] = (folder / "unpacked").iterdir()
    said(sys.executable, "-c", _BUILD.format("wheel"), dist, cwd=unpacked)
    [wheel] = dist.glob("*.whl")
    return sdist, wheel


def said(*command: Any, cwd: Path) -> str:
    """What a command prints, without what the shell says of Python, jax and onejit.

    Raises:
      RuntimeError: it fails; with the last line that it printed.
    """
    ours = ("PYTHON", "JAX_", "XLA_", "ONEJIT_")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    environment |= {"ONEJIT_COMPILATION_CACHE": "off"}
    done = subprocess.run(
        list(map(str, command)),
        cwd=cwd,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        words = (done.stdout + done.stderr).replace(str(cwd), ".").strip().splitlines()
        raise RuntimeError(words[-1] if words else f"exit code {done.returncode}")
    return done.stdout


def named() -> list[str]:
    """The versions of Python that setup.cfg names, "3.11" and so on."""
    settings = configparser.ConfigParser()
    settings.read(ROOT / "setup.cfg")
    return re.findall(r"Python :: (3\.\d+)", settings["metadata"]["classifiers"])


def interpreters() -> dict[str, Path]:
    """The newest that is found of each version that is named, by its whole version."""
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    places = [shutil.which(f"python{version}") for version in named()]
    places += [sys.executable, *pyenv.glob("versions/*/bin/python")]
    if shutil.which("uv"):
        for version in named():
            command = ["uv", "python", "find", "--no-python-downloads", version]
            found = subprocess.run(command, capture_output=True, text=True, check=False)
            places.append(found.stdout.strip())
    ask = "import platform; print(platform.python_version())"
    newest = {}
    for place in filter(None, places):
        try:
            version = said(place, "-c", ask, cwd=ROOT).strip()
        except RuntimeError:  # a stand-in for what is not installed
            continue
        numbers = tuple(map(int, re.findall(r"\d+", version)))
        name = "{}.{}".format(*numbers)
        if name in named() and numbers > newest.get(name, ((), "", ""))[0]:
            newest[name] = numbers, version, Path(place)
    return {version: place for _, version, place in newest.values()}


def tried(wheel: Path, python: Path, folder: Path) -> dict[str, Any]:
    """Installs a wheel by an interpreter, and trains with it, in an empty folder."""
    said(python, "-m", "venv", folder / "environment", cwd=folder)
    binaries = folder / "environment" / "bin"
    said(binaries / "python", "-m", "pip", "install", "--quiet", wheel, cwd=folder)
    start = time.perf_counter()
    said(binaries / "onejit", cwd=folder)
    seconds = time.perf_counter() - start
    said(binaries / "onejit", *TRAIN, cwd=folder)
    [run] = (folder / "runs").iterdir()
    row = json.loads((run / "metrics.jsonl").read_text().splitlines()[-1])
    return {
        "list_s": round(seconds, 2),
        "steps": row["step"],
        "eval_return": row["eval/episodic_return"],
        "files": sorted(path.name for path in run.iterdir() if not path.name.startswith(".")),
        "versions": json.loads((run / "config.json").read_text())["versions"],
    }


def main(argv: list[str]) -> None:
    """Prints a line for each interpreter, one that is named and not found included."""
    del argv
    found = interpreters()
    lines = []
    with tempfile.TemporaryDirectory() as temporary:
        _, wheel = build(Path(temporary))
        missing = [each for each in named() if not any(x.startswith(f"{each}.") for x in found)]
        for version in [*found, *missing]:
            line = {"what": "a wheel in an empty environment", "python": version}
            line |= {"command": " ".join(["onejit", *TRAIN]), "works": version in found}
            if version in found:
                folder = Path(temporary) / version
                folder.mkdir()
                try:
                    line |= tried(wheel, found[version], folder)
                except RuntimeError as error:
                    line |= {"works": False, "error": str(error)}
                shutil.rmtree(folder)
            else:
                line["error"] = "not found"
            lines.append(line)
            print(json.dumps(line), flush=True)
            with Path(flags.FLAGS.out).open("a") as file:
                file.write(json.dumps(line) + "\n")
    sys.exit(not all(line["works"] for line in lines))


if __name__ == "__main__":
    out = str(ROOT / "results" / "interpreters.jsonl")
    flags.DEFINE_string("out", out, "Where lines are added.")
    app.run(main)
