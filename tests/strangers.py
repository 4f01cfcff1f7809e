"""Two Mixers that strangers wrote: their weights, how they pair with timm's, and where each mistake may be blamed.

The models themselves are in stranger_timm_names.py and stranger_other_names.py, which import Paddle.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from convert.arrays import StateDict
from convert.mixer.init import init_state_dict
from convert.mixer.mapping import convert_state_dict
from convert.mixer.variants import MixerConfig

HERE = Path(__file__).resolve().parent
CONFIG = MixerConfig(
    image_size=32, patch_size=8, num_blocks=3, hidden_dim=10, tokens_mlp_dim=6, channels_mlp_dim=14, num_classes=7
)
"""What both builders build by default: 16 tokens, all sizes different."""

Blame = frozenset[str]
SCHEMA = 'schema = "mixer-align/pairing/1"\n'


def blame(*points: str) -> Blame:
    return frozenset(points)


OUTSIDE = blame("", "logits")
"""Nothing inside the model is wrong: what it returns is."""
OR_FIRST = blame("", "logits", "stem")
"""Every point lacks images, or is not passed a second time, so the first point may be named as well."""

EVERYWHERE: dict[str, Blame] = {
    "epsilon": blame("blocks.0.norm1"),
    "final-epsilon": blame("norm"),
    "tanh-in-tokens": blame("blocks.0.mlp_tokens.act"),
    "tanh-in-channels": blame("blocks.0.mlp_channels.act"),
    "no-token-residual": blame("blocks.1.token_mixing"),
    "no-channel-residual": blame("blocks.1"),
    "token-residual-from-norm": blame("blocks.1.token_mixing"),
    "channel-residual-from-norm": blame("blocks.1"),
    "reshape": blame("blocks.1.mlp_tokens.fc1"),
    "reshape-back": blame("blocks.1.token_mixing"),
    "reshape-in-stem": blame("stem"),
    "norm-skipped": blame("blocks.1.norm2", "blocks.1.mlp_channels.fc1"),
    "no-final-norm": blame("norm", "pooled"),
    "first-token": blame("pooled"),
    "mean-over-batch": blame("pooled"),
    "no-head-bias": blame("logits"),
    "softmax": blame("logits"),
    "classes-reversed": blame("logits"),
    "returns-nothing": OUTSIDE,
    "wrong-tuple": OUTSIDE,
    "unhooked": OUTSIDE,
    "two-and-zeros": OR_FIRST,
    "two-and-copies": OR_FIRST,
    "squeezed": OUTSIDE,
    "wrong-at-1": OUTSIDE,
    "wrong-beyond-2": OR_FIRST,
    "cached": OR_FIRST,
    "batch-centred": blame("norm"),
    "unregistered-dropout": blame("blocks.1.token_mixing"),
    "float16": blame("blocks.1.mlp_channels.fc1"),
    "buffer": blame("blocks.1.mlp_channels.fc2"),
    "hidden-buffer": blame("blocks.1.mlp_channels.fc2"),
    "extra-parameter": blame("", "pos_embed"),
    "ignored-bias": blame("blocks.1.mlp_channels.fc2"),
    "ignored-token-bias": blame("blocks.1.mlp_tokens.fc2"),  # the same for every channel: each LayerNorm takes it away
}
"""The first point in forward order that differs where each point is given the reference's input."""

TIMM_NAMES_ONLY: dict[str, Blame] = {
    "no-residual-behind-forward": blame("blocks.2.norm1"),  # the block's own output is not to be seen
    "gelu-capped": blame("blocks.1.mlp_channels"),
    "gelu-cut-off": blame("blocks.1.mlp_channels"),
    "dropout-always": blame("norm"),
    "left-in-training": blame("", "blocks.0.mlp_tokens.fc2"),
}
OTHER_NAMES_ONLY: dict[str, Blame] = {
    "once-more-activated": blame("blocks.1.token_mixing"),
    "channels-first": blame("blocks.1.norm1", "blocks.1.norm2"),
    "dropout-always": blame("blocks.1"),
    "left-in-training": blame("", "blocks.0.mlp_tokens.act"),
}

NOT_ON_IMAGES = frozenset({"gelu-capped", "gelu-cut-off"})
"""Mistakes that no batch of images shows at any point."""

MODULES = {
    "stem.proj": "patch_embed.patch_embed",
    "blocks.{i}": "mixer_layers.{i}",
    "blocks.{i}.norm1": "mixer_layers.{i}.token_mixer.norm",
    "blocks.{i}.mlp_tokens.fc1": "mixer_layers.{i}.token_mixer.dense_in",
    "blocks.{i}.mlp_tokens.fc2": "mixer_layers.{i}.token_mixer.dense_out",
    "blocks.{i}.norm2": "mixer_layers.{i}.channel_mixer.norm",
    "blocks.{i}.mlp_channels.fc1": "mixer_layers.{i}.channel_mixer.dense_in",
    "blocks.{i}.mlp_channels.fc2": "mixer_layers.{i}.channel_mixer.dense_out",
    "norm": "classifier.norm",
    "head": "classifier.fc",
}
POINTS: dict[str, tuple[str, str]] = {
    "stem": ("input", "mixer_layers.0"),
    "blocks.{i}.mlp_tokens.act": ("input", "mixer_layers.{i}.token_mixer.dense_out"),
    "blocks.{i}.token_mixing": ("output", "mixer_layers.{i}.token_mixer"),
    "blocks.{i}.mlp_channels.act": ("input", "mixer_layers.{i}.channel_mixer.dense_out"),
    "pooled": ("input", "classifier.fc"),
}
"""Where the stranger with other names shows a point: the input or the output of a module."""

FUNCTIONAL: dict[str, tuple[str, ...]] = {
    "functional-out": ("blocks.{i}.mlp_channels.act", "blocks.{i}.mlp_channels.fc2"),
    "functional-norms": ("blocks.{i}.norm1",),
    "einsum": ("blocks.{i}.mlp_tokens.fc1", "blocks.{i}.mlp_tokens.act", "blocks.{i}.mlp_tokens.fc2"),
}
"""The points that a variant does not show, because it never calls the module."""


def other_names_pairing(variant: str = "plain") -> str:
    """Return the text of the pairing file."""
    left_out = FUNCTIONAL.get(variant, ())
    points = {
        point: f'"{module}"' if where == "output" else f'{{ input = "{module}" }}'
        for point, (where, module) in POINTS.items()
        if point not in left_out
    }
    lines = [SCHEMA, "[modules]", *(f'"{ours}" = "{other}"' for ours, other in MODULES.items())]
    lines += ["\n[points]", *(f'"{point}" = {place}' for point, place in points.items())]
    lines += ["\n[left-out]", *(f'"{point}" = "computed by a function"' for point in left_out)] if left_out else []
    return "\n".join(lines) + "\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class Stranger:
    """One of the two.

    right: Its right variants. mistakes: Its mistakes, each with the points that may be blamed ("": no point). modules:
    Its name of a module by timm's; empty where they are the same.
    """

    module: str
    right: tuple[str, ...]
    mistakes: Mapping[str, Blame]
    modules: Mapping[str, str]

    @property
    def file(self) -> Path:
        return HERE / f"{self.module}.py"

    def build(self, weights: StateDict | None = None, **arguments: Any) -> Any:
        """Return a model with timm's weights, or as its author builds it."""
        model = importlib.import_module(self.module).build(**arguments)
        if weights is not None:
            model.set_state_dict({**model.state_dict(), **self.state_dict(weights)})
        return model

    def state_dict(self, weights: StateDict) -> StateDict:
        """Return timm's weights in the stranger's layout."""
        converted = convert_state_dict(weights, CONFIG).state_dict
        return {self.parameter(key): array.copy() for key, array in converted.items()}

    def parameter(self, key: str) -> str:
        module, _, kind = key.rpartition(".")
        return f"{renamed(module, self.modules)}.{kind}"

    def pairing(self, folder: Path, variant: str = "plain") -> Path | None:
        """Return the pairing file, written to a folder; None where none is needed."""
        if not self.modules:
            return None
        path = folder / f"{variant}.toml"
        path.write_text(other_names_pairing(variant))
        return path


def renamed(module: str, rules: Mapping[str, str]) -> str:
    """Return the candidate's name of a module: the longest rule that it lies in decides, and what is below stays."""
    for rule in sorted(rules, key=len, reverse=True):
        if found := re.match(re.escape(rule).replace(r"\{i\}", r"(?P<i>\d+)") + r"(?=\.|$)", module):
            return rules[rule].replace("{i}", found.groupdict().get("i", "")) + module[found.end() :]
    return module


TIMM_NAMES = Stranger(
    module="stranger_timm_names",
    right=(
        "plain",
        "functional-fc2",
        "functional-norms",
        "tokens-first",
        "by-forward",
        "by-keyword",
        "pooled-by-sum",
        "identities",
        "never-evaluated",
    ),
    mistakes={**EVERYWHERE, **TIMM_NAMES_ONLY},
    modules={},
)
OTHER_NAMES = Stranger(
    module="stranger_other_names",
    right=("plain", "functional-out", "functional-norms", "einsum", "by-keyword", "identities", "never-evaluated"),
    mistakes={**EVERYWHERE, **OTHER_NAMES_ONLY},
    modules=MODULES,
)
STRANGERS = {"timm-names": TIMM_NAMES, "other-names": OTHER_NAMES}
RIGHT = [(name, variant) for name, stranger in STRANGERS.items() for variant in stranger.right]
MISTAKEN = [(name, mistake) for name, stranger in STRANGERS.items() for mistake in stranger.mistakes]

timm_weights = partial(init_state_dict, CONFIG)
"""Of a seed."""


def timm_model(weights: StateDict) -> Any:
    """Return timm's own model with these weights, in evaluation mode."""
    import torch
    from timm.models.mlp_mixer import MlpMixer

    model = MlpMixer(
        img_size=CONFIG.image_size,
        patch_size=CONFIG.patch_size,
        num_blocks=CONFIG.num_blocks,
        embed_dim=CONFIG.hidden_dim,
        mlp_ratio=(0.65, 1.45),  # timm truncates: 6 and 14
        num_classes=CONFIG.num_classes,
    )
    model.load_state_dict({key: torch.from_numpy(array.copy()) for key, array in weights.items()})
    return model.eval()
