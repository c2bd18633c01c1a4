"""Compiled programs are kept for the next start; nothing that is wrong with them stops a run."""

import os
import subprocess
import sys
from pathlib import Path

import jax
import pytest

from onejit.algos.host import compilation_cache

PROGRAM = """
import sys

import jax
from onejit.algos.host import compilation_cache

hits = []
jax.monitoring.register_event_listener(
    lambda event, **_: hits.append(event) if event.endswith("cache_hits") else None
)
with compilation_cache.enabled(sys.argv[1]):
    program = jax.jit(lambda x: x * 2.0 + 1.0)
    assert program(3.0) == 7.0
print(len(hits))
"""


@pytest.fixture
def jaxs_own(monkeypatch):
    """What JAX is told of caches is put back; nothing is told by the environment."""
    names = ("jax_compilation_cache_dir", "jax_persistent_cache_min_compile_time_secs")
    before = {name: getattr(jax.config, name) for name in names}
    monkeypatch.delenv(compilation_cache.VARIABLE, raising=False)
    jax.config.update("jax_compilation_cache_dir", None)
    yield
    for name, value in before.items():
        jax.config.update(name, value)


def start(folder):
    """A process that keeps its programs in a folder: how many of them were kept already."""
    unset = ("JAX_COMPILATION_CACHE_DIR", "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS")
    environment = {name: value for name, value in os.environ.items() if name not in unset}
    done = subprocess.run(
        [sys.executable, "-W", "always", "-c", PROGRAM, str(folder)],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert "compilation cache" not in done.stderr
    return int(done.stdout)


def test_the_second_start_compiles_nothing_and_a_damaged_program_is_kept_anew(tmp_path):
    folder = tmp_path / "kept"
    assert start(folder) == 0
    (entry,) = folder.glob("*/jit__lambda-*-cache")
    whole = entry.read_bytes()
    assert start(folder) > 0
    entry.write_bytes(whole[:100])  # a full disk, or a kill while it was written
    hits = start(folder)
    assert len(entry.read_bytes()) == len(whole)
    assert start(folder) == hits + 1


def test_a_place_that_cannot_be_written_keeps_nothing(tmp_path, jaxs_own):
    (tmp_path / "file").touch()
    assert compilation_cache.enable(tmp_path / "file" / "folder") is None
    assert jax.config.jax_compilation_cache_dir is None


def test_where_programs_are_kept(tmp_path, jaxs_own, monkeypatch):
    def place(folder=None):
        found = compilation_cache.enable(folder)
        assert jax.config.jax_compilation_cache_dir == (found and str(found))
        jax.config.update("jax_compilation_cache_dir", None)
        return found

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "user"))
    assert place().parent == tmp_path / "user" / "onejit"
    monkeypatch.setenv(compilation_cache.VARIABLE, str(tmp_path / "variable"))
    assert place().parent == tmp_path / "variable"
    assert place(tmp_path / "flag").parent == tmp_path / "flag"
    assert place("off") is None
    monkeypatch.setenv(compilation_cache.VARIABLE, "off")
    assert place() is None
    monkeypatch.chdir(tmp_path)
    assert place("here").parent == tmp_path / "here"


def test_a_cache_that_jax_has_already_stays(tmp_path, jaxs_own):
    jax.config.update("jax_compilation_cache_dir", str(tmp_path / "jax"))
    assert compilation_cache.enable() is None
    assert jax.config.jax_compilation_cache_dir == str(tmp_path / "jax")


def test_another_processor_or_version_has_a_folder_of_its_own(tmp_path, jaxs_own, monkeypatch):
    def place():
        return compilation_cache.enable(tmp_path)

    here = place()
    assert here == place()
    with monkeypatch.context() as patch:
        patch.setattr(jax, "__version__", "0.99.0")
        assert place() != here
    with monkeypatch.context() as patch:
        read = Path.read_text

        def without_avx(path, *args):
            return read(path, *args).replace(" avx2", "").replace(" asimd", "")

        patch.setattr(Path, "read_text", without_avx)
        assert place() != here


def test_what_was_not_used_for_longest_goes_first(tmp_path, jaxs_own, monkeypatch):
    folders = (tmp_path / "one machine", tmp_path / "another")
    entries = []
    for i in range(6):
        folder = folders[i % 2]
        folder.mkdir(exist_ok=True)
        entries.append(folder / f"jit_{i}-cache")
        entries[-1].write_bytes(bytes(100))
        os.utime(entries[-1], (1000 + i, 1000))
    other = tmp_path / "notes.txt"
    other.write_bytes(bytes(1000))
    monkeypatch.setattr(compilation_cache, "MAX_BYTES", 350)
    assert compilation_cache.enable(tmp_path) is not None
    assert [entry.exists() for entry in entries] == [False] * 3 + [True] * 3
    assert other.exists()
