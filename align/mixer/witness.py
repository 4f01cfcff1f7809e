"""The forward in NumPy float64: a third implementation, without a framework, that tells which side is wrong.

It reads timm's layout as it is, so it does not depend on the conversion either.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Generator
from dataclasses import dataclass

import numpy as np

from align.core.compare import largest
from align.core.lockstep import Note
from align.rounding.sizes import size_of_affine, size_of_layer_norm, size_of_mean
from convert.arrays import Array, StateDict
from convert.mixer.variants import GATE_NORM_EPS, Gelu, MixerConfig, MixerKind

Part = Generator[tuple[str, Array], object, Array]
"""A part of the forward: yields each named intermediate as it reaches it, and returns the last."""

GELU_STEPS = 6
"""How many operations in GELU and SiLU round at the size of their input: quotient, erf or exp, sum, product."""


def forward(config: MixerConfig, state_dict: StateDict, images: Array, note: Note | None = None) -> Part:
    """Yield every comparison point's name and float64 value, in forward order, computing each when it is asked for.

    Args:
        config: Sizes, epsilon and GELU.
        state_dict: timm's layout: Linear weights [out, in].
        images: (batch, in_chans, image_size, image_size).
        note: Called with each point's name, size (`align.rounding.sizes`) and slack before its value is yielded.

    Source: MLP-Mixer, https://arxiv.org/abs/2105.01601, equation 1; ResMLP, https://arxiv.org/abs/2105.03404, equations
    2 and 3; gMLP, https://arxiv.org/abs/2105.08050, section 2; gMixer is timm's own (timm 1.0.31, GluMlp).
    """
    run = _Run(config, state_dict, note)
    x = yield from run.show("stem", _stem(run, images.astype(np.float64)))
    block = BLOCKS[config.family]
    for i in range(config.num_blocks):
        x = yield from block(run, x, f"blocks.{i}")
    x = yield from run.show("norm", _norm(run, x, "norm"))
    x = yield from run.show("pooled", _mean(x))
    return (yield from run.show("logits", _linear(run, x, "head")))


def layer(
    config: MixerConfig, state_dict: StateDict, path: str, x: Array, *, written_out: bool = False
) -> Array | None:
    """Return the output of the layer at a timm path, called alone on a float64 tensor; None if it is not known here.

    `stem.proj` takes images and returns (batch, hidden_dim, height, width); every other layer works as in `forward`.
    written_out: Whether a LayerNorm uses its epsilon unrounded instead of rounded to float32.
    """
    run, last = _Run(config, state_dict, written_out=written_out), path.rpartition(".")[2]
    if path == "stem.proj":
        grid = [side // config.patch_size for side in x.shape[2:]]
        return _stem(run, x).value.transpose(0, 2, 1).reshape(len(x), -1, *grid)
    if last == "act":
        return (_silu(x) if config.family == "gmixer" else _gelu(x, config.gelu)).value
    if path.endswith("gate.norm"):
        return _layer_norm(run, x, path, GATE_NORM_EPS).value
    if last.startswith("norm"):
        return _norm(run, x, path).value
    if last.startswith("mlp_") and config.family != "gmlp":
        return deque(_mlp(run, x, path), maxlen=1)[0][1]
    return _linear(run, x, path).value if f"{path}.weight" in state_dict else None


@dataclass(frozen=True, slots=True)
class _Computed:
    """A value, and a function that returns its size; slack: what part of it another rounding of the epsilon moves."""

    value: Array
    size: Callable[[], float]
    slack: float = 0.0


class _Run:
    """One forward: its weights, cast to float64 when used so that no second copy is kept, and what notes sizes."""

    def __init__(
        self, config: MixerConfig, state_dict: StateDict, note: Note | None = None, *, written_out: bool = False
    ) -> None:
        self.config, self.written_out = config, written_out
        self._state_dict, self._note = state_dict, note

    def __call__(self, name: str) -> Array:
        """Return a weight, cast to float64."""
        return self._state_dict[name].astype(np.float64)

    def show(self, name: str, computed: _Computed) -> Part:
        """Note a point's size and slack, yield the point, and return its value."""
        if self._note is not None:
            self._note(name, computed.size(), computed.slack)
        yield name, computed.value
        return computed.value


def _mixer_block(run: _Run, x: Array, at: str) -> Part:
    y = yield from run.show(f"{at}.norm1", _norm(run, x, f"{at}.norm1"))
    y = yield from _mlp(run, y.transpose(0, 2, 1), f"{at}.mlp_tokens")
    x = yield from run.show(f"{at}.token_mixing", _sum(x, y.transpose(0, 2, 1)))
    y = yield from run.show(f"{at}.norm2", _norm(run, x, f"{at}.norm2"))
    y = yield from _mlp(run, y, f"{at}.mlp_channels")
    return (yield from run.show(at, _sum(x, y)))


def _resmlp_block(run: _Run, x: Array, at: str) -> Part:
    y = yield from run.show(f"{at}.norm1", _norm(run, x, f"{at}.norm1"))
    y = yield from run.show(f"{at}.linear_tokens", _linear(run, y.transpose(0, 2, 1), f"{at}.linear_tokens"))
    x = yield from run.show(f"{at}.token_mixing", _sum(x, run(f"{at}.ls1") * y.transpose(0, 2, 1)))
    y = yield from run.show(f"{at}.norm2", _norm(run, x, f"{at}.norm2"))
    y = yield from _mlp(run, y, f"{at}.mlp_channels")
    return (yield from run.show(at, _sum(x, run(f"{at}.ls2") * y)))


def _gmlp_block(run: _Run, x: Array, at: str) -> Part:
    y = yield from run.show(f"{at}.norm", _norm(run, x, f"{at}.norm"))
    mlp = f"{at}.mlp_channels"
    y = yield from run.show(f"{mlp}.fc1", _linear(run, y, f"{mlp}.fc1"))
    y = yield from run.show(f"{mlp}.act", _gelu(y, run.config.gelu))
    u, v = np.split(y, 2, axis=-1)
    v = yield from run.show(f"{mlp}.gate.norm", _layer_norm(run, v, f"{mlp}.gate.norm", GATE_NORM_EPS))
    v = yield from run.show(f"{mlp}.gate.proj", _linear(run, v.transpose(0, 2, 1), f"{mlp}.gate.proj"))
    y = yield from run.show(f"{mlp}.gate", _product(u, v.transpose(0, 2, 1)))
    y = yield from run.show(f"{mlp}.fc2", _linear(run, y, f"{mlp}.fc2"))
    return (yield from run.show(at, _sum(x, y)))


BLOCKS: dict[MixerKind, Callable[[_Run, Array, str], Part]] = {
    "mixer": _mixer_block,
    "gmixer": _mixer_block,
    "resmlp": _resmlp_block,
    "gmlp": _gmlp_block,
}


def _mlp(run: _Run, x: Array, at: str) -> Part:
    x = yield from run.show(f"{at}.fc1", _linear(run, x, f"{at}.fc1"))
    if run.config.family == "gmixer":
        x, gate = np.split(x, 2, axis=-1)
        gate = yield from run.show(f"{at}.act", _silu(gate))
        x = yield from run.show(f"{at}.gated", _product(x, gate))
    else:
        x = yield from run.show(f"{at}.act", _gelu(x, run.config.gelu))
    return (yield from run.show(f"{at}.fc2", _linear(run, x, f"{at}.fc2")))


def _stem(run: _Run, images: Array) -> _Computed:
    """Return (batch, tokens, hidden_dim): each patch, flattened channel first, times the kernel."""
    batch, channels, height, width = images.shape
    size = run.config.patch_size
    grid = (height // size, width // size)
    patches = images.reshape(batch, channels, grid[0], size, grid[1], size)
    patches = patches.transpose(0, 2, 4, 1, 3, 5).reshape(batch, grid[0] * grid[1], -1)
    kernel = run("stem.proj.weight")
    return _affine(patches, kernel.reshape(len(kernel), -1), run("stem.proj.bias"))


def _linear(run: _Run, x: Array, at: str) -> _Computed:
    return _affine(x, run(f"{at}.weight"), run(f"{at}.bias"))


def _affine(x: Array, weight: Array, bias: Array) -> _Computed:
    product = np.asarray(x @ weight.T)
    return _Computed(product + bias, lambda: size_of_affine(x, weight, bias, product))


def _sum(x: Array, branch: Array) -> _Computed:
    """Return the residual sum; the branch may be a product, which rounds too."""
    return _Computed(x + branch, lambda: largest(x) + 2 * largest(branch))


def _product(x: Array, gate: Array) -> _Computed:
    product = x * gate
    return _Computed(product, lambda: largest(product))


def _mean(x: Array) -> _Computed:
    """Return the mean over the tokens."""
    mean = x.mean(axis=1)
    return _Computed(mean, lambda: size_of_mean(x, mean, axis=1))


def _norm(run: _Run, x: Array, at: str) -> _Computed:
    """Return the family's norm: ResMLP's is an affine map without statistics."""
    if run.config.family != "resmlp":
        return _layer_norm(run, x, at, run.config.layer_norm_eps)
    scaled, shift = x * run(f"{at}.alpha"), run(f"{at}.beta")
    return _Computed(scaled + shift, lambda: 2 * largest(scaled) + largest(shift))


def _layer_norm(run: _Run, x: Array, at: str, epsilon: float) -> _Computed:
    """Return the LayerNorm with the epsilon that float32 models really use, the nearest float32, unless written out.

    Paddle's own rounds it even when it computes in float64 (paddlepaddle 3.3.1), which at 1e-5 moves the result by
    2e-11; one that is written out, (x - mean) / sqrt(variance + epsilon), does not. The slack is that difference.
    """
    rounded = float(np.float32(epsilon))
    mean = x.mean(axis=-1, keepdims=True)
    centred = x - mean
    variance = np.square(centred).mean(axis=-1, keepdims=True) + (epsilon if run.written_out else rounded)
    deviation = np.sqrt(variance)
    weight, bias = run(f"{at}.weight"), run(f"{at}.bias")
    scaled = centred / deviation * weight
    return _Computed(
        scaled + bias,
        lambda: size_of_layer_norm(mean, centred, deviation, scaled, weight) + largest(bias),
        slack=abs(epsilon - rounded) / (2 * float(variance.min())),
    )


def _gelu(x: Array, form: Gelu) -> _Computed:
    """Return GELU(x), exact or by its tanh approximation.

    Source: Hendrycks and Gimpel, https://arxiv.org/abs/1606.08415, section 2.
    """
    if form == "erf":
        from scipy.special import erf

        value = x * 0.5 * (1 + erf(x / math.sqrt(2)))
    else:
        value = 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))
    return _Computed(np.asarray(value), lambda: GELU_STEPS * largest(x))


def _silu(x: Array) -> _Computed:
    from scipy.special import expit

    return _Computed(np.asarray(x * expit(x)), lambda: GELU_STEPS * largest(x))
