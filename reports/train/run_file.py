"""run.json, which says what a run is: written at its start, and read without trust when the run is resumed."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any

from align.figures.reader import Malformed, Reader
from align.mixer.config_data import read_config
from align.probes.environment import environment
from align.probes.knobs import cpus
from convert.errors import BadInput, UsageProblem, printable
from convert.files import strict_json
from reports.score.parallel import Group
from reports.train.job import Job
from reports.train.recipes import from_data

SCHEMA = "mixer-report/finetune/2"
SAME = ("recipe", "weights", "data", "processes", "device")
"""Fields of run.json that a resumed run must have in common with the one it goes on with."""
MOST = 1 << 16
"""Largest number of processes or threads that a run may have."""
ADVICE = "Put it back as it was, or start again in another --out."

Data = dict[str, Any]
Check = tuple[str, Callable[[Any], bool]]
"""What a value has to be, in words and as a test."""


def about(job: Job, group: Group) -> Data:
    """Return the content of a run's run.json."""
    return {
        "schema": SCHEMA,
        "recipe": job.recipe.as_data(),
        "weights": {"fingerprint": job.weights.fingerprint, "config": asdict(job.weights.config)},
        "data": {"train": job.train.origin.images_sha256, "test": job.test.origin.images_sha256},
        "processes": group.processes,
        "device": job.device,
        "threads": job.threads or max(cpus() // group.processes, 1),
        "sources": job.recipe.sources,
        "upstream": {**job.weights.as_data(), "config": None},
        "origins": {"train": asdict(job.train.origin), "test": asdict(job.test.origin)},
        "environment": environment(),
        "command_line": job.command_line,
    }


def parse(where: str, content: bytes) -> Data:
    """Return the content of a run.json after checking it: every field, of its type and within its limits, no other.

    Args:
        where: What errors call it.
        content: Its bytes.

    Raises:
        BadInput: It is not so; the text says which field.
    """
    try:
        data = strict_json.parse(content)
    except ValueError as error:
        raise BadInput(f"{where}: it is no JSON ({printable(str(error))}). {ADVICE}") from error
    _check(where, data, FIELDS)
    recipe = {name: value for name, value in data["recipe"].items() if value is not None}
    from_data(f"{where}: its recipe", {**recipe, "sources": data["sources"]})
    try:
        read_config(Reader(data["weights"]["config"], "config"), batch=1)
    except Malformed as error:
        raise BadInput(f"{where}: weights: {printable(str(error))}. {ADVICE}") from error
    return dict(data)


def check_same(where: str, recorded: Data, asked: Data) -> None:
    """Check that a recorded run is the one asked for.

    Raises:
        UsageProblem: It is another.
    """
    for name in SAME:
        if recorded[name] != strict_json.parse(json.dumps(asked[name])):
            raise UsageProblem(f"{where}: this run has another {name} than the one asked for. Repeat its options.")


def _check(where: str, data: Any, fields: Mapping[str, Any]) -> None:
    """Check that an object has exactly these fields, each of them valid; an inner mapping describes an inner object."""
    if not isinstance(data, dict):
        raise BadInput(f"{where}: it holds no object with names. {ADVICE}")
    for label, names in (("lacks", fields.keys() - data.keys()), ("has the unknown", data.keys() - fields.keys())):
        if names:
            raise BadInput(f"{where}: it {label} {printable(', '.join(sorted(names)))}. {ADVICE}")
    for name, expected in fields.items():
        if isinstance(expected, Mapping):
            _check(f"{where}: {name}", data[name], expected)
            continue
        words, valid = expected
        if not valid(data[name]):
            raise BadInput(f"{where}: {name} is {printable(json.dumps(data[name])[:60])}, not {words}. {ADVICE}")


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_sha256(value: Any) -> bool:
    return isinstance(value, str) and re.fullmatch("[0-9a-f]{64}", value) is not None


def _is_count(value: Any) -> bool:
    return type(value) is int and 1 <= value <= MOST


def _is_list(value: Any) -> bool:
    return isinstance(value, list) and all(map(_is_text, value))


def _is_object(value: Any) -> bool:
    return isinstance(value, dict)


def _one_of(*known: Any) -> Check:
    return " or ".join(map(json.dumps, known)), lambda value: any(value == k and type(value) is type(k) for k in known)


TEXT: Check = "a text", _is_text
SHA256: Check = "a SHA-256 in hexadecimal", _is_sha256
COUNT: Check = f"a whole number from 1 to {MOST}", _is_count
LIST: Check = "a list of texts", _is_list
OBJECT: Check = "an object", _is_object
TEXT_OR_NULL: Check = "a text or null", lambda value: value is None or _is_text(value)
SHA256_OR_NULL: Check = "a SHA-256 in hexadecimal or null", lambda value: value is None or _is_sha256(value)
SHA256S: Check = "an object of SHA-256s", lambda value: _is_object(value) and all(map(_is_sha256, value.values()))

ORIGIN = {
    "name": TEXT,
    "version": _one_of("python", "binary"),
    "sha256": SHA256_OR_NULL,
    "files": SHA256S,
    "images_sha256": SHA256,
    "canonical": _one_of(True, False),
}
FIELDS = {
    "schema": _one_of(SCHEMA),
    "recipe": OBJECT,
    "weights": {"fingerprint": SHA256, "config": OBJECT},
    "data": {"train": SHA256, "test": SHA256},
    "processes": COUNT,
    "device": TEXT,
    "threads": COUNT,
    "sources": OBJECT,
    "upstream": {
        "name": TEXT,
        "sha256": SHA256_OR_NULL,
        "fingerprint": SHA256,
        "dtype": TEXT,
        "config": _one_of(None),
        "upstream": TEXT_OR_NULL,
        "known_from": TEXT,
        "weights_key": TEXT_OR_NULL,
        "notes": LIST,
    },
    "origins": {split: {**ORIGIN, "split": _one_of(split)} for split in ("train", "test")},
    "environment": OBJECT,
    "command_line": LIST,
}
"""The fields of run.json and their checks; the recipe and the config are checked by their own modules."""
