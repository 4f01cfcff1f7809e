"""The per-image file, .npz or .csv, that all statistics follow from. The same predictions give the same bytes."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from convert.arrays import Array
from convert.disk.atomic import refuse_overwrite, write_atomically
from convert.errors import IntegrityProblem, IOProblem, Unreadable, UsageProblem
from convert.files import npz
from reports.score.accuracy import Predictions

DTYPES: dict[str, type] = {
    "labels": np.int64,
    "predictions": np.int64,
    "margins": np.float64,
    "losses": np.float64,
    "reference_predictions": np.int64,
    "logit_diffs": np.float64,
}
OPTIONAL = ("reference_predictions", "logit_diffs")
SUFFIXES = (".npz", ".csv")


def check_target(path: Path, *, force: bool, inputs: tuple[Path, ...] = ()) -> None:
    """Check, before the work is done, that the predictions can be written to a path.

    Raises:
        UsageProblem: Its suffix is neither .npz nor .csv.
        OutputRefused, IOProblem: As in `refuse_overwrite`.
    """
    if path.suffix not in SUFFIXES:
        raise UsageProblem(f"{path}: predictions are written as {' or '.join(SUFFIXES)}. Choose one of these suffixes.")
    refuse_overwrite(path, force=force, inputs=inputs, option="--predictions")


def write_predictions(path: Path, predictions: Predictions, *, force: bool = True) -> None:
    """Write the per-image file in the format of its suffix, whole or not at all, and read it back.

    Raises:
        OutputRefused: The file appeared meanwhile and force is off.
        IOProblem: The folder or the disk refused.
        IntegrityProblem: What was read back is not what was written.
    """
    columns, content = _columns(predictions), predictions_bytes(path, predictions)

    def fill(stream: BinaryIO) -> None:
        stream.write(content)

    def check(written: Path) -> None:
        back = _columns(read_predictions(written))
        if back.keys() != columns.keys() or any(not np.array_equal(back[name], columns[name]) for name in columns):
            raise IntegrityProblem(f"{path}: what was read back is not what was written. Check the disk.")

    write_atomically(path, fill, check, force=force)


def predictions_bytes(path: Path, predictions: Predictions) -> bytes:
    """Return the per-image file in the format of a path's suffix."""
    columns = _columns(predictions)
    return _as_csv(columns) if path.suffix == ".csv" else _as_npz(columns)


def read_predictions(path: Path) -> Predictions:
    """Return the predictions of a per-image file.

    Raises:
        IOProblem: There is no such file.
        Unreadable: It is damaged, or lacks a column.
    """
    if not path.is_file():
        raise IOProblem(f"{path}: there is no such file.")
    return parse_predictions(path, path.read_bytes())


def parse_predictions(path: Path, content: bytes) -> Predictions:
    """Return the predictions in a per-image file's content; path tells its format and is named in errors.

    Raises:
        Unreadable: It is damaged, or lacks a column.
    """
    try:
        columns = _from_csv(content) if path.suffix == ".csv" else npz.read(path, content)
    except Exception as error:  # a damaged archive can raise anything in zipfile and NumPy
        raise Unreadable(path, f"it is damaged ({error})", "Make it again.") from error
    missing = [name for name in DTYPES if name not in columns and name not in OPTIONAL]
    sizes = {array.shape for array in columns.values()}
    wrong = [name for name, array in columns.items() if name not in DTYPES or array.dtype != DTYPES[name]]
    if missing or wrong or len(sizes) != 1 or any(len(size) != 1 for size in sizes):
        raise Unreadable(path, f"it has not the columns {', '.join(DTYPES)}, equally long", "Make it again.")
    return Predictions(**columns)


def _columns(predictions: Predictions) -> dict[str, Array]:
    values = {name: getattr(predictions, name) for name in DTYPES}
    return {name: values[name].astype(dtype) for name, dtype in DTYPES.items() if values[name] is not None}


def _as_npz(columns: dict[str, Any]) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, **columns)  # no keyword option: NumPy before 2.2 has none, and would store it as a column
    return buffer.getvalue()


def _as_csv(columns: dict[str, Array]) -> bytes:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["index", *columns])
    writer.writerows(
        [index, *row] for index, row in enumerate(zip(*(c.tolist() for c in columns.values()), strict=True))
    )
    return text.getvalue().encode()


def _from_csv(content: bytes) -> dict[str, Array]:
    header, *rows = csv.reader(io.StringIO(content.decode(), newline=""))
    index, *columns = zip(*rows, strict=True)
    if header[0] != "index" or list(index) != [str(i) for i in range(len(rows))]:
        raise ValueError("the index does not count up from 0")
    return {
        name: np.array(list(map(DTYPES[name], column)), DTYPES[name])
        for name, column in zip(header[1:], columns, strict=True)
    }
