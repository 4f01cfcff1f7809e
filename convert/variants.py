"""The Mixer variants that timm knows, as one literal table, and the look-up by name."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from typing import Literal

from convert.errors import AmbiguousVariant, UnknownVariant

Gelu = Literal["erf", "tanh"]
Rgb = tuple[float, float, float]

TIMM_CFGS = "timm 1.0.31, timm/models/mlp_mixer.py, default_cfgs"
TIMM_LAYER_NORM_EPS = 1e-6
"""Source: timm 1.0.31, timm/models/mlp_mixer.py, MlpMixer's `norm_layer` (PaddlePaddle's own default is 1e-5)."""

MISNOMER = (
    "the tag is a misnomer: these weights are the ImageNet-1k model; no ImageNet-21k model fine-tuned on ImageNet was "
    "published (a Mixer author, huggingface/pytorch-image-models#651)"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class MixerConfig:
    """The sizes and choices that fix an MLP-Mixer, in the paper's terms.

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
    family: Literal["mixer"] = "mixer"

    @property
    def tokens(self) -> int:
        """The number of patches, which the token-mixing layers are tied to."""
        return (self.image_size // self.patch_size) ** 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Variant:
    """One checkpoint that timm names, or an architecture that it names without weights (tag `untrained`)."""

    name: str
    architecture: str
    tag: str
    config: MixerConfig
    mean: Rgb = (0.5, 0.5, 0.5)
    std: Rgb = (0.5, 0.5, 0.5)
    interpolation: Literal["bicubic", "bilinear"] = "bicubic"
    crop_pct: float = 0.875
    source: str = TIMM_CFGS
    note: str = ""

    @property
    def timm_id(self) -> str:
        """The full timm model name, architecture and tag."""
        return f"{self.architecture}.{self.tag}"

    @property
    def repo_id(self) -> str:
        """The hub repository that holds the weights."""
        return f"timm/{self.timm_id}"

    @property
    def pretrained(self) -> bool:
        """Whether weights were published."""
        return self.tag != "untrained"


def _config(patch_size: int, num_blocks: int, hidden_dim: int, num_classes: int = 1000) -> MixerConfig:
    """Return a config at 224 px with the paper's ratios, tokens_mlp_dim = D/2 and channels_mlp_dim = 4D."""
    return MixerConfig(
        image_size=224,
        patch_size=patch_size,
        num_blocks=num_blocks,
        hidden_dim=hidden_dim,
        tokens_mlp_dim=hidden_dim // 2,
        channels_mlp_dim=hidden_dim * 4,
        num_classes=num_classes,
    )


def _miil(name: str, tag: str, num_classes: int) -> Variant:
    """Return one of Alibaba MIIL's two B/16 rows, which are normalised to [0, 1] and resized bilinearly."""
    return Variant(
        name=name,
        architecture="mixer_b16_224",
        tag=tag,
        config=_config(16, 12, 768, num_classes),
        mean=(0.0, 0.0, 0.0),
        std=(1.0, 1.0, 1.0),
        interpolation="bilinear",
        note="Alibaba MIIL, ImageNet-21K-P (https://arxiv.org/abs/2104.10972)",
    )


IN21K_CLASSES = 21843
MIIL_IN21K_CLASSES = 11221

VARIANTS: tuple[Variant, ...] = (
    Variant(name="s32", architecture="mixer_s32_224", tag="untrained", config=_config(32, 8, 512)),
    Variant(name="s16", architecture="mixer_s16_224", tag="untrained", config=_config(16, 8, 512)),
    Variant(name="b32", architecture="mixer_b32_224", tag="untrained", config=_config(32, 12, 768)),
    Variant(name="l32", architecture="mixer_l32_224", tag="untrained", config=_config(32, 24, 1024)),
    Variant(
        name="b16_in21k",
        architecture="mixer_b16_224",
        tag="goog_in21k",
        config=_config(16, 12, 768, IN21K_CLASSES),
        note="Google, ImageNet-21k: the upstream of the published 96.82 % on CIFAR-10",
    ),
    Variant(
        name="b16_in1k",
        architecture="mixer_b16_224",
        tag="goog_in21k_ft_in1k",
        config=_config(16, 12, 768),
        note=f"Google, ImageNet-1k: the upstream of the published 96.72 % on CIFAR-10; {MISNOMER}",
    ),
    _miil("b16_miil_in21k", "miil_in21k", MIIL_IN21K_CLASSES),
    _miil("b16_miil_in1k", "miil_in21k_ft_in1k", 1000),
    Variant(
        name="l16_in21k",
        architecture="mixer_l16_224",
        tag="goog_in21k",
        config=_config(16, 24, 1024, IN21K_CLASSES),
        note="Google, ImageNet-21k",
    ),
    Variant(
        name="l16_in1k",
        architecture="mixer_l16_224",
        tag="goog_in21k_ft_in1k",
        config=_config(16, 24, 1024),
        note=f"Google, ImageNet-1k; {MISNOMER}",
    ),
)

DEPRECATED: dict[str, tuple[str, ...]] = {
    "mixer_b16_224_in21k": ("b16_in21k", "b16_in1k"),
    "mixer_l16_224_in21k": ("l16_in21k", "l16_in1k"),
    "mixer_b16_224_miil": ("b16_miil_in1k", "b16_miil_in21k"),
    "mixer_b16_224_miil_in21k": ("b16_miil_in21k", "b16_miil_in1k"),
}
"""timm's deprecated names and what each could mean.

timm resolves the first two to ImageNet-1k heads although they say in21k, so none is taken at its word.
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
            name, "timm has deprecated this name and reads it as another checkpoint", DEPRECATED[name]
        )
    matches = [variant for variant in VARIANTS if name in (variant.name, variant.timm_id, variant.architecture)]
    if len(matches) > 1:
        raise AmbiguousVariant(name, "several checkpoints share this architecture", [v.name for v in matches])
    if matches:
        return matches[0]
    known = [v.name for v in VARIANTS]
    raise UnknownVariant(name, difflib.get_close_matches(name, [*known, *(v.timm_id for v in VARIANTS)], n=3), known)


def variants_of(config: MixerConfig) -> list[Variant]:
    """Return the variants that have exactly this config; several tags can share one."""
    return [variant for variant in VARIANTS if variant.config == config]
