"""The vision MLPs of timm's mlp_mixer module, as one literal table, and the look-up by name."""

from __future__ import annotations

import difflib
from dataclasses import dataclass, replace
from typing import Any, Literal

from convert.errors import AmbiguousVariant, UnknownVariant
from convert.identity import NamedVariant

MixerKind = Literal["mixer", "gmixer", "resmlp", "gmlp"]
Gelu = Literal["erf", "tanh"]
Rgb = tuple[float, float, float]

TIMM_CFGS = "timm 1.0.31, timm/models/mlp_mixer.py, default_cfgs"
TIMM_LAYER_NORM_EPS = 1e-6
"""Source: timm 1.0.31, timm/models/mlp_mixer.py, MlpMixer's `norm_layer` (PaddlePaddle's own default is 1e-5)."""

GATE_NORM_EPS = 1e-5
"""Epsilon of gMLP's gate norm: PyTorch's default. Source: timm 1.0.31, timm/models/mlp_mixer.py, SpatialGatingUnit."""

MISNOMER = (
    "the tag is a misnomer: these weights are the ImageNet-1k model; no ImageNet-21k model fine-tuned on ImageNet was "
    "published (a Mixer author, huggingface/pytorch-image-models#651)"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class MixerConfig:
    """The sizes and choices that fix a vision MLP, in the terms of the MLP-Mixer paper.

    tokens_mlp_dim is 0 for resmlp and gmlp, whose token mixing is one square Linear. gmixer uses SiLU instead of GELU.
    num_classes is 0 for weights without a head.

    Source: "MLP-Mixer: An all-MLP Architecture for Vision", https://arxiv.org/abs/2105.01601, table 1.
    """

    image_size: int
    patch_size: int
    num_blocks: int
    hidden_dim: int
    tokens_mlp_dim: int
    channels_mlp_dim: int
    num_classes: int
    in_chans: int = 3
    layer_norm_eps: float = TIMM_LAYER_NORM_EPS
    gelu: Gelu = "erf"
    family: MixerKind = "mixer"

    @property
    def tokens(self) -> int:
        """The number of patches, which the token-mixing layers are tied to."""
        return (self.image_size // self.patch_size) ** 2

    @property
    def tokens_gated_dim(self) -> int:
        """The width of the token-mixing hidden layer after its gate, which halves it."""
        return self.tokens_mlp_dim // 2

    @property
    def channels_gated_dim(self) -> int:
        """The width of the channel-mixing hidden layer after its gate, which halves it."""
        return self.channels_mlp_dim // 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Variant(NamedVariant):
    """A named vision MLP, with the preprocessing of its images and the source of that."""

    config: MixerConfig
    mean: Rgb = (0.5, 0.5, 0.5)
    std: Rgb = (0.5, 0.5, 0.5)
    interpolation: Literal["bicubic", "bilinear"] = "bicubic"
    crop_pct: float = 0.875
    source: str = TIMM_CFGS

    @property
    def preprocessing(self) -> dict[str, Any]:
        """The preprocessing of its images, by name."""
        return {"mean": self.mean, "std": self.std, "interpolation": self.interpolation, "crop_pct": self.crop_pct}


IMAGENET_MEAN: Rgb = (0.485, 0.456, 0.406)
IMAGENET_STD: Rgb = (0.229, 0.224, 0.225)


def _config(
    patch_size: int, num_blocks: int, hidden_dim: int, num_classes: int = 1000, *, family: MixerKind = "mixer"
) -> MixerConfig:
    """Return a config at 224 px with its family's ratios; those of mixer are the paper's."""
    tokens, channels = {"mixer": (0.5, 4), "gmixer": (1, 4), "resmlp": (0, 4), "gmlp": (0, 6)}[family]
    return MixerConfig(
        image_size=224,
        patch_size=patch_size,
        num_blocks=num_blocks,
        hidden_dim=hidden_dim,
        tokens_mlp_dim=int(tokens * hidden_dim),
        channels_mlp_dim=channels * hidden_dim,
        num_classes=num_classes,
        family=family,
    )


def _mixer(name: str, architecture: str, tag: str, config: MixerConfig, note: str = "") -> Variant:
    return Variant(name=name, architecture=architecture, tag=tag, config=config, note=note)


def _miil(name: str, tag: str, num_classes: int) -> Variant:
    """Return one of Alibaba MIIL's two B/16 rows, which are normalised to [0, 1] and resized bilinearly."""
    miil = _mixer(name, "mixer_b16_224", tag, _config(16, 12, 768, num_classes), MIIL)
    return replace(miil, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0), interpolation="bilinear")


def _gmixer(name: str, tag: str, num_blocks: int) -> Variant:
    """Return a gMixer row, gated with SiLU."""
    config = _config(16, num_blocks, 384, family="gmixer")
    return replace(_mixer(name, f"gmixer_{num_blocks}_224", tag, config), mean=IMAGENET_MEAN, std=IMAGENET_STD)


def _resmlp(name: str, tag: str, note: str = "") -> Variant:
    """Return a ResMLP row; `big` in the name means 8-pixel patches and hidden_dim 768, the number is the depth."""
    big, depth = "_big_" in name, int(next(part for part in name.split("_") if part.isdigit()))
    config = _config(8 if big else 16, depth, 768 if big else 384, family="resmlp")
    resmlp = _mixer(name, f"resmlp_big_{depth}_224" if big else f"resmlp_{depth}_224", tag, config, note)
    return replace(resmlp, mean=IMAGENET_MEAN, std=IMAGENET_STD)


def _gmlp(name: str, tag: str, hidden_dim: int) -> Variant:
    """Return a gMLP row: channels_mlp_dim is halved by the spatial gate."""
    return _mixer(name, f"{name}_224", tag, _config(16, 30, hidden_dim, family="gmlp"))


IN21K_CLASSES = 21843
MIIL_IN21K_CLASSES = 11221

MIIL = "Alibaba MIIL, ImageNet-21K-P (https://arxiv.org/abs/2104.10972)"
B16_IN21K = "Google, ImageNet-21k: the upstream of the published 96.82 % on CIFAR-10"
B16_IN1K = f"Google, ImageNet-1k: the upstream of the published 96.72 % on CIFAR-10; {MISNOMER}"

VARIANTS: tuple[Variant, ...] = (
    _mixer("s32", "mixer_s32_224", "untrained", _config(32, 8, 512)),
    _mixer("s16", "mixer_s16_224", "untrained", _config(16, 8, 512)),
    _mixer("b32", "mixer_b32_224", "untrained", _config(32, 12, 768)),
    _mixer("l32", "mixer_l32_224", "untrained", _config(32, 24, 1024)),
    _mixer("b16_in21k", "mixer_b16_224", "goog_in21k", _config(16, 12, 768, IN21K_CLASSES), B16_IN21K),
    _mixer("b16_in1k", "mixer_b16_224", "goog_in21k_ft_in1k", _config(16, 12, 768), B16_IN1K),
    _miil("b16_miil_in21k", "miil_in21k", MIIL_IN21K_CLASSES),
    _miil("b16_miil_in1k", "miil_in21k_ft_in1k", 1000),
    _mixer("l16_in21k", "mixer_l16_224", "goog_in21k", _config(16, 24, 1024, IN21K_CLASSES), "Google, ImageNet-21k"),
    _mixer(
        "l16_in1k", "mixer_l16_224", "goog_in21k_ft_in1k", _config(16, 24, 1024), f"Google, ImageNet-1k; {MISNOMER}"
    ),
    _gmixer("gmixer_12", "untrained", 12),
    _gmixer("gmixer_24", "ra3_in1k", 24),
    _resmlp("resmlp_12", "fb_in1k"),
    _resmlp("resmlp_24", "fb_in1k"),
    _resmlp("resmlp_36", "fb_in1k"),
    _resmlp("resmlp_big_24", "fb_in1k"),
    _resmlp("resmlp_12_distilled", "fb_distilled_in1k", "distilled"),
    _resmlp("resmlp_24_distilled", "fb_distilled_in1k", "distilled"),
    _resmlp("resmlp_36_distilled", "fb_distilled_in1k", "distilled"),
    _resmlp("resmlp_big_24_distilled", "fb_distilled_in1k", "distilled"),
    _resmlp("resmlp_big_24_in22k", "fb_in22k_ft_in1k", "ImageNet-22k, fine-tuned on ImageNet-1k"),
    _resmlp("resmlp_12_dino", "fb_dino", "self-supervised"),
    _resmlp("resmlp_24_dino", "fb_dino", "self-supervised"),
    _gmlp("gmlp_ti16", "untrained", 128),
    _gmlp("gmlp_s16", "ra3_in1k", 256),
    _gmlp("gmlp_b16", "untrained", 512),
)

DEPRECATED: dict[str, tuple[str, ...]] = {
    "mixer_b16_224_in21k": ("b16_in21k", "b16_in1k"),
    "mixer_l16_224_in21k": ("l16_in21k", "l16_in1k"),
    "mixer_b16_224_miil": ("b16_miil_in1k", "b16_miil_in21k"),
    "mixer_b16_224_miil_in21k": ("b16_miil_in21k", "b16_miil_in1k"),
    "resmlp_12_distilled_224": ("resmlp_12_distilled",),
    "resmlp_24_distilled_224": ("resmlp_24_distilled",),
    "resmlp_36_distilled_224": ("resmlp_36_distilled",),
    "resmlp_big_24_distilled_224": ("resmlp_big_24_distilled",),
    "resmlp_big_24_224_in22ft1k": ("resmlp_big_24_in22k",),
    "resmlp_12_224_dino": ("resmlp_12_dino", "resmlp_12"),
    "resmlp_24_224_dino": ("resmlp_24_dino", "resmlp_24"),
}
"""timm's deprecated names and what each could mean.

timm resolves the first two to ImageNet-1k heads although they say in21k, and the last two to no DINO weights, so none
is taken at its word.
Source: timm 1.0.31, timm/models/mlp_mixer.py, register_model_deprecations.
"""


def get_variant(name: str) -> Variant:
    """Return the variant of a short name (`b16_in21k`) or of a full timm id (`mixer_b16_224.goog_in21k`).

    Raises:
        AmbiguousVariant: A deprecated timm name, or an architecture that several tags share.
        UnknownVariant: Anything else; the nearest names are offered.
    """
    if name in DEPRECATED:
        raise AmbiguousVariant(
            name, "timm has deprecated this name, and not all such names mean what they say", DEPRECATED[name]
        )
    matches = [variant for variant in VARIANTS if name in (variant.name, variant.timm_id, variant.architecture)]
    if len(matches) > 1:
        raise AmbiguousVariant(name, "several checkpoints share this architecture", [v.name for v in matches])
    if matches:
        return matches[0]
    known = [v.name for v in VARIANTS]
    begun = [one for one in known if one.startswith(f"{name}_")]
    near = difflib.get_close_matches(name, [*known, *(v.timm_id for v in VARIANTS)], n=3)
    raise UnknownVariant(name, begun or near, known)


def variants_of(config: MixerConfig) -> list[Variant]:
    """Return the variants that have exactly this config; several tags can share one."""
    return [variant for variant in VARIANTS if variant.config == config]
