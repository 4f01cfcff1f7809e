"""Alignment of two models and, if there is one, a witness: the same seeded batch through each, point by point.

What `__all__` names is public and documented in docs/python-api.md, as is the fixture `assert_aligned` of the pytest
plugin; everything else may change without notice.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from align.api import align, check, record
    from align.core.result import AlignmentResult

__all__ = ["AlignmentResult", "align", "check", "record"]

if not TYPE_CHECKING:  # so that a type checker reports a name that is not listed

    def __getattr__(name: str) -> Any:
        """Return a public name from its module, which is imported only when the name is asked for (PEP 562)."""
        if name not in __all__:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from importlib import import_module

        return getattr(import_module("align.core.result" if name[0].isupper() else "align.api"), name)

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__})
