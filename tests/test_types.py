"""The types of the public surface: every parameter of it has one, and a type checker finds in a
user's program what is wrong there, and nothing else.
"""

import inspect
import os
import subprocess
import sys
from pathlib import Path

import pytest

from onejit import algos, envs, losses

ROOT = Path(__file__).parents[1]
PROGRAM = ROOT / "tests" / "data" / "typed_program.py"
IGNORE = "  # type: ignore["


def public_functions(name, thing):
    """(name, function) of what a module, or a class, of ours offers."""
    if inspect.ismodule(thing) and thing.__name__.startswith("onejit."):
        own = [
            each
            for each, value in vars(thing).items()
            if getattr(value, "__module__", None) == thing.__name__
        ]
        for each in getattr(thing, "__all__", own):
            if not each.startswith("_"):
                yield from public_functions(f"{name}.{each}", getattr(thing, each))
    elif inspect.isfunction(thing):
        yield name, thing
    elif inspect.isclass(thing) and thing.__module__.startswith("onejit."):
        for each, value in vars(thing).items():
            value = getattr(value, "fget", None) or getattr(value, "__func__", value)
            if inspect.isfunction(value) and not each.startswith("_"):
                yield f"{name}.{each}", value


def untyped(functions):
    """The parameters, and results, that nothing is said of."""
    for name, function in functions:
        signature = inspect.signature(function)
        for each in signature.parameters.values():
            if each.annotation is each.empty and each.name not in ("self", "cls"):
                yield f"{name}({each.name})"
        if signature.return_annotation is signature.empty:
            yield f"{name} ->"


def test_every_parameter_and_result_of_the_public_surface_has_a_type():
    functions = [
        each for layer in (losses, envs, algos) for each in public_functions(layer.__name__, layer)
    ]
    assert len(dict(functions)) > 400
    assert list(untyped(functions)) == []
    assert list(untyped([("f", lambda x: x)])) == ["f(x)", "f ->"]


@pytest.fixture(scope="module")
def checked(tmp_path_factory):
    """mypy as a function of a program: the lines in which it finds an error, and what it says."""
    pytest.importorskip("mypy")
    folder = tmp_path_factory.mktemp("types")
    (folder / "onejit").symlink_to(ROOT)

    def check(program):
        words = ["--config-file", PROGRAM.with_name("mypy.ini"), "--cache-dir", folder / "cache"]
        done = subprocess.run(
            [sys.executable, "-m", "mypy", *words, program],
            env=os.environ | {"MYPYPATH": str(folder)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.stderr == "" and done.returncode in (0, 1), done.stderr + done.stdout
        found = [line.split(":")[1] for line in done.stdout.splitlines() if ": error: " in line]
        return {int(number) for number in found}, done.stdout

    return check


def test_a_type_checker_finds_what_is_wrong_in_a_users_program_and_nothing_else(checked, tmp_path):
    found, said = checked(PROGRAM)
    assert found == set(), said
    lines = PROGRAM.read_text().splitlines()
    wrong = {number for number, line in enumerate(lines, 1) if IGNORE in line}
    assert len(wrong) > 10
    bare = tmp_path / "bare.py"
    bare.write_text("\n".join(line.partition(IGNORE)[0] for line in lines))
    assert checked(bare)[0] == wrong
