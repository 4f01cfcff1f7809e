"""Check for the optional packages that a job needs, and build the error if one is missing or too old."""

from __future__ import annotations

import contextlib
import re
import sys
from collections.abc import Iterable
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from convert.errors import MissingPackage, OldPackage

DISTRIBUTION = "mixer-convert"
PACKAGES = {
    "flax": "flax",
    "jax": "jax",
    "matplotlib": "matplotlib",
    "paddle": "paddlepaddle",
    "PIL": "pillow",
    "pydantic": "pydantic",
    "scipy": "scipy",
    "timm": "timm",
    "torch": "torch",
    "torchvision": "torchvision",
}
"""Pip's name for each module that an extra installs."""


def require(*modules: str) -> None:
    """Check, before any work is done, that each of these modules can be imported and is new enough.

    Nothing is imported for this; `paddle` may come from any distribution, such as paddlepaddle-gpu.

    Raises:
        MissingPackage: One is not installed.
        OldPackage: One is older than our bound. An unknown version counts as new enough.
    """
    if missing := [module for module in modules if module not in sys.modules and find_spec(module) is None]:
        raise missing_packages(missing)
    wanted = _requirements()
    for module in modules:
        requirement = wanted.get(PACKAGES.get(module, module), "")
        found = _version(module) if ">=" in requirement else None
        if found and (release := _release(found)) and release < _release(requirement.partition(">=")[2]):
            raise OldPackage(PACKAGES[module], found, requirement)


def missing_packages(modules: Iterable[str]) -> MissingPackage:
    """Return the error for modules that are not installed, with the command that installs them."""
    wanted = _requirements()
    packages = [PACKAGES.get(module, module) for module in modules]
    return MissingPackage(packages, [wanted.get(package, package) for package in packages])


def _version(module: str) -> str | None:
    """Return a module's version without importing it; None if it is unknown.

    Paddle's is read from its own folder, because its distribution may have any name.
    """
    from importlib.metadata import PackageNotFoundError, version

    if module == "paddle":
        return _paddle_version()
    try:
        return version(PACKAGES[module])
    except PackageNotFoundError:
        return None


def _paddle_version() -> str | None:
    """Return the version in Paddle's own files; None if it is unknown or a nightly build's, which is 0.0.0."""
    with contextlib.suppress(OSError, ValueError):  # ValueError: a stand-in module without a spec
        for folder in getattr(find_spec("paddle"), "submodule_search_locations", None) or ():
            text = Path(folder, "version", "__init__.py").read_text(encoding="utf-8")
            if found := re.search(r"^full_version\s*=\s*['\"]([^'\"]+)", text, re.MULTILINE):
                return None if found[1].startswith("0.0.0") else found[1]
    return None


def _release(version: str) -> tuple[int, ...]:
    """Return the numbers that a version begins with, without trailing zeros; empty if it begins with none."""
    numbers = re.match(r"\s*v?(\d+(?:\.\d+)*)", version)
    parts = [int(part) for part in numbers[1].split(".")] if numbers else []
    while parts and not parts[-1]:
        parts.pop()
    return tuple(parts)


@cache
def _requirements() -> dict[str, str]:
    """Return, by package, each requirement in our own metadata, with its bounds."""
    from importlib.metadata import PackageNotFoundError, requires

    try:
        lines = requires(DISTRIBUTION) or []
    except PackageNotFoundError:  # run from a checkout that nobody installed
        lines = []
    requirements = [line.partition(";")[0].strip() for line in lines]
    return {re.split(r"[^\w.-]", requirement, maxsplit=1)[0]: requirement for requirement in requirements}
