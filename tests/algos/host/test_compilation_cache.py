"""Compiled programs are kept for the next start; nothing that is wrong with them stops a run."""

import os
import resource
import subprocess
import sys
import warnings
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest
from jax.experimental.compilation_cache import compilation_cache as jax_cache

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
    for name in (*map(str.upper, names), compilation_cache.VARIABLE):
        monkeypatch.delenv(name, raising=False)
    jax.config.update("jax_compilation_cache_dir", None)
    yield
    for name, value in before.items():
        jax.config.update(name, value)
    jax_cache.reset_cache()


def compile_or_load(folder):
    """3 · 2 + 1 by a program that is kept, where not even a warning is allowed; its files."""
    jax_cache.reset_cache()
    with warnings.catch_warnings(action="error"), compilation_cache.enabled(folder) as place:
        assert float(jax.jit(lambda x: 3.0 * x + 1.0)(jnp.float32(2.0))) == 7.0
    return [*place.glob("jit__lambda-*-cache")] if place else []


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


@pytest.mark.slow
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


@pytest.mark.parametrize("damage", ["cut short", "one bit", "empty"])
def test_a_damaged_program_is_compiled_without_a_word(damage, tmp_path, jaxs_own):
    (entry,) = compile_or_load(tmp_path)
    whole = entry.read_bytes()
    middle = len(whole) // 2
    flipped = whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :]
    damaged = {"cut short": whole[:middle], "one bit": flipped, "empty": b""}[damage]
    entry.write_bytes(damaged)
    assert compile_or_load(tmp_path) == [entry]
    # Not byte by byte: an entry holds the seconds that it took to compile.
    assert entry.read_bytes() != damaged


def test_an_entry_that_cannot_be_removed_stops_nothing(tmp_path, jaxs_own):
    (entry,) = compile_or_load(tmp_path)
    entry.unlink()
    entry.mkdir()
    assert compile_or_load(tmp_path) == [entry]


def test_a_disk_that_fills_up_stops_nothing_and_leaves_no_half_entries(tmp_path, jaxs_own):
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, limits[1]))
    try:
        assert compile_or_load(tmp_path) == []
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert len(compile_or_load(tmp_path)) == 1


def test_a_folder_that_may_only_be_read_stops_nothing(tmp_path, jaxs_own, monkeypatch):
    assert compilation_cache.enable(tmp_path) is not None
    jax.config.update("jax_compilation_cache_dir", None)
    monkeypatch.setattr(os, "access", lambda *_: False)  # the superuser may write anywhere
    assert compile_or_load(tmp_path) == []
    assert jax.config.jax_compilation_cache_dir is None


def test_without_a_home_nothing_is_kept(jaxs_own, monkeypatch):
    def no_home(path):
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(Path, "expanduser", no_home)
    assert compile_or_load(None) == []


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


@pytest.mark.parametrize("variable", [None, "off", "elsewhere"])
def test_a_cache_that_jax_has_already_stays(variable, tmp_path, jaxs_own, monkeypatch):
    if variable:
        monkeypatch.setenv(compilation_cache.VARIABLE, variable)
    jax.config.update("jax_compilation_cache_dir", str(tmp_path / "jax"))
    assert compilation_cache.enable() is None
    assert jax.config.jax_compilation_cache_dir == str(tmp_path / "jax")
    assert compilation_cache.enable("off") is None
    assert jax.config.jax_compilation_cache_dir is None


def test_short_programs_are_kept_unless_jax_is_told_otherwise(tmp_path, jaxs_own, monkeypatch):
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 7.0)
    with monkeypatch.context() as patch:
        patch.setenv("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "7")
        assert compile_or_load(tmp_path) == []
    assert len(compile_or_load(tmp_path)) == 1


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
    with monkeypatch.context() as patch:
        patch.setattr(compilation_cache, "_num_processors", lambda: 1000)
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
