"""The original's side: an MLP-Mixer in Flax on Google's own parameter names, observed at the same points."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from align.probes.knobs import importing_frameworks
from convert.arrays import Array, StateDict
from convert.mixer.variants import MixerConfig

if TYPE_CHECKING:
    import jax

    from align.mixer.flax_mixer import MlpMixer

Tap = Callable[[str, Array], object]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class FlaxModel:
    """A Flax module and its parameters, nested by module as Flax wants them: NumPy arrays, all of one dtype."""

    module: MlpMixer
    params: dict[str, Any]


def build(config: MixerConfig, state_dict: StateDict) -> FlaxModel:
    """Return the Flax model with these weights, in float32.

    Args:
        config: Sizes, epsilon and GELU, which is "tanh" in Google's model.
        state_dict: Google's layout, flat: names like `MixerBlock_0/LayerNorm_0/scale`, Dense kernels [in, out], the
            stem's kernel HWIO. Every parameter present and of its shape; Flax itself ignores surplus ones.

    Source: Google's model leaves both at Flax's defaults, flax.linen.gelu's tanh form and flax.linen.LayerNorm's 1e-6
    (google-research/vision_transformer, vit_jax/models_mixer.py; flax 0.12.8).
    """
    with importing_frameworks():
        from flax.traverse_util import unflatten_dict

        from align.mixer.flax_mixer import MlpMixer
    flat = {name: array.astype(np.float32) for name, array in state_dict.items()}
    return FlaxModel(module=MlpMixer(config), params=unflatten_dict(flat, sep="/"))


def cast(model: FlaxModel, dtype: Literal["float32", "float64"]) -> None:
    """Cast the model's parameters in place."""
    import jax

    model.params.update(jax.tree.map(lambda array: array.astype(dtype), model.params))


def parameters(model: FlaxModel) -> StateDict:
    """Return what the model really holds, by Google's flat names."""
    from flax.traverse_util import flatten_dict

    return dict(flatten_dict(model.params, sep="/"))


def forward(model: FlaxModel, images: Array, names: Iterable[str], tap: Tap) -> None:
    """Run the model on images (batch, in_chans, image_size, image_size) and show each named point to the tap.

    The parameters' dtype is the precision of the run; the images are cast to it here, because JAX would round float64
    to float32 without a word. It runs operation by operation, not compiled as a whole: each point is computed as shown.
    """
    import jax

    dtype = model.params["head"]["bias"].dtype
    channels_last = images.transpose(0, 2, 3, 1).astype(dtype)

    wanted = frozenset(names)

    def show(name: str, value: jax.Array) -> None:
        if name in wanted:
            tap(name, np.array(value))

    cpu = jax.default_device(jax.devices("cpu")[0])
    with cpu, jax.enable_x64(dtype == np.float64), jax.default_matmul_precision("highest"):
        model.module.apply({"params": model.params}, channels_last, show)
