"""Read the files of a folder through the commands, in a process whose audit hook notes what happens, as JSON.

python tests/read_hostile.py FOLDER: reads FOLDER/benign/* to import all that reading needs, then FOLDER/hostile/*.
python tests/read_hostile.py FOLDER unpickle: unpickles FOLDER/payloads/*, to see which of them make FOLDER/canary.
"""

from __future__ import annotations

import json
import pickle
import sys
import warnings
from pathlib import Path
from typing import Any

from click.testing import CliRunner

NOTED = ("import", "exec", "compile", "subprocess.", "socket.", "os.system", "os.exec", "os.fork", "os.posix_spawn")
NOTED += ("os.spawn", "os.startfile", "os.putenv", "pty.", "ctypes.", "marshal.", "pickle.", "code.__new__", "shutil.")
WRITING = set("wax+")


def note(events: list[str], event: str, arguments: tuple[Any, ...]) -> None:
    """Note an event that reading a file has no need of."""
    if (event, arguments) == ("ctypes.dlopen", (None,)) or (event == "ctypes.dlsym" and arguments[1] == "signal"):
        return  # the commands' own guard against files that are cut short, which is there before a file is opened
    if event.startswith(NOTED) or (event == "open" and WRITING & set(str(arguments[1]))):
        events.append(f"{event} {str(arguments)[:120]}")


def read(path: Path) -> tuple[int, str]:
    """Return the exit code and the sentence of the command that reads such a file."""
    if path.suffix == ".gz":
        from convert.errors import MixerConvertError
        from reports.data.cifar10 import read_cifar10

        try:
            read_cifar10(path)
        except MixerConvertError as error:
            return error.exit_code, str(error)
        return 0, ""
    from convert.commands.cli import main

    result = CliRunner().invoke(main, ["inspect", str(path)])
    return result.exit_code, result.output


def read_all(folder: Path) -> dict[str, Any]:
    """Return for each hostile file the exit code, the sentence, the events, and the memory in MiB."""
    for _ in range(2):  # what an error imports, too
        for path in sorted((folder / "benign").iterdir()):
            read(path)
    import gc
    import linecache  # noqa: F401
    import traceback  # noqa: F401

    gc.collect()
    gc.freeze()  # what is here already is looked through no more
    events: list[str] = []
    sys.addaudithook(lambda event, arguments: note(events, event, arguments))
    before, found = _peak(), {}
    for path in sorted((folder / "hostile").iterdir()):
        events.clear()
        code, sentence = read(path)
        seen = list(events)
        gc.collect()
        found[path.name] = {"exit": code, "sentence": sentence, "events": seen, "grown": _peak() - before}
    events.clear()
    pickle.loads(b"cimportlib\nimport_module\n(Vthis\ntR.")
    return {"files": found, "self-check": list(events), "grown": _peak() - before}


def unpickle_all(folder: Path) -> dict[str, bool]:
    """Return for each payload whether unpickling it makes the canary."""
    canary, found = folder / "canary", {}
    for path in sorted((folder / "payloads").iterdir()):
        with warnings.catch_warnings(), path.open("rb") as stream:
            warnings.simplefilter("ignore")
            try:
                while stream.read(1):
                    stream.seek(-1, 1)
                    pickle.load(stream)
            except Exception:  # noqa: BLE001  # it may fail after it did what it was made for
                pass
        found[path.name] = canary.exists()
        canary.unlink(missing_ok=True)
    return found


def _peak() -> int:
    """Return the greatest memory so far, in MiB; unlike getrusage's figure it never includes the parent's."""
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(status["VmHWM"].split()[0]) >> 10


if __name__ == "__main__":
    target = Path(sys.argv[1])
    json.dump(unpickle_all(target) if sys.argv[2:] else read_all(target), sys.stdout)
