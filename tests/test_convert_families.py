"""A family of another package beside the Mixers: each command picks the one that is meant."""

from __future__ import annotations

import importlib.metadata
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import Run, save_safetensors

import convert
from convert import engine, families, files
from convert.arrays import Shape, StateDict
from convert.engine import Conversion
from convert.errors import BadInput, UnknownVariant
from convert.evidence.recorded import manifest_path
from convert.family import Family, Port, Source
from convert.identity import NamedVariant, Vocabulary
from convert.naming import Naming
from convert.request import Request
from convert.rules import KeyRule, RuleSet, Transform


@dataclass(frozen=True)
class ToyConfig:
    inputs: int
    hidden: int
    outputs: int


def shapes_of(config: ToyConfig) -> dict[str, Shape]:
    return {
        "fc1.weight": (config.hidden, config.inputs),
        "fc1.bias": (config.hidden,),
        "fc2.weight": (config.outputs, config.hidden),
        "fc2.bias": (config.outputs,),
    }


SMALL = ToyConfig(inputs=3, hidden=5, outputs=2)
TIMM = RuleSet(tuple(KeyRule(source=name, target=name, transform=Transform.IDENTITY) for name in shapes_of(SMALL)))
PADDLE = RuleSet(
    tuple(
        KeyRule(
            source=name, target=f"net.{name}", transform=Transform.TRANSPOSE if len(shape) == 2 else Transform.IDENTITY
        )
        for name, shape in shapes_of(SMALL).items()
    )
)
LAYOUTS = {"timm": TIMM, "paddle": PADDLE}


class ToyFamily:
    """Two Linear layers; Paddle's are called net.fc1 and net.fc2."""

    name, article, noun = "toy", "a", "two-layer MLP"
    naming = Naming(LAYOUTS, ("fc1.bias",))
    vocabulary = Vocabulary(
        fields=dict.fromkeys(("inputs", "hidden", "outputs"), lambda value: type(value) is int),
        options={},
        values={},
        layouts=tuple(LAYOUTS),
        variants=("toy_small",),
    )
    sources: Mapping[str, Any] = {"timm": ("timm",), "paddle": ("paddle",)}
    elsewhere: Mapping[str, str] = {}
    variants: Any = (NamedVariant(name="toy_small", architecture="toy", tag="untrained", config=SMALL, note="a toy"),)
    headers: Any = ("variant", "note")
    alignment = "toy:ALIGNMENT"

    def get_variant(self, name: str, /) -> NamedVariant:
        if name == "toy_small":
            return self.variants[0]  # type: ignore[no-any-return]
        raise UnknownVariant(name, [], ["toy_small"])

    def as_row(self, variant: Any, /) -> tuple[str, ...]:
        return variant.name, variant.note

    def as_data(self, variant: Any, /) -> dict[str, Any]:
        return {"name": variant.name, "note": variant.note}

    def recognise(self, state_dict: StateDict, source: str, /) -> tuple[ToyConfig, tuple[str, ...]] | None:
        layout = self.naming.nearest(state_dict, LAYOUTS)
        found = {key: array.shape for key, array in state_dict.items()}
        if found.keys() != {rule.target for rule in LAYOUTS[layout]}:
            return None
        timm = LAYOUTS[layout].inverse.shapes(found)
        config = ToyConfig(inputs=timm["fc1.weight"][1], hidden=timm["fc1.weight"][0], outputs=timm["fc2.weight"][0])
        return config, (layout,)

    def alike(self, one: ToyConfig, other: ToyConfig, /) -> bool:
        return one == other

    def fitting(self, config: ToyConfig, /) -> list[NamedVariant]:
        return [variant for variant in self.variants if variant.config == config]

    def port(self, source: Source, request: Request, /) -> Port:
        config, layouts = self.recognise(source.state_dict, source.name) or (None, ())
        if config is None:
            raise BadInput(f"{source.name}: it is no {self.noun}. Is it the right file?")
        conversion = self.convert(source.state_dict, config, src=layouts[0], dst=request.dst, name=source.name)
        return Port(source=source, config=config, layout=layouts[0], conversion=conversion)

    def convert(self, state_dict: StateDict, config: Any, *, src: Any, dst: Any, name: str) -> Conversion:
        rules = LAYOUTS[src].inverse.then(LAYOUTS[dst])
        return engine.convert(state_dict, rules, LAYOUTS[src].shapes(shapes_of(config)), name=name, expected=self.noun)

    def draw(self, config: Any, seed: int, /) -> StateDict:
        rng = np.random.default_rng(seed)
        return {key: rng.standard_normal(shape, np.float32) for key, shape in shapes_of(config).items()}

    def build(self, config: Any, state_dict: StateDict, /) -> Any:
        return {key: array.copy() for key, array in state_dict.items()}


TOY: Family = ToyFamily()


@pytest.fixture
def toy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A checkpoint of the toy's, which is installed as any package is: by what lies beside it on the path."""
    installed = tmp_path / "site" / "toy-1.dist-info"
    installed.mkdir(parents=True)
    (installed / "METADATA").write_text("Metadata-Version: 2.1\nName: toy\nVersion: 1\n")
    (installed / "entry_points.txt").write_text(f"[{families.GROUP}]\ntoy = {__name__}:TOY\n")
    monkeypatch.syspath_prepend(installed.parent)
    families.installed.cache_clear()
    yield save_safetensors(tmp_path / "toy.safetensors", TOY.draw(SMALL, 0))
    families.installed.cache_clear()


def test_there_and_back(mixer_convert: Run, toy: Path, tmp_path: Path) -> None:
    out, back = tmp_path / "out.pdparams", tmp_path / "back.safetensors"
    result = mixer_convert("--checkpoint", toy, "--out", out)
    assert result.exit_code == 0, result.output
    assert "4 tensors, 2 Linear weights transposed" in result.stderr
    assert "built with" not in result.stderr
    weights, converted = files.read(toy), files.read(out)
    for key, array in weights.items():
        np.testing.assert_array_equal(converted[f"net.{key}"], array.T if array.ndim == 2 else array, strict=True)
    manifest = json.loads(manifest_path(out).read_text())
    assert manifest["config"] == {"inputs": 3, "hidden": 5, "outputs": 2}
    assert manifest["layouts"] == {"source": "timm", "target": "paddle"}
    assert mixer_convert("--checkpoint", out, "--dst", "timm", "--out", back).exit_code == 0
    for path in (out, back):
        assert mixer_convert("verify", path).exit_code == 0
        assert mixer_convert("verify", toy, path).exit_code == 0
    assert {key: array.tobytes() for key, array in files.read(back).items()} == {
        key: array.tobytes() for key, array in weights.items()
    }


def test_inspect_says_what_each_is(mixer_convert: Run, toy: Path, checkpoint: Path) -> None:
    assert (
        "toy.safetensors: a two-layer MLP in timm layout, the size of toy_small" in mixer_convert("inspect", toy).stdout
    )
    assert "timm.safetensors: an MLP-Mixer in timm layout" in mixer_convert("inspect", checkpoint).stdout


def test_neither_knows_a_stranger(mixer_convert: Run, toy: Path, tmp_path: Path) -> None:
    stranger = save_safetensors(tmp_path / "x.safetensors", {"conv.weight": np.ones((2, 3), np.float32)})
    assert "no MLP-Mixer or two-layer MLP that we know" in mixer_convert("inspect", stranger).stdout


def test_the_mixers_are_there_still(mixer_convert: Run, toy: Path, checkpoint: Path, tmp_path: Path) -> None:
    for file in (checkpoint, "--init"):
        arguments = ["--checkpoint", file] if file is checkpoint else [file, "random", "--variant", "s32"]
        assert mixer_convert(*arguments, "--out", tmp_path / "mixer.pdparams", "--force").exit_code == 0
        assert json.loads(manifest_path(tmp_path / "mixer.pdparams").read_text())["config"]["family"] == "mixer"
    assert mixer_convert("verify", checkpoint, toy).exit_code == 1


def test_a_variant_says_whose_it_is(
    mixer_convert: Run, toy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert mixer_convert("--variant", "toy_small", "--init", "random", "--seed", 1).exit_code == 0
    assert json.loads(Path("toy.random_seed1.pdparams.manifest.json").read_text())["variant"]["name"] == "toy_small"
    assert mixer_convert("--variant", "toy_small", "--checkpoint", toy, "--out", "x.pdparams").exit_code == 0
    listed = mixer_convert("--list").stdout
    assert "b16_in21k" in listed
    assert "toy_small" in listed
    unknown = mixer_convert("--variant", "toy")
    assert unknown.exit_code == 2
    assert "toy_small" in unknown.stderr


@pytest.mark.parametrize("options", [["--gelu", "erf"], ["--dst", "paddlevit"], ["--src", "google"]])
def test_what_a_family_has_not_is_refused(mixer_convert: Run, toy: Path, tmp_path: Path, options: list[str]) -> None:
    result = mixer_convert("--checkpoint", toy, *options, "--out", tmp_path / "x.pdparams")
    assert result.exit_code == 2, result.output
    assert options[1] in result.stderr
    assert not (tmp_path / "x.pdparams").exists()


def test_load_paddle_builds_its_model(toy: Path) -> None:
    assert convert.load_paddle(checkpoint=toy).keys() == {f"net.{name}" for name in shapes_of(SMALL)}


def test_one_that_cannot_be_loaded_is_named(mixer_convert: Run, toy: Path, tmp_path: Path) -> None:
    (tmp_path / "site" / "toy-1.dist-info" / "entry_points.txt").write_text(f"[{families.GROUP}]\ntoy = no_such:TOY\n")
    result = mixer_convert("inspect", toy)
    assert result.exit_code == 2
    assert "no_such:TOY: this family of models cannot be loaded" in result.stderr


def test_without_an_installation_there_is_a_sentence(
    mixer_convert: Run, checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.metadata, "distributions", lambda: ())
    families.installed.cache_clear()
    result = mixer_convert("--checkpoint", checkpoint, "--out", tmp_path / "x.pdparams")
    families.installed.cache_clear()
    assert result.exit_code == 2
    assert (
        result.stderr == "Error: mixer-convert is not installed, so no models are known to it. Run: pip install -e .\n"
    )
