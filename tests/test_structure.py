"""The shape of the code base: what imports what, style, and what an import does."""

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("losses", "envs", "algos")
# Which of our packages a package may import.
BELOW = {"losses": set(), "envs": set(), "algos": {"losses", "envs"}}


def imports(path):
    """(level, module) of every import statement in a file, the lazy ones included."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from ((0, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            names = [node.module] if node.module else [alias.name for alias in node.names]
            yield from ((node.level, name) for name in names)


@pytest.mark.parametrize("package", PACKAGES)
def test_imports_run_downwards(package):
    for path in (ROOT / package).glob("*.py"):
        for level, module in imports(path):
            top = module.split(".")[0]
            assert not (level == 0 and top == "onejit"), f"{path.name}: imports inside the package are relative"
            if level >= 2:
                assert top in BELOW[package], f"{package}/{path.name} imports {module}"


def test_losses_import_jax_and_chex_only():
    host_side = {"smoothing.py": {"numpy", "scipy"}}  # float64, not traced
    for path in (ROOT / "losses").glob("*.py"):
        allowed = {"jax", "chex", "math", "collections", "functools"} | host_side.get(path.name, set())
        outside = {module.split(".")[0] for level, module in imports(path) if level == 0}
        assert outside <= allowed, f"{path.name} imports {outside - allowed}"


def test_there_is_no_circle():
    graph = {}
    for package in PACKAGES:
        for path in (ROOT / package).glob("*.py"):
            for level, module in imports(path):
                if level == 1:
                    graph.setdefault(f"{package}.{path.stem}", set()).add(f"{package}.{module.split('.')[0]}")

    def visit(node, above):
        assert node not in above, f"circle: {' -> '.join([*above, node])}"
        for following in graph.get(node, ()):
            visit(following, [*above, node])

    for node in graph:
        visit(node, [])


def test_import_is_light_and_silent():
    code = (
        "import sys, json, onejit\n"
        "light = sorted(sys.modules)\n"
        "from onejit import losses, envs, algos\n"
        "print(json.dumps([[m for m in ('jax', 'numpy') if m in light],"
        " [m for m in ('brax', 'mujoco', 'gymnax', 'orbax', 'matplotlib') if m in sys.modules]]))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(result.stdout) == [[], []]
    assert result.stderr == ""


@pytest.mark.parametrize("arguments", [["check"], ["format", "--check"]])
def test_ruff_has_nothing_to_say(arguments):
    result = subprocess.run(
        [sys.executable, "-m", "ruff", *arguments, "--no-cache", ROOT], capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stdout


def test_nothing_unsafe_is_used():
    banned = ("pickle", "cloudpickle", "dill", "yaml")
    for package in (*PACKAGES, "scripts"):
        for path in (ROOT / package).glob("*.py"):
            modules = {module.split(".")[0] for _, module in imports(path)}
            assert not modules & set(banned), path
            calls = [
                n.func.id
                for n in ast.walk(ast.parse(path.read_text()))
                if isinstance(n, ast.Call) and isinstance(n.func, ast.Name)
            ]
            assert not {"eval", "exec"} & set(calls), path
