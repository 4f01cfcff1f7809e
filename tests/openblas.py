"""Which kernels NumPy's OpenBLAS computes with.

python tests/openblas.py ARGUMENTS: runs pytest with the arguments, then prints the kernels' name on the last line.
"""

from __future__ import annotations

import ctypes
import sys
from pathlib import Path

import numpy as np  # noqa: F401  # which loads the library
import pytest

MAPS = Path("/proc/self/maps")
PREFIXES, SUFFIXES = ("", "scipy_"), ("", "64_", "_64")
"""As it is built by itself and for NumPy's wheels, with integers of 32 and of 64 bits."""


def kernel() -> str:
    """Return the kernels' name, as OPENBLAS_CORETYPE has it; "" where there is none to be found.

    To be asked before another library has loaded an OpenBLAS of its own.
    """
    lines = MAPS.read_text().splitlines() if MAPS.exists() else []
    mapped = {line.split(maxsplit=5)[5] for line in lines if "openblas" in line}
    return next(filter(None, map(_name, map(ctypes.CDLL, sorted(mapped)))), "")


def _name(library: ctypes.CDLL) -> str:
    for symbol in (f"{prefix}openblas_get_corename{suffix}" for prefix in PREFIXES for suffix in SUFFIXES):
        if hasattr(library, symbol):
            function = getattr(library, symbol)
            function.restype = ctypes.c_char_p
            return str(function().decode())
    return ""


if __name__ == "__main__":
    name = kernel()
    status = pytest.main(sys.argv[1:])
    print(name)
    sys.exit(status)
