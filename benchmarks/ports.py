"""Right ports by name: what varies between them, a seeded list of them, and what the gates say about one.

A right port is the project's own conversion and model, with any sizes, weights and images, on any kernels.
"""

import itertools
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, get_args

import numpy as np
from extremes import DTYPES, EXTREMES, TOO_WIDE_FOR_FLOAT16, weights_of

from align.core.case import Settings
from align.core.inputs import DRAW
from align.core.result import AlignmentResult
from align.mixer.case import Subject, case_of
from align.mixer.specimens import small
from align.rounding.closeness import closeness
from align.run import align
from convert.errors import MixerConvertError
from convert.mixer.variants import MixerConfig, MixerKind, get_variant

SEED = 2026
ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
AVX2 = {"ONEDNN_MAX_CPU_ISA": "AVX2", "DNNL_MAX_CPU_ISA": "AVX2", "ATEN_CPU_CAPABILITY": "avx2"}
ARITHMETICS: Mapping[str, Mapping[str, str]] = {
    "as it comes": {},
    "one thread": ONE_THREAD,
    "Haswell": {"OPENBLAS_CORETYPE": "Haswell", "MKL_ENABLE_INSTRUCTIONS": "AVX2", **AVX2},
    "SkylakeX": {"OPENBLAS_CORETYPE": "SkylakeX", "ATEN_CPU_CAPABILITY": "default"},
    "Zen, one thread": {"OPENBLAS_CORETYPE": "Zen", "MKL_CBWR": "COMPATIBLE", **AVX2, **ONE_THREAD},
}
FLAGS = {"Haswell": "avx2", "SkylakeX": "avx512f", "Zen, one thread": "avx2"}
"""Processor flags that these arithmetics need."""
FAMILIES: tuple[MixerKind, ...] = get_args(MixerKind)
REGISTERED = {"mixer": "s16", "gmixer": "gmixer_12", "resmlp": "resmlp_12", "gmlp": "gmlp_ti16"}


def of(image: int, patch: int, blocks: int, widths: tuple[int, int, int, int], **more: Any) -> Callable[..., Any]:
    """Return a function from family to config; widths: hidden_dim, tokens_mlp_dim, channels_mlp_dim, num_classes."""
    hidden, tokens, channels, classes = widths
    sizes = {"image_size": image, "patch_size": patch, "num_blocks": blocks, "hidden_dim": hidden}
    sizes |= {"tokens_mlp_dim": tokens, "channels_mlp_dim": channels, "num_classes": classes}
    return lambda family: replace(small(family), **_ungated(family, sizes), **more)


def _ungated(family: MixerKind, sizes: dict[str, int]) -> dict[str, int]:
    return sizes if family in ("mixer", "gmixer") else {**sizes, "tokens_mlp_dim": 0}


def registered(family: MixerKind, **cut: int) -> MixerConfig:
    """Return the smallest of a family's registered configs, cut to fewer blocks or larger patches."""
    return replace(get_variant(REGISTERED[family]).config, **cut)


SIZES: Mapping[str, Callable[[MixerKind], MixerConfig]] = {
    "small": small,
    "odd": of(20, 5, 3, (7, 6, 14, 3)),
    "one-channel": of(16, 4, 2, (1, 2, 2, 5)),
    "one-class": of(16, 4, 2, (8, 6, 10, 1)),
    "one-token": of(16, 16, 2, (12, 4, 20, 6)),
    "one-block": of(24, 8, 1, (16, 10, 24, 9)),
    "one-pixel-patches": of(6, 1, 2, (10, 8, 12, 4), in_chans=1),
    "square": of(32, 8, 2, (16, 16, 16, 16)),
    "deep": of(16, 4, 12, (8, 6, 10, 5)),
    "wide": of(32, 16, 2, (256, 64, 512, 10)),
    "long-patches": of(128, 64, 1, (8, 6, 12, 4)),
    "many-tokens": of(64, 2, 1, (8, 12, 16, 4)),
    "many-classes": of(16, 4, 1, (32, 8, 48, 21843)),
    "tanh": of(20, 5, 2, (12, 6, 18, 7), gelu="tanh", layer_norm_eps=1e-5, in_chans=4),
    "patch16": partial(registered, num_blocks=2),
    "patch32": partial(registered, num_blocks=4, patch_size=32),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Port:
    """A right port, given by the names of its parts; its own name contains them all."""

    family: str
    size: str
    extreme: str
    arithmetic: str
    inputs: str
    dtype: str
    batch: int
    seed: int

    @property
    def name(self) -> str:
        """The port's name, as `--only` takes it."""
        parts = f"{self.size} {self.family}", self.extreme, self.inputs, self.dtype, self.arithmetic
        return "/".join([*parts, f"batch {self.batch}", f"seed {self.seed}"])

    @classmethod
    def named(cls, name: str) -> "Port":
        """Return the port with this name; exit if there is none."""
        try:
            sized, extreme, inputs, dtype, arithmetic, batch, seed = name.split("/")
            size, family = sized.split()
            numbers = {"batch": int(batch.removeprefix("batch ")), "seed": int(seed.removeprefix("seed "))}
            known = (SIZES[size], EXTREMES[extreme], DRAW[inputs], ARITHMETICS[arithmetic])
        except (ValueError, KeyError):
            known = ()
        if not known or family not in FAMILIES or dtype not in DTYPES or numbers["batch"] < 1:
            sys.exit(f"{name}: it is no port's name. Copy one from a record, such as: {drawn(1)[0].name}")
        parts = {"inputs": inputs, "dtype": dtype, "arithmetic": arithmetic, **numbers}
        return cls(family=family, size=size, extreme=extreme, **parts)


def drawn(count: int) -> list[Port]:
    """Return this many ports, the same every time.

    A round pairs every family with every extreme, and each pair gets another size in every round: 16 rounds hold all
    triples.
    """
    rng = np.random.default_rng(SEED)
    pairs, sizes = _shuffled(itertools.product(FAMILIES, EXTREMES), rng), _shuffled(SIZES, rng)
    cards = itertools.product(ARITHMETICS, DRAW, DTYPES, (1, 2, 3))
    dealt = itertools.cycle(_shuffled(cards, rng))
    ports = []
    for number in range(count):
        family, extreme = pairs[number % len(pairs)]
        size = sizes[(number + number // len(pairs)) % len(sizes)]
        arithmetic, inputs, dtype, batch = next(dealt)
        if dtype == "float16" and extreme in TOO_WIDE_FOR_FLOAT16:
            dtype = "bfloat16"
        parts = {"arithmetic": arithmetic, "inputs": inputs, "dtype": dtype, "batch": batch, "seed": number}
        ports.append(Port(family=family, size=size, extreme=extreme, **parts))
    return ports


def _shuffled(values: Any, rng: np.random.Generator) -> list[Any]:
    listed = list(values)
    return [listed[i] for i in rng.permutation(len(listed))]


def outcome_of(port: Port) -> dict[str, Any]:
    """Return how a port fares, as plain data; one that ends in a MixerConvertError counts as refused."""
    config = SIZES[port.size](port.family)
    subject = Subject(source=weights_of(config, port.seed, port.extreme, port.dtype), config=config, name=port.size)
    settings = Settings(batch=port.batch, input_seed=port.seed, inputs=port.inputs)
    try:
        result = align(case_of(subject, settings), settings)
    except MixerConvertError as error:
        return {"port": port.name, "verdict": "refused", "gates": [], "sentence": str(error), "closeness": {}}
    failed = [gate for gate in result.gates if gate.passed is False]
    return {
        "port": port.name,
        "verdict": result.verdict,
        "gates": [gate.name for gate in failed],
        "sentence": _sentence(result),
        "closeness": closeness(result),
    }


def _sentence(result: AlignmentResult) -> str:
    blamed = result.first_divergence.sentence if result.first_divergence else ""
    return " | ".join([blamed, *(f"{gate.name}: {gate.sentence}" for gate in result.gates if gate.passed is False)])
