"""What a user gets is what was compared: nothing hooked, in any batch, of models that show the compared one rightly."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from altered import Change, with_candidate

from align.core.case import Case, Settings
from align.core.result import AlignmentResult
from align.mixer.case import Subject, case_of
from align.run import align
from convert.arrays import StateDict
from convert.mixer.variants import MixerConfig

pytestmark = pytest.mark.usefixtures("frameworks")


@pytest.fixture(scope="module")
def subject(config: MixerConfig, source: StateDict) -> Subject:
    return Subject(source=source, config=config, name="small")


@pytest.fixture(scope="module")
def case(subject: Subject) -> Case:
    return case_of(subject)


def unhooked(change: Change) -> Change:
    """Return what changes the logits where nothing is hooked, as a fast path of its own would."""

    def fault(model: Any) -> None:
        forward = model.forward
        model.forward = lambda x: forward(x) if model._forward_post_hooks else change(forward(x))

    return fault


def other_batches(forward_there: Callable[[Any, Any], Any]) -> Change:
    """Return what computes batches of any other size than the case's two images in this way, given the right one."""

    def fault(model: Any) -> None:
        forward = model.forward
        model.forward = lambda images: (forward if len(images) == 2 else partial(forward_there, forward))(images)

    return fault


def too_many(forward: Any, images: Any) -> Any:
    if len(images) > 2:
        raise ValueError("at most 2 images")
    return forward(images)


BATCH_FAULTS = [
    pytest.param(lambda f, x: f(x).squeeze(0), "image 1 alone: it is float32 (7,), not float32 (1, 7)", id="squeeze"),
    pytest.param(lambda f, x: f(x[:2]), "image 1 with one other: it is float32 (2, 7), not float32 (3, 7)", id="size"),
    pytest.param(too_many, "with one other: its forward fails with ValueError: at most 2 images", id="refused"),
    pytest.param(lambda f, x: f(x).astype("float64"), "it is float64 (1, 7), not float32", id="dtype"),
    pytest.param(lambda f, x: [f(x)], "it is list, not a tensor", id="list"),
    pytest.param(lambda f, x: f(x) * float("nan"), "differs by inf", id="NaN"),
    pytest.param(lambda f, x: f(x.flip(axis=0)), "among others: it differs by", id="order"),
    pytest.param(lambda f, x: f(x) - 1e-3 * f(x).mean(axis=0), "it differs by", id="company"),
    pytest.param(lambda f, x: f(x) * (1 + 1e-4), "it differs by", id="one part in 10^4"),
]


def failed(result: AlignmentResult) -> set[str]:
    """Return the gates that fail, but for the one of other weights: it looks at one image, and nothing is hooked."""
    assert all(gate.passed is not None for gate in result.gates)
    return {gate.name for gate in result.gates if not gate.passed} - {"redrawn"}


def blames_the_logits(result: AlignmentResult, says: str) -> None:
    assert result.verdict == "diverged"
    assert result.failed(accept_rounding=True)
    assert result.first_divergence is not None
    assert result.first_divergence.layer == "logits"
    assert says in result.first_divergence.sentence


@pytest.mark.parametrize("settings", [Settings(batch=1), Settings(batch=5), Settings(inputs="large")])
def test_a_right_port_passes(subject: Subject, settings: Settings) -> None:
    result = align(case_of(subject, settings), settings)
    assert result.gate("output").passed is True
    assert result.gate("batch").passed is True
    assert [section.gate.name for section in result.sections] == [
        *("determinism", "output", "batch", "stress", "state", "redrawn")
    ]
    (check,) = next(section for section in result.sections if section.gate.name == "batch").checks
    assert check.bound is not None
    assert 0 <= check.figure <= check.bound < 1e-4 * result.layers[-1].float32.inherited.scale


@pytest.mark.parametrize(
    ("change", "says", "batch"),
    [
        (lambda y: y + 2.0**-22, "of 14 elements differ", True),
        (lambda y: y.flip(axis=-1), "of 14 elements differ", False),
        (lambda y: (y, y), "it is tuple, not a tensor", False),
        (lambda y: y.astype("float64"), "it is float64 (2, 7), not float32 (2, 7)", False),
    ],
)
def test_another_output_when_nothing_is_hooked(case: Case, change: Change, says: str, batch: bool) -> None:
    result = align(with_candidate(case, unhooked(change)))
    assert failed(result) == ({"output"} if batch else {"output", "batch"})
    blames_the_logits(result, says)


@pytest.mark.parametrize(("forward_there", "says"), BATCH_FAULTS)
def test_another_result_in_another_batch(case: Case, forward_there: Callable[[Any, Any], Any], says: str) -> None:
    result = align(with_candidate(case, other_batches(forward_there)))
    assert failed(result) == {"batch"}
    blames_the_logits(result, says)


@pytest.mark.parametrize("computed", [1, 2])
def test_a_single_image_is_put_among_others(subject: Subject, computed: int) -> None:
    """The model computes the first images only, and gives all others the last one's result."""
    import paddle

    def first_only(model: Any) -> None:
        forward = model.forward
        model.forward = lambda x: forward(paddle.stack([x[min(i, computed - 1)] for i in range(len(x))]))

    settings = Settings(batch=1)
    result = align(with_candidate(case_of(subject, settings), first_only), settings)
    assert failed(result) == {"batch"}
