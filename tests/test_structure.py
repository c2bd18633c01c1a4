"""The shape of the code base: what imports what, style, what an import does, and what a wheel
ships.
"""

import ast
import configparser
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("losses", "envs", "algos")
# Which of our packages a package may import.
BELOW = {"losses": set(), "envs": set(), "algos": {"losses", "envs"}}
# float64, not traced
HOST_SIDE = {"losses.smoothing": {"numpy", "scipy"}}


def modules(root):
    """(dotted name, path) of every module of our packages, however deep."""
    for package in PACKAGES:
        for path in sorted((root / package).rglob("*.py")):
            parts = path.relative_to(root).with_suffix("").parts
            yield ".".join(parts[:-1] if parts[-1] == "__init__" else parts), path


def imports(root, path):
    """(inside, module) of every import statement in a file, the lazy ones included.

    `inside` says whether it is a module of ours, whose name is then dotted from the root, as in
    `modules`.
    """
    package = path.relative_to(root).parts[:-1]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from ((False, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            yield False, node.module
        elif isinstance(node, ast.ImportFrom):
            base = [
                *package[: len(package) - node.level + 1],
                *(node.module.split(".") if node.module else ()),
            ]
            for alias in node.names:
                target = root.joinpath(*base, alias.name)
                is_module = target.is_dir() or target.with_suffix(".py").exists()
                yield True, ".".join([*base, alias.name] if is_module else base)


def graph(root):
    """The modules of ours that each module imports."""
    return {
        name: {m for inside, m in imports(root, path) if inside} for name, path in modules(root)
    }


def problems(root):
    """What is wrong with the imports of our packages, a sentence each."""
    found = []
    for name, path in modules(root):
        top = name.split(".")[0]
        for inside, module in imports(root, path):
            first = module.split(".")[0]
            if not inside and first == "onejit":
                found.append(f"{name}: imports inside the package are relative")
            if inside and first != top and first not in BELOW[top]:
                found.append(f"{name} imports {module}")
            allowed = {"jax", "chex", "math", "collections", "functools", "typing"} | HOST_SIDE.get(
                name, set()
            )
            if top == "losses" and not inside and first not in allowed:
                found.append(f"{name} imports {module}")
    return found + circles(graph(root))


def misplaced(edges):
    """Imports within `algos` that go the wrong way: a paper is a module of `algos` itself, but for
    those of `SHARED`.
    """
    for name, imported in edges.items():
        folder = name.split(".")[1] if name.count(".") > 1 else None
        folder = COMMANDS if name.startswith(f"algos.{COMMANDS}") else folder
        is_paper = name.count(".") == 1 and name.startswith("algos.")
        for other in (each for each in imported if each.startswith("algos.")):
            room = other.split(".")[1]
            is_module = other.count(".") == 1 and not (ROOT / "algos" / room).is_dir()
            to_paper = is_module and other not in SHARED
            if is_paper and to_paper:
                yield f"the paper {name} imports the paper {other}"
            elif other.startswith(f"algos.{COMMANDS}") and folder != COMMANDS:
                yield f"{name} imports {other}: nothing does"
            elif name.startswith("algos.") and room == "host" and folder not in ("host", COMMANDS):
                yield f"{name} imports {other}: only host/ may"
            elif folder in ROOMS and room not in {folder, *ROOMS[folder]} and other not in SHARED:
                yield f"{name} imports {other}"


COMMANDS = "host.commands"  # which run by their names alone
# The rooms of `algos`, and which others each may import.
ROOMS = {
    "core": set(),
    "actor_only": {"core"},
    "on_policy": {"core"},
    "off_policy": {"core"},
    "smoothing": {"core"},
    "tokens": {"core"},
    "host": {"core"},
    COMMANDS: {"core", "host", "off_policy", "smoothing"},
}
SHARED = {"algos.parameter_steps"}
HOST_LIBRARIES = {"rich", "tensorboardX", "matplotlib", "absl", "orbax", "PIL", "wandb"}


def test_a_paper_imports_no_paper_and_the_host_stays_in_its_room():
    assert list(misplaced(graph(ROOT))) == []
    for name, path in modules(ROOT):
        if name.startswith("algos.") and not name.startswith("algos.host"):
            outside = {m.split(".")[0] for inside, m in imports(ROOT, path) if not inside}
            assert not outside & HOST_LIBRARIES, name


@pytest.mark.parametrize(
    "edges, problem",
    [
        ({"algos.sac": {"algos.td3"}}, "the paper algos.sac imports the paper algos.td3"),
        (
            {"algos.core.a": {"algos.host.cli"}},
            "algos.core.a imports algos.host.cli: only host/ may",
        ),
        ({"algos.ppo": {"algos.host.cli"}}, "algos.ppo imports algos.host.cli: only host/ may"),
        (
            {"algos.host.cli": {"algos.host.commands.render"}},
            "algos.host.cli imports algos.host.commands.render: nothing does",
        ),
        ({"algos.core.a": {"algos.on_policy.loop"}}, "algos.core.a imports algos.on_policy.loop"),
        ({"algos.on_policy.a": {"algos.ppo"}}, "algos.on_policy.a imports algos.ppo"),
        (
            {"algos.off_policy.a": {"algos.on_policy.b"}},
            "algos.off_policy.a imports algos.on_policy.b",
        ),
    ],
)
def test_what_is_misplaced_is_found(edges, problem):
    assert list(misplaced(edges)) == [problem]


def test_files_can_be_read_in_one_sitting():
    lengths = {name: len(path.read_text().splitlines()) for name, path in modules(ROOT)}
    assert {name: length for name, length in lengths.items() if length > 350} == {}


def circles(edges):
    """Circles of imports. A package's `__init__` may import its modules, and stands for what it
    imports itself.
    """
    found = []
    finished = set()

    def visit(node, above):
        if node in above:
            found.append(f"circle: {' -> '.join([*above[above.index(node) :], node])}")
        elif node not in finished:
            for following in sorted(edges.get(node, ())):
                visit(following, [*above, node])
            finished.add(node)

    for node in edges:
        visit(node, [])
    return found


def test_imports_run_downwards_and_not_in_circles_and_losses_import_jax_and_chex_only():
    assert problems(ROOT) == []


BAD = {
    "losses/tokens/grpo.py": ("import flax\n", "losses.tokens.grpo imports flax"),
    "losses/tokens/dpo.py": ("from ...envs import spaces\n", "losses.tokens.dpo imports envs"),
    "envs/suites/mine.py": ("from ...algos import ppo\n", "envs.suites.mine imports algos"),
    "algos/core/loop.py": (
        "from onejit import losses\n",
        "algos.core.loop: imports inside the package are relative",
    ),
    "algos/core/a.py": (
        "from .b import x\n",
        "circle: algos.core.a -> algos.core.b -> algos.core.a",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_module_of_a_subpackage_is_found(name, tmp_path):
    text, problem = BAD[name]
    path = tmp_path / name
    path.parent.mkdir(parents=True)
    path.write_text(text)
    if "circle" in problem:
        (path.parent / "b.py").write_text("from . import a\n\nx = a\n")
    assert problem in problems(tmp_path)


def modules_after(code):
    """What a new process has imported, asked for with `report`, at each call; and what jax is
    then told of a compilation cache.
    """
    report = "import json, sys\nreport = lambda: print(json.dumps(sorted(sys.modules)))\n"
    environ = {key: value for key, value in os.environ.items() if "COMPILATION_CACHE" not in key}
    ask = "\nimport jax\nprint(json.dumps(jax.config.jax_compilation_cache_dir))"
    result = subprocess.run(
        [sys.executable, "-c", report + code + ask],
        capture_output=True,
        text=True,
        check=True,
        env=environ,
    )
    assert result.stderr == ""
    *reports, cache = map(json.loads, result.stdout.splitlines())
    return [set(each) for each in reports], cache


# What a run on CartPole uses at its end, or not at all.
HEAVY = {"brax", "mujoco", "mujoco.mjx", "orbax.checkpoint", "tensorstore", "tensorboardX"}
HEAVY |= {"matplotlib", "seaborn", "pandas", "scipy", "trimesh", "tensorflow", "torch", "IPython"}


def test_import_is_light_and_silent_and_sets_nothing():
    (light, all_of_it), cache = modules_after(
        "import onejit\nreport()\nfrom onejit import losses, envs, algos\nreport()"
    )
    assert not light & {"jax", "numpy"}
    assert not all_of_it & (HEAVY | {"gymnax", "PIL"})
    assert cache is None


def test_nothing_heavy_is_imported_before_a_script_trains():
    code = (
        "from onejit import envs\nfrom onejit.algos import ppo\nfrom onejit.algos.host import cli\n"
        "algorithm = ppo.make(envs.make('gymnax/CartPole-v1'), ppo.Config())\nreport()"
    )
    (imported,), _ = modules_after(code)
    assert "gymnax.environments.misc.pong" in imported
    assert imported & HEAVY == set()


@pytest.mark.parametrize("arguments", [["check"], ["format", "--check"]])
def test_ruff_has_nothing_to_say(arguments):
    result = subprocess.run(
        [sys.executable, "-m", "ruff", *arguments, "--no-cache", ROOT],
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stdout


def test_nothing_unsafe_is_used():
    banned = {"pickle", "cloudpickle", "dill", "yaml"}
    for folder in (*PACKAGES, "scripts"):
        for path in (ROOT / folder).rglob("*.py"):
            used = {module.split(".")[0] for inside, module in imports(ROOT, path) if not inside}
            assert not used & banned, path
            calls = [
                n.func.id
                for n in ast.walk(ast.parse(path.read_text()))
                if isinstance(n, ast.Call) and isinstance(n.func, ast.Name)
            ]
            assert not {"eval", "exec"} & set(calls), path


def settings():
    parser = configparser.ConfigParser()
    parser.read(ROOT / "setup.cfg")
    return parser


def test_a_wheel_ships_every_package_and_its_data():
    folders = {
        path.parent.relative_to(ROOT)
        for package in PACKAGES
        for path in (ROOT / package).rglob("*.py")
    }
    packages = {".".join(("onejit", *folder.parts)) for folder in folders} | {"onejit"}
    assert set(settings()["options"]["packages"].split()) == packages
    shipped = {
        f"{package.removeprefix('onejit.').replace('.', '/')}/{name}"
        for package, names in settings()["options.package_data"].items()
        for name in names.split(",")
        if package != "onejit"
    }
    data = {
        path.relative_to(ROOT).as_posix()
        for package in PACKAGES
        for path in (ROOT / package).rglob("*.*")
    }
    assert shipped == {name for name in data if not name.endswith((".py", ".pyc"))}
