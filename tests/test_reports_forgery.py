"""Forged bundles: whatever is changed in one, and all that shows it made to fit, does not follow from the rest."""

from __future__ import annotations

import copy
import json
import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from random import Random
from typing import Any

import pytest
from bundles import at, mend, other, run, sum_up

from align.core.result import AlignmentResult
from align.figures.reader import Malformed
from align.render import as_data
from convert.errors import BadInput, IntegrityProblem
from reports.audit import records, verify
from reports.audit.alignments import StatedAlignment
from reports.audit.bundle import as_json
from reports.audit.names import ALIGNMENTS, CONVERSIONS, ENVIRONMENT, MANIFEST, REPORT
from reports.audit.records import read_records, record_of
from reports.audit.verify import Bundle
from reports.render.report import SUBJECTS

Data = dict[str, Any]
DOCUMENT = Path(__file__).parent.parent / "docs" / "audit-bundle.md"
MISSING = object()
WRONG: tuple[Any, ...] = ({}, [[]], "x\x1b[31m", 1e308, -(10**30), True, None)
OWN = (REPORT, ENVIRONMENT, MANIFEST, *ALIGNMENTS.values(), *CONVERSIONS.values())


def listed() -> set[str]:
    """Return what docs/audit-bundle.md says that only a rerun tells, or nothing."""
    (block,) = re.findall(r"```text\n(.*?)```", DOCUMENT.read_text(encoding="utf-8"), flags=re.DOTALL)
    return set(block.split())


def leaves(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield where the values of plain data stand; of a list, its first and last only."""
    if isinstance(value, dict) and value:
        for key in value:
            yield from leaves(value[key], (*path, key))
    elif isinstance(value, list) and value:
        for index in sorted({0, len(value) - 1}):
            yield from leaves(value[index], (*path, index))
    else:
        yield path


def named(file: str, path: tuple[Any, ...]) -> str:
    """Return a place as the document lists it: every subject and every entry of a list or of versions is one."""
    said = ".".join("*" if isinstance(key, int) else key for key in path)
    said = re.sub(r"^(layers\.\*)\..*\.worst_index.*", r"\1.worst_index", said)
    said = re.sub(r"(versions|arithmetic|knobs|seeds|shards|shard_sizes)\.[^/]+$", r"\1.*", said)
    return re.sub("-(source|finetuned)", "-*", file) + ":" + said


def write(bundle: Path, name: str, data: Data) -> None:
    (bundle / name).write_bytes(as_json(data))
    try:
        mend(bundle)
    except (Malformed, ValueError, KeyError, IndexError, TypeError):
        sum_up(bundle)


def is_found(bundle: Path) -> bool:
    """Return whether a bundle is refused; an exception of our own is none."""
    try:
        Bundle(bundle)
    except (IntegrityProblem, BadInput):
        return True
    return False


def is_found_by_its_records(bundle: Path) -> bool:
    """Return whether a bundle is refused before what is rendered of its records, the last and slowest, is looked at."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Bundle, "_check_derived", lambda _: None)
        return is_found(bundle)


def once(read: Callable[[str, Mapping[str, bytes]], Any]) -> Callable[[str, Mapping[str, bytes]], Any]:
    """Return a reader that reads the same bytes once."""
    kept: dict[tuple[str, bytes | None], Any] = {}

    def reader(name: str, files: Mapping[str, bytes]) -> Any:
        held = name, files.get(name)
        if held not in kept:
            kept[held] = read(name, files)
        return kept[held]

    return reader


@pytest.fixture(autouse=True)
def unchanged_alignments(monkeypatch: pytest.MonkeyPatch) -> None:
    """A bundle has two; of the hundreds that a test forges, most have them as they were."""
    monkeypatch.setattr(records, "_alignment", once(records._alignment))


@pytest.mark.parametrize("name", sorted({*OWN} - {MANIFEST}))
def test_any_field_changed_is_found_or_listed(bundle: Path, name: str) -> None:
    content, passed = json.loads((bundle / name).read_bytes()), set()
    for path in {named(name, path): path for path in leaves(content)}.values():
        forged, value = copy.deepcopy(content), at(content, path)
        elsewhere = (value - 1 if value else 1) if "worst_index" in path else other(value)
        at(forged, path[:-1])[path[-1]] = elsewhere
        if name in ALIGNMENTS.values() and not follows(bundle, name, forged):
            continue  # without the rest, which would find no less and takes ten times as long
        (bundle / name).write_bytes(as_json(forged))
        sum_up(bundle)
        if is_found_by_its_records(bundle):
            continue  # nor does it help to render them again
        write(bundle, name, forged)
        if not is_found(bundle):
            passed.add(named(name, path))
    write(bundle, name, content)
    assert not is_found(bundle), "the tools of this test make bundles that pass when nothing was altered"
    mine = {one for one in listed() if one.startswith(named(name, ()))}
    assert passed == mine


def follows(bundle: Path, name: str, data: Data) -> bool:
    """Return whether an alignment is of its form, and what its figures give."""
    files = {file.name: file.read_bytes() for file in bundle.iterdir()}
    try:
        records = read_records(files | {name: as_json(data)})
        subject = next(subject for subject in SUBJECTS if ALIGNMENTS[subject] == name)
        weights = records.report.source if subject == "source" else records.report.weights
        found = records.alignments[subject]
        return StatedAlignment(found=found, weights=weights, environment=records.environment).again() == found
    except Malformed:
        return False


@pytest.mark.parametrize(
    "path",
    [
        ("output", "fingerprint"),
        ("output", "sha256"),
        ("config", "num_blocks"),
        ("config", "gelu"),
        ("tensors", 3, "target"),
        ("tensors", 3, "target_sha256"),
        ("source", "fingerprint"),
    ],
)
def test_what_is_used_of_the_manifest_beside_the_weights_is_checked(bundle: Path, path: tuple[Any, ...]) -> None:
    content = json.loads((bundle / MANIFEST).read_bytes())
    at(content, path[:-1])[path[-1]] = other(at(content, path))
    write(bundle, MANIFEST, content)
    assert is_found(bundle)


@pytest.mark.parametrize("name", sorted({*OWN} - {MANIFEST}))
def test_a_field_removed_or_of_another_type_is_found_and_is_no_defect(bundle: Path, name: str) -> None:
    """Of what lies beside the weights, which may be anybody's, only what is used is looked at."""
    content, random = json.loads((bundle / name).read_bytes()), Random(name)
    paths = [path for path in leaves(content) if isinstance(path[-1], str)]
    for path in random.sample(paths, min(len(paths), 24)):
        kinds = [kind for kind in WRONG if type(kind) is not type(at(content, path))]
        for wrong in (MISSING, *random.sample(kinds, 2)):
            forged = copy.deepcopy(content)
            at(forged, path[:-1])[path[-1]] = wrong
            if wrong is MISSING:
                del at(forged, path[:-1])[path[-1]]
            (bundle / name).write_bytes(as_json(forged))
            sum_up(bundle)
            assert is_found(bundle), (path, wrong)


@pytest.mark.parametrize("name", sorted(OWN))
@pytest.mark.parametrize("number", ["1e999", "-1e999", "1" * 5000, '"\\ud800"', "NaN", "[" * 100_000])
def test_what_json_cannot_hold_is_found_and_is_no_defect(bundle: Path, name: str, number: str) -> None:
    text = (bundle / name).read_text()
    first = re.search(r": (\d[\d.e-]*),\n", text)
    assert first is not None
    (bundle / name).write_text(text[: first.start(1)] + number + text[first.end(1) :])
    sum_up(bundle)
    assert is_found(bundle)


def alignment(bundle: Path, subject: str = "source") -> Data:
    return json.loads((bundle / f"alignment-{subject}.json").read_bytes())  # type: ignore[no-any-return]


def refused(bundle: Path, data: Data, subject: str = "source") -> str:
    write(bundle, f"alignment-{subject}.json", data)
    result = run("verify", bundle)
    assert result.exit_code == 5, result.output
    assert f"alignment-{subject}.json" in result.stderr
    return str(result.stderr)


class TestAlignments:
    """What a forger would do to a port that diverged."""

    def test_rows_taken_away_until_only_the_logits_are_left(self, bundle: Path) -> None:
        data = alignment(bundle)
        data["layers"] = data["layers"][-1:]
        assert "its points are not" in refused(bundle, data)

    def test_bounds_raised_over_differences(self, bundle: Path) -> None:
        data = alignment(bundle)
        for layer in data["layers"]:
            for precision in ("float64", "float32"):
                for diff in layer[precision].values():
                    far = diff["reference_value"] + 0.3
                    diff.update(candidate_value=far, max_abs_diff=0.3, bound=1e9, passed=True, num_over=0)
        refused(bundle, data)

    def test_sizes_raised_so_that_the_bounds_follow(self, bundle: Path) -> None:
        data = alignment(bundle)
        for layer in data["layers"]:
            layer["size"] = 1e12
        assert "above every value" in refused(bundle, data)

    def test_figures_set_to_0(self, bundle: Path) -> None:
        data = alignment(bundle)
        for layer in data["layers"]:
            for precision in ("float64", "float32"):
                for diff in layer[precision].values():
                    diff.update(max_abs_diff=0.0, max_ulp_diff=0.0, candidate_value=diff["reference_value"])
        data["sentence"] = as_data(record_of(AlignmentResult, data))["sentence"]
        assert "float32 rounds" in refused(bundle, data)

    def test_another_bundle_s(self, made: Path, bundle: Path, tmp_path: Path) -> None:
        """Of other weights with the same sizes."""
        data = alignment(bundle)
        data["settings"]["weights"]["fingerprint"] = "0" * 64
        assert "settings.weights.fingerprint" in refused(bundle, data)
        shutil.copy(bundle / "alignment-finetuned.json", bundle / "alignment-source.json")
        mend(bundle)
        assert run("verify", bundle).exit_code == 5

    @pytest.mark.parametrize("subject", SUBJECTS)
    def test_a_sentence_of_free_text(self, bundle: Path, subject: str) -> None:
        data = alignment(bundle, subject)
        data["sentence"] = "aligned: proved beyond all doubt"
        assert "sentence" in refused(bundle, data, subject)

    def test_a_section_dropped(self, bundle: Path) -> None:
        data = alignment(bundle)
        for number, section in enumerate(data["sections"]):
            forged = copy.deepcopy(data)
            del forged["sections"][number], forged["gates"][4 + number]
            said = refused(bundle, forged)
            assert "its gates beyond the forward's are" in said, section["gate"]["name"]

    def test_a_section_that_was_not_run(self, bundle: Path) -> None:
        data = alignment(bundle)
        for number in range(len(data["sections"])):
            forged = copy.deepcopy(data)
            gate = {**forged["gates"][4 + number], "passed": None, "sentence": "not run"}
            forged["sections"][number] = {"gate": gate, "checks": [], "divergence": None}
            forged["gates"][4 + number] = gate
            assert "was not run" in refused(bundle, forged)

    def test_a_check_of_something_else(self, bundle: Path) -> None:
        data = alignment(bundle)
        for number, section in enumerate(data["sections"]):
            forged = copy.deepcopy(data)
            check = forged["sections"][number]["checks"][0]
            check["subject"] = check["name"] = "the weather"
            assert "the weather" in refused(bundle, forged), section["gate"]["name"]

    def test_an_exact_gate_s_bound_raised(self, bundle: Path) -> None:
        data = alignment(bundle)
        for number, name in enumerate(("determinism", "output", "batch", "stress", "state")):
            forged = copy.deepcopy(data)
            forged["sections"][number]["checks"][0]["bound"] = 1e9
            assert f"gate {name}: its bound" in refused(bundle, forged)


def test_an_exception_of_our_own_is_no_tampering(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise KeyError("a defect")

    for name in ("check_conversion", "report_of", "derived", "read_records", "facts_of"):
        with monkeypatch.context() as patch:
            patch.setattr(verify, name, broken)
            result = run("verify", bundle)
            assert result.exit_code == 70, name
            assert "defect" in result.stderr
    assert run("verify", bundle).exit_code == 0


class TestWhatIsNoBundle:
    @pytest.mark.parametrize("holds", ["nothing", "other files", "other checksums", "a file"])
    def test_it_is_said_and_is_bad_input(self, tmp_path: Path, holds: str) -> None:
        folder = tmp_path / "x"
        if holds == "a file":
            folder.write_text("x")
        else:
            folder.mkdir()
        if holds == "other files":
            (folder / "notes.txt").write_text("x")
        if holds == "other checksums":
            (folder / "notes.txt").write_text("x")
            sum_up(folder)
        result = run("verify", folder)
        assert (result.exit_code, "no bundle" in result.stderr) == (3, True), result.stderr
