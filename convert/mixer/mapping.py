"""Conversion of a vision MLP's weights from one layout to another."""

from __future__ import annotations

from convert import engine
from convert.arrays import StateDict
from convert.engine import Conversion
from convert.mixer.rule_tables import Layout, layout_shapes, route
from convert.mixer.variants import MixerConfig


def convert_state_dict(
    source: StateDict,
    config: MixerConfig,
    *,
    src: Layout = "timm",
    dst: Layout = "paddle",
    name: str = "the checkpoint",
    expected: str = "the config",
) -> Conversion:
    """Return the source renamed and transformed from one layout to another, as views of the source's data.

    Args:
        source: A state dict in the layout `src`.
        config: The sizes that the source has to have.
        src: The source's layout.
        dst: The requested layout.
        name: What to call the source in an error.
        expected: What to call the config in an error.

    Raises:
        KeyMismatch: Keys are missing or unexpected.
        ShapeMismatch: A tensor has another shape than the config implies.
        WrongDtype: A tensor is not float32, float16 or bfloat16.
    """
    return engine.convert(source, route(src, dst, config), layout_shapes(config, src), name=name, expected=expected)
