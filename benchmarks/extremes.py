"""Weights at the edges of what a checkpoint may hold: each extreme changes seeded weights in timm's layout in place.

All are legal, no activation overflows float32, and none leaves the head all zero, where a comparison proves nothing.
"""

from collections.abc import Callable, Iterator, Mapping

import numpy as np

from convert.arrays import StateDict
from convert.mixer.init import init_state_dict
from convert.mixer.variants import MixerConfig

Change = Callable[[StateDict, np.random.Generator], object]
Select = Callable[[StateDict], Iterator[str]]
DTYPES = ("float32", "float16", "bfloat16")
TOO_WIDE_FOR_FLOAT16 = ("large logits", "tiny everything", "vanishing head")
"""Extremes beyond float16, which ends at 65,504 and 6e-8: the head would be infinite or all zero."""


def matrices(weights: StateDict) -> Iterator[str]:
    """Yield the names of all kernels and Linear weights but the head's."""
    return (key for key, value in weights.items() if value.ndim > 1 and key.endswith(".weight") and key[:4] != "head")


def biases(weights: StateDict) -> Iterator[str]:
    """Yield the names of all biases, the norms' too."""
    return (key for key in weights if key.endswith((".bias", ".beta")))


def inner_biases(weights: StateDict) -> Iterator[str]:
    """Yield the names of all biases but the head's, without which a model of one channel gives nothing but zeros."""
    return (key for key in biases(weights) if key != "head.bias")


def norms(weights: StateDict) -> Iterator[str]:
    """Yield the names of the weights that norms multiply by."""
    return (key for key, value in weights.items() if "norm" in key and key.endswith((".weight", ".alpha")))


def named(*parts: str) -> Select:
    """Return a function that yields the names that contain one of these parts."""
    return lambda weights: (key for key in weights if any(part in key for part in parts))


def everything(weights: StateDict) -> Iterator[str]:
    """Yield all names."""
    return iter(weights)


def each(select: Select, change: Callable[[np.ndarray], np.ndarray]) -> Change:
    """Return a change that replaces each selected tensor by the result of a function of it."""

    def apply(weights: StateDict, _: np.random.Generator) -> None:
        for key in list(select(weights)):
            weights[key] = np.ascontiguousarray(change(weights[key]), dtype=np.float32)

    return apply


def times(select: Select, by: float) -> Change:
    """Return a change that multiplies in float64, so that a float32 denormal is rounded only once."""
    return each(select, lambda value: value.astype(np.float64) * by)


def plus(select: Select, by: float) -> Change:
    """Return a change that adds a number."""
    return each(select, lambda value: value + np.float32(by))


def sort_signs(value: np.ndarray) -> np.ndarray:
    """Return the weight made positive for the first half of its inputs and negative for the second."""
    flat = np.abs(value.reshape(len(value), -1))
    flat[:, flat.shape[1] // 2 :] *= -1
    return flat.reshape(value.shape)


def pair_rows(value: np.ndarray) -> np.ndarray:
    """Return the weight with every second row a copy of the one before."""
    return value[np.arange(len(value)) // 2 * 2]


def zero_rows(value: np.ndarray) -> np.ndarray:
    """Return the weight with every second row set to zero."""
    return value * (np.arange(len(value)) % 2).reshape(-1, *[1] * (value.ndim - 1))


def cancel_columns(value: np.ndarray) -> np.ndarray:
    """Return the weight with every second input weighted by minus the weight before, to within a millionth."""
    flat = value.reshape(len(value), -1).copy()
    odd = flat[:, 1::2]
    odd[:] = -flat[:, ::2][:, : odd.shape[1]] * np.float32(1 + 1e-6)
    return flat.reshape(value.shape)


def huge_channel(weights: StateDict, _: np.random.Generator) -> None:
    """Make one channel of the stem and of every block ten thousand times larger than the others."""
    for key in named("stem.proj.weight", "mlp_channels.fc2.weight", "mlp_channels.fc2.bias")(weights):
        weights[key][0] *= 1e4
    weights["stem.proj.bias"][0] = 1e4


def cancel_residual(weights: StateDict, _: np.random.Generator) -> None:
    """Add 300 in the stem and subtract it in the first block, so that little of it is left."""
    weights["stem.proj.bias"] += 300
    weights["blocks.0.mlp_channels.fc2.bias"] -= 300 / weights.get("blocks.0.ls2", np.float32(1))


def heavy_tails(weights: StateDict, rng: np.random.Generator) -> None:
    """Multiply every matrix by heavy-tailed factors, which put a few weights far from the others."""
    for key in matrices(weights):
        weights[key] *= np.clip(rng.standard_t(1.5, weights[key].shape), -300, 300).astype(np.float32)


def as_initialised(weights: StateDict, _: np.random.Generator) -> None:
    """Set biases as timm initialises them, and scale layer scales and gates to that size; the head stays as it is."""
    for key in inner_biases(weights):
        weights[key][...] = float(key.endswith("gate.proj.bias"))
    for key, scale in ((key, 1e-5 if ".ls" in key else 1e-6) for key in named(".ls", "gate.proj.weight")(weights)):
        weights[key] *= np.float32(scale)


EXTREMES: Mapping[str, Change] = {
    "none": lambda *_: None,
    "stem bias 300": plus(named("stem.proj.bias"), 300),
    "stem bias 1e4": plus(named("stem.proj.bias"), 1e4),
    "large biases": times(biases, 1e3),
    "hidden biases 100": plus(named("fc1.bias"), 100),
    "hidden biases -6": plus(named("fc1.bias"), -6),
    "hidden biases -100": plus(named("fc1.bias"), -100),
    "no biases": times(inner_biases, 0),
    "tiny weights": times(matrices, 1e-20),
    "denormal weights": times(matrices, 1e-40),
    "tiny everything": times(everything, 1e-20),
    "vanishing head": times(named("head."), 1e-36),
    "strong weights": times(matrices, 8),
    "weak branches": times(named("fc2.", "linear_tokens.", ".ls"), 1e-5),
    "tiny norms": times(norms, 1e-6),
    "huge norms": times(named("blocks.0.norm1.", "blocks.0.norm.", "gate.norm."), 1e3),
    "duplicated rows": each(matrices, pair_rows),
    "equal rows": each(matrices, lambda value: np.broadcast_to(value[:1], value.shape)),
    "zero rows": each(matrices, zero_rows),
    "zero matrices": times(matrices, 0),
    "all positive": each(matrices, np.abs),
    "sorted signs": each(matrices, sort_signs),
    "cancelling inputs": each(matrices, cancel_columns),
    "cancelling residual": cancel_residual,
    "one huge channel": huge_channel,
    "heavy tails": heavy_tails,
    "as initialised": as_initialised,
    "large logits": times(named("head."), 1e6),
}


def weights_of(config: MixerConfig, seed: int, extreme: str, dtype: str) -> StateDict:
    """Return seeded weights, changed and then rounded as a file of that dtype holds them."""
    import ml_dtypes

    weights = dict(init_state_dict(config, seed))
    EXTREMES[extreme](weights, np.random.default_rng([seed, len(extreme)]))
    stored = {"float32": np.float32, "float16": np.float16, "bfloat16": ml_dtypes.bfloat16}[dtype]
    return {key: value.astype(stored) for key, value in weights.items()}
