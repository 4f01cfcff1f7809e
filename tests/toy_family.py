"""A family of another package: a two-layer MLP, for what a package adds to the Mixers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from convert import engine
from convert.arrays import Shape, StateDict
from convert.engine import Conversion
from convert.errors import BadInput, UnknownVariant
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
    alignment = "test_align_families:ALIGNMENT"

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
