"""Coverage-guided fuzzing: python tests/fuzz_readers.py {pdparams,pth,npz,safetensors} -max_total_time=600

Options after the format are libFuzzer's. A finding is anything but a tensor mapping or an error of ours: a traceback, a
crash, a hang of more than 10 seconds, or more than 1 GiB of memory. Needs atheris, which has wheels for Linux.
"""

from __future__ import annotations

import atexit
import io
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["convert", "pickletools", "zipfile", "json"]):
    import pickletools  # noqa: F401

    from convert import files
    from convert.errors import MixerConvertError
    from convert.files import npz, pdparams, pth, safetensors  # noqa: F401

TOUCHED = 1 << 20
"""Bytes of an array up to which all of it is read: a view outside the file would crash here."""
DEFAULTS = ("-timeout=10", "-rss_limit_mb=1024", "-max_len=4096", "-print_final_stats=1")


def read(path: Path, data: bytes) -> None:
    """Read the data as a file and all of its tensors; raises what the readers may not."""
    path.write_bytes(data)
    try:
        tensors = files.read(path)
    except MixerConvertError:
        return
    for array in tensors.values():
        if array.nbytes <= TOUCHED:
            array.tobytes()


def mutate_archive(data: bytes, max_size: int, seed: int) -> bytes:
    """Mutate one member of a zip archive and pack it again with true sizes and checksums, else the bytes themselves."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            members = {info: archive.read(info) for info in archive.infolist()}
    except Exception:  # noqa: BLE001  # whatever the standard library says of an archive that is none
        return bytes(atheris.Mutate(data, max_size))
    if seed % 4 == 0 or not members:
        return bytes(atheris.Mutate(data, max_size))
    chosen, packed = list(members)[seed // 4 % len(members)], io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for info, content in members.items():
            mutated = bytes(atheris.Mutate(content, max(len(content) * 2, 64))) if info is chosen else content
            archive.writestr(info.filename, mutated, compress_type=info.compress_type)
    return packed.getvalue() if packed.tell() <= max_size else bytes(atheris.Mutate(data, max_size))


def mutate_header(data: bytes, max_size: int, seed: int) -> bytes:
    """Mutate the header of a .safetensors and set its length right, or mutate the bytes themselves."""
    length = int.from_bytes(data[:8], "little")
    if seed % 4 == 0 or length > len(data):
        return bytes(atheris.Mutate(data, max_size))
    header = bytes(atheris.Mutate(data[8 : 8 + length], max_size // 2))
    return (len(header).to_bytes(8, "little") + header + data[8 + length :])[:max_size]  # atheris takes no more


MUTATORS = {"pth": mutate_archive, "npz": mutate_archive, "safetensors": mutate_header}


def main() -> None:
    """Fuzz the reader of a format; findings are written to the working directory as crash-*, timeout-* or oom-*."""
    form, *options = sys.argv[1:]
    folder = Path(tempfile.mkdtemp(dir="/dev/shm" if os.access("/dev/shm", os.W_OK) else None))
    corpus, path = folder / "corpus", folder / f"x.{form}"
    corpus.mkdir()
    benign = Path(__file__).with_name("benign.py")  # in a process of its own: this one is to stay without frameworks
    subprocess.run([sys.executable, "-W", "ignore", benign, corpus, f".{form}"], check=True, stderr=subprocess.DEVNULL)
    arguments = [sys.argv[0], *DEFAULTS, *options, str(corpus)]
    atheris.Setup(arguments, lambda data: read(path, data), custom_mutator=MUTATORS.get(form))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
