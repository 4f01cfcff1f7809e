"""The pairing file: TOML that a person wrote or confirmed, checked entry by entry."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args, get_type_hints

from align.core.bounds import Accepted
from align.core.inputs import Input
from align.core.point import Item, Tapped
from align.pairing.pairing import Pairing
from convert.pairing.file import check_placeholders, malformed, read_file
from convert.pairing.weights import weights_of

MOST = 2**31
"""Greatest size of an axis of an input, and greatest magnitude of the ends of its range."""


def read_pairing(path: Path) -> Pairing:
    """Return the pairing that a file describes.

    Example:
        A model that calls timm's blocks `mixer_layers` and has functional activations; [weights] has to account
        for every tensor of the reference's checkpoint, a few of which are shown here::

            schema = "mixer-align/pairing/1"

            [modules]
            "stem.proj" = "patch_embed.patch_embed"
            "blocks.{i}" = "mixer_layers.{i}"

            [points]
            "blocks.{i}.mlp_tokens.act" = { input = "mixer_layers.{i}.mlp_tokens.fc2" }

            [left-out]
            "blocks.{i}.token_mixing" = "the residual is functional"

            [accepted]
            "blocks.{i}.gate" = { bound = 1e-6, reason = "Paddle's Hardsigmoid has slope 0.1666667" }

            [inputs]
            input_ids = { shape = [128], dtype = "int64", between = [0, 30522] }

            [weights]
            "head.weight" = { to = "head.weight", transform = "transpose" }
            "blocks.{i}.norm.running_mean" = "mixer_layers.{i}.norm._mean"
            "blocks.{i}.norm.num_batches_tracked" = { drop = "Paddle's BatchNorm counts no batches" }

    Raises:
        Unreadable: The file is not TOML, or an entry is malformed.
    """
    file = read_file(path)
    tables = file.tables
    _check_once(path, tables)
    return Pairing(
        place=str(path),
        modules=_texts(path, "modules", tables["modules"]),
        weights=weights_of(file),
        points={key: _tapped(path, key, value) for key, value in tables["points"].items()},
        left_out=_texts(path, "left-out", tables["left-out"]),
        not_covered=_texts(path, "not-covered", tables["not-covered"]),
        accepted={name: _accepted(path, name, value) for name, value in tables["accepted"].items()},
        inputs=tuple(_input(path, name, value) for name, value in tables["inputs"].items()),
    )


def _check_once(path: Path, tables: Mapping[str, Mapping[str, Any]]) -> None:
    """Check that no point is both placed and left out, and that no two modules have the same counterpart."""
    if both := tables["points"].keys() & tables["left-out"].keys():
        raise malformed(path, f"{min(both)} is in [points] and in [left-out]")
    targets = list(tables["modules"].values())
    if twice := next((target for target in targets if targets.count(target) > 1), None):
        raise malformed(path, f"[modules] {twice}: it stands for two modules")


def _accepted(path: Path, name: str, value: Any) -> Accepted:
    """Return an accepted difference: how large it may be, and why it is there."""
    fields = value if isinstance(value, dict) else {}
    bound, reason = fields.get("bound"), fields.get("reason")
    if fields.keys() != {"bound", "reason"} or not isinstance(reason, str) or not reason.strip():
        raise malformed(path, f"[accepted] {name}: it has to be a table of bound and reason")
    if not isinstance(bound, int | float) or isinstance(bound, bool) or not 0 < bound < math.inf:
        raise malformed(path, f"[accepted] {name}: its bound {bound!r} is no number above 0")
    return Accepted(bound=float(bound), reason=reason)


def _input(path: Path, name: str, value: Any) -> Input:
    """Return an input: its shape without the batch axis, its dtype and its range, which integers need."""
    fields, dtypes = value if isinstance(value, dict) else {}, get_args(get_type_hints(Input)["dtype"])
    shape, dtype, between = fields.get("shape"), fields.get("dtype", "float32"), fields.get("between")
    if not isinstance(shape, list) or not all(type(size) is int and 0 < size <= MOST for size in shape):
        raise malformed(path, f"[inputs] {name}: its shape has to be a list of sizes, without the batch's")
    if unknown := fields.keys() - {"shape", "dtype", "between"}:
        raise malformed(path, f"[inputs] {name}: there is no {min(unknown)!r}; there are shape, dtype, between")
    if dtype not in dtypes:
        raise malformed(path, f"[inputs] {name}: there is no dtype {dtype!r}; there are {', '.join(dtypes)}")
    if dtype.startswith("int") and between is None:
        raise malformed(path, f"[inputs] {name}: whole numbers need between = [least, one above the greatest]")
    if between is not None and not _is_range(between):
        raise malformed(path, f"[inputs] {name}: between = {between!r} is no range [low, high] with low below high")
    return Input(name=name, shape=tuple(shape), dtype=dtype, between=between and (between[0], between[1]))


def _is_range(value: Any) -> bool:
    numbers = isinstance(value, list) and [type(one) for one in value] in ([int, int], [float, float])
    return numbers and -MOST <= value[0] < value[1] <= MOST


def _texts(path: Path, table: str, entries: Mapping[str, Any]) -> dict[str, str]:
    """Return a table's entries, whose values must be text; in [modules], without placeholders that the key lacks."""
    for key, value in entries.items():
        if not isinstance(value, str) or not value.strip():
            raise malformed(path, f"[{table}] {key}: {value!r} is no text")
        if table == "modules":
            check_placeholders(path, table, key, value)
    return dict(entries)


def _tapped(path: Path, key: str, value: Any) -> Tapped:
    """Return where a point is shown: a bare module name means its output; a table says more."""
    fields = {"output": value} if isinstance(value, str) else value
    if isinstance(fields, dict) and (unknown := fields.keys() - {"input", "output", "call", "item"}):
        raise malformed(path, f"[points] {key}: there is no {min(unknown)!r}; there are input, output, call, item")
    if not isinstance(fields, dict) or len({"input", "output"} & fields.keys()) != 1:
        raise malformed(path, f"[points] {key}: it has to name one module, or an input or output of one")
    where = "input" if "input" in fields else "output"
    module, call, item = fields[where], fields.get("call", 0), fields.get("item")
    steps: list[Any] = item if isinstance(item, list) and item else [item]
    is_item = item is None or all(type(step) in (int, str) for step in steps)
    if not isinstance(module, str) or type(call) is not int or call < 0 or not is_item:
        said = "a module is a text, a call a number from 0, an item a number or text, or a list of these"
        raise malformed(path, f"[points] {key}: {said}")
    check_placeholders(path, "points", key, module)
    way: Item = tuple(steps) if len(steps) > 1 else steps[0]
    return Tapped(module=module, where="input" if where == "input" else "output", call=call, item=way)
