"""Hints on what a file without readable weights is, judged by its name and by the names in it."""

from __future__ import annotations

import re
from collections.abc import Collection
from pathlib import Path

from convert.files import sharded
from convert.files.sets import ACCUMULATORS

SHARD = re.compile(r"-(\d{5})-of-(\d{5})\.")
"""Source: https://huggingface.co/docs/transformers/big_models#sharded-checkpoints"""
KINDS = (
    (
        re.compile(r"(.*[._])?lora_\w+(\..*)?"),
        "It holds LoRA adapters: merge them into the weights first (peft: model.merge_and_unload()), and save those.",
    ),
    (
        re.compile(r".*(_packed_params|zero_point)(\..*)?"),
        "It is an int8 model: convert the float weights that it was made from.",
    ),
    (
        re.compile(r"\w+_\d+\.[wb]_\d+"),
        "Its names are those of a static program's parameters: save layer.state_dict() by paddle.save instead.",
    ),
    (ACCUMULATORS, "It is an optimizer's state: name the file of the weights."),
)
"""Patterns of tensor names, each with what the file is and what to do about it.

Source: peft's LoraLayer; torch/ao/nn/quantized/modules/linear.py; paddlepaddle 3.3.1, paddle/base/unique_name.py.
"""


def hint(path: Path | None, names: Collection[str]) -> str:
    """Return a sentence on what a checkpoint is and what to do about it; empty if that cannot be told."""
    if path is not None and (found := SHARD.search(path.name)):
        index = sharded.index_of(path)
        name = index.name if index else "the index, model.safetensors.index.json,"
        return f"It is shard {int(found[1])} of {int(found[2])}: name {name} instead."
    return next((said for kind, said in KINDS if any(map(kind.fullmatch, names))), "")
