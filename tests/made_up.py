"""Results of every verdict over made-up figures, judged as real ones are."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from types import MappingProxyType

from test_align_result import ALONE, IN_FLOAT32, SIDES, diff, row, unwitnessed

from align.core.bounds import FLOAT64, Tolerance
from align.core.judgement import judge, with_section
from align.core.result import (
    AlignmentResult,
    Check,
    Divergence,
    Finding,
    Gate,
    GateName,
    LayerRow,
    Section,
    Sides,
)
from align.figures.layer_rows import evidence_of

NAMES = ("stem", *(f"blocks.{i}.{part}" for i in range(3) for part in ("norm1", "mlp_tokens.fc1")), "logits")
FAULTY = "blocks.1.norm1"
HOSTILE = 'x|y <script>alert(1)</script> "`*a*_b_@team\n::error::%0A & [z](http://e.test)'
"""What a file's name may hold: Markdown, HTML, XML and workflow commands."""

LEFT_OUT = {"blocks.0.act": "computed by a function", "pooled": "its module is never called"}
SETTINGS = {
    "batch": 2,
    "input_seed": 0,
    "inputs": "normal",
    "atol": 1e-5,
    "stress": True,
    "backward": False,
    "train_steps": 0,
    "reference": "timm",
    "config": {
        "image_size": 20,
        "patch_size": 5,
        "num_blocks": 3,
        "hidden_dim": 10,
        "tokens_mlp_dim": 6,
        "channels_mlp_dim": 14,
        "num_classes": 7,
        "in_chans": 3,
        "layer_norm_eps": 1e-6,
        "gelu": "erf",
        "family": "mixer",
    },
    "weights": {"kind": "random", "seed": 0, "shards": {}},
    "recipes": [],
}
ENVIRONMENT = {
    "versions": {"python": "3.11.7", "torch": "2.14.1", "timm": None},
    "platform": "Linux",
    "processor": "x",
    "cpus": 2,
    "device": "cpu",
    "arithmetic": {"torch": {"threads": 2, "tf32": False}},
    "knobs": {},
}


def aligned(variant: str = "made up") -> AlignmentResult:
    return result(*map(small, NAMES), variant=variant)


def diverged(value: float = 1e-3) -> AlignmentResult:
    """Return a result that parts at FAULTY, where the layers behind inherit the fault."""
    layers = [small(name) for name in NAMES]
    at = NAMES.index(FAULTY)
    layers[at] = row(FAULTY, float64_introduced=diff(value, FLOAT64), float64_inherited=diff(value, FLOAT64))
    layers[at + 1] = row(NAMES[at + 1], float64_inherited=diff(2e-3, FLOAT64))
    return result(*layers, weights=[Finding(layer=FAULTY, sentence=f"{FAULTY}.weight: 1 of 3 elements differ")])


def not_a_number() -> AlignmentResult:
    return diverged(math.nan)


def rounding() -> AlignmentResult:
    return result(small("stem"), row("logits", float32_inherited=diff(1e-4, Tolerance(atol=1e-5, rtol=0.0))))


def structure_failed() -> AlignmentResult:
    return result(structure=[Finding(layer="head", sentence="head.bias is missing")], weights=None)


def uncovered() -> AlignmentResult:
    """Return a result that all figures speak for, of a model with a parameter that no point covers."""
    return result(*map(small, NAMES), structure=[Finding(layer="", sentence="scale: no point covers it")])


def inconclusive() -> AlignmentResult:
    return with_section(aligned(), section("determinism", "torch did not repeat itself", check("twice", 1e-9, 0.0)))


def trained_badly() -> AlignmentResult:
    """Return a forward that passes with two further gates, of which the second fails."""
    good = Section(
        gate=Gate(name="backward", passed=True, sentence="2 gradients"),
        checks=(check("stem.proj.weight", 1e-15, 1e-12), check("loss", 2.3, None)),
    )
    left = dataclasses.replace(
        check("parameters", math.nan, 1e-10, layer="head"), group=("adam", "constant", "step 3"), kind="float64"
    )
    bad = section("training", "Adam left at step 3", left)
    return with_section(with_section(aligned(), good), bad)


def hostile() -> AlignmentResult:
    return result(*map(small, NAMES), variant=HOSTILE, left_out={HOSTILE: HOSTILE})


def without_witness() -> AlignmentResult:
    """Return a result of two models that no witness knows, where one layer is over and two could not be compared."""
    layers = [unwitnessed(layer) for layer in diverged().layers]
    return result(*layers, sides=ALONE, left_out=LEFT_OUT)


def result(
    *layers: LayerRow,
    variant: str = "made up",
    structure: list[Finding] | None = None,
    weights: list[Finding] | tuple[()] | None = (),
    sides: Sides = SIDES,
    left_out: Mapping[str, str] = MappingProxyType({}),
) -> AlignmentResult:
    judged = judge(evidence_of(structure or [], weights, layers, sides, left_out))
    return AlignmentResult(
        variant=variant,
        sides=sides,
        gates=judged.gates,
        layers=layers,
        verdict=judged.verdict,
        first_divergence=judged.first_divergence,
        left_out=dict(left_out),
        input_sha256="0123456789abcdef" * 4,
        settings=SETTINGS,
        environment=ENVIRONMENT,
    )


def small(name: str) -> LayerRow:
    """Return a layer with differences as a right port has them."""
    wide, narrow = diff(2e-15, FLOAT64), diff(3e-7, IN_FLOAT32)
    return row(name, float64_inherited=wide, float64_introduced=wide, float32_introduced=narrow)


def check(name: str, figure: float, bound: float | None, layer: str = "") -> Check:
    passed = bound is None or (math.isfinite(figure) and figure <= bound)
    return Check(subject=name, layer=layer, figure=figure, bound=bound, detail="at [0]", passed=passed)


def section(name: GateName, sentence: str, *checks: Check) -> Section:
    return Section(
        gate=Gate(name=name, passed=False, sentence=sentence),
        checks=checks,
        divergence=Divergence(layer=checks[-1].layer, sentence=sentence),
    )


ALL = {
    made.__name__: made
    for made in (
        aligned,
        diverged,
        not_a_number,
        rounding,
        structure_failed,
        uncovered,
        inconclusive,
        trained_badly,
        hostile,
        without_witness,
    )
}
