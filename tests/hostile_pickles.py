"""Hostile pickles: as .pdparams, and as batches of CIFAR-10."""

from __future__ import annotations

import io
import struct
import tarfile

from cifar_files import META, TEST, python_files
from forge import array, big_endian_forgery, bytes_of, dtype, dtype_state, numbers, text, torch_zip, weight
from hostile import BAD_NAMES, HTML, LFS, NAMED, Hostile, executing

HANDS = "hands its own weights to something unknown.*nothing was executed"
PATH = b"cpathlib\nPosixPath\n" + text("x") + b"\x85R"
LAUGHING = ("a key", "a function", "a module", "a dtype", "a codec", "a shape", "a byte order", "a state")


def pdparams(canary: str) -> list[Hostile]:
    files = {
        "second pickle": (
            weight(array()) + weight(b"cio\nopen\n" + text(canary) + text("w") + b"\x86R"),
            "more after the end",
        ),
        "persistent id": (weight(b"Pstorage\n"), "uses PERSID"),
        "binary persistent id": (weight(text("storage") + b"Q"), "uses BINPERSID"),
        "extension 1": (weight(b"\x82\x01"), "uses EXT1"),
        "extension 2": (weight(b"\x83\x01\x01"), "uses EXT2"),
        "extension 4": (weight(b"\x84\x01\x01\x01\x01"), "uses EXT4"),
        "newobj": (weight(b"cnumpy\nndarray\n" + numbers((2,)) + b"\x81"), "uses NEWOBJ"),
        "next buffer": (weight(b"\x97"), "uses NEXT_BUFFER"),
        "bytearray of 2**64 - 1": (weight(b"\x96" + b"\xff" * 8), "damaged"),
        "bytes of 2**64 - 1": (weight(b"\x8e" + b"\xff" * 8), "damaged"),
        "text of 2**63": (weight(b"\x8d" + struct.pack("<Q", 2**63)), "damaged"),
        "text of 4 GiB": (weight(b"X\xff\xff\xff\xff"), "damaged"),
        "a frame of 2**64 - 1": (b"\x80\x04\x95" + b"\xff" * 8, "damaged"),
        "decimal bomb": (weight(b"I" + b"9" * 1_000_000 + b"\n"), "damaged"),
        "number bomb": (weight(b"\x8b" + struct.pack("<i", 2**31 - 1)), "damaged"),
        "memo of 4 billion": (weight(b"]r\xff\xff\xff\xff"), "not a tensor"),
        "itself": (b"\x80\x04}q\x00(" + text("a") + b"h\x00u.", "not a tensor but a dict"),
        "a list in itself": (weight(b"]q\x00h\x00a"), "not a tensor but a list"),
        "itself as the weights": (b"\x80\x04}q\x00(" + text("model") + b"h\x00u.", "not a tensor but a dict"),
        "tuples 100,000 deep": (weight(b")" + b"\x85" * 100_000), "more than 32 deep"),
        "lists 100,000 deep": (weight(b"]" * 100_000 + b"a" * 99_999), "more than 32 deep"),
        "dicts 100,000 deep": (weight((b"}" + text("a")) * 100_000 + b"N" + b"s" * 100_000), "more than 32 deep"),
        "marks": (b"\x80\x04" + b"(" * 400_000 + b".", "more than one object|damaged"),
        "a million opcodes": (b"\x80\x04" + b"]" * 1_000_000 + b".", "500,000 opcodes"),
        "a million memos": (b"\x80\x04]" + b"\x94" * 1_000_000 + b".", "500,000 opcodes"),
        "30,000 dimensions": (weight(array(numbers((2**2000,) * 30_000))), "damaged"),
        "shape too large": (weight(array(numbers((2**40,)))), "damaged"),
        "shape that overflows": (weight(array(numbers((2**62, 4)))), "damaged"),
        "negative shape": (weight(array(numbers((-2,)))), "damaged"),
        "shape of text": (weight(array(text("2"))), "damaged"),
        "object dtype": (weight(array(code="O8", data=b"]")), "dtype 'O8'"),
        "record dtype": (weight(array(code="V8")), "dtype 'V8'"),
        "byte order": (weight(array(order="?")), "byte order"),
        "the same bytes in 1,000 arrays": (_shared(), "more data than a file of its size"),
        "another codec": (weight(b"c_codecs\nencode\n" + text("a" * 99) + text("zlib") + b"\x86R"), "codec 'zlib'"),
        "tuple of an iterable": (weight(b"cbuiltins\ntuple\n" + text("abc") + b"\x85R"), "damaged"),
        "the same name twice": (b"\x80\x04}(" + 2 * (text("a") + array()) + b"u.", "'a' twice"),
        "name of bytes": (b"\x80\x04}(" + bytes_of(b"a") + array() + b"u.", "key that is not text"),
        "slices of slices": (_slices(), "do not fit together"),
        "the weights in something's hands": (_given_away(b"coperator\nsetitem\n(h\x01" + text("a") + b"NtR"), HANDS),
        "the weights in something's state": (_given_away(b"cx\nKind\n)\x81h\x01b"), HANDS),
        "another items": (_ordered(text("items") + b"cos\nsystem\n"), "attributes of an OrderedDict"),
        "another keys": (_ordered(text("_metadata") + b"}" + text("keys") + b"N"), "attributes of an OrderedDict"),
        "a byte order that NumPy ignores": (weight(big_endian_forgery(bytes(8))), "a dtype otherwise than NumPy"),
        "an array built twice": (weight(array() + dtype_state() + b"b"), "gives an array its data twice"),
        "a dtype built twice": (
            weight(array(dtype_=dtype() + dtype_state(">") + b"b")),
            "gives a dtype its state twice",
        ),
        "a name that equals another": (_equal(), HANDS),
        "settings for a weight": (
            weight(b"cargparse\nNamespace\n)\x81}b"),
            r"argparse\.Namespace.*nothing was executed",
        ),
        "a set for a weight": (weight(b"\x8f"), "not a tensor but a set"),
        "a path as a name": (b"\x80\x04}(" + PATH + array() + b"u.", HANDS),
        "LFS pointer": (LFS, "Git LFS pointer"),
        "HTML": (HTML, "HTML page"),
        "empty": (b"", "it is empty"),
        "zip": (torch_zip(weight(array())), "zip archive"),
        **{f"name: {kind}": (weight(array(), name), NAMED) for kind, name in BAD_NAMES.items()},
        **{
            f"laughs as {what}": (_laughing(what), "deep|uses DUP|not text|damaged|not a function") for what in LAUGHING
        },
    }
    payloads = {f"executing: {name}": value for name, value in executing(canary).items()}
    made = [
        Hostile(name=name, suffix=".pdparams", content=content, reason=reason)
        for name, (content, reason) in files.items()
    ]
    return made + [
        Hostile(name=name, suffix=".pdparams", content=content, reason=reason, payload=content)
        for name, (content, reason) in payloads.items()
    ]


def _given_away(opcodes: bytes) -> bytes:
    """Return a pickle of weights, which opcodes after them can give away as memo 1."""
    return b"\x80\x04}(" + text("model") + b"}q\x01" + text("a") + array() + b"s" + text("more") + opcodes + b"u."


def _ordered(attributes: bytes) -> bytes:
    """Return a pickle of an OrderedDict with attributes."""
    return b"\x80\x04ccollections\nOrderedDict\n)R" + text("a") + array() + b"s}(" + attributes + b"ub."


def _equal() -> bytes:
    """Return a pickle with a second entry, whose name is a kind of text that is equal to the first one's."""
    key = b"cnumpy\nstr_\n" + text("model") + b"\x85R"
    weights = b"}" + text("a") + array() + b"s"
    return b"\x80\x04}(" + text("model") + weights + key + weights + b"u."


def _laughing(what: str) -> bytes:
    """Return a pickle with a tuple that takes 2**28 steps to hash, in a place where it would be hashed or printed."""
    bomb = b")" + b"q\x00h\x00\x86" * 28
    return {
        "a key": b"\x80\x04}" + bomb + b"Ns.",
        "a function": weight(bomb + b")R"),
        "a module": weight(bomb + text("a") + b"\x93"),
        "a dtype": weight(b"cnumpy\ndtype\n" + bomb + b"\x85R"),
        "a codec": weight(b"c_codecs\nencode\n" + text("a") + bomb + b"\x86R"),
        "a shape": weight(array(bomb)),
        "a byte order": weight(b"cnumpy\ndtype\n" + text("f4") + b"\x85R(K\x03" + bomb + b"tb"),
        "a state": weight(b"cnumpy\ndtype\n" + text("f4") + b"\x85R" + bomb + b"b"),
    }[what]


def _shared() -> bytes:
    """Return a pickle of 1,000 big-endian arrays over the same 1 MB, each of which has to be a copy."""
    first = array(numbers((250_000,)), order=">", data=bytes_of(bytes(1_000_000)) + b"q\x09")
    again = array(numbers((250_000,)), order=">", data=b"h\x09")
    return b"\x80\x04}(" + text("0") + first + b"".join(text(str(i)) + again for i in range(1, 1000)) + b"u."


def _slices() -> bytes:
    """Return what paddle.save writes of a large tensor, whose parts are named 1,000 times."""
    names = b"](" + text("a@@.0") * 1000 + b"e"
    info = b"}(" + text("OriginShape") + numbers((2000,)) + text("slices") + names + b"u"
    return b"\x80\x03}(" + text("a@@.0") + array() + text("UnpackBigParamInfor@@") + b"}" + text("a") + info + b"su."


def cifar(canary: str) -> list[Hostile]:
    """Return CIFAR-10 archives whose test batch, or whose meta file, is a hostile pickle."""
    made = []
    for name, (payload, reason) in executing(canary).items():
        if "uses" not in reason or "INST" in reason:
            content = {**python_files(), META if name == "eval" else TEST: payload}
            made.append((f"executing: {name}", content, reason, payload))
    deep = b"\x80\x02" + b"]" * 100_000 + b"a" * 99_999 + b"."
    made.append(("lists 100,000 deep", {**python_files(), TEST: deep}, "more than 32 deep", None))
    made.append(("opcodes", {**python_files(), TEST: b"\x80\x02" + b"]" * 1_000_000 + b"."}, "500,000 opcodes", None))
    return [
        Hostile(name=name, suffix=".tar.gz", content=_archive(content), reason=reason, payload=payload)
        for name, content, reason, payload in made
    ]


def _archive(files: dict[str, bytes]) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz", compresslevel=1) as tar:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return stream.getvalue()
