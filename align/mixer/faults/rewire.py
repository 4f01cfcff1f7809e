"""The Paddle model's forward, wired wrongly; the modules keep their names."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

from convert.mixer.variants import MixerConfig

Residual = Literal["before", "norm", "input", "nothing"]
"""What a branch is added to: the value before its norm (right), the value after it, the block's input, or nothing."""


def rewire_block(
    block: Any,
    config: MixerConfig,
    *,
    tokens_from: Residual = "before",
    channels_from: Residual = "before",
    post_norm: bool = False,
    layer_scale: bool = True,
) -> None:
    """Rewire a block.

    Args:
        block: A block of convert.mixer.paddle_mixer.
        config: Its model's config.
        tokens_from: What token mixing is added to.
        channels_from: What channel mixing is added to.
        post_norm: Whether the first norm acts on the branch's output instead of its input.
        layer_scale: Whether ResMLP's scales are applied.
    """

    def branch(x: Any, norm: str, mix: Callable[[Any], Any]) -> tuple[Any, Any]:
        """Return what the branch adds and the normed value it started from."""
        layer = getattr(block, norm)
        if post_norm and norm != "norm2":
            return layer(mix(x)), x
        normed = layer(x)
        return mix(normed), normed

    def forward(x: Any) -> Any:
        start = x
        if config.family != "gmlp":
            added, normed = branch(x, "norm1", lambda y: _mix_tokens(block, y, layer_scale))
            x = _sum(added, tokens_from, x, normed, start)
        norm = "norm" if config.family == "gmlp" else "norm2"
        added, normed = branch(x, norm, lambda y: _mix_channels(block, y, layer_scale))
        return _sum(added, channels_from, x, normed, start)

    block.forward = forward


def rewire_model(
    model: Any,
    *,
    pool: Callable[[Any], Any] = lambda x: x.mean(axis=1),
    pool_first: bool = False,
    norm: bool = True,
) -> None:
    """Rewire the end of the model.

    Args:
        model: A convert.mixer.paddle_mixer.MlpMixer.
        pool: Maps (batch, tokens, hidden_dim) to (batch, hidden_dim).
        pool_first: Whether the head is given the norm of the pooled features instead of the pooled norm.
        norm: Whether the last norm is applied.
    """

    def forward(images: Any) -> Any:
        x = model.stem(images)
        for block in model.blocks:
            x = block(x)
        normed = model.norm(x) if norm else x
        pooled = model.norm(x.mean(axis=1, keepdim=True)).squeeze(1) if pool_first else pool(normed)
        return model.head(pooled)

    model.forward = forward


def _sum(added: Any, residual: Residual, before: Any, normed: Any, start: Any) -> Any:
    if residual == "nothing":
        return added
    return {"before": before, "norm": normed, "input": start}[residual] + added


def _mix_tokens(block: Any, x: Any, layer_scale: bool) -> Any:
    x = x.transpose([0, 2, 1])
    if hasattr(block, "linear_tokens"):
        x = block.linear_tokens(x).transpose([0, 2, 1])
        return block.ls1 * x if layer_scale else x
    return block.mlp_tokens(x).transpose([0, 2, 1])


def _mix_channels(block: Any, x: Any, layer_scale: bool) -> Any:
    x = block.mlp_channels(x)
    return block.ls2 * x if layer_scale and hasattr(block, "ls2") else x
