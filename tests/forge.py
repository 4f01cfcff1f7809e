"""Files put together byte by byte, so that they can lie: pickles, torch's archives, .npz and .safetensors."""

from __future__ import annotations

import functools
import io
import json
import pickle
import struct
import warnings
import zipfile
import zlib

HALF_A_GIB = 2**29
LOCAL, CENTRAL, END = b"PK\x03\x04", b"PK\x01\x02", b"PK\x05\x06"


def text(string: str) -> bytes:
    data = string.encode("utf-8", "surrogatepass")
    return b"X" + struct.pack("<I", len(data)) + data


def number(value: int) -> bytes:
    data = pickle.encode_long(value)
    return b"\x8a" + bytes([len(data)]) + data


def numbers(values: tuple[int, ...]) -> bytes:
    return b"(" + b"".join(map(number, values)) + b"t"


def bytes_of(data: bytes) -> bytes:
    return b"B" + struct.pack("<I", len(data)) + data


def weight(opcodes: bytes, name: str = "weight", protocol: int = 4) -> bytes:
    """Return the pickle of a dict with one entry."""
    return b"\x80" + bytes([protocol]) + b"}(" + text(name) + opcodes + b"u."


MARKER = b"C\x01b"
"""What NumPy passes to _reconstruct, for no reason any more."""
ORDERED = b"ccollections\nOrderedDict\n)R"


def dtype_state(order: str = "<") -> bytes:
    """Return the opcodes of what NumPy gives a dtype as its state."""
    return b"(K\x03" + text(order) + b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00t"


def dtype(code: str = "f4", order: str = "<", arguments: bytes = b"\x89\x88", state: bytes | None = None) -> bytes:
    """Return the opcodes of a NumPy dtype."""
    made = b"cnumpy\ndtype\n" + text(code) + arguments + b"\x87R"
    return made + (dtype_state(order) if state is None else state) + b"b"


def array(
    shape: bytes = numbers((2,)),
    code: str = "f4",
    data: bytes = bytes_of(bytes(8)),
    order: str = "<",
    dtype_: bytes | None = None,
) -> bytes:
    """Return the opcodes of a NumPy array."""
    head = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85" + MARKER + b"\x87R"
    return head + b"(K\x01" + shape + (dtype_ or dtype(code, order)) + b"\x89" + data + b"tb"


def big_endian_forgery(data: bytes) -> bytes:
    """Return the opcodes of an array whose dtype is told to be big-endian, and in NumPy is not: it is not a copy."""
    return array(numbers((len(data) // 4,)), data=bytes_of(data), dtype_=dtype(order=">", arguments=b"\x89\x89"))


def storage(key: str = "0", size: int = 6, kind: str = "FloatStorage") -> bytes:
    return b"(" + text("storage") + b"ctorch\n" + kind.encode() + b"\n" + text(key) + text("cpu") + number(size) + b"tQ"


def tensor(
    source: bytes = b"", offset: int = 0, size: tuple[int, ...] = (2, 3), stride: tuple[int, ...] = (3, 1)
) -> bytes:
    """Return the opcodes of a torch tensor."""
    head = b"ctorch._utils\n_rebuild_tensor_v2\n(" + (source or storage())
    return head + number(offset) + numbers(size) + numbers(stride) + b"\x89ccollections\nOrderedDict\n)RtR"


def torch_zip(data_pkl: bytes, **members: bytes) -> bytes:
    """Return what torch.save would write around a pickle."""
    content = {"data.pkl": data_pkl, "byteorder": b"little", "data/0": bytes(24), "version": b"3\n", **members}
    return zipped({f"x/{name}": data for name, data in content.items()})


def zipped(members: dict[str, bytes], method: int = zipfile.ZIP_STORED) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", method) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return stream.getvalue()


def patched(data: bytes, signature: bytes, offset: int, new: bytes, *, nth: int = 0) -> bytes:
    """Return a zip archive with some bytes of its nth header changed."""
    at = -1
    for _ in range(nth + 1):
        at = data.index(signature, at + 1)
    return data[: at + offset] + new + data[at + offset + len(new) :]


def twice(members: list[tuple[str, bytes]]) -> bytes:
    stream = io.BytesIO()
    with warnings.catch_warnings(), zipfile.ZipFile(stream, "w") as archive:
        warnings.simplefilter("ignore", UserWarning)
        for name, data in members:
            archive.writestr(name, data)
    return stream.getvalue()


def huge_member(name: str, fields: tuple[int, int] = (24, 28)) -> bytes:
    """Return an archive whose directory says 2**64 - 1 in these bytes of a member's entry (ZIP64), such as its size."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive, archive.open(name, "w", force_zip64=True) as member:
        member.write(bytes(64))
    data = stream.getvalue()
    extra = struct.pack("<HHQ", 1, 8, 2**64 - 1)
    at = data.index(CENTRAL)
    header = bytearray(data[at : at + 46])
    header[slice(*fields)], header[30:32] = b"\xff" * 4, struct.pack("<H", len(extra))
    end = data.index(END)
    tail = bytearray(data[end:])
    tail[12:16] = struct.pack("<I", 46 + len(name) + len(extra))
    return data[:at] + bytes(header) + name.encode() + extra + bytes(tail)


@functools.cache
def bomb(name: str, size: int = HALF_A_GIB) -> bytes:
    """Return an archive of zeros, a thousandth of what it unpacks to; of which one part is deflated, once."""
    part, count = bytes(2**20), size >> 20
    deflate = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    content = (deflate.compress(part) + deflate.flush(zlib.Z_FULL_FLUSH)) * count + deflate.flush()
    checksum = functools.reduce(lambda crc, _: zlib.crc32(part, crc), range(count), 0)
    data = bytearray(zipped({name: content}))
    for fields in (8, data.index(CENTRAL) + 10):
        struct.pack_into("<H", data, fields, zipfile.ZIP_DEFLATED)
        struct.pack_into("<I", data, fields + 6, checksum)
        struct.pack_into("<I", data, fields + 14, size)
    return bytes(data)


def overlapping(name: str, data: bytes) -> bytes:
    """Return an archive with one member whose content is another, whole member, which the directory names too."""
    inner = zipped({f"{name}.inner": data})
    outer = zipped({name: inner})
    end = outer.rindex(END)
    entry = bytearray(inner[inner.index(CENTRAL) : inner.index(END)])
    entry[42:46] = struct.pack("<I", outer.index(inner))
    first = outer[outer.rindex(CENTRAL) : end]
    tail = bytearray(outer[end:])
    tail[8:20] = struct.pack("<HHII", 2, 2, len(first) + len(entry), len(outer) - len(tail) - len(first))
    return outer[: end - len(first)] + first + bytes(entry) + bytes(tail)


def crowded(name: str, count: int) -> bytes:
    """Return an archive whose directory names its one member so many times."""
    one = zipped({name: b""})
    at, end = one.index(CENTRAL), one.rindex(END)
    tail = bytearray(one[end:])
    tail[12:16] = struct.pack("<I", (end - at) * count)
    return one[:at] + one[at:end] * count + bytes(tail)


def npy(header: str, data: bytes = b"", version: int = 1, length: int | None = None) -> bytes:
    """Return a .npy of any header."""
    head = header.encode() + b"\n"
    size = (len(head) if length is None else length).to_bytes(2 if version == 1 else 4, "little")
    return b"\x93NUMPY" + bytes([version, 0]) + size + head + data


def plain(shape: str = "(2,)", descr: str = "'<f4'") -> str:
    return f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}"


def safetensors(header: str | bytes, data: bytes = bytes(8), length: int | None = None) -> bytes:
    """Return a .safetensors of any header."""
    header_ = header.encode("utf-8", "surrogatepass") if isinstance(header, str) else header
    return struct.pack("<Q", len(header_) if length is None else length) + header_ + data


def entry(name: str = "a", dtype: str = '"F32"', shape: str = "[2]", offsets: str = "[0,8]") -> str:
    return f'{json.dumps(name)}:{{"dtype":{dtype},"shape":{shape},"data_offsets":{offsets}}}'
