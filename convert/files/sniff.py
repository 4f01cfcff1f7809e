"""Recognise a file by its first bytes, whatever its suffix says."""

from __future__ import annotations

from pathlib import Path

from convert.errors import Unreadable, WrongFileKind

EXPECTED = {
    ".safetensors": {"a safetensors file"},
    ".pdparams": {"a pickle"},
    ".npz": {"a zip archive"},
    ".json": {"JSON"},
}
"""The kinds of file allowed under each suffix that only one tool writes; its own reader takes nothing else."""
READ = {"a safetensors file", "a pickle", "a zip archive", "JSON"}
OPTIMIZER = ".pdopt"
LEGACY = b"\x80\x02\x8a\x0al\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19."
"""The pickled number with which torch.save began a file before 1.6. Source: torch 2.14.1, torch/serialization.py."""
PADDLE_DENSE = bytes(16)
"""The head of a dense tensor in a `.pdiparams`, before its description: version 0, no levels, version 0.

Source: paddlepaddle 3.3.1, paddle/phi/core/framework/dense_tensor_serialize.cc, SerializeToStream.
"""
BEGINNINGS = {
    "a Git LFS pointer": (b"version https://git-lfs",),
    "a zip archive": (b"PK\x03\x04", b"PK\x05\x06"),
    "torch's container from before 1.6": (LEGACY,),
}
STATE_DICT = "Save layer.state_dict() by paddle.save instead."
ADVICE = {
    "a Git LFS pointer": "Fetch the real file with `git lfs pull`.",
    "an HTML page": "A web server answered with a page instead of the file; download the raw file.",
    "empty": "Download it again.",
    "torch's container from before 1.6": "Write it anew, which executes nothing: "
    "torch.save(torch.load(FILE, weights_only=True), OTHER).",
    "a tar archive": "Where it is torch's container from before 0.1.10 and you trust it: "
    "torch.save(torch.load(FILE, weights_only=False), OTHER).",
    "a static program's parameters (.pdiparams), which have no names": STATE_DICT,
}


def kind_of(head: bytes) -> str:
    """Return what a file is, judged by its first bytes (512 are enough)."""
    text = head.lstrip().lower()
    for kind, beginnings in BEGINNINGS.items():
        if head.startswith(beginnings):
            return kind
    if not head:
        return "empty"
    if text.startswith((b"<!doctype", b"<html", b"<?xml")):
        return "an HTML page"
    if text.startswith(b"{"):
        return "JSON"
    if head[8:9] == b"{" and int.from_bytes(head[:8], "little") < 1 << 40:
        return "a safetensors file"
    if head[:1] == b"\x80" and head[1:2] <= b"\x05":
        return "a pickle"
    if head[257:262] == b"ustar":
        return "a tar archive"
    if head.startswith(PADDLE_DENSE) and head[20:21] == b"\x08":
        return "a static program's parameters (.pdiparams), which have no names"
    return "of no kind we know"


def kind_of_file(path: Path) -> str:
    """Return a file's kind, which is one of those that are read here.

    Raises:
        WrongFileKind: It is of another kind, which the error names, or not what its suffix promises.
        Unreadable: It is not a regular file, or has the suffix of an optimizer's state.
    """
    if path.exists() and not path.is_file():
        raise Unreadable(path, "it is not a regular file", "Name a checkpoint file.")
    suffix = path.suffix.lower()
    if suffix == OPTIMIZER:
        raise Unreadable(path, f"a {OPTIMIZER} is an optimizer's state by its name", "Name the .pdparams beside it.")
    with path.open("rb") as stream:
        found = kind_of(stream.read(512))
    expected = EXPECTED.get(suffix, READ)
    if found not in expected:
        advice = ADVICE.get(found, "Name it by what it is, or get the right file.")
        wanted = " or ".join(sorted(expected)) if suffix in EXPECTED else "a checkpoint that is read here"
        raise WrongFileKind(path, found, wanted, advice)
    return found
