"""Conversion of timm's vision-MLP checkpoints to PaddlePaddle: a state dict in, a state dict out.

The names in `__all__` are public and documented in docs/python-api.md; everything else may change without notice.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from convert.api import convert_file, inspect_file, load_paddle, load_state_dict, verify_file, verify_files
    from convert.errors import BadInput, IntegrityProblem, IOProblem, MixerConvertError, UsageProblem

__version__ = "0.1.0"
__all__ = [
    "BadInput",
    "IOProblem",
    "IntegrityProblem",
    "MixerConvertError",
    "UsageProblem",
    "convert_file",
    "inspect_file",
    "load_paddle",
    "load_state_dict",
    "verify_file",
    "verify_files",
]

if not TYPE_CHECKING:  # hidden from type checkers, so that they report a name that is not listed

    def __getattr__(name: str) -> Any:
        """Return a public name, imported from its module when it is asked for (PEP 562)."""
        if name not in __all__:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from importlib import import_module

        return getattr(import_module("convert.errors" if name[0].isupper() else "convert.api"), name)

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__})
