"""Read a .pth, hash it and its tensors, write them as a .pdparams and hash that: unchecked, not read back, no manifest.

This is what remains of a conversion that changes no bytes once everything that makes it safe is taken away; the
unpickler is Python's own, which runs whatever a file tells it to. It takes the least that hashing and writing can take,
so `conversion.py` compares a conversion with it.

Usage: bare_conversion.py IN.pth OUT.pdparams
"""

import collections
import hashlib
import io
import mmap
import os
import pickle
import sys
import zipfile
from concurrent.futures import ThreadPoolExecutor

import click  # noqa: F401  # every command line imports it
import numpy as np

source, target = sys.argv[1:]
DTYPES = {"FloatStorage": np.float32, "LongStorage": np.int64}


def mapped(path):
    """Return a file's bytes, mapped and not yet read."""
    with open(path, "rb") as stream:  # noqa: PTH123
        return mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)


data, archive = mapped(source), zipfile.ZipFile(source)
(pickled,) = (name for name in archive.namelist() if name.endswith("/data.pkl"))


class Reader(pickle.Unpickler):
    """Reader of torch's pickle, whose tensors are views of the mapped file."""

    def find_class(self, module, name):
        """Return the stand-in for a class of torch's."""
        known = {"_rebuild_tensor_v2": self.tensor, "OrderedDict": collections.OrderedDict}
        return known.get(name, name)

    def tensor(self, storage, offset, size, stride, *_):
        """Return a tensor, which has to be contiguous."""
        return storage[offset : offset + int(np.prod(size))].reshape(size)

    def persistent_load(self, found):
        """Return a storage as a view of the mapped file."""
        _, kind, key, _, count = found
        at = archive.getinfo(pickled.replace("data.pkl", f"data/{key}")).header_offset
        name, extra = (int.from_bytes(data[at + where : at + where + 2], "little") for where in (26, 28))
        return np.frombuffer(data, DTYPES[kind], count, at + 30 + name + extra)


def sha256(content):
    """Return the SHA-256 of the content."""
    return hashlib.sha256(content).hexdigest()


with ThreadPoolExecutor(2) as beside:
    beside.submit(sha256, data)
    tensors = Reader(io.BytesIO(archive.read(pickled))).load()
    beside.submit(lambda: [sha256(tensor) for tensor in tensors.values()])
    with open(target, "wb") as stream:  # noqa: PTH123
        pickle.dump(dict(tensors), stream, protocol=4)
        stream.flush()
        os.fsync(stream.fileno())
    sha256(mapped(target))
