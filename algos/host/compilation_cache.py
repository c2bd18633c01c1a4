"""Compiled programs are kept on disk, so that the second start of a script does not compile.

They are in a folder of the user's own, apart by the versions of jax and the kind of processor: on a
CPU, jax's key of a program does not say which instructions it may use. What JAX is told elsewhere,
by JAX_COMPILATION_CACHE_DIR, stays as it is.
"""

import contextlib
import hashlib
import os
import platform
import re
import warnings
from collections.abc import Iterator
from pathlib import Path

import jax
import jaxlib

VARIABLE = "ONEJIT_COMPILATION_CACHE"
OFF = "off"
HELP = (
    "The folder that compiled programs are kept in, or off; by default JAX's own if it has one, the"
    f" one that the variable {VARIABLE} names, or one in the user's cache folder."
)
MAX_BYTES = 2**29
_ENTRIES = "*/*-cache"
_TROUBLE = re.compile(r"Error (reading|writing) persistent compilation cache entry for '(\w+)'")


def enable(folder: str | os.PathLike | None = None) -> Path | None:
    """Keeps the programs that this process compiles from now on, and takes those that are kept.

    Args:
      folder: where; "off" for nowhere. By default, if JAX has no cache of its own, what
        ONEJIT_COMPILATION_CACHE says, else `onejit/` in the user's cache folder.

    Returns:
      The folder of this kind of machine; None if nothing is kept, because that was asked for, JAX
      has a cache of its own, or the folder cannot be made or written.
    """
    if not folder and jax.config.jax_compilation_cache_dir:
        return None
    chosen = folder or os.environ.get(VARIABLE) or _user_folder()
    if str(chosen) == OFF:
        jax.config.update("jax_compilation_cache_dir", None)
        return None
    try:
        root = Path(chosen).expanduser().absolute()
        place = root / _machine()
        place.mkdir(mode=0o700, parents=True, exist_ok=True)
        _prune(root)
    except (OSError, RuntimeError):  # RuntimeError: there is no home
        return None
    if not os.access(place, os.W_OK):
        return None
    jax.config.update("jax_compilation_cache_dir", str(place))
    if "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS" not in os.environ:
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    return place


@contextlib.contextmanager
def enabled(folder: str | os.PathLike | None = None) -> Iterator[Path | None]:
    """`enable` for what is inside, where an entry that cannot be read or written is removed without
    a word: the program is compiled, and kept anew.
    """
    place = enable(folder)
    with warnings.catch_warnings():
        show = warnings.showwarning

        def remove(message, *args, **kwargs):
            trouble = _TROUBLE.match(str(message))
            if trouble is None or place is None:
                return show(message, *args, **kwargs)
            for entry in place.glob(f"{trouble[2]}-*"):
                with contextlib.suppress(OSError):
                    entry.unlink()
            return None

        warnings.filterwarnings("always", _TROUBLE.pattern)
        warnings.showwarning = remove
        yield place


def _user_folder():
    home = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(home) / "onejit"


def _machine() -> str:
    """What programs are compiled for, as a name; XLA cuts loops into one piece a processor."""
    kind = [platform.machine(), platform.processor(), str(_num_processors())]
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        told = re.compile(r"(model name|flags|CPU part|Features)\s*:")
        kind += sorted({line for line in lines if told.match(line)})
    except OSError:
        kind.append(platform.version())  # of macOS it names the chip
    digest = hashlib.sha256("\n".join(kind).encode()).hexdigest()[:12]
    return f"jax-{jax.__version__}-jaxlib-{jaxlib.__version__}-{digest}"


def _num_processors() -> int:
    """As many as this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _prune(root: Path) -> None:
    """Removes the entries that were not used for longest, of all machines, above `MAX_BYTES`."""
    found = []
    for entry in root.glob(_ENTRIES):
        with contextlib.suppress(OSError):  # another process may be pruning
            stat = entry.stat()
            found.append((max(stat.st_atime, stat.st_mtime), stat.st_size, entry))
    excess = sum(size for _, size, _ in found) - MAX_BYTES
    for _, size, entry in sorted(found):
        if excess <= 0:
            break
        with contextlib.suppress(OSError):
            entry.unlink()
        excess -= size
