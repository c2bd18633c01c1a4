"""The data of a run of the scripts: which file, and that it is the one that the run began with."""

import inspect
from pathlib import Path
from types import ModuleType
from typing import Any

from absl import flags

from ..core.dataset import DatasetError
from . import dataset_files
from .script_flags import UsageError, named_values


def describe(module: ModuleType, name: str, values: flags.FlagValues) -> dict[str, Any]:
    """What config.json says of the data: file, checksum and share; {} where there are none.

    The environment becomes that of the data where no flag names another one, with the options of
    the data and those of the flags, which win.

    Raises:
      UsageError: the algorithm needs data, or takes none.
      DatasetError: the file cannot be read.
    """
    takes = inspect.signature(module.make).parameters
    if not values.data:
        if "data" in takes and takes["data"].default is inspect.Parameter.empty:
            raise UsageError(f"data=: {name} learns from data: name a file of `onejit dataset`")
        if values["data_share"].present:
            raise UsageError(f"data_share={values.data_share}: needs --data=FILE")
        return {}
    if "data" not in takes:
        raise UsageError(f"data={values.data}: {name} does not learn from data")
    if values["data_share"].present and "data_share" not in takes:
        raise UsageError(f"data_share={values.data_share}: {name} learns from data alone")
    file = whole("data", values.data)
    data = dataset_files.load(file)
    if data.env_id and (values.env == data.env_id or not values["env"].present):
        values.env = data.env_id
        options = data.env_options | named_values(values.env_options, "env_options")
        values.env_options = [f"{key}={_literal(value)}" for key, value in options.items()]
    found = {"file": file, "checksum": data.checksum}
    return found | ({"share": values.data_share} if "data_share" in takes else {})


def _literal(value: Any) -> str:
    """A value as `named_values` reads it. Of what is infinite Python's literal is a number that is
    too large.
    """
    if isinstance(value, list | tuple):
        return f"({''.join(f'{_literal(each)}, ' for each in value)})"
    return repr(value).replace("inf", "1e999") if isinstance(value, float) else repr(value)


def whole(flag: str, value: Any) -> Any:
    """The value of a flag as config.json has it: of data the whole path, since a run may be resumed
    from another working directory.
    """
    return str(Path(value).resolve()) if flag == "data" and value else value


def as_flags(run: dict[str, Any]) -> dict[str, Any]:
    """What the flags about data would say of a run, with whole paths; of one from before there were
    any, too.
    """
    known = run.get("data") or {}
    return {"data": known.get("file", ""), "data_share": known.get("share", 0.0)}


def options(run: dict[str, Any]) -> dict[str, Any]:
    """What `make` is to be called with beside environment and config.

    Raises:
      DatasetError: the file cannot be read, or has other data than the run began with.
    """
    known = run.get("data")
    if not known:
        return {}
    data = dataset_files.load(known["file"])
    if data.checksum != known["checksum"]:
        raise DatasetError(f"{known['file']}: are other data than the run began with")
    return {"data": data} | ({"data_share": known["share"]} if "share" in known else {})
