"""A model that the user names: `package.module:callable` or `path/to/file.py:callable`, called with keyword arguments.

Making it runs the user's own code, because they named it; loading files of weights never runs code.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from align.probes.knobs import importing_frameworks
from convert.errors import BadInput, UsageProblem, printable
from convert.files import strict_json


def model_of(target: str, args: str | None, option: str) -> Any:
    """Return what a target returns when it is called.

    Args:
        target: The target as it was given.
        args: Its keyword arguments as a JSON object; None for no arguments.
        option: The option that it was given by, for error messages.

    Raises:
        UsageProblem: The target does not exist or cannot be called, or args is not a JSON object.
        BadInput: Importing it, looking it up or calling it raises.
    """
    place, _, name = target.rpartition(":")
    if not place or not name:
        raise UsageProblem(f"{option} {target}: it has to be package.module:callable or path/to/file.py:callable.")
    keywords = _keywords(args, option)
    with importing_frameworks():
        found = _attribute(_module(place, option, target), name, option, target)
        if not callable(found):
            what = "there is no such name in it" if found is None else f"{name} cannot be called"
            raise UsageProblem(f"{option} {target}: {what}. Name what returns the model.")
        try:
            return found(**keywords)
        except (Exception, SystemExit) as error:
            raise BadInput(f"{option} {target}: it raises {_said(error)}. Correct it, or its arguments.") from error


def _attribute(found: Any, name: str, option: str, target: str) -> Any:
    """Return what a dotted name refers to; None if there is no such name."""
    try:
        for part in name.split("."):
            found = getattr(found, part, None)
    except Exception as error:
        raise BadInput(f"{option} {target}: looking it up raises {_said(error)}. Correct it.") from error
    return found


def _module(place: str, option: str, target: str) -> ModuleType:
    is_file = place.endswith(".py")
    if is_file and not Path(place).is_file():
        raise UsageProblem(f"{option} {target}: there is no such file.")
    try:
        return _from_file(Path(place)) if is_file else importlib.import_module(place)
    except ModuleNotFoundError as error:
        raise UsageProblem(f"{option} {target}: {error}. Is it installed, or in the current folder?") from error
    except (Exception, SystemExit) as error:
        raise BadInput(f"{option} {target}: importing it raises {_said(error)}. Correct it.") from error


def _from_file(path: Path) -> ModuleType:
    """Return a file imported as a module; like a script, it may import modules that lie beside it."""
    name = f"_target_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path.resolve())
    if spec is None or spec.loader is None:
        raise ImportError(path)
    module = importlib.util.module_from_spec(spec)
    beside = str(path.resolve().parent)
    sys.modules[name] = module
    sys.path.insert(0, beside)
    try:
        spec.loader.exec_module(module)
    finally:
        sys.path.remove(beside)
    return module


def _keywords(args: str | None, option: str) -> Mapping[str, Any]:
    try:
        keywords = strict_json.parse(args) if args else {}
    except ValueError as error:
        raise UsageProblem(f"{option.replace('-model', '-args')} {args}: it is no JSON ({error}).") from error
    if not isinstance(keywords, dict):
        raise UsageProblem(f"{option.replace('-model', '-args')} {args}: it has to be an object of arguments by name.")
    return keywords


def _said(error: BaseException) -> str:
    return printable(f"{type(error).__name__}: {' '.join(str(error).split())[-300:]}".rstrip(":. "))
