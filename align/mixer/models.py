"""The models of a config: timm's own, our Paddle one and Google's in Flax; and what no shape tells about timm's."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from align.core.weights import in_float32
from align.probes import flax_probe, paddle_probe
from align.probes.knobs import importing_frameworks
from convert.arrays import StateDict
from convert.mixer.mapping import convert_state_dict
from convert.mixer.variants import TIMM_LAYER_NORM_EPS, Gelu, MixerConfig, Variant

if TYPE_CHECKING:
    from paddle.nn import Layer
    from torch import nn


def build_timm(config: MixerConfig, variant: Variant | None, state_dict: StateDict) -> nn.Module:
    """Return timm's model with these weights, in evaluation mode.

    A known variant is built by timm's own name, so that what is compared is what timm's users get.

    Args:
        config: Sizes, epsilon and GELU.
        variant: The variant, if it has a name.
        state_dict: timm's layout, float32 or float64, which fixes the model's dtype.
    """
    with importing_frameworks():
        import timm
        import torch
        from timm.models.mlp_mixer import MlpMixer
    with torch.device("meta"):
        if variant is not None and variant.config == config:
            model = timm.create_model(variant.timm_id, pretrained=False)
        else:
            model = MlpMixer(**_arguments(config))
    model.load_state_dict({key: torch.from_numpy(array.copy()) for key, array in state_dict.items()}, assign=True)
    return model.eval()


def build_paddle(config: MixerConfig, state_dict: StateDict) -> Layer:
    """Return our Paddle model with these weights, in evaluation mode.

    Args:
        config: Sizes, epsilon and GELU.
        state_dict: Paddle's layout, every parameter present and of its shape, float32.
    """
    paddle_probe.imported()
    from convert.mixer import paddle_mixer

    return paddle_mixer.build(config, state_dict)


def build_flax(config: MixerConfig, source: StateDict) -> flax_probe.FlaxModel:
    """Return the Flax model with these weights, in float32.

    Args:
        config: Sizes, epsilon and GELU, which is "tanh" in Google's model.
        source: timm's layout, every parameter present and of its shape; Flax itself ignores surplus ones.

    Source: Google's model leaves both at Flax's defaults, flax.linen.gelu's tanh form and flax.linen.LayerNorm's 1e-6
    (google-research/vision_transformer, vit_jax/models_mixer.py; flax 0.12.8).
    """
    with importing_frameworks():
        from flax.traverse_util import unflatten_dict

        from align.mixer.flax_mixer import FlaxMixer
    flat = convert_state_dict(in_float32(source), config, dst="google").state_dict
    return flax_probe.FlaxModel(module=FlaxMixer(config), params=unflatten_dict(flat, sep="/"))


def gelu_of(model: nn.Module) -> Gelu:
    """Return the form of GELU that the model uses; erf when it uses none."""
    import torch

    forms = {module.approximate for module in model.modules() if isinstance(module, torch.nn.GELU)}
    forms |= {"tanh" for module in model.modules() if type(module).__name__ == "GELUTanh"}  # timm's own class
    return "tanh" if forms == {"tanh"} else "erf"


def epsilon_of(model: nn.Module) -> float:
    """Return the epsilon of the model's final LayerNorm; timm's default where there is none."""
    return float(getattr(model.get_submodule("norm"), "eps", TIMM_LAYER_NORM_EPS))


def _arguments(config: MixerConfig) -> dict[str, Any]:
    """Return MlpMixer's arguments; it truncates ratio × hidden_dim, hence the added half."""
    import torch
    from timm.models import mlp_mixer

    gelu = partial(torch.nn.GELU, approximate="tanh" if config.gelu == "tanh" else "none")
    tokens_ratio, channels_ratio = (
        (dim + 0.5) / config.hidden_dim for dim in (config.tokens_mlp_dim, config.channels_mlp_dim)
    )
    norm = partial(torch.nn.LayerNorm, eps=config.layer_norm_eps)
    family: dict[str, dict[str, Any]] = {
        "mixer": {"mlp_ratio": (tokens_ratio, channels_ratio), "norm_layer": norm},
        "gmixer": {
            "mlp_ratio": (tokens_ratio, channels_ratio),
            "norm_layer": norm,
            "mlp_layer": mlp_mixer.GluMlp,
            "act_layer": torch.nn.SiLU,
        },
        "resmlp": {
            "mlp_ratio": channels_ratio,
            "block_layer": mlp_mixer.ResBlock,
            "norm_layer": mlp_mixer.Affine,
        },
        "gmlp": {
            "mlp_ratio": channels_ratio,
            "norm_layer": norm,
            "block_layer": mlp_mixer.SpatialGatingBlock,
            "mlp_layer": mlp_mixer.GatedMlp,
        },
    }
    return {
        "img_size": config.image_size,
        "patch_size": config.patch_size,
        "in_chans": config.in_chans,
        "num_blocks": config.num_blocks,
        "embed_dim": config.hidden_dim,
        "num_classes": config.num_classes,
        "act_layer": gelu,
        **family[config.family],
    }
