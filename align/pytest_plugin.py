"""A pytest plugin: the fixture `assert_aligned`, which fails a test with the line that says where a port goes wrong.

pytest loads it wherever the distribution is installed, so it imports neither a framework nor NumPy before it is used.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from align.core.result import AlignmentResult

OPTION = "--mixer-align-html"
SETTINGS = ("batch", "input_seed", "inputs", "atol", "stress")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option that asks for HTML pages."""
    group = parser.getgroup("mixer-align")
    group.addoption(OPTION, metavar="DIR", help="Write an HTML page per alignment, named for its test.")


@pytest.fixture
def assert_aligned(request: pytest.FixtureRequest) -> Callable[..., AlignmentResult]:
    """Return a function that fails the test unless a port is aligned, and otherwise returns the AlignmentResult.

    Call it with two models in memory, `assert_aligned(torch_model, paddle_model)`, with `pairing=FILE` if the second
    has other names, `input_shape=(3, 224, 224)` if nothing else says it and `draw=True` to give both seeded weights;
    or with what the command line takes: `assert_aligned(variant="s32", candidate="mine.pdparams")`, where
    `checkpoint`, `seed`, `src`, `reference`, `reference_model`, `reference_args`, `input_shape`, `weights_key`, `ema`,
    `candidate_key`, `candidate_model`, `candidate_args`, `own_weights` and `pairing` may be given too. Either way
    `batch`, `input_seed`, `inputs`, `atol` and `stress` set the comparison, and `accept_rounding=True` lets the verdict
    `rounding` pass; the returned result is then true as well.
    """
    calls = 0

    def check(
        torch_model: Any = None, paddle_model: Any = None, *, accept_rounding: bool = False, **options: Any
    ) -> AlignmentResult:
        nonlocal calls
        __tracebackhide__ = True
        from dataclasses import replace

        from align.render import as_data, verdict_line

        calls += 1
        result = replace(_align(torch_model, paddle_model, options), accept_rounding=accept_rounding)
        if folder := request.config.getoption(OPTION):
            _write_page(as_data(result), Path(folder), f"{request.node.nodeid}-{calls}")
        if not result:
            pytest.fail(verdict_line(result), pytrace=False)
        return result

    return check


def _align(torch_model: Any, paddle_model: Any, options: dict[str, Any]) -> AlignmentResult:
    from align.api import case_of_models
    from align.commands.options import case_of_options
    from align.core.case import Settings
    from align.run import align

    settings = Settings(**{key: options.pop(key) for key in SETTINGS if key in options})
    if torch_model is None and paddle_model is None:
        if not options:
            raise TypeError("assert_aligned: give two models, or what the command line takes; nothing proves nothing.")
        files = {key: options.pop(key, None) for key in ("checkpoint", "candidate", "pairing")}
        return align(case_of_options({**options, **{k: f and Path(f) for k, f in files.items()}}, settings), settings)
    given = {key: options.pop(key) for key in ("pairing", "input_shape", "draw") if key in options}
    if torch_model is None or paddle_model is None or options:
        raise TypeError("assert_aligned: give two models, or none and what the command line takes.")
    return align(case_of_models(torch_model, paddle_model, settings=settings, **given), settings)


def _write_page(data: dict[str, Any], folder: Path, name: str) -> None:
    from align.render.html import html
    from convert.disk.atomic import write_report

    folder.mkdir(parents=True, exist_ok=True)
    write_report(folder / f"{re.sub(r'[^A-Za-z0-9_.-]+', '_', name)}.html", html(data))
