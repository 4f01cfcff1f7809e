"""What a job needs of the packages that not everybody installs, and the sentence where one is missing."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from importlib.util import find_spec

from convert.errors import MissingPackage

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
"""Each module that an extra brings, and what pip calls it."""


def require(*modules: str) -> None:
    """Raise MissingPackage, before any work is done, unless each of these modules can be imported.

    Nothing is imported for it; `paddle` may come from any distribution, such as paddlepaddle-gpu.
    """
    if missing := [module for module in modules if module not in sys.modules and find_spec(module) is None]:
        raise missing_packages(missing)


def missing_packages(modules: Iterable[str]) -> MissingPackage:
    """Return the error for modules that are not installed, with the command that installs them."""
    wanted = _requirements()
    packages = [PACKAGES[module] for module in modules]
    return MissingPackage(packages, [wanted.get(package, package) for package in packages])


def _requirements() -> dict[str, str]:
    """Return each package that we ask for, with its bounds, as our own metadata has them."""
    import re
    from importlib.metadata import PackageNotFoundError, requires

    try:
        lines = requires(DISTRIBUTION) or []
    except PackageNotFoundError:  # run from a checkout that nobody installed
        lines = []
    requirements = [line.partition(";")[0].strip() for line in lines]
    return {re.split(r"[^\w.-]", requirement, maxsplit=1)[0]: requirement for requirement in requirements}
