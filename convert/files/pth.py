"""The .pth format, without torch: a zip archive of a pickle, none of which is executed, and the storages it names.

Dense tensors are read as by `torch.load(weights_only=True)`, whatever the environment says, but more strictly:
checksums, which torch does not check, have to match. Source: torch 2.14.1, torch/serialization.py, `_save`, `_load`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from convert.errors import Unreadable
from convert.files.content import Content
from convert.files.pickles.pickle_values import Damaged, Refused
from convert.files.pickles.torch_stand_ins import interpret_torch

RESAVE = "Where you trust the file, save the weights alone: torch.save(model.state_dict(), FILE)."
ANEW = "Where you trust the file, write it anew: torch.save(torch.load(FILE, weights_only=False), OTHER)."
PICKLE, SCRIPT = "data.pkl", "constants.pkl"
PROTOCOLS = (2, 3)
"""The pickle protocols that torch reads with weights_only=True. torch.save writes 2 unless told otherwise."""
VERSION = rb"([1-9]|10)\n?"
NOTES = {
    "version": VERSION,
    ".data/version": VERSION,
    ".format_version": rb"\d{1,2}",
    ".storage_alignment": rb"\d{1,8}",
    ".data/serialization_id": rb"\d{1,64}",
}
"""Members that describe the archive itself, with a pattern of what torch writes; torch refuses anything else."""
NOTE_LIMIT = 64
SHARED = 8
"""Times that tensors may use a storage's bytes, on average, by sharing them or by repeating them with strides of 0."""
FREE = 64 * 2**20


def content_of(path: Path, members: Mapping[str, memoryview]) -> Content:
    """Return what torch.save wrote, its tensors as views of the members.

    Raises:
        Unreadable: It is damaged, written by something else, or asks for what no tensor needs.
    """
    try:
        return _content(path, members)
    except Damaged as error:
        raise Unreadable(path, f"it is truncated or damaged ({error})") from error
    except Refused as refusal:
        raise Unreadable(path, str(refusal), RESAVE) from refusal


def _content(path: Path, members: Mapping[str, memoryview]) -> Content:
    folder = _folder(path, members)
    _check_notes(path, folder, members)
    pickle = members[folder + PICKLE]
    if (protocol := _protocol(pickle)) not in PROTOCOLS:
        raise Unreadable(path, f"its pickle has protocol {protocol}, torch.save writes 2 by default", ANEW)
    if bytes(members.get(f"{folder}byteorder", b"little")) != b"little":
        raise Unreadable(path, "it was saved on a machine of the other byte order", RESAVE)
    room = SHARED * sum(map(len, members.values())) + FREE
    found = interpret_torch(pickle, lambda key: members[f"{folder}data/{key}"], room=room)
    return Content(tree=found.content, tool="torch", foreign=found.foreign)


def _folder(path: Path, members: Mapping[str, memoryview]) -> str:
    """Return the one folder in the archive, with its slash."""
    folders = {name.partition("/")[0] for name in members}
    folder = f"{min(folders, default='')}/"
    if any(name in members for name in (folder + SCRIPT, f"{folder}code/__torch__.py")):
        raise Unreadable(
            path,
            "it is a TorchScript archive, which is a program; nothing was executed",
            "Where you trust the file, save its weights alone: torch.save(torch.jit.load(FILE).state_dict(), OTHER).",
        )
    if len(folders) != 1 or folder + PICKLE not in members:
        raise Unreadable(path, "it is a zip archive, but not one that torch.save wrote", "Name a checkpoint file.")
    if any(name.removeprefix(folder) != name.removeprefix(folder).lower() for name in members):
        raise Unreadable(path, "it has a member in capitals, for which torch takes another: it knows no case", RESAVE)
    return folder


def _check_notes(path: Path, folder: str, members: Mapping[str, memoryview]) -> None:
    """Check the members that describe the archive itself; all but the version may be missing."""
    for name, pattern in NOTES.items():
        note = members.get(folder + name)
        right = note is not None and len(note) <= NOTE_LIMIT and re.fullmatch(pattern, bytes(note)) is not None
        if not right and (note is not None or name == "version"):
            raise Unreadable(path, f"its member {name} is not there, or not the number that torch.save writes", RESAVE)


def _protocol(pickle: memoryview) -> int:
    """Return the protocol that a pickle declares, or 0 if it declares none, as with protocols 0 and 1."""
    return pickle[1] if bytes(pickle[:1]) == b"\x80" and len(pickle) > 1 else 0
