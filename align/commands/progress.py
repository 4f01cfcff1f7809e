"""The progress of an alignment, shown while it runs."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING

from align.underway import of_alignment
from convert.commands.progress import staged

if TYPE_CHECKING:
    from align.core.case import Case, Settings


def aligning(case: Case, settings: Settings) -> AbstractContextManager[Callable[[str], None]]:
    """Run the body while showing the current stage and the time left, in a terminal or a notebook."""
    return staged(of_alignment(case, settings))
