"""The kinds of module: each row shown on square weights, in float64, in both frameworks; wrong layouts are caught."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from align.pairing.types import TYPES, Held, ModuleType, candidate_fits, raw_transform, reference_type
from convert.arrays import Array
from convert.rules import Transform

pytestmark = pytest.mark.usefixtures("frameworks")
ROUNDING = 1e-12
EPSILON = 2.0**-10
"""A norm's epsilon that float32 holds exactly."""

Build = Callable[[Any], Any]
"""Makes a module from the framework's `nn`."""


@dataclass(frozen=True, kw_only=True)
class Twins:
    """One module in both frameworks, and what it is given: normal numbers, or the indices below one."""

    kind: str
    torch: Build
    paddle: Build
    shape: tuple[int, ...]
    below: int | None = None
    call: Callable[[Any, Any], Any] = lambda module, x: module(x)

    def inputs(self) -> Array:
        rng = np.random.default_rng(1)
        return rng.standard_normal(self.shape) if self.below is None else rng.integers(self.below, size=self.shape)


def _attend(module: Any, x: Any) -> Any:
    return module(x, x, x)


def _batch_norm(n: int, layer: str) -> Twins:
    return Twins(
        kind="BatchNorm",
        torch=lambda nn: getattr(nn, f"BatchNorm{n}d")(5, eps=EPSILON),
        paddle=lambda nn: getattr(nn, layer)(5, epsilon=EPSILON),
        shape=(2, 5) + (3,) * n,
    )


def _norm(kind: str, torch: Build, paddle: Build, *size: int) -> Twins:
    return Twins(kind=kind, torch=torch, paddle=paddle, shape=(2, *size))


def _conv(n: int, *sizes: int, groups: int = 1, transposed: bool = False) -> Twins:
    """Return convolutions of sizes (in, out, kernel), all 5 where none are given."""
    names = (f"ConvTranspose{n}d", f"Conv{n}DTranspose") if transposed else (f"Conv{n}d", f"Conv{n}D")
    sizes = sizes or (5, 5, 5)
    return Twins(
        kind=names[0],
        torch=lambda nn: getattr(nn, names[0])(*sizes, padding=1, groups=groups),
        paddle=lambda nn: getattr(nn, names[1])(*sizes, padding=1, groups=groups),
        shape=(2, sizes[0]) + (5,) * n,
    )


def _recurrent(name: str, **options: Any) -> Twins:
    both = {} if "bidirectional" not in options else {"direction": "bidirect"}
    return Twins(
        kind=name,
        torch=lambda nn: getattr(nn, name)(5, 5, batch_first=True, **options),
        paddle=lambda nn: getattr(nn, name)(5, 5, **{k: v for k, v in options.items() if k == "num_layers"}, **both),
        shape=(2, 4, 5),
        call=lambda module, x: module(x)[0],
    )


def _square_attention(nn: Any) -> Any:
    """Return an attention whose three weights are apart, which torch's are where keys have another size, yet square."""
    import torch

    module = nn.MultiheadAttention(4, 2, bias=False, batch_first=True, kdim=3)
    module.kdim, module.k_proj_weight = 4, nn.Parameter(torch.zeros(4, 4))
    return module


def _cell(module: Any, x: Any) -> Any:
    """Return a cell's second step, to which the state matters."""
    import torch

    is_torch = isinstance(module, torch.nn.Module)
    first = module(x) if is_torch else module(x)[1]
    second = module(x, first) if is_torch else module(x, first)[1]
    return second[1] if isinstance(second, tuple) else second


TWINS = {
    "Linear": Twins(kind="Linear", torch=lambda nn: nn.Linear(5, 5), paddle=lambda nn: nn.Linear(5, 5), shape=(3, 5)),
    **{f"Conv{n}d": _conv(n) for n in (1, 2, 3)},
    **{f"ConvTranspose{n}d": _conv(n, transposed=True) for n in (1, 2, 3)},
    "Conv2d in groups": _conv(2, 4, 2, 2, groups=2),
    "ConvTranspose2d in groups": _conv(2, 4, 8, 4, groups=2, transposed=True),
    **{f"BatchNorm{n}D": _batch_norm(n, f"BatchNorm{n}D") for n in (1, 2, 3)},
    "BatchNorm": _batch_norm(2, "BatchNorm"),
    "LayerNorm": _norm("LayerNorm", lambda nn: nn.LayerNorm(5, EPSILON), lambda nn: nn.LayerNorm(5, EPSILON), 5),
    "GroupNorm": _norm(
        "GroupNorm", lambda nn: nn.GroupNorm(2, 6, EPSILON), lambda nn: nn.GroupNorm(2, 6, EPSILON), 6, 3, 3
    ),
    **{
        f"InstanceNorm{n}d": _norm(
            "InstanceNorm",
            lambda nn, n=n: getattr(nn, f"InstanceNorm{n}d")(5, EPSILON, affine=True),  # type: ignore[misc]
            lambda nn, n=n: getattr(nn, f"InstanceNorm{n}D")(5, EPSILON),  # type: ignore[misc]
            *(5, *(3,) * n),
        )
        for n in (1, 2, 3)
    },
    "Embedding": Twins(
        kind="Embedding", torch=lambda nn: nn.Embedding(5, 5), paddle=lambda nn: nn.Embedding(5, 5), shape=(9,), below=5
    ),
    "PReLU": Twins(kind="PReLU", torch=lambda nn: nn.PReLU(5), paddle=lambda nn: nn.PReLU(5), shape=(2, 5, 3, 3)),
    "MultiheadAttention": Twins(
        kind="MultiheadAttention",
        torch=_square_attention,
        paddle=lambda nn: nn.MultiHeadAttention(4, 2, bias_attr=False),
        shape=(2, 3, 4),
        call=_attend,
    ),
    "LSTM": _recurrent("LSTM"),
    "LSTM of 2 layers, both ways": _recurrent("LSTM", num_layers=2, bidirectional=True),
    "GRU": _recurrent("GRU"),
    "GRU of 2 layers, both ways": _recurrent("GRU", num_layers=2, bidirectional=True),
    "LSTMCell": Twins(
        kind="LSTMCell",
        torch=lambda nn: nn.LSTMCell(5, 5),
        paddle=lambda nn: nn.LSTMCell(5, 5),
        shape=(3, 5),
        call=_cell,
    ),
    "GRUCell": Twins(
        kind="GRUCell",
        torch=lambda nn: nn.GRUCell(5, 5),
        paddle=lambda nn: nn.GRUCell(5, 5),
        shape=(3, 5),
        call=_cell,
    ),
}


@pytest.fixture(autouse=True)
def _float64(frameworks: None) -> Iterator[None]:
    """Let Paddle build in float64: its recurrent layers cannot be cast, and all others but `BatchNorm` need not be."""
    import paddle

    paddle.set_default_dtype("float64")
    yield
    paddle.set_default_dtype("float32")


class Pair:
    """Both modules, with drawn weights in torch's; Paddle's are given by the row, or wrongly."""

    def __init__(self, twins: Twins) -> None:
        import paddle
        import torch

        self.twins = twins
        self.reference = twins.torch(torch.nn).double().eval()
        self.candidate = twins.paddle(paddle.nn).eval()
        if not isinstance(self.candidate, paddle.nn.layer.rnn.RNNBase):
            self.candidate.to(dtype="float64")
        rng = np.random.default_rng(0)
        self.weights: dict[str, Array] = {}
        with torch.no_grad():
            for name, tensor in self.reference.state_dict().items():
                if tensor.is_floating_point():
                    drawn = rng.uniform(0.5, 1.5, tuple(tensor.shape)) * rng.choice((-1, 1), tuple(tensor.shape))
                    drawn = np.abs(drawn) if name == "running_var" else drawn
                    tensor.copy_(torch.from_numpy(drawn))
                    self.weights[name] = drawn
        kind = reference_type(self.reference)
        assert kind is not None
        self.kind: ModuleType = kind
        self.held: dict[str, Held] = {}
        for name in self.weights:
            if (held := self.kind.held(name)) is not None:
                self.held[name] = held

    def right(self) -> dict[str, Array]:
        return {held.candidate: held.transform.apply(self.weights[name]) for name, held in self.held.items()} | {
            f"out_proj.{what}": array.T for what, array in self._of_inner_linear().items()
        }

    def _of_inner_linear(self) -> dict[str, Array]:
        """Return what the attention's output layer holds, which is a Linear of its own."""
        return {name.rpartition(".")[2]: array for name, array in self.weights.items() if name.startswith("out_proj.")}

    def difference(self, given: Mapping[str, Array]) -> float:
        """Return how far the outputs lie apart, in units of the largest."""
        import paddle
        import torch

        tensors = {name: tensor for name, tensor in self.candidate.state_dict().items() if name in given}
        assert tensors.keys() == given.keys()
        for name, tensor in tensors.items():
            assert tuple(tensor.shape) == given[name].shape
            tensor.set_value(np.ascontiguousarray(given[name]))
        x = self.twins.inputs()
        with torch.no_grad():
            reference = self.twins.call(self.reference, torch.from_numpy(x))
            candidate = self.twins.call(self.candidate, paddle.to_tensor(x))
        one, other = ((y[0] if isinstance(y, tuple) else y).numpy() for y in (reference, candidate))
        assert one.dtype == other.dtype == np.float64
        assert one.shape == other.shape
        return float(np.abs(one - other).max() / np.abs(one).max())


@pytest.fixture(params=TWINS)
def pair(request: pytest.FixtureRequest, _float64: None) -> Pair:
    return Pair(TWINS[request.param])


def test_the_row_makes_both_the_same_function(pair: Pair) -> None:
    assert pair.kind.name == pair.twins.kind
    assert not pair.kind.why_not
    assert candidate_fits(pair.kind, pair.candidate)
    assert pair.difference(pair.right()) <= ROUNDING


def test_every_tensor_is_taken_once_and_every_one_of_the_candidates_filled(pair: Pair) -> None:
    left = {name for name in pair.reference.state_dict() if name not in pair.held and not name.startswith("out_proj.")}
    assert left == set(pair.kind.dropped)
    named = pair.right().keys() | {name for held in pair.held.values() for name in held.also}
    assert pair.candidate.state_dict().keys() <= named


def test_every_other_layout_is_caught(pair: Pair) -> None:
    right = pair.right()
    for name in pair.held.values():
        array = right[name.candidate]
        for wrong in _other_layouts(array):
            assert pair.difference({**right, name.candidate: wrong}) > 1e-3, (name, wrong.shape)
    assert pair.difference(right) <= ROUNDING


def _other_layouts(array: Array) -> Iterator[Array]:
    """Yield the array with its axes in each other order that has the same shape, and with its rows turned around."""
    for axes in itertools.permutations(range(array.ndim)):
        turned = array.transpose(axes)
        if axes != tuple(range(array.ndim)) and turned.shape == array.shape:
            yield turned
    yield np.roll(array, array.shape[0] // 2, axis=0)


def test_what_is_not_given_is_caught(pair: Pair) -> None:
    right = pair.right()
    for held in pair.held.values():
        array = right[held.candidate]
        assert pair.difference({**right, held.candidate: np.full_like(array, 0.25)}) > 1e-3, held


def test_what_has_another_name_besides_is_the_same_tensor() -> None:
    for name in ("LSTM of 2 layers, both ways", "GRU"):
        pair = Pair(TWINS[name])
        found = pair.candidate.state_dict()
        others = [
            (found[held.candidate], found[one]) for held in pair.held.values() for one in held.also if one in found
        ]
        assert len(others) == len(pair.held)
        assert all(one is other for one, other in others)


def test_the_rows_that_scale_do(pair: Pair) -> None:
    import torch

    x = torch.from_numpy(pair.twins.inputs())
    with torch.no_grad():
        before = pair.twins.call(pair.reference, x)
        for name, tensor in pair.reference.state_dict().items():
            if name in ("weight", "bias"):
                tensor.copy_(tensor / 4)
        after = pair.twins.call(pair.reference, x)
    if isinstance(before, tuple):
        before, after = before[0], after[0]
    assert pair.kind.scales == torch.equal(before / 4, after)


def _module(build: Build) -> Any:
    import torch

    return build(torch.nn)


@pytest.mark.parametrize(
    ("build", "says"),
    [
        (lambda nn: nn.MultiheadAttention(4, 2), "packs"),
        (lambda nn: nn.MultiheadAttention(4, 2, kdim=3), "packs"),
        (lambda nn: nn.InstanceNorm2d(3, track_running_stats=True), "running statistics"),
        (lambda nn: nn.BatchNorm2d(3, track_running_stats=False), "always keeps"),
        (lambda nn: nn.LayerNorm((3, 3)), "flat"),
        (lambda nn: nn.LSTM(3, 3, bias=False), "without biases"),
        (lambda nn: nn.LSTM(3, 3, proj_size=2), "projection"),
        (lambda nn: nn.GRU(3, 3, bias=False), "without biases"),
    ],
)
def test_what_no_table_pairs_says_why(build: Build, says: str) -> None:
    kind = reference_type(_module(build))
    assert kind is not None
    assert says in kind.why_not


def test_paddle_itself_keeps_a_norm_over_several_axes_flat() -> None:
    import paddle

    assert tuple(paddle.nn.LayerNorm((3, 3)).weight.shape) == (9,)


def test_paddle_itself_misnames_what_is_refused() -> None:
    import paddle

    layer = paddle.nn.LSTM(5, 5, num_layers=2, proj_size=3)
    held = layer.state_dict()
    assert held["weight_ih_l1"] is held["0.cell.weight_ho"]
    lstm = next(kind for kind in TYPES if kind.name == "LSTM")
    assert candidate_fits(lstm, paddle.nn.LSTM(5, 5, num_layers=2))
    assert not candidate_fits(lstm, layer)
    assert not candidate_fits(lstm, paddle.nn.LSTM(5, 5, num_layers=2, bias_ih_attr=False))


def test_a_subclass_counts_as_what_it_derives_from() -> None:
    import timm.layers
    import torch

    class WithMore(torch.nn.Linear):
        def __init__(self) -> None:
            super().__init__(3, 3)
            self.gain = torch.nn.Parameter(torch.ones(3))

    class WithBuffer(torch.nn.Linear):
        def __init__(self, *, saved: bool) -> None:
            super().__init__(3, 3)
            self.register_buffer("mask", torch.ones(3), persistent=saved)

    for module, name in (
        (timm.layers.LayerNorm2d(3), "LayerNorm"),
        (timm.layers.BatchNormAct2d(3), "BatchNorm"),
        (timm.layers.StdConv2d(3, 3, 3), "Conv2d"),
        (torch.nn.SyncBatchNorm(3), "BatchNorm"),
        (WithBuffer(saved=False), "Linear"),
    ):
        kind = reference_type(module)
        assert kind is not None
        assert kind.name == name
    for module in (WithMore(), WithBuffer(saved=True), torch.nn.ReLU(), timm.layers.ScaledStdConv2d(3, 3, 3)):
        assert reference_type(module) is None


def test_a_class_of_the_same_name_that_is_none_of_the_frameworks_is_of_no_kind() -> None:
    import paddle
    import torch

    for base in (torch.nn.Module, paddle.nn.Layer):
        theirs = type("Linear", (base,), {"__module__": "theirs"})()
        assert reference_type(theirs) is None
        assert not candidate_fits(TYPES[0], theirs)


def test_a_candidate_of_another_kind_or_with_more_does_not_fit() -> None:
    import paddle

    linear = TYPES[0]
    assert candidate_fits(linear, paddle.nn.Linear(3, 3))
    assert not candidate_fits(linear, paddle.nn.Embedding(3, 3))
    more = paddle.nn.Linear(3, 3)
    more.gain = more.create_parameter([3])
    assert not candidate_fits(linear, more)
    attention = next(kind for kind in TYPES if kind.name == "MultiheadAttention")
    assert candidate_fits(attention, paddle.nn.MultiHeadAttention(4, 2))


def test_a_weight_that_is_not_there_is_no_kind() -> None:
    import torch

    module = torch.nn.utils.parametrizations.weight_norm(torch.nn.Linear(3, 3))
    assert reference_type(module) is None


@pytest.mark.parametrize(
    ("reference", "candidate", "transform"),
    [
        ((1, 1, 6), (1, 1, 6), Transform.IDENTITY),
        ((1, 5, 6), (1, 5, 6), Transform.IDENTITY),
        ((6,), (6,), Transform.IDENTITY),
        ((), (), Transform.IDENTITY),
        ((6,), (1, 1, 6), Transform.UNSQUEEZE),
        ((1, 1, 6), (6,), Transform.SQUEEZE),
        ((5, 5), (5, 5), None),
        ((1, 5, 5), (1, 5, 5), None),
        ((2, 2, 3), (2, 2, 3), None),
        ((5, 6), (6, 5), None),
        ((6,), (1, 6), None),
        ((6,), (7,), None),
        ((1, 6), (6, 1), None),
        ((1, 1, 1, 6), (1, 6), None),
    ],
)
def test_a_raw_parameter_lies_as_its_shape_alone_tells(
    reference: tuple[int, ...], candidate: tuple[int, ...], transform: Transform | None
) -> None:
    assert raw_transform(reference, candidate) is transform


def test_every_row_has_its_sources_and_none_is_left_out_here() -> None:
    assert {kind.name for kind in TYPES if not kind.why_not} == {twins.kind for twins in TWINS.values()}
    assert all(kind.source for kind in TYPES)
