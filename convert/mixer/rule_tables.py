"""The vision MLPs' key mapping: one literal table per checkpoint layout."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from convert.arrays import Shape
from convert.mixer.shapes import in_forward_order, patterns_of, timm_shapes
from convert.mixer.variants import MixerConfig, MixerKind
from convert.rules import FAULTY, KeyRule, RuleSet, Transform

Layout = Literal["timm", "paddle", "paddlevit", "google", "facebook", "mmpretrain", "mmpretrain-norm"]


def _keep(name: str, target: str = "") -> KeyRule:
    return KeyRule(source=name, target=target or name, transform=Transform.IDENTITY)


def _same(*names: str) -> tuple[KeyRule, ...]:
    """Return the rules of a norm or convolution: weight and bias are kept, under the second name if there is one."""
    return tuple(_keep(f"{names[0]}.{part}", f"{names[-1]}.{part}") for part in ("weight", "bias"))


def _linear(*names: str) -> tuple[KeyRule, KeyRule]:
    """Return the rules of a Linear's weight, [out, in] in PyTorch and [in, out] in PaddlePaddle, and of its bias."""
    weight = KeyRule(source=f"{names[0]}.weight", target=f"{names[-1]}.weight", transform=Transform.TRANSPOSE)
    return weight, _keep(f"{names[0]}.bias", f"{names[-1]}.bias")


def _affine(name: str) -> tuple[KeyRule, ...]:
    """Return the rules of an Affine, whose parameters are (D,) in Facebook's files and (1, 1, D) in timm."""
    names = (f"{name}.alpha", f"{name}.beta")
    return tuple(KeyRule(source=one, target=one, transform=Transform.UNSQUEEZE) for one in names)


def _norm(name: str, target: str) -> tuple[KeyRule, KeyRule]:
    """Return the rules of a Flax LayerNorm, whose weight is called scale."""
    return _keep(f"{name}/scale", f"{target}.weight"), _keep(f"{name}/bias", f"{target}.bias")


def _dense(name: str, target: str) -> tuple[KeyRule, KeyRule]:
    """Return the rules of a Flax Dense, whose kernel is [in, out]."""
    kernel = KeyRule(source=f"{name}/kernel", target=f"{target}.weight", transform=Transform.TRANSPOSE)
    return kernel, _keep(f"{name}/bias", f"{target}.bias")


TIMM_TO_PADDLE: tuple[KeyRule, ...] = (
    *_same("stem.proj"),
    # mixer, gmixer
    *_same("blocks.{i}.norm1"),
    *_linear("blocks.{i}.mlp_tokens.fc1"),
    *_linear("blocks.{i}.mlp_tokens.fc2"),
    *_same("blocks.{i}.norm2"),
    # resmlp
    _keep("blocks.{i}.ls1"),
    _keep("blocks.{i}.ls2"),
    _keep("blocks.{i}.norm1.alpha"),
    _keep("blocks.{i}.norm1.beta"),
    *_linear("blocks.{i}.linear_tokens"),
    _keep("blocks.{i}.norm2.alpha"),
    _keep("blocks.{i}.norm2.beta"),
    # gmlp
    *_same("blocks.{i}.norm"),
    *_same("blocks.{i}.mlp_channels.gate.norm"),
    *_linear("blocks.{i}.mlp_channels.gate.proj"),
    # all
    *_linear("blocks.{i}.mlp_channels.fc1"),
    *_linear("blocks.{i}.mlp_channels.fc2"),
    *_same("norm"),
    _keep("norm.alpha"),
    _keep("norm.beta"),
    *_linear("head"),
)
"""timm's layout to Paddle's, which keeps timm's names.

Source: torch.nn.Linear holds weight (out_features, in_features)
(https://docs.pytorch.org/docs/stable/generated/torch.nn.Linear.html), paddle.nn.Linear [in_features, out_features]
(https://www.paddlepaddle.org.cn/documentation/docs/en/api/paddle/nn/Linear_en.html).
"""

TIMM_TO_PADDLEVIT: tuple[KeyRule, ...] = (
    *_same("stem.proj", "patch_embed.patch_embed"),
    *_same("blocks.{i}.norm1", "mixer_layers.{i}.norm1"),
    *_linear("blocks.{i}.mlp_tokens.fc1", "mixer_layers.{i}.mlp_tokens.fc1"),
    *_linear("blocks.{i}.mlp_tokens.fc2", "mixer_layers.{i}.mlp_tokens.fc2"),
    *_same("blocks.{i}.norm2", "mixer_layers.{i}.norm2"),
    *_linear("blocks.{i}.mlp_channels.fc1", "mixer_layers.{i}.mlp_channels.fc1"),
    *_linear("blocks.{i}.mlp_channels.fc2", "mixer_layers.{i}.mlp_channels.fc2"),
    *_same("norm"),
    *_linear("head"),
)
"""timm's layout to that of PaddleViT's Mixer.

Source: https://github.com/BR-IDL/PaddleViT, image_classification/MLP-Mixer/mlp_mixer.py, class MlpMixer.
"""

GOOGLE_TO_TIMM: tuple[KeyRule, ...] = (
    KeyRule(source="stem/kernel", target="stem.proj.weight", transform=Transform.HWIO_TO_OIHW),
    _keep("stem/bias", "stem.proj.bias"),
    *_norm("MixerBlock_{i}/LayerNorm_0", "blocks.{i}.norm1"),
    *_dense("MixerBlock_{i}/token_mixing/Dense_0", "blocks.{i}.mlp_tokens.fc1"),
    *_dense("MixerBlock_{i}/token_mixing/Dense_1", "blocks.{i}.mlp_tokens.fc2"),
    *_norm("MixerBlock_{i}/LayerNorm_1", "blocks.{i}.norm2"),
    *_dense("MixerBlock_{i}/channel_mixing/Dense_0", "blocks.{i}.mlp_channels.fc1"),
    *_dense("MixerBlock_{i}/channel_mixing/Dense_1", "blocks.{i}.mlp_channels.fc2"),
    *_norm("pre_head_layer_norm", "norm"),
    *_dense("head", "head"),
)
"""Google's original .npz files to timm's layout.

Source: https://github.com/google-research/vision_transformer, vit_jax/models_mixer.py at 2ecbc73, class MlpMixer.
"""

FACEBOOK_TO_TIMM: tuple[KeyRule, ...] = (
    *_same("patch_embed.proj", "stem.proj"),
    _keep("blocks.{i}.gamma_1", "blocks.{i}.ls1"),
    _keep("blocks.{i}.gamma_2", "blocks.{i}.ls2"),
    *_affine("blocks.{i}.norm1"),
    *_same("blocks.{i}.attn", "blocks.{i}.linear_tokens"),
    *_affine("blocks.{i}.norm2"),
    *_same("blocks.{i}.mlp.fc1", "blocks.{i}.mlp_channels.fc1"),
    *_same("blocks.{i}.mlp.fc2", "blocks.{i}.mlp_channels.fc2"),
    *_affine("norm"),
    *_same("head"),
)
"""Facebook's ResMLP files to timm's layout.

Source: timm 1.0.31, timm/models/mlp_mixer.py, checkpoint_filter_fn.
"""


def _mmpretrain_to_timm(norm: str) -> tuple[KeyRule, ...]:
    """Return MMPretrain's table; its mmcv names norms after the kind of norm (`ln`), or just `norm`."""
    linears = {
        "token_mix.layers.0.0": "mlp_tokens.fc1",
        "token_mix.layers.1": "mlp_tokens.fc2",
        "channel_mix.layers.0.0": "mlp_channels.fc1",
        "channel_mix.layers.1": "mlp_channels.fc2",
    }
    renamed = {
        "backbone.patch_embed.projection": "stem.proj",
        **{f"backbone.layers.{{i}}.{norm}{i}": f"blocks.{{i}}.norm{i}" for i in (1, 2)},
        **{f"backbone.layers.{{i}}.{mmpretrain}": f"blocks.{{i}}.{timm}" for mmpretrain, timm in linears.items()},
        f"backbone.{norm}1": "norm",
        "head.fc": "head",
    }
    return tuple(rule for names in renamed.items() for rule in _same(*names))


MMPRETRAIN_TO_TIMM = _mmpretrain_to_timm("ln")
"""MMPretrain's (and MMClassification's) image classifiers with a Mixer backbone to timm's layout.

Source: https://github.com/open-mmlab/mmpretrain, mmpretrain/models/backbones/mlp_mixer.py, class MlpMixer, and
tools/model_converters/mlpmixer_to_mmpretrain.py.
"""

FROM_TIMM: dict[Layout, tuple[KeyRule, ...]] = {
    "timm": tuple(_keep(rule.source) for rule in TIMM_TO_PADDLE),
    "paddle": TIMM_TO_PADDLE,
    "paddlevit": TIMM_TO_PADDLEVIT,
    "google": tuple(rule.inverse for rule in GOOGLE_TO_TIMM),
    "facebook": tuple(rule.inverse for rule in FACEBOOK_TO_TIMM),
    "mmpretrain": tuple(rule.inverse for rule in MMPRETRAIN_TO_TIMM),
    "mmpretrain-norm": tuple(rule.inverse for rule in _mmpretrain_to_timm("norm")),
}
"""The table from timm's layout to each layout; those written in the other direction are inverted."""


def expand(rules: Sequence[KeyRule], config: MixerConfig) -> RuleSet:
    """Return a table's rules from timm's names for the config's parameters, block indices filled in, in forward order.

    Raises:
        ValueError: The table has two rules for a parameter, or none.
    """
    by_source, patterns = {rule.source: rule for rule in rules}, patterns_of(config)
    if len(by_source) != len(rules) or not by_source.keys() >= patterns.keys():
        raise ValueError(FAULTY)
    return RuleSet(tuple(by_source[pattern].at(i) for pattern, i in in_forward_order(patterns, config.num_blocks)))


FAMILIES: dict[Layout, tuple[MixerKind, ...]] = {
    "timm": ("mixer", "gmixer", "resmlp", "gmlp"),
    "paddle": ("mixer", "gmixer", "resmlp", "gmlp"),
    "paddlevit": ("mixer",),
    "google": ("mixer",),
    "facebook": ("resmlp",),
    "mmpretrain": ("mixer",),
    "mmpretrain-norm": ("mixer",),
}
"""The families that exist in each layout. Names do not show it: gmixer has mixer's."""


def covers(layout: Layout, family: MixerKind) -> bool:
    """Return whether a family exists in a layout."""
    return family in FAMILIES[layout]


def route(src: Layout, dst: Layout, config: MixerConfig) -> RuleSet:
    """Return the rules from one layout to another, composed by way of timm's names, in forward order."""
    return expand(FROM_TIMM[src], config).inverse.then(expand(FROM_TIMM[dst], config))


def layout_shapes(config: MixerConfig, layout: Layout) -> dict[str, Shape]:
    """Return every parameter name of the config in a layout, with its shape in that layout, in forward order."""
    return expand(FROM_TIMM[layout], config).shapes(timm_shapes(config))
