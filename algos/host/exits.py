"""How a script ends: its exit code, and one line about what went wrong."""

import os
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path

from absl import flags

from ... import envs
from ..core.config import ConfigError
from ..core.dataset import DatasetError
from . import checkpoint, processes, runner
from .console import make_console
from .run_folder import RunFolderError
from .script_flags import UsageError

_CODES = {
    checkpoint.CheckpointError: 1,
    (
        UsageError,
        ConfigError,
        DatasetError,
        RunFolderError,
        envs.ContractError,
        flags.Error,
        ModuleNotFoundError,
    ): 2,
    runner.NonFiniteError: 3,
    checkpoint.CheckpointWriteError: 4,
    processes.LostError: 5,
}
_SECONDS_FOR_OTHERS = 3


def exit_with_code(argv: Sequence[str], run: Callable[[], int]) -> None:
    """Runs a program and exits with the code that it returns, or that stands for its error, which
    is said in one line: those of `cli.main`.
    """
    try:
        sys.exit(run())
    except KeyboardInterrupt:
        code = 130
        message = "interrupted before there was anything to save"
    except Exception as error:
        code = next((code for kinds, code in _CODES.items() if isinstance(error, kinds)), None)
        message = str(error)
        if code is None:
            if not processes.several():
                raise
            code, message = 1, traceback.format_exc()
    make_console(errors=True).print(f"{Path(argv[0]).name}: {message}", markup=False)
    if processes.several():  # at once: jax would wait for the others, which may wait for this one
        sys.stdout.flush()
        if processes.first():  # without which the others are ended before they say the same
            time.sleep(_SECONDS_FOR_OTHERS)
        os._exit(code)
    sys.exit(code)
