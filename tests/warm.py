"""Commands of a shell in processes that have modules loaded already: to import the frameworks takes 4 s each time.

Run as a script, it imports them, listens, and forks a process for each command. Tests use `Warm`, which has a folder
of commands to be found first on PATH; each of them asks the script, and ends as its process does.
"""

from __future__ import annotations

import gc
import importlib
import importlib.metadata
import json
import os
import runpy
import select
import shutil
import socket
import subprocess
import sys
import tempfile
import traceback
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

FRAMEWORKS = ("torch", "torchvision", "timm", "paddle")
COMMANDS = ("python", "mixer-align", "mixer-report")
CLIENT = """#!{python} -IS
import json, os, socket, sys

with socket.socket(socket.AF_UNIX) as server:
    server.connect({address!r})
    socket.send_fds(server, [b"+"], [0, 1, 2])
    request = {{"argv": sys.argv, "folder": os.getcwd(), "environment": dict(os.environ)}}
    server.sendall(json.dumps(request).encode())
    server.shutdown(socket.SHUT_WR)
    status = int(server.makefile().read() or 70)
if status < 0:
    os.kill(os.getpid(), -status)
sys.exit(status)
"""


class Warm:
    """The process, and `path`, the folder of its commands. To be used in a `with`."""

    def __init__(self, modules: Sequence[str] = FRAMEWORKS, commands: Sequence[str] = COMMANDS) -> None:
        self._modules, self._commands = modules, commands

    def __enter__(self) -> Self:
        self._folder = Path(tempfile.mkdtemp(prefix="warm"))
        self.path, address = self._folder / "bin", self._folder / "socket"
        self.path.mkdir()
        for name in self._commands:
            command = self.path / name
            command.write_text(CLIENT.format(python=sys.executable, address=str(address)))
            command.chmod(0o755)
        run = [sys.executable, "-P", str(Path(__file__).resolve()), str(address), *self._modules]
        self._process = subprocess.Popen(run, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert self._process.stdout is not None
        assert self._process.stdout.readline(), "it has ended already"
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate()
        shutil.rmtree(self._folder)
        assert self._process.returncode == 0


def serve(address: str, *modules: str) -> None:
    """Answer until standard input ends."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name in modules:
            importlib.import_module(name)
    gc.freeze()  # what is not looked through is not copied
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(address)
        listening.listen()
        print("listening", flush=True)
        while sys.stdin not in select.select([sys.stdin, listening], [], [])[0]:
            client, _ = listening.accept()
            if os.fork() == 0:
                answer(client)
            client.close()


def answer(client: socket.socket) -> None:
    """Run one command in a process of its own, and tell how it ended; this process ends with it."""
    _, streams, _, _ = socket.recv_fds(client, 1, 3)
    request = json.loads(client.makefile().read())
    if (pid := os.fork()) == 0:
        client.close()
        for number, stream in enumerate(streams):
            os.dup2(stream, number)
            os.close(stream)
        os._exit(status_of(**request))
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    client.sendall(str(status).encode())
    os._exit(0)


def status_of(argv: list[str], folder: str, environment: dict[str, str]) -> int:
    """Run a command as a process that begins with it would; return its exit code."""
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    sys.path[:0] = [path for path in environment.get("PYTHONPATH", "").split(os.pathsep) if path]
    code: Any = 0
    try:
        run(Path(argv[0]).name, argv)
    except SystemExit as end:
        code = end.code
    except BaseException:  # noqa: BLE001  # as the interpreter does where nobody catches it
        traceback.print_exc()
        code = 1
    if code is not None and not isinstance(code, int):
        print(code, file=sys.stderr)
        code = 1
    sys.stdout.flush()
    sys.stderr.flush()
    return code or 0


def run(name: str, argv: list[str]) -> None:
    """Do what the command of this name does; a `python` that is not given a script is one of its own."""
    sys.argv = argv
    if name != "python":
        command = next(iter(importlib.metadata.entry_points(group="console_scripts", name=name)))
        sys.exit(command.load()())
    sys.argv = argv[1:]
    if sys.argv[:1] == ["-"]:
        sys.path.insert(0, "")
        exec(compile(sys.stdin.read(), "<stdin>", "exec"), {"__name__": "__main__"})
    elif sys.argv and not sys.argv[0].startswith("-"):
        sys.path.insert(0, str(Path(sys.argv[0]).resolve().parent))
        runpy.run_path(sys.argv[0], run_name="__main__")
    elif sys.argv[:2] == ["-m", "pytest"]:
        sys.path.insert(0, str(Path.cwd()))
        del sys.argv[0]
        runpy.run_module("pytest", run_name="__main__", alter_sys=True)
    else:
        os.execv(sys.executable, [sys.executable, *argv[1:]])


if __name__ == "__main__":
    serve(*sys.argv[1:])
