"""The strangers' Mixers themselves, without the aligner: the right ones are timm's function, no mistake is vacuous."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from strangers import (
    CONFIG,
    FUNCTIONAL,
    MISTAKEN,
    NOT_ON_IMAGES,
    POINTS,
    RIGHT,
    STRANGERS,
    Blame,
    Stranger,
    renamed,
    timm_model,
    timm_weights,
)

from align.mixer.points import points_of
from convert.arrays import Array, StateDict

pytestmark = pytest.mark.usefixtures("one_thread")
ROUNDING, MATTERS = 1e-13, 1e-11
"""In float64, of values of order one. What lies between would be neither right nor a mistake."""

Where = tuple[str, str]
BY_TIMM: dict[str, Where] = {
    "blocks.{i}.token_mixing": ("input", "blocks.{i}.norm2"),
    "pooled": ("input", "head"),
    "logits": ("output", ""),
}
ACT_IN_CHANNELS: dict[str, Where] = {"blocks.{i}.mlp_channels.act": ("input", "blocks.{i}.mlp_channels.fc2")}

OTHER_KEYS: dict[str, Callable[[Stranger], set[str]]] = {
    "extra-parameter": lambda _: {"pos_embed"},
    "buffer": lambda stranger: {stranger.parameter("blocks.1.mlp_channels.fc2.scale")},
}
"""What a mistake adds to the state dict."""


@pytest.fixture(scope="module")
def weights() -> StateDict:
    return timm_weights(0)


@pytest.fixture(scope="module")
def reference(weights: StateDict, one_thread: None) -> Any:
    import torch

    model = timm_model(weights).double()
    for module in model.modules():
        if isinstance(module, torch.nn.LayerNorm):
            module.eps = float(np.float32(module.eps))  # as Paddle rounds it
    return model


def images_of(count: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).standard_normal((count, 3, CONFIG.image_size, CONFIG.image_size))


INPUTS = (images_of(2), images_of(2, seed=1), images_of(1), images_of(4), images_of(4)[::-1].copy())


def stranger_in_float64(stranger: Stranger, weights: StateDict, **arguments: Any) -> Any:
    model = stranger.build(weights, **arguments)
    model.to(dtype="float64")
    return model


def run_timm(model: Any, images: Array) -> Array:
    import torch

    with torch.inference_mode():
        return model(torch.from_numpy(images)).numpy()


def run_paddle(model: Any, images: Array) -> Any:
    import paddle

    with paddle.no_grad():
        returned = model(paddle.to_tensor(images))
    return returned.numpy() if isinstance(returned, paddle.Tensor) else returned


def differs(returned: Any, expected: Array) -> bool:
    if not isinstance(returned, np.ndarray) or returned.shape != expected.shape:
        return True
    far = float(np.abs(returned - expected).max())
    assert not ROUNDING < far < MATTERS
    return far >= MATTERS


class TestRight:
    @pytest.mark.parametrize(("name", "variant"), RIGHT)
    def test_float32_logits_are_timm_s(self, weights: StateDict, name: str, variant: str) -> None:
        model = STRANGERS[name].build(weights, variant=variant)
        images = images_of(3).astype("float32")
        np.testing.assert_allclose(run_paddle(model, images), run_timm(timm_model(weights), images), rtol=0, atol=1e-6)

    @pytest.mark.parametrize(("name", "variant"), RIGHT)
    def test_every_batch_is_timm_s_in_float64(
        self, weights: StateDict, reference: Any, name: str, variant: str
    ) -> None:
        model = stranger_in_float64(STRANGERS[name], weights, variant=variant)
        assert not any(differs(run_paddle(model, images), run_timm(reference, images)) for images in INPUTS)

    @pytest.mark.parametrize(("name", "variant"), RIGHT)
    def test_the_state_dict_is_as_large_as_timm_s(self, weights: StateDict, name: str, variant: str) -> None:
        stranger = STRANGERS[name]
        assert stranger.build(variant=variant).state_dict().keys() == stranger.state_dict(weights).keys()

    def test_initial_weights_are_others(self, weights: StateDict, reference: Any) -> None:
        model = STRANGERS["other-names"].build()
        model.to(dtype="float64")
        assert differs(run_paddle(model, INPUTS[0]), run_timm(reference, INPUTS[0]))


class TestMistakes:
    @pytest.mark.parametrize("name", STRANGERS)
    def test_every_one_is_in_the_table(self, frameworks: None, name: str) -> None:
        import importlib

        module = importlib.import_module(STRANGERS[name].module)
        assert STRANGERS[name].mistakes.keys() | {"raises"} == module.MISTAKES.keys()
        assert set(STRANGERS[name].right) == module.VARIANTS.keys()

    @pytest.mark.parametrize(("name", "mistake"), MISTAKEN)
    def test_each_shows(self, weights: StateDict, reference: Any, name: str, mistake: str) -> None:
        stranger = STRANGERS[name]
        model = stranger_in_float64(stranger, weights, mistake=mistake)
        others = model.state_dict().keys() ^ stranger.state_dict(weights).keys()
        shows = [differs(run_paddle(model, images), run_timm(reference, images)) for images in INPUTS]
        assert any(shows) == (mistake not in {"extra-parameter", "ignored-token-bias", *NOT_ON_IMAGES})
        assert others == OTHER_KEYS.get(mistake, lambda _: set())(stranger)

    @pytest.mark.parametrize("name", STRANGERS)
    def test_the_bias_that_no_logit_shows_is_seen_where_it_acts(
        self, weights: StateDict, reference: Any, name: str
    ) -> None:
        model = stranger_in_float64(STRANGERS[name], weights, mistake="ignored-token-bias")
        point = first_to_differ(timm_points(reference), model, places_of(name))
        assert point == "blocks.1.mlp_tokens.fc2"

    @pytest.mark.parametrize("mistake", ["two-and-zeros", "two-and-copies", "squeezed", "wrong-at-1", "wrong-beyond-2"])
    @pytest.mark.parametrize("name", STRANGERS)
    def test_what_is_about_the_batch_is_right_at_two(
        self, weights: StateDict, reference: Any, name: str, mistake: str
    ) -> None:
        model = stranger_in_float64(STRANGERS[name], weights, mistake=mistake)
        assert not differs(run_paddle(model, INPUTS[0]), run_timm(reference, INPUTS[0]))

    @pytest.mark.parametrize("mistake", ["epsilon", "final-epsilon", "buffer", "hidden-buffer"])
    def test_float32_logits_alone_would_pass_these(self, weights: StateDict, mistake: str) -> None:
        images = images_of(2).astype("float32")
        logits = run_timm(timm_model(weights), images)
        for stranger in STRANGERS.values():
            moved = np.abs(run_paddle(stranger.build(weights, mistake=mistake), images) - logits)
            assert moved.max() <= 1e-5


class TestBlame:
    """The tables, held to a plain walk by hooks: every point is given timm's value, and the first other one is it."""

    @pytest.mark.parametrize(("name", "mistake"), MISTAKEN)
    def test_the_first_point_to_differ_may_be_blamed(
        self, weights: StateDict, reference: Any, name: str, mistake: str
    ) -> None:
        stranger = STRANGERS[name]
        model = stranger_in_float64(stranger, weights, mistake=mistake)
        first = first_to_differ(timm_points(reference), model, places_of(name))
        may_be = stranger.mistakes[mistake] | only_elsewhere(stranger.mistakes[mistake])
        assert first in ({""} if mistake in NOT_ON_IMAGES else may_be)

    @pytest.mark.parametrize(("name", "variant"), RIGHT)
    def test_nothing_differs_where_all_is_right(
        self, weights: StateDict, reference: Any, name: str, variant: str
    ) -> None:
        model = stranger_in_float64(STRANGERS[name], weights, variant=variant)
        places = places_of(name)
        for point in [point for point in places if re.sub(r"\d+", "{i}", point) in FUNCTIONAL.get(variant, ())]:
            del places[point]
        assert first_to_differ(timm_points(reference), model, places) == ""


def only_elsewhere(blamed: Blame) -> Blame:
    """Return "" (nothing differs) where a mistake need not show at the batch that is walked through."""
    return frozenset({""}) if blamed & {"", "logits"} else frozenset()


def expanded(places: dict[str, Where]) -> dict[str, Where]:
    numbers = [str(i) for i in range(CONFIG.num_blocks)]
    return {
        point.replace("{i}", i): (where, module.replace("{i}", i))
        for point, (where, module) in places.items()
        for i in (numbers if "{i}" in point else [""])
    }


def places_of(name: str) -> dict[str, Where]:
    """Return where each point is to be seen, in forward order."""
    modules = STRANGERS[name].modules
    special = expanded({**BY_TIMM, **(POINTS if modules else ACT_IN_CHANNELS)})
    points = [layer.name for layer in points_of(CONFIG, 2)]
    return {point: special.get(point, ("output", renamed(point, modules))) for point in points}


def timm_points(model: Any) -> dict[str, Array]:
    values: dict[str, Array] = {}
    modules = dict(model.named_modules())

    def keep(point: str, place: Where) -> Any:
        if place[0] == "input":
            return modules[place[1]].register_forward_pre_hook(
                lambda _, inputs: values.update({point: inputs[0].numpy()})
            )
        return modules[place[1]].register_forward_hook(lambda _, __, output: values.update({point: output.numpy()}))

    places = {layer.name: ("output", layer.name) for layer in points_of(CONFIG, 2)} | expanded(BY_TIMM)
    handles = [keep(point, place) for point, place in places.items()]
    run_timm(model, INPUTS[0])
    for handle in handles:
        handle.remove()
    return values


def first_to_differ(reference: dict[str, Array], model: Any, places: dict[str, Where]) -> str:
    """Return the first point, in timm's forward order, that differs although its inputs do not; "" for none.

    Points that the model never shows are passed over.
    """
    import paddle

    differing: set[str] = set()

    def seen(point: str) -> Callable[[Any], Any]:
        def replaced(value: Any) -> Any:
            if not isinstance(value, paddle.Tensor) or differs(value.numpy(), reference[point]):
                differing.add(point)
            return paddle.to_tensor(reference[point])

        return replaced

    modules = dict(model.named_sublayers(include_self=True))
    handles = []
    for point, (where, module) in places.items():
        handles.append(hook(modules[module], where, seen(point)))
    run_paddle(model, INPUTS[0])
    for handle in handles:
        handle.remove()
    return next((point for point in places if point in differing), "")


def hook(layer: Any, where: str, replaced: Callable[[Any], Any]) -> Any:
    if where == "output":
        return layer.register_forward_post_hook(lambda _, __, output: replaced(output))

    def before(_: Any, inputs: tuple[Any, ...], named: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        if inputs:
            return (replaced(inputs[0]), *inputs[1:]), named
        (key, value), *rest = named.items()
        return (), {key: replaced(value), **dict(rest)}

    return layer.register_forward_pre_hook(before, with_kwargs=True)
