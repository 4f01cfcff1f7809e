"""Faults in the Paddle model: the right weights in the wrong function."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from align.faults.fault import Fault, Planted
from align.mixer.faults.places import at_block, first_norm, middle, mixer_fault
from align.mixer.faults.rewire import rewire_block, rewire_model
from convert.mixer.variants import MixerConfig, MixerKind

ALL: tuple[MixerKind, ...] = ("mixer", "gmixer", "resmlp", "gmlp")
TWO_BRANCHES: tuple[MixerKind, ...] = ("mixer", "gmixer", "resmlp")
LAYER_NORM: tuple[MixerKind, ...] = ("mixer", "gmixer", "gmlp")
GELU: tuple[MixerKind, ...] = ("mixer", "resmlp", "gmlp")
PYTORCH_EPSILON = 1e-5


def _fault(
    name: str,
    layer: Callable[[MixerConfig], str] | str,
    model: Callable[[Any], None],
    families: tuple[MixerKind, ...] = ALL,
) -> Fault:
    def plant(config: MixerConfig) -> Planted | None:
        if config.family not in families:
            return None
        return Planted(layer=layer if isinstance(layer, str) else layer(config), model=model)

    return mixer_fault("structure", name, plant)


def _block_fault(name: str, point: str, families: tuple[MixerKind, ...] = TWO_BRANCHES, **wiring: Any) -> Fault:
    """Return a fault in the wiring of one block; `point` is where it shows, as a suffix of the block's name."""

    def model(model: Any) -> None:
        rewire_block(model.blocks[middle(model.config)], model.config, **wiring)

    return _fault(name, lambda config: f"{at_block(config)}{point}", model, families)


def _first_norm(config: MixerConfig) -> str:
    return first_norm(config, 0)


def _epsilon_everywhere(model: Any) -> None:
    for layer in model.sublayers():
        if hasattr(layer, "_epsilon"):
            layer._epsilon = PYTORCH_EPSILON


def _epsilon_of_the_last(model: Any) -> None:
    model.norm._epsilon = PYTORCH_EPSILON


def _epsilon_of_the_gate(model: Any) -> None:
    model.blocks[middle(model.config)].mlp_channels.gate.norm._epsilon = model.config.layer_norm_eps


def _unbiased(model: Any) -> None:
    """Divide by one less in the variance, as `Tensor.var` does by default."""
    norm, channels = model.norm, model.config.hidden_dim

    def forward(x: Any) -> Any:
        centred = x - x.mean(axis=-1, keepdim=True)
        variance = centred.square().sum(axis=-1, keepdim=True) / (channels - 1)
        return centred / (variance + model.config.layer_norm_eps).sqrt() * norm.weight + norm.bias

    norm.forward = forward


def _activation(make: Callable[[Any], Any]) -> Callable[[Any], None]:
    def change(model: Any) -> None:
        from paddle import nn

        model.blocks[middle(model.config)].mlp_channels.act = make(nn)

    return change


def _dropout(model: Any) -> None:
    from paddle import nn

    mlp = model.blocks[middle(model.config)].mlp_channels
    mlp.act = nn.Sequential(mlp.act, nn.Dropout(0.1))
    mlp.act.train()


def _column_major(model: Any) -> None:
    stem = model.stem
    stem.forward = lambda images: stem.proj(images).transpose([0, 1, 3, 2]).flatten(2).transpose([0, 2, 1])


def _wrong_half(model: Any) -> None:
    """Make the first half of the channels gate the second."""
    mlp = model.blocks[middle(model.config)].mlp_channels
    if model.config.family == "gmixer":
        inner, half = mlp.fc1, model.config.channels_gated_dim

        def gated(x: Any) -> Any:
            x = inner(x)
            return mlp.fc2(x[..., half:] * mlp.act(x[..., :half]))

        mlp.forward = gated
        return
    gate, half = mlp.gate, model.config.channels_gated_dim

    def forward(x: Any) -> Any:
        return x[..., half:] * gate.proj(gate.norm(x[..., :half]).transpose([0, 2, 1])).transpose([0, 2, 1])

    gate.forward = forward


def _ungated(model: Any) -> None:
    """Output the gate alone, without the half that it should multiply."""
    gate, half = model.blocks[middle(model.config)].mlp_channels.gate, model.config.channels_gated_dim

    def forward(x: Any) -> Any:
        return gate.proj(gate.norm(x[..., half:]).transpose([0, 2, 1])).transpose([0, 2, 1])

    gate.forward = forward


def _gate_of(config: MixerConfig) -> str:
    mlp = f"{at_block(config)}.mlp_channels"
    return f"{mlp}.act" if config.family == "gmixer" else f"{mlp}.gate.norm"


STRUCTURE: tuple[Fault, ...] = (
    _fault("LayerNorm epsilon 1e-5 for 1e-6, everywhere", _first_norm, _epsilon_everywhere, LAYER_NORM),
    _fault("LayerNorm epsilon 1e-5 for 1e-6, last norm only", "norm", _epsilon_of_the_last, LAYER_NORM),
    _fault(
        "LayerNorm epsilon 1e-6 for 1e-5 in the gate",
        lambda c: f"{at_block(c)}.mlp_channels.gate.norm",
        _epsilon_of_the_gate,
        ("gmlp",),
    ),
    _fault("unbiased variance in the last norm", "norm", _unbiased, LAYER_NORM),
    _fault(
        "tanh GELU for erf in one MLP",
        lambda c: f"{at_block(c)}.mlp_channels.act",
        _activation(lambda nn: nn.GELU(approximate=True)),
        GELU,
    ),
    _fault(
        "GELU for SiLU in one MLP",
        lambda c: f"{at_block(c)}.mlp_channels.act",
        _activation(lambda nn: nn.GELU()),
        ("gmixer",),
    ),
    _fault("ReLU in one MLP", lambda c: f"{at_block(c)}.mlp_channels.act", _activation(lambda nn: nn.ReLU())),
    _block_fault("residual missing around token mixing", ".token_mixing", tokens_from="nothing"),
    _block_fault("residual missing around channel mixing", "", ALL, channels_from="nothing"),
    _block_fault("residual taken behind the norm, token mixing", ".token_mixing", tokens_from="norm"),
    _block_fault("residual taken behind the norm, channel mixing", "", ALL, channels_from="norm"),
    _block_fault("residual of the block's input around channel mixing", "", channels_from="input"),
    _block_fault("norm behind token mixing instead of before", ".norm1", post_norm=True),
    _block_fault("norm behind the gated MLP instead of before", ".norm", ("gmlp",), post_norm=True),
    _block_fault("layer scale forgotten", ".token_mixing", ("resmlp",), layer_scale=False),
    _fault("pooling before the last norm", "pooled", lambda m: rewire_model(m, pool_first=True), LAYER_NORM),
    _fault("last norm skipped", "norm", lambda m: rewire_model(m, norm=False)),
    _fault("sum for mean in the pooling", "pooled", lambda m: rewire_model(m, pool=lambda x: x.sum(axis=1))),
    _fault("first token for mean in the pooling", "pooled", lambda m: rewire_model(m, pool=lambda x: x[:, 0])),
    _fault("dropout left on in one MLP", lambda c: f"{at_block(c)}.mlp_channels.act", _dropout),
    _fault("tokens in column order", "stem", _column_major),
    _fault("wrong half of the channels as gate", _gate_of, _wrong_half, ("gmixer", "gmlp")),
    _fault("gate without the half it multiplies", lambda c: f"{at_block(c)}.mlp_channels.gate", _ungated, ("gmlp",)),
)
