"""Hostile files, harmless here: what one of them executes, where it is executed, makes a canary file."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from dataclasses import dataclass

from forge import array, number, text, weight

LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 303964416\n"
HTML = b"<!DOCTYPE html><html><body>Sign in to download</body></html>"
BAD_NAMES = {
    "parent": "../../.ssh/authorized_keys",
    "absolute": "/etc/passwd",
    "drive": "C:\\Windows\\x",
    "inner parent": "blocks/../../x",
    "terminal": "\x1b[2Jweight",
    "nul": "weight\x00.png",
    "right to left": "weight\u202egnp",
    "long": "w" * 100_000,
}

NAMED = "leads elsewhere|cannot be printed|characters, at most"
"""What is said of such a name."""


@dataclass(frozen=True, kw_only=True)
class Hostile:
    """A file by its content. payload is the pickle in it that executes something where it is unpickled, if one does."""

    name: str
    suffix: str
    content: bytes
    reason: str
    payload: bytes | None = None


class Touch:
    """Pickles as a call that makes the canary."""

    def __init__(self, canary: str) -> None:
        self.canary = canary

    def __reduce__(self) -> tuple[Callable[..., object], tuple[str, str]]:
        return open, (self.canary, "w")


def executing(canary: str) -> dict[str, tuple[bytes, str]]:
    """Return pickles that make the canary where they are unpickled, each with the reason for which it is refused."""
    path, call = text(canary), text(canary) + text("w") + b"\x86R"
    source, touch = text(f"open({canary!r}, 'w')"), text(f"touch '{canary}'")
    imported = b"cimportlib\nimport_module\n" + text("io") + b"\x85R"
    partial = b"cfunctools\npartial\ncio\nopen\n\x85R(cio\nopen\n" + path + text("w") + b"\x86}Ntb)R"
    method = b"cpathlib\nPath\n" + path + b"\x85R\x85R"
    named = {
        "eval": (b"cbuiltins\neval\n" + source + b"\x85R", r"builtins\.eval"),
        "exec": (b"cbuiltins\nexec\n" + source + b"\x85R", r"builtins\.exec"),
        "os.system": (b"cos\nsystem\n" + touch + b"\x85R", r"os\.system"),
        "subprocess": (b"csubprocess\ncheck_call\n(" + text("touch") + path + b"t\x85R", r"subprocess\.check_call"),
        "dotted name": (text("pathlib") + text("Path.touch") + b"\x93" + method, r"pathlib\.Path\.touch"),
        "getattr": (b"cbuiltins\ngetattr\n" + imported + text("open") + b"\x86R" + call, r"builtins\.getattr"),
        "inst": (b"(" + path + text("w") + b"iio\nopen\n", "uses INST"),
        "obj": (b"(cio\nopen\n" + path + text("w") + b"o", r"io\.open|OBJ"),
        "build": (partial, r"functools\.partial"),
        "memo": (b"cio\nopen\nq\x070h\x07" + call, r"io\.open|POP"),
        "in a list": (b"](cio\nopen\n" + call + b"e", r"io\.open"),
        "in a dict": (b"}" + text("a") + b"cio\nopen\n" + call + b"s", r"io\.open"),
        "in an array": (array(number(1) + b"\x85", "O8", b"]cio\nopen\n" + call + b"a", "|"), "dtype 'O8'"),
        "timeit": (b"ctimeit\ntimeit\n" + text("pass") + source + b"\x86R", r"timeit\.timeit"),
        "NumPy's exec": (b"cnumpy.testing._private.utils\nrunstring\n" + source + b"}\x86R", "runstring"),
        "torch's shell": (b"ctorch.utils.collect_env\nrun\n" + touch + b"\x85R", "collect_env"),
    }
    found = {name: (weight(opcodes), reason) for name, (opcodes, reason) in named.items()}
    for protocol in range(6):
        reason = r"(io|_io|builtins|__builtin__)\.open|no kind we know|uses (STRING|UNICODE|PUT|GET|DICT|INT)"
        found[f"reduce, protocol {protocol}"] = (pickle.dumps({"weight": Touch(canary)}, protocol), reason)
    return found
