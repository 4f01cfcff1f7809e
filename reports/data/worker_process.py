"""The process that runs `reports.data.worker`, as seen by its parent."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import IO, cast

from convert.errors import IOProblem, printable
from reports.data.worker import DONE

SIGNALS = {signal.SIGINT, signal.SIGTERM}


class WorkerProcess:
    """A process that makes parts of batches.

    It blocks SIGINT and SIGTERM, which the whole process group gets, so that only its parent, the process that starts
    it, acts on them. It ends when its parent does.

    Args:
        told: Its work, as JSON for `worker.main`.
        descriptors: Descriptors of the memory that it shares.

    Raises:
        IOProblem: It could not be started.
    """

    def __init__(self, told: str, descriptors: tuple[int, ...]) -> None:
        root = str(Path(__file__).parents[2])
        path = os.pathsep.join([root, *filter(None, [os.environ.get("PYTHONPATH")])])
        before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)  # a new process inherits the blocked signals
        try:
            self._process = subprocess.Popen(  # noqa: S603  # our own program
                [sys.executable, "-P", "-m", "reports.data.worker", told],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                pass_fds=descriptors,
                env={**os.environ, "PYTHONPATH": path, "OPENBLAS_NUM_THREADS": "1"},
            )
        except OSError as error:
            raise IOProblem(
                f"A process that makes images could not be started ({error.strerror}). Pass --workers 0."
            ) from error
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        self._requests = cast("IO[bytes]", self._process.stdin)
        self._answers = cast("IO[bytes]", self._process.stdout)

    def ask(self, *request: int) -> None:
        """Send a request.

        Raises:
            IOProblem: The process is gone.
        """
        try:
            self._requests.write(" ".join(map(str, request)).encode() + b"\n")
            self._requests.flush()
        except BrokenPipeError as error:
            raise self._failed(b"") from error

    def wait(self) -> None:
        """Wait until the oldest request not yet waited for is done.

        Raises:
            IOProblem: The process failed, or is gone.
        """
        answer = self._answers.readline()
        if answer != DONE:
            raise self._failed(answer)

    def end(self) -> None:
        """Kill the process, whatever it is doing."""
        self._process.kill()
        self._process.wait()
        self._answers.close()
        with contextlib.suppress(BrokenPipeError):
            self._requests.close()

    def _failed(self, answer: bytes) -> IOProblem:
        how = printable(answer.decode(errors="replace").strip())
        if not how:
            code = self._process.wait()
            how = f"ended by {signal.Signals(-code).name}" if code < 0 else f"ended with {code}"
        return IOProblem(
            f"A process that makes images failed ({how}). Is there enough memory? Run again with --workers 0, a "
            "fine-tuning with --resume too."
        )
