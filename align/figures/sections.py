"""The sentences of passed gates that do not go by layers; they follow from the gates' checks. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from align.core.result import Check, GateName, Sides

FURTHER = 24
"""Further forwards of a model that is small or whose layers' attributes changed; other gates run about a dozen."""

GIVEN = "given values of 1e-04 to 1e+07"
"""Range of magnitudes: from the least of `align.rounding.magnitudes` to an outlier among the greatest."""

REPEATS = "second run: points with other bits"
RETURNED = "returns when nothing is hooked: tensors with other bits"
ANOTHER_BATCH = "of one image in another batch"
ALONE = "layers alone, in units of what rounding explains"
CALLED = "layers called alone"
NOT_CALLED = "not called alone"
CHANGED = "tensors changed by a forward"
FURTHER_BITS = "further forwards with other bits"
TRAINING = "training mode, from evaluation mode"
KEPT = "changes with use"
OTHER_WEIGHTS = "with other weights in both"


def good_sentence(name: GateName, checks: Sequence[Check], sides: Sides) -> str:
    """Return the sentence of a gate that passed.

    Args:
        name: One of determinism, output, batch, stress, state, redrawn.
        checks: The gate's checks.
        sides: What to call the sides.

    Raises:
        ValueError: The gate has no such sentence, or there are no checks.
    """
    if name not in SENTENCES or not checks:
        raise ValueError(f"{name}: its sentence does not follow from {len(checks)} checks")
    return SENTENCES[name](checks, sides)


def _determinism(checks: Sequence[Check], _: Sides) -> str:
    moved = "; ".join(f"{check.subject} {check.figure:.1e}" for check in checks if check.bound is None)
    return "both sides repeat every point bit for bit" + (f"; {moved}" if moved else "")


def _output(_: Sequence[Check], sides: Sides) -> str:
    return f"what {sides.candidate} returns when nothing is hooked is {sides.headline} as compared, bit for bit"


def _batch(checks: Sequence[Check], _: Sides) -> str:
    check = checks[0]
    return f"each image alone, in other company and in another order: {check.figure:.1e} ≤ {check.bound:.1e}"


def _stress(checks: Sequence[Check], _: Sides) -> str:
    worst, called, *rest = checks
    good = f"{called.figure:.0f} layers alone, {GIVEN}, are at most {worst.figure:.2g} of what rounding explains apart"
    said = [f"{check.subject}: {check.detail}" for check in rest]
    return "; ".join([f"{good} (at {worst.layer})", *said])


def _state(checks: Sequence[Check], _: Sides) -> str:
    told = ["no forward changes a parameter or a buffer"]
    for check in checks:
        if check.subject == KEPT:
            told.append(f"{check.detail} {KEPT}")
        elif check.subject == FURTHER_BITS:
            told.append(f"{FURTHER} further forwards give the same bits")
        elif check.subject == TRAINING:
            told.append(f"training mode ({check.detail}) gives what evaluation mode does")
    return "; ".join(told)


def _redrawn(checks: Sequence[Check], sides: Sides) -> str:
    check = checks[0]
    return f"{OTHER_WEIGHTS}, {sides.headline} differ by {check.figure:.2e} ≤ {check.bound:.1e}"


SENTENCES: Mapping[GateName, Callable[[Sequence[Check], Sides], str]] = {
    "determinism": _determinism,
    "output": _output,
    "batch": _batch,
    "stress": _stress,
    "state": _state,
    "redrawn": _redrawn,
}
