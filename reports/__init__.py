"""Accuracy on CIFAR-10, and audits against the published figures.

The names in `__all__` are public and documented in docs/python-api.md; everything else may change without notice.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from reports.api import evaluate, verify_bundle, write_audit
    from reports.score.published import published_figures

__all__ = ["evaluate", "published_figures", "verify_bundle", "write_audit"]

if not TYPE_CHECKING:  # so that a type checker reports names that are not listed

    def __getattr__(name: str) -> Any:
        """Return a public name, imported from its module only on access (PEP 562)."""
        if name not in __all__:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from importlib import import_module

        module = "reports.score.published" if name == "published_figures" else "reports.api"
        return getattr(import_module(module), name)

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__})
