"""The examples in docs/zoo.md do what the page says, with the Paddle that is installed."""

from __future__ import annotations

import doctest
import re
from pathlib import Path
from types import ModuleType

import pytest

PAGE = (Path(__file__).resolve().parents[1] / "docs" / "zoo.md").read_text(encoding="utf-8")
EXAMPLES = "\n".join(re.findall(r"^```pycon\n(.*?)^```$", PAGE, flags=re.MULTILINE | re.DOTALL))


def failed(paddle: ModuleType, examples: str) -> int:
    """Return how many of the examples do not give what stands behind them."""
    test = doctest.DocTestParser().get_doctest(examples, {"paddle": paddle}, "zoo.md", "zoo.md", 0)
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS)
    return runner.run(test).failed


def test_every_finding(frameworks: None) -> None:
    paddle = pytest.importorskip("paddle")
    assert EXAMPLES.count(">>> ") > 15
    assert failed(paddle, EXAMPLES) == 0


def test_one_that_is_not_so_fails(frameworks: None) -> None:
    assert failed(pytest.importorskip("paddle"), EXAMPLES.replace("3.5e-08", "0.0e+00", 1)) == 1
