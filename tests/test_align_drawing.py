"""Drawn weights: nothing trivial, every activation of order one at any depth, and the model is as it was."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from align.pairing.drawing import draw
from align.pairing.types import reference_type
from align.probes import torch_probe
from convert.arrays import Array, StateDict, same_bits
from convert.errors import BadInput

pytestmark = pytest.mark.usefixtures("one_thread")
RNG = np.random.default_rng(7)
IMAGES = RNG.standard_normal((2, 3, 64, 64), dtype=np.float32)


def _timm(name: str, **options: Any) -> Callable[[], Any]:
    def build() -> Any:
        import timm

        return timm.create_model(name, num_classes=10, **options)

    return build


def _torchvision(name: str, **options: Any) -> Callable[[], Any]:
    def build() -> Any:
        import torchvision

        return torchvision.models.get_model(name, weights=None, num_classes=10, **options)

    return build


def _sequence() -> Any:
    """Return a model of words: an embedding, an LSTM, and a head on its last state."""
    import torch

    class Words(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embedding = torch.nn.Embedding(11, 6, padding_idx=0)
            self.lstm = torch.nn.LSTM(6, 7, num_layers=2, bidirectional=True, batch_first=True)
            self.head = torch.nn.Linear(14, 10)

        def forward(self, words: Any) -> Any:
            return self.head(self.lstm(self.embedding(words))[0][:, -1])

    return Words()


WORDS = RNG.integers(11, size=(3, 8))
MODELS: dict[str, tuple[Callable[[], Any], Array]] = {
    "resnet50": (_torchvision("resnet50"), IMAGES),
    "densenet121": (_torchvision("densenet121"), IMAGES),
    "mobilenet_v3_small": (_torchvision("mobilenet_v3_small"), IMAGES),
    "repvgg_a0": (_timm("repvgg_a0"), IMAGES),
    "convnext_atto": (_timm("convnext_atto"), IMAGES),
    "vit_tiny": (_timm("vit_tiny_patch16_224", img_size=64), IMAGES),
    "swin_tiny": (_torchvision("swin_t"), IMAGES),
    "lstm": (_sequence, WORDS),
}


class Drawn:
    """A model, what was drawn for it, and what its leaves give with it."""

    def __init__(self, build: Callable[[], Any], inputs: Array) -> None:
        import torch

        torch.manual_seed(0)
        self.model, self.inputs = build(), inputs
        self.before = _bits(self.model)
        self.weights = draw(self.model, inputs, seed=0)
        self.after = _bits(self.model)
        loaded = copy.deepcopy(self.model).eval()
        torch_probe.load(loaded, self.weights)
        self.outputs: dict[str, Array] = {}
        for path, module in loaded.named_modules():
            if not list(module.children()):
                module.register_forward_hook(lambda _, __, output, path=path: self._note(path, output))
        given = torch.from_numpy(inputs)
        with torch.no_grad():
            self.output = loaded(given).numpy()
            self.exact = loaded.double()(given.double() if given.is_floating_point() else given).numpy()

    def _note(self, path: str, output: Any) -> None:
        array = np.array((output[0] if isinstance(output, tuple) else output).numpy())
        if array.dtype == np.float32:
            self.outputs[path] = array


def _bits(model: Any) -> tuple[StateDict, list[bool], list[dict[str, int]]]:
    modules = list(model.modules())
    held = {name: np.array(array) for name, array in torch_probe.tensors(model)}
    hooks = [{name: len(value) for name, value in vars(module).items() if "hooks" in name} for module in modules]
    return held, [module.training for module in modules], hooks


@pytest.fixture(scope="module", params=MODELS)
def drawn(request: pytest.FixtureRequest, one_thread: None) -> Drawn:
    return Drawn(*MODELS[request.param])


def test_the_output_is_of_order_one(drawn: Drawn) -> None:
    assert 0.25 <= drawn.output.std() <= 4


def test_float32_holds_the_output_to_less_than_the_bound_of_a_comparison(drawn: Drawn) -> None:
    assert drawn.exact.dtype == np.float64
    assert np.abs(drawn.output - drawn.exact).max() <= 5e-6


def test_every_leaf_gives_numbers_of_order_one(drawn: Drawn) -> None:
    assert len(drawn.outputs) >= 3
    for path, output in drawn.outputs.items():
        assert np.isfinite(output).all(), path
        assert 1e-3 <= np.abs(output).max() <= 1e2, path


def test_no_parameter_is_trivial(drawn: Drawn) -> None:
    assert drawn.weights.keys() == drawn.model.state_dict().keys()
    for name, _ in drawn.model.named_parameters():
        array = drawn.weights[name]
        assert array.dtype == np.float32
        assert len(np.unique(array)) > array.size // 2, name
        assert np.abs(array).max() > 1e-3, name


def test_statistics_are_drawn_and_counters_left(drawn: Drawn) -> None:
    for name, tensor in drawn.model.named_buffers():
        if name not in drawn.weights:
            continue
        if name.endswith(("running_mean", "running_var")):
            assert drawn.weights[name].std() > 0.01
        else:
            assert same_bits(drawn.weights[name], tensor.numpy()), name


def test_the_model_is_as_it_was(drawn: Drawn) -> None:
    (held, training, hooks), (held_after, training_after, hooks_after) = drawn.before, drawn.after
    assert training == training_after
    assert hooks == hooks_after
    assert all(training)
    assert held.keys() == held_after.keys()
    assert all(same_bits(held[name], held_after[name]) for name in held)


@pytest.mark.parametrize("name", ["mobilenet_v3_small", "lstm"])
def test_only_the_seed_and_the_names_matter(name: str) -> None:
    import torch

    build, inputs = MODELS[name]
    first, again = (draw(build(), inputs, seed=0) for _ in range(2))
    fresh = [key for key in first if not key.endswith("num_batches_tracked")]
    assert all(same_bits(first[key], again[key]) for key in first)
    threads = torch.get_num_threads()
    torch.set_num_threads(threads + 1)
    try:
        on_more = draw(build(), inputs, seed=0)
    finally:
        torch.set_num_threads(threads)
    assert all(same_bits(first[key], on_more[key]) for key in first)
    other = draw(build(), inputs, seed=1)
    assert not any(same_bits(first[key], other[key]) for key in fresh)


def test_parameters_are_only_divided_by_powers_of_two_and_statistics_not() -> None:
    from align.pairing.drawing import _planned

    model = MODELS["resnet50"][0]()
    balanced, before = draw(model, IMAGES, seed=3), {key: one.draw() for key, one in _planned(model, 3).items()}
    exponents = set()
    for name, array in before.items():
        ratio = float(np.abs(array).max() / np.abs(balanced[name]).max())
        assert np.log2(ratio).is_integer()
        assert np.array_equal(array, balanced[name] * np.float32(ratio))
        if "running" in name:
            assert ratio == 1
        exponents.add(ratio)
    assert len(exponents) > 1


def test_what_a_module_of_no_known_kind_keeps_beside_its_parameters_is_left() -> None:
    import torch

    class Anchored(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.gain = torch.nn.Parameter(torch.full((9,), 1e-6))
            self.register_buffer("anchors", torch.arange(9.0))
            self.register_buffer("mask", torch.ones(9), persistent=False)

        def forward(self, x: Any) -> Any:
            assert self.mask.sum() == 9
            return self.gain * x + self.anchors

    weights = draw(Anchored(), np.ones((2, 9), np.float32), seed=0)
    assert weights.keys() == {"gain", "anchors"}
    assert np.array_equal(weights["anchors"], np.arange(9, dtype=np.float32))
    assert np.abs(weights["gain"]).min() >= 0.25


def test_a_row_of_padding_is_zero() -> None:
    weights = draw(_sequence(), WORDS, seed=0)
    assert not weights["embedding.weight"][0].any()
    assert weights["embedding.weight"][1:].all()


def test_inputs_may_have_names() -> None:
    import torch

    class Masked(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embedding = torch.nn.Embedding(11, 6)
            self.head = torch.nn.Linear(6, 10)

        def forward(self, *, mask: Any, words: Any) -> Any:
            return self.head((self.embedding(words) * mask[..., None]).sum(1))

    inputs = np.zeros(3, dtype=[("words", np.int64, (8,)), ("mask", np.float32, (8,))])
    inputs["words"], inputs["mask"] = WORDS, 100
    balanced = draw(Masked(), inputs, seed=0)
    inputs["mask"] = 1
    assert np.abs(balanced["head.weight"]).max() < np.abs(draw(Masked(), inputs, seed=0)["head.weight"]).max() / 32


def test_a_subclass_that_does_more_than_its_kind_is_run_anew() -> None:
    import torch

    class Squared(torch.nn.Linear):
        def forward(self, x: Any) -> Any:
            return super().forward(x) ** 2

    model = torch.nn.Sequential(Squared(16, 16), torch.nn.Linear(16, 16)).eval()
    x = 1000 * RNG.standard_normal((8, 16), dtype=np.float32)
    torch_probe.load(model, draw(model, x, seed=0))
    with torch.no_grad():
        assert 0.6 <= model[1](model[0](torch.from_numpy(x))).std() <= 1.5


def test_what_is_tied_is_divided_once() -> None:
    import torch

    class Tied(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embedding = torch.nn.Embedding(11, 64)
            self.head = torch.nn.Linear(64, 11, bias=False)
            self.head.weight = self.embedding.weight

        def forward(self, words: Any) -> Any:
            return self.head(self.embedding(words))

    weights = draw(Tied(), WORDS, seed=0)
    assert same_bits(weights["embedding.weight"], weights["head.weight"])
    values = weights["embedding.weight"][WORDS]
    assert 0.7 <= values.std() <= 1.42


def test_a_module_that_is_called_twice_is_balanced_at_its_first_call() -> None:
    import torch

    class Twice(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = torch.nn.Linear(8, 8)

        def forward(self, x: Any) -> Any:
            return self.layer(1000 * self.layer(100 * x))

    x = RNG.standard_normal((4, 8), dtype=np.float32)
    weights = draw(Twice(), x, seed=0)
    first = 100 * x @ weights["layer.weight"].T + weights["layer.bias"]
    assert 0.7 <= first.std() <= 1.42


def test_a_model_that_is_not_finite_with_drawn_weights_says_so() -> None:
    import torch

    class Root(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.power = torch.nn.Parameter(torch.full((9,), 3.0))

        def forward(self, x: Any) -> Any:
            return torch.sqrt(self.power) * x

    with pytest.raises(BadInput, match="Root: with drawn weights what it returns is not finite"):
        draw(Root(), np.ones((2, 9), np.float32), seed=0)


def test_without_the_balance_a_deep_model_is_far_from_order_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """RepVGG has logits of hundreds, which float32 cannot hold to 1e-5."""
    from align.pairing import drawing

    monkeypatch.setattr(drawing, "_balance", lambda model, inputs: {})
    drawn = Drawn(*MODELS["repvgg_a0"])
    assert drawn.output.std() > 16
    assert np.abs(drawn.output - drawn.exact).max() > 1e-5


def test_every_kind_of_module_is_drawn_nontrivially() -> None:
    import torch
    from torch import nn

    kinds = (
        nn.Conv1d(4, 4, 3),
        nn.ConvTranspose2d(4, 24, 3),
        nn.GroupNorm(2, 4),
        nn.InstanceNorm2d(4, affine=True),
        nn.PReLU(4),
        nn.MultiheadAttention(4, 2),
        nn.GRU(4, 4, bias=False),
        nn.LSTM(4, 4, proj_size=2),
    )
    model = nn.ModuleList(kinds)
    model.forward = lambda x: x  # type: ignore[method-assign, assignment]
    weights = draw(model, np.ones((1, 1), np.float32), seed=0)
    for name, tensor in model.named_parameters():
        assert weights[name].std() > 0.01, name
        assert not same_bits(weights[name], tensor.detach().numpy())
    assert (weights["4.weight"] >= 0.1).all()
    kernel = weights["1.weight"]
    assert kernel.std() == pytest.approx(1 / np.sqrt(4 * 9), rel=0.2)
    assert all(reference_type(module) is not None for module in kinds)
    assert isinstance(model[0], torch.nn.Module)
