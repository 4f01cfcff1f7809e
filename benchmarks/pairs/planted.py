"""The faults that are planted in a candidate, one at a time: each kind yields where it could be planted."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from itertools import islice
from typing import Any

import numpy as np
from pairs.bed import Bed, Change
from pairs.changes import activation, epsilon, padded, pooled, set_attributes, stepped
from pairs.compared import SOUND, Run
from pairs.record import Fault

from align.core.lockstep import ForwardFailed
from align.probes import paddle_probe
from align.probes.execution import executed
from align.run import align
from align.twins.case import case_of_twins
from convert.arrays import Array, StateDict
from convert.errors import BadInput

Kind = Callable[[Bed], Iterator[Change]]
TRIES = 6
"""Most places tried until the candidate still runs with the fault; a model that raises needs no gate."""
NORMS = ("BatchNorm", "BatchNorm2D", "LayerNorm", "GroupNorm")


def swapped(bed: Bed) -> Iterator[Change]:
    """Yield swaps of two layers' weights of one shape."""
    matrices = [(key, array) for key, array in bed.held("weight") if array.ndim > 1]
    for i, (key, array) in enumerate(matrices):
        other = next((k for k, a in matrices[i + 1 :] if a.shape == array.shape and (a != array).any()), None)
        if other is not None:
            yield Change(
                layers=(_owner(key), _owner(other)),
                what=f"{key} and {other} swapped",
                plant=partial(_swap, key, other),
            )


def transposed(bed: Bed) -> Iterator[Change]:
    """Yield transpositions of weights that keep their shape."""
    for key, array in bed.held("weight"):
        for one, other in ((0, 1), (-2, -1)):
            turned = np.ascontiguousarray(np.swapaxes(array, one, other)) if array.ndim > 1 else array
            if array.ndim > 1 and turned.shape == array.shape and (turned != array).any():
                yield _of_weight(key, turned, f"{key} transposed")
                break


def another_epsilon(bed: Bed) -> Iterator[Change]:
    """Yield norms with an epsilon ten times as large."""
    for path, layer in bed.called(*NORMS):
        yield epsilon(path, layer)


def another_padding(bed: Bed) -> Iterator[Change]:
    """Yield convolutions whose border repeats the edge, where it should be zeros."""
    yield from (padded(path, layer) for path, layer in bed.called("Conv2D") if _padding(layer))


def another_stride(bed: Bed) -> Iterator[Change]:
    """Yield convolutions and poolings that step by one where they should step by more."""
    yield from (change for one in bed.called("Conv2D", "MaxPool2D", "AvgPool2D") if (change := stepped(*one)))


def another_activation(bed: Bed) -> Iterator[Change]:
    """Yield activations of another kind."""
    paths = [path for path in dict.fromkeys(seen.path for seen in bed.calls) if path]
    yield from (change for path in bed.drawn(paths) if (change := activation(path, bed.layers[path])))


def in_training(bed: Bed) -> Iterator[Change]:
    """Yield BatchNorms that take their statistics from the batch."""
    for path, _ in bed.called("BatchNorm", "BatchNorm2D"):
        yield Change(layers=(path,), what="in training mode", plant=set_attributes(path, training=True))


def missing_block(bed: Bed) -> Iterator[Change]:
    """Yield blocks that return their input."""
    for path in bed.drawn([path for path in dict.fromkeys(seen.path for seen in bed.calls) if path]):
        holds = any(key.startswith(f"{path}.") for key in bed.weights)
        is_block = any(other.startswith(f"{path}.") for other in bed.layers)
        given, returned = bed.shapes(path)
        if holds and is_block and given is not None and given == returned:
            yield Change(layers=(path,), what="hands on its input", plant=partial(_hand_on, path))


def larger_variance(bed: Bed) -> Iterator[Change]:
    """Yield running variances with one value 1 % larger."""
    for key, array in bed.held("_variance"):
        yield _of_weight(key, _with_first(array, lambda value: value * np.float32(1.01)), f"{key}[0] 1 % larger")


def turned_bias(bed: Bed) -> Iterator[Change]:
    """Yield biases with the opposite sign."""
    for key, array in bed.held("bias"):
        if array.any():
            yield _of_weight(key, -array, f"{key} of the other sign")


def another_mode(bed: Bed) -> Iterator[Change]:
    """Yield dropouts that scale at inference, and poolings with mean and maximum exchanged."""
    for path, layer in bed.called("Dropout"):
        if layer.p and layer.mode == "upscale_in_train":
            yield Change(
                layers=(path,), what="scales at inference", plant=set_attributes(path, mode="downscale_in_infer")
            )
    for path, layer in bed.called("MaxPool2D", "AvgPool2D", "AdaptiveAvgPool2D"):
        if (change := pooled(path, layer, *bed.shapes(path))) is not None:
            yield change


def lowest_bit(bed: Bed) -> Iterator[Change]:
    """Yield weights whose first value is one unit in the last place larger."""
    for key, array in bed.held("weight"):
        changed = _with_first(array, lambda value: np.nextafter(value, np.float32(np.inf)))
        yield _of_weight(key, changed, f"the lowest bit of {key}")


KINDS: Mapping[str, Kind] = {
    "weights swapped": swapped,
    "weight transposed": transposed,
    "another epsilon": another_epsilon,
    "another padding": another_padding,
    "another stride": another_stride,
    "another activation": another_activation,
    "BatchNorm in training mode": in_training,
    "block missing": missing_block,
    "running variance 1 % larger": larger_variance,
    "bias of the other sign": turned_bias,
    "another pooling or dropout mode": another_mode,
    "lowest bit of a weight": lowest_bit,
}


def faults_of(run: Run, kinds: Mapping[str, Kind] | None = None) -> Iterator[Fault]:
    """Yield what becomes of a fault of each kind, planted in the candidate of an aligned pair."""
    for number, (name, kind) in enumerate((KINDS if kinds is None else kinds).items()):
        bed = Bed(candidate=run.twins.candidate, case=run.case, seed=number)
        yield _planted(run, bed, name, kind)


def _planted(run: Run, bed: Bed, name: str, kind: Kind) -> Fault:
    """Return what becomes of the first change of a kind with which the model still runs."""
    several = [*islice(kind(bed), TRIES)]
    for change in several:
        candidate, weights = paddle_probe.copied(bed.candidate), dict(bed.weights)
        change.plant(dict(paddle_probe.layers(candidate)), weights)
        try:
            executed(paddle_probe, candidate, bed.case.inputs)
        except ForwardFailed:
            continue
        fault = Fault(kind=name, what=change.what, layer=change.layers[0], expected=bed.expected(change))
        return _judged(run, bed, (candidate, weights), fault)
    why = f"wherever it is planted ({len(several)} places tried), the model raises" if several else "no layer has it"
    return Fault(kind=name, skipped=why)


def _judged(run: Run, bed: Bed, planted: tuple[Any, StateDict], fault: Fault) -> Fault:
    """Return a fault with what the aligner says about the candidate that has it."""
    candidate, weights = planted
    is_changed = any(weights[key] is not array for key, array in bed.weights.items())
    twins = replace(
        run.twins,
        candidate=candidate,
        weights=bed.case.reference.state_dict,
        candidate_weights=weights if is_changed else None,
    )
    try:
        result = align(case_of_twins(twins))
    except BadInput as error:
        return replace(fault, verdict="refused", sentence=str(error), caught=True, placed=fault.layer in str(error))
    parted = result.first_divergence
    return replace(
        fault,
        verdict=result.verdict,
        found=parted.layer if parted else None,
        sentence=parted.sentence if parted else "",
        caught=result.verdict not in SOUND,
        placed=parted is not None and parted.layer in fault.expected,
    )


def _owner(key: str) -> str:
    return key.rpartition(".")[0]


def _of_weight(key: str, changed: Array, what: str) -> Change:
    return Change(layers=(_owner(key),), what=what, plant=lambda _, weights: weights.update({key: changed}))


def _swap(key: str, other: str, _: dict[str, Any], weights: StateDict) -> None:
    weights[key], weights[other] = weights[other], weights[key]


def _hand_on(path: str, layers: dict[str, Any], _: StateDict) -> None:
    layers[path].forward = lambda given: given


def _with_first(array: Array, change: Callable[[Any], Any]) -> Array:
    changed = array.copy()
    changed.flat[0] = change(changed.flat[0])
    return changed


def _padding(layer: Any) -> bool:
    """Return whether a convolution pads with zeros by a single number, all that Paddle can repeat the edge by."""
    return layer._padding_mode == "zeros" and isinstance(layer._padding, int) and layer._padding > 0
