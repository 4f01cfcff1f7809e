"""Other weights in both models: a model that computes with something else than what it holds is found, and placed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from strangers import STRANGERS, TIMM_NAMES, Stranger, renamed, timm_model, timm_weights
from test_align_families import in_paddle, in_torch
from toy_family import LAYOUTS, SMALL, TOY

import align
from align.core.bounds import Roundings, Tolerance
from align.core.result import AlignmentResult
from align.faults.front import layer_of, put_in_front
from align.gates import redrawn as gate
from align.gates.redrawn import redrawn
from align.mixer.case import Subject, case_of
from align.mixer.specimens import small
from align.run import align as run
from convert.arrays import StateDict
from convert.mixer.init import init_state_dict
from convert.mixer.variants import MixerConfig

pytestmark = pytest.mark.usefixtures("one_thread")

FC1, FC2, NORM = "blocks.1.mlp_channels.fc1", "blocks.1.mlp_channels.fc2", "blocks.1.norm1"


@pytest.fixture(scope="module")
def weights() -> StateDict:
    return timm_weights(0)


def only_this_fails(result: AlignmentResult, layer: str, says: str) -> None:
    assert {gate.name for gate in result.gates if not gate.passed} == {"redrawn"}, result.gates
    assert result.verdict == "diverged"
    assert result.first_divergence is not None
    assert result.first_divergence.layer == layer
    assert says in result.first_divergence.sentence


def computed_with(layer: Any, forward: Callable[[Any], Any], x: Any, **values: Any) -> Any:
    """Return what a layer makes of other values than its parameters, which it keeps."""
    held = {name: layer._parameters[name] for name in values}
    layer._parameters.update({name: value.astype(x.dtype) for name, value in values.items()})
    try:
        return forward(x)
    finally:
        layer._parameters.update(held)


def detached(layer: Any) -> None:
    """Let a layer compute with the copy of its weight that it took when it was loaded."""
    copy = layer.weight.clone().detach()
    put_in_front(layer, lambda self, forward, x: computed_with(self, forward, x, weight=copy))


def without_bias(layer: Any) -> None:
    put_in_front(layer, lambda self, forward, x: computed_with(self, forward, x, bias=self.bias * 0))


def exchanged(one: Any, other: Any) -> None:
    """Let each of two layers compute with the other's weight."""
    for layer, partner in ((one, other), (other, one)):
        vars(layer)["partner"] = [partner]
        put_in_front(layer, lambda self, f, x: computed_with(self, f, x, weight=self.partner[0].weight))


def tied(norm: Any) -> None:
    norm._parameters["bias"] = norm._parameters["weight"]


@dataclass(frozen=True, kw_only=True)
class Mistake:
    """A change of these layers, which shows by no value where some weights are trivial or alike; what is named."""

    change: Callable[..., None]
    layers: tuple[str, ...]
    parameter: str
    weights: Callable[[StateDict], StateDict] = dict


MISTAKES = {
    "detached": Mistake(change=detached, layers=(FC2,), parameter=f"{FC2}.weight"),
    "no bias": Mistake(
        change=without_bias,
        layers=(FC1,),
        parameter=f"{FC1}.bias",
        weights=lambda held: {**held, f"{FC1}.bias": held[f"{FC1}.bias"] * 0},
    ),
    "exchanged": Mistake(
        change=exchanged,
        layers=(FC1, "blocks.2.mlp_channels.fc1"),
        parameter=f"{FC1}.weight",
        weights=lambda held: {**held, "blocks.2.mlp_channels.fc1.weight": held[f"{FC1}.weight"]},
    ),
    "tied": Mistake(
        change=tied,
        layers=(NORM,),
        parameter=f"{NORM}.weight",
        weights=lambda held: {**held, f"{NORM}.bias": held[f"{NORM}.weight"]},
    ),
}


@pytest.mark.parametrize("name", STRANGERS)
@pytest.mark.parametrize("mistake", MISTAKES)
def test_the_parameter_is_named(weights: StateDict, tmp_path: Path, name: str, mistake: str) -> None:
    stranger, case = STRANGERS[name], MISTAKES[mistake]
    held = case.weights(weights)
    layer = stranger.build(held)
    case.change(*(layer_of(layer, renamed(path, stranger.modules)) for path in case.layers))
    result = align.align(timm_model(held), layer, stranger.pairing(tmp_path))
    says = f"{stranger.parameter(case.parameter)}: what Paddle returns does not go with it"
    only_this_fails(result, case.parameter.rpartition(".")[0], says)


@pytest.mark.parametrize("name", STRANGERS)
@pytest.mark.parametrize("mistake", MISTAKES)
def test_the_same_weights_in_a_right_port_pass(weights: StateDict, tmp_path: Path, name: str, mistake: str) -> None:
    stranger, held = STRANGERS[name], MISTAKES[mistake].weights(weights)
    result = align.align(timm_model(held), stranger.build(held), stranger.pairing(tmp_path))
    assert result.verdict == "aligned", result.gates
    assert result.gate("redrawn").passed is True


@pytest.mark.parametrize("wrong", [True, False])
def test_without_a_witness_the_reference_gets_them(toy: Path, wrong: bool) -> None:
    weights = TOY.draw(SMALL, 0)
    layer = in_paddle(LAYOUTS["paddle"].apply(weights))
    if wrong:
        detached(layer_of(layer, "net.fc1"))
    result = align.align(in_torch(weights), layer)
    if wrong:
        only_this_fails(result, "fc1", "net.fc1.weight: what Paddle returns does not go with it")
    else:
        assert result.verdict == "aligned", result.gates


EXTREMES: dict[str, Callable[[StateDict], StateDict]] = {
    "large": lambda held: {key: array * np.float32(100) for key, array in held.items()},
    "tiny": lambda held: {key: array * np.float32(1e-3) for key, array in held.items()},
    "a far mean": lambda held: {**held, "stem.proj.bias": held["stem.proj.bias"] + np.float32(1000)},
    "a block of zeros": lambda held: {k: a * np.float32(not k.startswith("blocks.1.")) for k, a in held.items()},
    "one large element": lambda held: {**held, "head.weight": _with(held["head.weight"], 1e4)},
}


def _with(array: Any, value: float) -> Any:
    changed = array.copy()
    changed.flat[0] = value
    return changed


@pytest.mark.parametrize("extreme", EXTREMES)
@pytest.mark.parametrize("reference", ["timm", "flax"])
def test_a_right_port_of_extreme_weights_passes(
    config: MixerConfig, source: StateDict, extreme: str, reference: Any
) -> None:
    if reference == "flax":
        pytest.importorskip("flax")
        if extreme == "a far mean":
            pytest.skip("Flax takes a variance for the difference of two squares, of which a far mean leaves little")
    result = run(case_of(Subject(source=EXTREMES[extreme](source), config=config, name="x", reference=reference)))
    assert result.verdict in ("aligned", "rounding"), result.first_divergence
    assert result.gate("redrawn").passed is True


def test_a_forward_that_raises_with_other_weights_is_a_finding(weights: StateDict) -> None:
    layer = TIMM_NAMES.build(weights)
    sums = float(layer.blocks[1].norm1.weight.sum())

    def forward(self: Any, right: Callable[[Any], Any], x: Any) -> Any:
        if abs(float(self.norm1.weight.sum()) - sums) > 1e-3:
            raise ValueError("not the\nweights that I know")
        return right(x)

    put_in_front(layer.blocks[1], forward)
    says = "with other weights: its forward fails with ValueError: not the weights that I know"
    only_this_fails(align.align(timm_model(weights), layer), "logits", says)


def test_what_is_wrong_once_is_a_finding_of_no_parameter(weights: StateDict) -> None:
    """Looked for once more, so as to name the parameter, it is not there."""
    layer = TIMM_NAMES.build(weights)
    sums, seen = float(layer.blocks[1].norm1.weight.sum()), []

    def forward(self: Any, right: Callable[[Any], Any], x: Any) -> Any:
        if abs(float(self.norm1.weight.sum()) - sums) > 1e-3 and not seen:
            seen.append(x)
            return right(x) * 1.5
        return right(x)

    put_in_front(layer.blocks[1], forward)
    only_this_fails(align.align(timm_model(weights), layer), "logits", "but not in a second forward")


def held_by(stranger: Stranger, model: Any, layer: Any) -> dict[str, bytes]:
    """Return the bytes of all that both models hold."""
    ours = {f"torch.{key}": value.numpy().tobytes() for key, value in model.state_dict().items()}
    return ours | {f"paddle.{key}": value.numpy().tobytes() for key, value in layer.state_dict().items()}


@pytest.mark.parametrize("name", STRANGERS)
@pytest.mark.parametrize("wrong", [True, False])
def test_the_models_hold_their_own_weights_in_the_end(
    weights: StateDict, tmp_path: Path, name: str, wrong: bool
) -> None:
    stranger, model = STRANGERS[name], timm_model(weights)
    layer = stranger.build(weights)
    if wrong:
        detached(layer_of(layer, renamed(FC2, stranger.modules)))
    before = held_by(stranger, model, layer)
    assert align.align(model, layer, stranger.pairing(tmp_path)).gate("redrawn").passed is not wrong
    assert held_by(stranger, model, layer) == before


HELD: StateDict = {
    "scale": np.linspace(0.5, 2, 12, dtype=np.float32),
    "zeros": np.zeros((3, 4), np.float32),
    "both": np.linspace(-1, 1, 12, dtype=np.float32).reshape(3, 4),
    "count": np.arange(3),
    "other": np.ones(3, np.float32),
}


class TestWeights:
    def test_each_element_is_another_and_of_the_size_that_it_was(self) -> None:
        drawn = redrawn(HELD, {"scale", "zeros", "both"})
        assert drawn.keys() == HELD.keys()
        for name in ("scale", "zeros", "both"):
            assert (drawn[name] != HELD[name]).all()
            assert len(np.unique(drawn[name])) == drawn[name].size
            assert np.abs(drawn[name]).max() < 4 * np.abs(HELD[name]).max() + 0.1
        assert (drawn["scale"] > 0).all(), "a variance would not be one any more"

    def test_what_is_not_asked_for_and_whole_numbers_stay(self) -> None:
        drawn = redrawn(HELD, {"count"})
        for name, value in HELD.items():
            assert np.array_equal(drawn[name], value)
            assert drawn[name] is value

    def test_the_same_every_time_and_another_for_each_name(self) -> None:
        one, two = redrawn(HELD, {"both"}), redrawn({**HELD, "more": HELD["both"]}, {"both", "more"})
        assert np.array_equal(one["both"], two["both"])
        assert not np.array_equal(two["both"], two["more"])


@pytest.mark.parametrize(("roundings", "passed"), [(2.0**12, True), (0.0, False)])
def test_what_rounding_explains_is_no_fault(monkeypatch: pytest.MonkeyPatch, roundings: float, passed: bool) -> None:
    """Weights can magnify rounding beyond any share of the result; how far, moved ones tell."""
    monkeypatch.setattr(gate, "SHARE", 0.0)
    monkeypatch.setattr(gate, "ROUNDINGS", roundings)
    monkeypatch.setattr(Roundings, "whole", lambda *_: Tolerance(atol=1e-300, rtol=0.0))
    config = small("mixer")
    result = run(case_of(Subject(source=init_state_dict(config, 0), config=config, name="right")))
    assert result.gate("redrawn").passed is passed, result.gate("redrawn").sentence
