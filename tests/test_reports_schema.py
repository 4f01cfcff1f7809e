"""The published schemas are those of the files that an audit writes."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import pytest
from bundles import load_json, run

FILES = {"audit": "report.json", "environment": "environment.json"}


@pytest.mark.parametrize("name", FILES)
def test_a_bundle_keeps_to_them(made: Path, name: str) -> None:
    result = run("schema", name)
    assert result.exit_code == 0, result.output
    schema = json.loads(result.stdout)
    jsonschema.Draft202012Validator.check_schema(schema)
    validator = jsonschema.Draft202012Validator(schema)
    data = load_json(made / "bundle", FILES[name])
    validator.validate(data)
    for key in data:
        assert not validator.is_valid({other: value for other, value in data.items() if other != key}), key
        assert not validator.is_valid({**data, key: object}) or data[key] is None, key
    assert not validator.is_valid({**data, "schema": "another"})


def test_there_is_no_other() -> None:
    assert run("schema", "nothing").exit_code == 2
