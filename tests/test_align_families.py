"""A family of another package is aligned by the same commands, here without a witness."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
from conftest import Run
from toy_family import LAYOUTS, SMALL, TOY

import align
from align.core.case import Case, Model, Settings
from align.core.inputs import seeded_images
from align.core.point import Point, Tapped
from align.probes import paddle_probe, torch_probe
from align.render import schema_text
from convert.arrays import StateDict
from convert.job import choose_source, request_of


def in_torch(source: StateDict) -> Any:
    import torch

    fc1, fc2 = torch.nn.Linear(3, 5), torch.nn.Linear(5, 2)
    model = torch.nn.Sequential()
    for name, module in (("fc1", fc1), ("act", torch.nn.ReLU()), ("fc2", fc2)):
        model.add_module(name, module)
    model.load_state_dict({name: torch.from_numpy(np.array(array)) for name, array in source.items()})
    return model.eval()


def in_paddle(weights: StateDict, act: str = "ReLU") -> Any:
    from paddle import nn

    net = nn.Sequential(("fc1", nn.Linear(3, 5)), ("act", getattr(nn, act)()), ("fc2", nn.Linear(5, 2)))
    model = nn.Sequential(("net", net))
    paddle_probe.load(model, weights)
    return model


class ToyAlignment:
    """Two points: the first layer, and what the model returns."""

    def case_of_options(self, options: Mapping[str, Any], settings: Settings, say: Any, /) -> Case:
        request = request_of(variant=options["variant"], checkpoint=options["checkpoint"])
        source = choose_source(request).state_dict
        converted = LAYOUTS["paddle"].apply(source)
        return self._case(lambda: in_torch(source), source, lambda: in_paddle(converted), converted, settings)

    def case_of_models(self, reference: Any, candidate: Any, pairing: Any, settings: Any, /) -> Case:
        sides = (torch_probe.parameters(reference), paddle_probe.parameters(candidate))
        builds: list[Callable[[], Any]] = [lambda: copy.deepcopy(reference), lambda: copy.deepcopy(candidate)]
        return self._case(builds[0], sides[0], builds[1], sides[1], settings or Settings())

    def _case(self, reference: Any, source: StateDict, candidate: Any, weights: StateDict, settings: Settings) -> Case:
        fc1 = Point(name="fc1", reference=Tapped(module="fc1"), candidate=Tapped(module="net.fc1"))
        return Case(
            name="toy",
            family="toy",
            config=SMALL,
            reference=Model(state_dict=source, build=reference, probe=torch_probe),
            candidate=Model(state_dict=weights, build=candidate, probe=paddle_probe),
            rules=LAYOUTS["paddle"],
            points=(fc1, Point(name="output", reference=Tapped(module=""), candidate=Tapped(module=""))),
            headline="output",
            classes=2,
            sample="fc1",
            inputs=seeded_images((settings.batch, 3), settings.input_seed),
            wanted=settings,
            settings={"reference": "torch", "config": {"hidden": 5}, "weights": {}},
        )


ALIGNMENT = ToyAlignment()
pytestmark = pytest.mark.usefixtures("frameworks")


def test_by_the_command(mixer_align: Run, toy: Path, tmp_path: Path) -> None:
    result = mixer_align("--checkpoint", toy, "--json", tmp_path / "x.json", "--backward")
    assert result.exit_code == 0, result.output
    assert "(no witness)" in result.stdout.splitlines()[-1]
    data = json.loads((tmp_path / "x.json").read_text())
    jsonschema.validate(data, json.loads(schema_text()))
    assert [layer["name"] for layer in data["layers"]] == ["fc1", "output"]
    assert data["layers"][0]["float64"]["reference_vs_witness"] is None


@pytest.mark.parametrize(("act", "verdict"), [("ReLU", "aligned"), ("GELU", "diverged")])
def test_in_memory(toy: Path, act: str, verdict: str) -> None:
    weights = TOY.draw(SMALL, 0)
    result = align.align(in_torch(weights), in_paddle(LAYOUTS["paddle"].apply(weights), act))
    assert result.verdict == verdict, result.gates
    assert (result.first_divergence is None) is (verdict == "aligned")
