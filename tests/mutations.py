"""Mutations that know the formats: much of what comes out is well-formed, so that it is read and means something."""

from __future__ import annotations

import io
import itertools
import json
import pickletools
import random
import re
import struct
import warnings
import zipfile
from collections.abc import Callable
from typing import Any

from forge import CENTRAL, LOCAL, MARKER, ORDERED, array, bytes_of, dtype, dtype_state, number, numbers, text

TEXTS = [
    *("<", ">", "|", "=", "f4", "f2", "f8", "i1", "i2", "i4", "u1", "u2", "b1", "c8", "<f4", ">f4", "O8", "V4", "U1"),
    *("a", "b", "model", "state_dict", "latin1", "storage", "0", "1", "cpu", "data", "_metadata", "items", ""),
]
NUMBERS = [0, 1, 2, 3, 4, 5, 6, 8, 12, 16, 24, 63, 255, 256, 2**31 - 1, 2**31, 2**63 - 1, 2**63, -1]
GLOBALS = [
    b"cnumpy\ndtype\n",
    b"cnumpy\nndarray\n",
    b"cnumpy.core.multiarray\n_reconstruct\n",
    b"cnumpy._core.multiarray\n_reconstruct\n",
    b"cnumpy.core.multiarray\nscalar\n",
    b"c_codecs\nencode\n",
    b"ccollections\nOrderedDict\n",
    *(b"c" + module + b"\n" + name + b"\n" for module in (b"builtins", b"__builtin__") for name in (b"tuple", b"set")),
    b"c__builtin__\nbytes\n",
    *(b"ctorch\n" + name + b"\n" for name in (b"FloatStorage", b"HalfStorage", b"IntStorage", b"Tensor", b"Size")),
    *(
        b"ctorch._utils\n_rebuild_" + name + b"\n"
        for name in (b"tensor_v2", b"tensor_v3", b"parameter", b"parameter_with_state")
    ),
    b"ctorch._tensor\n_rebuild_from_type_v2\n",
]
FRAGMENTS = [
    *(b"\x89\x88\x87R", b"\x89\x89\x87R", b"K\x00K\x01\x87R", b"\x88\x88\x87R"),
    *(dtype_state(order) + b"b" for order in "<>|="),
    *(dtype("f4", ">"), dtype(arguments=b"\x89\x89", order=">"), dtype("i1", "|"), array(), array(order=">")),
    *(b"(K\x01" + numbers((2,)) + dtype() + b"\x89" + bytes_of(bytes(8)) + b"tb", MARKER, ORDERED, bytes_of(bytes(8))),
    *(b"N", b"\x88", b"\x89", b")", b"}", b"]", b"(", b"t", b"\x85", b"\x86", b"\x87", b"R", b"b", b"s", b"u", b"a"),
    *(b"e", b"\x94", b"\x81", b"\x8f", b"(\x90", b"(\x91", b"0", b"2", b"\x80\x02", b"\x80\x04", b"\x80\x05", b"."),
    *(b"q\x00", b"q\x01", b"h\x00", b"h\x01", b"h\x05", b"G\x3f\xf0" + bytes(6), b"\x95" + bytes(8)),
    b"}" + text("_metadata") + b"}sb",
    b"}" + text("data") + b"Ns",
    *GLOBALS,
]
FRAME = b"\x95"
INTEGERS = {"BININT", "BININT1", "BININT2", "LONG1"}
UNICODE = {"BINUNICODE", "SHORT_BINUNICODE"}
BYTES = {"BINBYTES", "SHORT_BINBYTES"}
MEMO = {"BINGET", "BINPUT", "LONG_BINGET", "LONG_BINPUT"}


def opcodes_of(data: bytes) -> list[bytes]:
    """Return a pickle's opcodes, each with its argument; without frames, which need not be."""
    places = [at for _, _, at in pickletools.genops(data)] + [len(data)]
    return [data[i:j] for i, j in itertools.pairwise(places) if data[i : i + 1] != FRAME]


def mutate_pickle(data: bytes, dice: random.Random) -> bytes:
    """Return a pickle with one to three of its opcodes changed, moved, doubled or lost."""
    opcodes = opcodes_of(data)
    for _ in range(dice.choice((1, 1, 1, 2, 2, 3))):
        dice.choice((_another_argument, _another_argument, _another_argument, _moved, _inserted, _gone))(opcodes, dice)
    return b"".join(opcodes)


def _another_argument(opcodes: list[bytes], dice: random.Random) -> None:
    """Change the argument of one opcode, of any kind that has one."""
    at = dice.randrange(len(opcodes))
    for i in (*range(at, len(opcodes)), *range(at)):
        if (changed := _changed(opcodes[i], dice)) is not None:
            opcodes[i] = changed
            return


def _changed(opcode: bytes, dice: random.Random) -> bytes | None:
    name, argument = _name_and_argument(opcode)
    if name in INTEGERS:
        value = dice.choice((*NUMBERS, argument + 1, argument - 1))
        return dice.choice((number(value), b"K" + bytes([value % 256]), b"\x88", b"\x89"))
    if name in UNICODE:
        return text(dice.choice(TEXTS))
    if name in MEMO:
        return opcode[:1] + dice.randrange(8).to_bytes(len(opcode) - 1, "little")
    if name in BYTES:
        return _bytes_changed(argument, dice)
    if name == "GLOBAL":
        return dice.choice(GLOBALS)
    return {"NEWTRUE": b"\x89", "NEWFALSE": b"\x88", "NONE": dice.choice((b"}", b"\x89", b")"))}.get(name)


def _name_and_argument(opcode: bytes) -> tuple[str, Any]:
    info, argument, _ = next(iter(pickletools.genops(opcode + b".")))
    return info.name, argument


def _bytes_changed(data: bytes, dice: random.Random) -> bytes:
    changed = bytearray(data)
    if changed:
        changed[dice.randrange(len(changed))] ^= 1 << dice.randrange(8)
    return bytes_of(dice.choice((bytes(changed), bytes(changed), bytes(changed), data + b"\0", data[:-1])))


def _moved(opcodes: list[bytes], dice: random.Random) -> None:
    """Swap two opcodes, or copy a run of them, such as a BUILD with its state, to some other place."""
    i, j, length = dice.randrange(len(opcodes)), dice.randrange(len(opcodes)), dice.randrange(1, 16)
    if dice.random() < 0.3:
        opcodes[i], opcodes[j] = opcodes[j], opcodes[i]
    else:
        run = opcodes[i : i + length]
        if dice.random() < 0.5:
            del opcodes[i : i + length]
        opcodes[j:j] = run


def _inserted(opcodes: list[bytes], dice: random.Random) -> None:
    opcodes.insert(dice.randrange(1, len(opcodes) + 1), dice.choice(FRAGMENTS))


def _gone(opcodes: list[bytes], dice: random.Random) -> None:
    del opcodes[dice.randrange(len(opcodes))]
    opcodes or opcodes.append(b".")


def _flipped(data: bytes, dice: random.Random) -> bytes:
    changed = bytearray(data)
    for _ in range(dice.choice((1, 1, 2, 4)) if data else 0):
        changed[dice.randrange(len(changed))] = dice.choice((0, 1, 0x10, 0xFF, dice.randrange(256)))
    return bytes(changed)


def mutate_archive(data: bytes, dice: random.Random, mutate: Callable[[str, bytes, random.Random], bytes]) -> bytes:
    """Return an archive with one member mutated, renamed, doubled or lost, packed again; or with other headers."""
    if dice.random() < 0.15:
        return _headers_changed(data, dice)
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            members = [(name, archive.read(name)) for name in archive.namelist()]
    except zipfile.BadZipFile:  # it has no checksums
        return _headers_changed(data, dice)
    weights = [20 if name.endswith((".pkl", ".npy")) else 1 for name, _ in members]
    chosen = dice.choices(range(len(members)), weights)[0]
    name, content = members[chosen]
    if (chance := dice.random()) < 0.85:
        members[chosen] = name, mutate(name, content, dice)
    elif chance < 0.88:
        members.insert(dice.randrange(len(members) + 1), (_in_capitals(name), dice.choice((b"big", content[::-1]))))
    elif chance < 0.92:
        members[chosen] = (
            dice.choice((name.upper(), name + "/", "x/" + name, name.replace("/", "//"), "a.npy")),
            content,
        )
    elif chance < 0.95:
        del members[chosen]
    else:
        members.insert(chosen, dice.choice(members))
    return _packed(members, dice.choice((zipfile.ZIP_STORED, zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)))


def _in_capitals(name: str) -> str:
    folder, slash, rest = name.partition("/")
    return folder + slash + rest.upper() if slash else name.upper()


def _packed(members: list[tuple[str, bytes]], method: int) -> bytes:
    stream = io.BytesIO()
    with warnings.catch_warnings(), zipfile.ZipFile(stream, "w", method) as archive:
        warnings.simplefilter("ignore", UserWarning)
        for name, content in members:
            archive.writestr(name, content)
    return stream.getvalue()


def _headers_changed(data: bytes, dice: random.Random) -> bytes:
    """Return an archive with a byte or two of some header changed."""
    places = [match.start() for match in re.finditer(re.escape(dice.choice((CENTRAL, LOCAL, b"PK\x05\x06"))), data)]
    if not places:
        return data
    changed, at = bytearray(data), dice.choice(places)
    for _ in range(dice.choice((1, 2))):
        place = min(at + 4 + dice.randrange(44), len(data) - 1)
        changed[place] = dice.choice((0, 1, 2, 8, 0x10, 0xFF, changed[place] ^ 1 << dice.randrange(8)))
    return bytes(changed)


def mutate_pth(data: bytes, dice: random.Random) -> bytes:
    """Return what torch.save may write, mutated: mostly the pickle in it."""
    return mutate_archive(data, dice, _pth_member)


def _pth_member(name: str, content: bytes, dice: random.Random) -> bytes:
    return mutate_pickle(content, dice) if name.endswith(".pkl") else _flipped(content, dice)


def mutate_npz(data: bytes, dice: random.Random) -> bytes:
    """Return a NumPy archive, mutated: mostly the headers of the arrays."""
    return mutate_archive(data, dice, _npy)


SHAPES = (
    "()",
    "(2,)",
    "(2)",
    "(2, 3)",
    "(3, 2)",
    "(02,)",
    "(2L,)",
    "(6,)",
    "(1, 6)",
    "(6, 1,)",
    "(0,)",
    "(-2,)",
    "(,6)",
)
HEADER_TEXTS = ("'", ",", " ", "True", "1", "\n", "#", "\\x41", "L", "}", "(", "é", "\0")


def _npy(_: str, content: bytes, dice: random.Random) -> bytes:
    if len(content) < 12 or dice.random() < 0.1:
        return _flipped(content, dice)
    length = int.from_bytes(content[8:10], "little")
    header, elements = content[10 : 10 + length].decode("latin-1"), content[10 + length :]
    match dice.randrange(6):
        case 0:
            header = re.sub(r"'descr': '[^']*'", f"'descr': '{dice.choice(TEXTS)}'", header)
        case 1:
            header = re.sub(r"\(.*\)", dice.choice(SHAPES), header)
        case 2:
            header = header.translate(str.maketrans({})).replace("False", "True")
        case 3:
            at = dice.randrange(len(header))
            header = header[:at] + dice.choice(HEADER_TEXTS) + header[at + dice.randrange(2) :]
        case 4:
            elements = _flipped(elements, dice)
        case 5:
            header = header.rstrip() + " " * dice.randrange(20) + dice.choice(("\n", "\n", "", "\n\n"))
    version = dice.choice((content[6:8], content[6:8], b"\x02\x00", b"\x03\x00", b"\x01\x01"))
    size = len(header.encode("utf-8" if version[0] == 3 else "latin-1"))
    head = b"\x93NUMPY" + version + size.to_bytes(2 if version[0] == 1 else 4, "little")
    return head + header.encode("utf-8" if version[0] == 3 else "latin-1") + elements


def mutate_safetensors(data: bytes, dice: random.Random) -> bytes:
    """Return a .safetensors, mutated: mostly what its header says."""
    length = int.from_bytes(data[:8], "little")
    header, elements = data[8 : 8 + length], data[8 + length :]
    match dice.randrange(4):
        case 0:
            header = _flipped(header, dice)
        case 1:
            elements = _flipped(elements, dice)
        case _:
            header = _entries_changed(json.loads(header), dice)
    return struct.pack("<Q", len(header)) + header + elements


SAFE_DTYPES = (
    "F32",
    "F16",
    "BF16",
    "I32",
    "U32",
    "I16",
    "U16",
    "I8",
    "U8",
    "BOOL",
    "F64",
    "I64",
    "F8_E4M3",
    "C64",
    "f32",
)
SAFE_SHAPES = ([], [2], [1, 2], [2, 3], [6], [0], [1], [-1], [2.0], [True], ["2"], [2**63], [1] * 70)


def _entries_changed(header: dict[str, Any], dice: random.Random) -> bytes:
    name = dice.choice(list(header))
    entry = header[name]
    match dice.randrange(7) if "dtype" in entry else 6:
        case 0:
            entry["dtype"] = dice.choice(SAFE_DTYPES)
        case 1:
            entry["shape"] = dice.choice((*SAFE_SHAPES, entry["shape"][::-1], [1, *entry["shape"]]))
        case 2:
            entry["data_offsets"][dice.randrange(2)] += dice.choice((-8, -4, -1, 1, 4, 8))
        case 3:
            other = dice.choice(list(header))
            header[name], header[other] = header[other], entry
        case 4:
            header[dice.choice(("a", "é", "\u202e", "", "__metadata__", "\ud800"))] = header.pop(name)
        case 5:
            entry[dice.choice(("note", "dtype "))] = dice.choice((1, None, "x"))
        case _:
            header["__metadata__"] = dice.choice(({}, {"a": "b"}, {"a": 1}, None, []))
    return json.dumps(header, ensure_ascii=dice.random() < 0.5).encode("utf-8", "surrogatepass")


MUTATORS: dict[str, Callable[[bytes, random.Random], bytes]] = {
    "pdparams": mutate_pickle,
    "pth": mutate_pth,
    "npz": mutate_npz,
    "safetensors": mutate_safetensors,
}
