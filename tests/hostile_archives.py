"""Hostile zip archives: .pth and .npz."""

from __future__ import annotations

import functools
import io
import pickle
import struct
import tarfile
import zipfile

from forge import (
    CENTRAL,
    END,
    LOCAL,
    ORDERED,
    bomb,
    crowded,
    huge_member,
    npy,
    overlapping,
    patched,
    plain,
    storage,
    tensor,
    text,
    torch_zip,
    twice,
    weight,
    zipped,
)
from hostile import BAD_NAMES, HTML, LFS, NAMED, Hostile, Touch, executing
from hostile_pickles import HANDS


def pth(canary: str) -> list[Hostile]:
    call = b"cio\nopen\n" + text(canary) + text("w") + b"\x86R"
    good = weight(tensor(), protocol=2)
    whole, many = torch_zip(good), (2**2000,) * 30_000
    legacy = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.\x80\x02M\xe9\x03." + weight(call, protocol=2)
    tar = io.BytesIO()
    with tarfile.open(fileobj=tar, mode="w") as archive:
        info = tarfile.TarInfo("pickle")
        info.size = len(weight(call))
        archive.addfile(info, io.BytesIO(weight(call)))
    files = {
        "legacy": (legacy, "from before 1.6"),
        "legacy tar": (tar.getvalue(), "a tar archive"),
        "TorchScript": (
            torch_zip(good, **{"constants.pkl": weight(call), "code/__torch__.py": b"import os"}),
            "TorchScript",
        ),
        "protocol 4": (torch_zip(weight(tensor(), protocol=4)), "protocol 4"),
        "noise for a pickle": (torch_zip(b"\x1d\x80\xff\xd7"), "protocol 0"),
        "noise in a pickle": (torch_zip(b"\x80\x02\x1d\xff"), "damaged"),
        "an empty pickle": (torch_zip(b""), "protocol 0"),
        "no pickle": (zipped({"x/data/0": bytes(24)}), "not one that torch.save wrote"),
        "two folders": (
            zipped({"x/data.pkl": good, "y/data.pkl": weight(call), "x/data/0": bytes(24)}),
            "not one that torch",
        ),
        "two pickles": (twice([("x/data.pkl", good), ("x/data/0", bytes(24)), ("x/data.pkl", weight(call))]), "twice"),
        "another name in the directory": (patched(whole, CENTRAL, 46, b"y/"), "disagrees with the directory"),
        "a flipped bit": (whole.replace(bytes(24), bytes(23) + b"\x01"), "checksum"),
        "encrypted": (patched(patched(whole, CENTRAL, 8, b"\x01"), LOCAL, 6, b"\x01"), "encrypted"),
        "packed by LZMA": (zipped({"x/data.pkl": good, "x/data/0": bytes(24)}, zipfile.ZIP_LZMA), "packed"),
        "bomb": (bomb("x/data/0"), "would unpack to"),
        "a member of 2**64 - 1": (huge_member("x/data.pkl"), "would unpack to"),
        "a member at 2**64 - 1": (huge_member("x/data.pkl", (42, 46)), "would begin at byte|damaged"),
        "overlapping members": (overlapping("x/data.pkl", good), "lies over another"),
        "big endian": (torch_zip(good, byteorder=b"big"), "byte order"),
        "storage of 2**62": (torch_zip(weight(tensor(storage(size=2**62)), protocol=2)), "damaged"),
        "storage missing": (torch_zip(weight(tensor(storage("1")), protocol=2)), "damaged"),
        "storage elsewhere": (torch_zip(weight(tensor(storage("../../../etc/passwd")), protocol=2)), "damaged"),
        "persistent id": (torch_zip(weight(text("module") + b"Q", protocol=2)), "persistent id that is not a storage"),
        "view past the end": (torch_zip(weight(tensor(offset=1), protocol=2)), "last element 6"),
        "view before the begin": (torch_zip(weight(tensor(stride=(-3, 1)), protocol=2)), "damaged"),
        "30,000 dimensions": (torch_zip(weight(tensor(size=many, stride=many), protocol=2)), "damaged"),
        "offset of 2**63": (torch_zip(weight(tensor(offset=2**63), protocol=2)), "damaged"),
        "negative offset": (torch_zip(weight(tensor(offset=-1), protocol=2)), "damaged"),
        "one element a trillion times": (
            torch_zip(weight(tensor(size=(2**20, 2**20), stride=(0, 0)), protocol=2)),
            "more data",
        ),
        "size of 2**62 and 0": (
            torch_zip(weight(tensor(size=(0, 2**62, 2**62), stride=(1, 1, 1)), protocol=2)),
            "damaged",
        ),
        "another type's constructor": (
            torch_zip(
                weight(b"ctorch._tensor\n_rebuild_from_type_v2\n(cos\nsystem\n" + text("id") + b"\x85)NtR", protocol=2)
            ),
            r"os\.system",
        ),
        "a storage with another dtype": (
            torch_zip(
                b"\x80\x02}(" + text("a") + tensor(storage(kind="HalfStorage", size=12)) + text("b") + tensor() + b"u."
            ),
            "calls storage 0 12 of HalfStorage first",
        ),
        "other elements by an attribute": (
            torch_zip(weight(_attributes(text("data") + tensor()), protocol=2)),
            "attribute",
        ),
        "the weights in something's hands": (torch_zip(_given_away(b"h\x01" + text("a") + b"N")), HANDS),
        "a storage in something's hands": (torch_zip(_given_away(storage() + b"K\x00K\x00")), HANDS),
        "a date for a weight": (
            torch_zip(weight(b"cdatetime\ndate\n" + text("x") + b"\x85R", protocol=2)),
            r"datetime\.date.*nothing was executed",
        ),
        "two storages but for their case": (_of_two_cases(), "a member in capitals"),
        "a byte order in capitals": (torch_zip(good, BYTEORDER=b"big"), "a member in capitals"),
        "version 11": (torch_zip(good, version=b"11\n"), "its member version"),
        "a storage that is a folder": (patched(whole, CENTRAL, 38, b"\x10", nth=2), "is a folder"),
        "a pickle that is a folder": (patched(whole, CENTRAL, 38, b"\x10"), "is a folder"),
        "a folder by its name": (zipped({**_members(good), "x/data/1/": b""}), "is a folder"),
        "on another disk": (patched(whole, CENTRAL, 34, b"\x01"), "on another disk"),
        "a comment at the end": (whole[:-2] + b"\x02\x00PK", "damaged"),
        "something before it": (b"PK\x03\x04" + whole, "damaged"),
        "a directory of 2 GB": (patched(whole, END, 12, b"\xff\xff\xff\x7f"), "damaged"),
        "a directory with more entries": (patched(whole, END, 8, b"\x05\x00\x05\x00"), "has 4 entries and says 5"),
        "quantized": (torch_zip(weight(b"ctorch._utils\n_rebuild_qtensor\n(tR", protocol=2)), "not dense"),
        "LFS pointer": (LFS, "Git LFS pointer"),
        "HTML": (HTML, "HTML page"),
        **{f"name: {kind}": (torch_zip(weight(tensor(), name, 2)), NAMED) for kind, name in BAD_NAMES.items()},
    }
    made = [
        Hostile(name=name, suffix=".pth", content=content, reason=reason) for name, (content, reason) in files.items()
    ]
    for name, (content, reason) in executing(canary).items():
        kept = "protocol" in name or name == "dotted name"  # which protocol 4 alone has
        payload = content if kept else b"\x80\x03" + content[2:]  # for the machine to see it at all
        told = rf"{reason}|numpy\.core" + (r"|protocol \d" if kept else "")
        made.append(
            Hostile(name=f"executing: {name}", suffix=".pth", content=torch_zip(payload), reason=told, payload=payload)
        )
    return made


def _members(pickled: bytes) -> dict[str, bytes]:
    return {"x/data.pkl": pickled, "x/version": b"3\n", "x/data/0": bytes(24)}


def _of_two_cases() -> bytes:
    """Return an archive of which torch reads the first storage, though the second has the very name."""
    return torch_zip(weight(tensor(storage("a")), protocol=2), **{"data/A": bytes(24), "data/a": b"\x01" * 24})


def _given_away(arguments: bytes) -> bytes:
    """Return a pickle of weights, memo 1, and of a call of something unknown with these arguments."""
    weights = b"}q\x01" + text("a") + tensor() + b"s"
    return b"\x80\x02}(" + text("model") + weights + text("more") + b"coperator\nsetitem\n(" + arguments + b"tRu."


def _attributes(items: bytes) -> bytes:
    """Return the opcodes of a parameter with attributes."""
    rebuild = b"ctorch._utils\n_rebuild_parameter_with_state\n("
    return rebuild + tensor() + b"\x88" + ORDERED + b"}(" + items + b"utR"


def npz(canary: str) -> list[Hostile]:
    call = pickle.dumps([Touch(canary)], 2)
    objects = npy(plain("(1,)", "'|O'"), call)
    good = npy(plain(), bytes(8))
    members = {
        "objects": (objects, "Python objects"),
        "an object": (npy(plain("()", "'O8'"), call), "Python objects"),
        "records of objects": (npy(plain("(1,)", "[('a', '|O')]"), call), "Python objects"),
        "records": (npy(plain("(1,)", "[('a', '<f4')]"), bytes(4)), "not read here"),
        "a header that is code": (npy(plain("(2,)", f"open({canary!r}, 'w')"), bytes(8)), "not read here"),
        "shape too large": (npy(plain("(1099511627776,)"), bytes(8)), "are wrong"),
        "shape that overflows": (npy(plain(f"({2**63}, {2**63})"), bytes(8)), "no array has"),
        "shape that overflows to the size": (npy(plain(f"({2**62}, 4, 2)"), bytes(8)), "are wrong"),
        "negative shape": (npy(plain("(-2,)"), bytes(8)), "not read here"),
        "shape of digits": (npy(plain("(" + "9" * 5000 + ",)"), bytes(8)), "digits"),
        "65 dimensions": (npy(plain("(" + "1," * 65 + ")"), bytes(4)), "member a.npy"),
        "text of 4 billion": (npy(plain("()", "'<U999999999'"), bytes(8)), "not understood"),
        "numbers of no size": (npy(plain("(1099511627776,)", "'<S0'")), "not read here"),
        "a header of 4 GiB": (npy(plain(), bytes(8), 2, 2**32 - 1), "plausible"),
        "a deep header": (npy("(" * 9000, bytes(8)), "not read here"),
        "another version": (npy(plain(), bytes(8), 9), "known"),
        "cut": (good[:20], "member a.npy"),
        "no array": (b"hello", "no array"),
    }
    files = {name: (zipped({"a.npy": content}), reason) for name, (content, reason) in members.items()}
    files |= {
        "the same member twice": (twice([("a.npy", good), ("a.npy", objects)]), "twice"),
        "bomb": (bomb("a.npy"), "would unpack to"),
        "a bomb that understates": (_understated(), "size that the directory says"),
        "a member of 2**64 - 1": (huge_member("a.npy"), "would unpack to"),
        "overlapping members": (overlapping("a.npy", good), "lies over another"),
        "100,000 members": (crowded("a.npy", 100_000), "more than 20,000 members"),
        "an array that is a folder": (patched(zipped({"a.npy": good}), CENTRAL, 38, b"\x10"), "is a folder"),
        "a directory of 2 GB": (patched(zipped({"a.npy": good}), END, 12, b"\xff\xff\xff\x7f"), "damaged"),
        "a comment at the end": (zipped({"a.npy": good})[:-2] + b"\x02\x00PK", "damaged"),
        "a name that ends early": (zipped({"a.npy": good}).replace(b"a.npy", b"a.np\0"), "reads? as another|no array"),
        "of another minor version": (zipped({"a.npy": good[:7] + b"\x01" + good[8:]}), "known"),
        "a shape that is a number": (zipped({"a.npy": npy(plain("(2)"), bytes(8))}), "not read here"),
        "a note": (zipped({"note.txt": b"hello"}), "no array"),
        "a flipped bit": (zipped({"a.npy": good}).replace(good, good[:-1] + b"\x01"), "checksum"),
        "encrypted": (patched(patched(zipped({"a.npy": good}), CENTRAL, 8, b"\x01"), LOCAL, 6, b"\x01"), "encrypted"),
        "another name in the directory": (patched(zipped({"a.npy": good}), CENTRAL, 46, b"b"), "disagrees"),
        "LFS pointer": (LFS, "Git LFS pointer"),
        "HTML": (HTML, "HTML page"),
        **{
            f"name: {kind}": (zipped({f"{name}.npy": good}), f"{NAMED}|disagrees|damaged|no array")
            for kind, name in BAD_NAMES.items()
            if len(name) < 2**16
        },
    }
    payloads = {"objects", "an object", "records of objects", "the same member twice"}
    return [
        Hostile(name=name, suffix=".npz", content=content, reason=reason, payload=call if name in payloads else None)
        for name, (content, reason) in files.items()
    ]


@functools.cache
def _understated() -> bytes:
    """Return an archive whose member unpacks to more than every header says of it."""
    data = zipped({"a.npy": npy(plain(f"({2**24},)"), bytes(2**26))}, zipfile.ZIP_DEFLATED)
    return patched(patched(data, CENTRAL, 24, struct.pack("<I", 4096)), LOCAL, 22, struct.pack("<I", 4096))
