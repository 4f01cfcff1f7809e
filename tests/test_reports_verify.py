"""A bundle checked: every edit of it is found, and a rerun gives the same predictions."""

from __future__ import annotations

import hashlib
import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bundles import COUNT, NAMES, alter, at, facts_in, load_json, mend, other, run, sum_up
from cifar_files import python_files, write_archive
from conftest import save_safetensors
from test_convert_imports import FRAMEWORKS, imported

from align.core.point import Point
from align.core.result import AlignmentResult
from align.figures.reader import Malformed
from align.figures.rejudge import rejudged
from align.mixer.points import points_of
from align.render import as_data
from convert.arrays import StateDict
from convert.errors import BadInput, IntegrityProblem
from convert.mixer.mapping import convert_state_dict
from convert.mixer.variants import MixerConfig
from reports.audit import bundle as bundles
from reports.audit.bundle import SUMS, as_json
from reports.audit.records import record_of
from reports.audit.verify import Bundle
from reports.render.report import report_of
from reports.score.predictions import predictions_bytes, read_predictions, write_predictions


def refused(bundle: Path) -> str:
    with pytest.raises(IntegrityProblem) as caught:
        Bundle(bundle)
    return str(caught.value)


class TestEdits:
    def test_a_copy_in_another_folder_passes(self, bundle: Path) -> None:
        result = run("verify", bundle)
        assert result.exit_code == 0, result.output
        assert "whole; 30 predictions" in result.stdout

    @pytest.mark.parametrize(("device", "exit_code"), [("gpu:1", 0), ("intel_hpu:0", 0), ("a cloud", 5)])
    def test_an_audit_on_a_device_that_there_is_passes(self, bundle: Path, device: str, exit_code: int) -> None:
        alter(bundle, "report.json", lambda report: report["engine"].update(name="eager", first_batch=None))
        alter(bundle, "environment.json", lambda environment: environment.update(device=device))
        result = run("verify", bundle)
        assert result.exit_code == exit_code, result.output

    @pytest.mark.parametrize("name", sorted(NAMES))
    def test_each_file_edited_or_removed_is_found_and_named(self, bundle: Path, name: str) -> None:
        content = (bundle / name).read_bytes()
        middle = len(content) // 2 if name != SUMS else 10
        flipped = content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]
        for edited in (flipped, content + b"\n", content[:-1], b""):
            (bundle / name).write_bytes(edited)
            said = refused(bundle)
            assert name == SUMS or name in said
        (bundle / name).unlink()
        result = run("verify", bundle)
        assert (result.exit_code, f"{name} is missing" in result.stderr) == (5, True)

    @pytest.mark.parametrize("name", sorted(NAMES - {SUMS, "curve.png"}))
    def test_each_file_removed_with_its_checksum_is_missed(self, bundle: Path, name: str) -> None:
        (bundle / name).unlink()
        sum_up(bundle)
        refused(bundle)

    @pytest.mark.parametrize("name", ["notes.txt", ".hidden", "report.json~", "A folder/x"])
    def test_what_is_added_is_found(self, bundle: Path, name: str) -> None:
        (bundle / name).parent.mkdir(exist_ok=True)
        (bundle / name).write_text("x")
        result = run("verify", bundle)
        assert (result.exit_code, name.partition("/")[0] in result.stderr) == (5, True)

    def test_what_is_added_with_a_checksum_is_found(self, bundle: Path) -> None:
        (bundle / "notes.txt").write_text("x")
        mend(bundle)
        assert "notes.txt" in refused(bundle)

    def test_links_and_paths_that_lead_elsewhere_are_refused(self, bundle: Path, tmp_path: Path) -> None:
        content, lines = (bundle / "report.md").read_bytes(), (bundle / SUMS).read_text()
        (bundle / "report.md").unlink()
        (tmp_path / "elsewhere.md").write_bytes(content)
        (bundle / "report.md").symlink_to(tmp_path / "elsewhere.md")
        assert run("verify", bundle).exit_code == 3
        (bundle / "report.md").unlink()
        (bundle / "report.md").write_bytes(content)
        for name in ("../elsewhere.md", "/etc/passwd", "..", "a\\b", "sub/../report.md"):
            (bundle / SUMS).write_text(f"{lines}{hashlib.sha256(content).hexdigest()}  {name}\n")
            assert run("verify", bundle).exit_code == 3, name
        assert run("verify", tmp_path / "none").exit_code == 4

    @pytest.mark.parametrize("change", ["twice", "upper case", "unsorted", "binary mark", "garbage"])
    def test_checksums_are_as_they_were_written(self, bundle: Path, change: str) -> None:
        lines = (bundle / SUMS).read_text().splitlines(keepends=True)
        changed = {
            "twice": [*lines, lines[-1]],
            "upper case": [lines[0].upper(), *lines[1:]],
            "unsorted": lines[::-1],
            "binary mark": [lines[0].replace("  ", " *"), *lines[1:]],
            "garbage": [*lines, "hello\n"],
        }
        (bundle / SUMS).write_text("".join(changed[change]))
        assert SUMS in refused(bundle)


class TestTampering:
    """A statistic is edited, then every file that shows it, the Statement and all checksums are made to fit."""

    @pytest.mark.parametrize(
        "path",
        [
            *(("verdict",), ("passed",), ("accuracy", "correct"), ("accuracy", "loss"), ("accuracy", "wilson", 0)),
            *(("accuracy", "clopper_pearson", 1), ("accuracy", "confusion", 3, 4), ("timm", "mcnemar_p")),
            ("uncertain", 0, "margin"),
        ],
    )
    def test_a_bundle_that_fits_but_for_the_per_image_file_is_refused(
        self, bundle: Path, path: tuple[Any, ...]
    ) -> None:
        def change(report: dict[str, Any]) -> None:
            value = at(report, path)
            at(report, path[:-1])[path[-1]] = "below" if value == "not comparable" else other(value)

        alter(bundle, "report.json", change)
        assert "is not what follows from the other files" in refused(bundle)

    def test_attached_files_are_those_that_are_listed(self, bundle: Path) -> None:
        alter(bundle, "report.json", lambda report: report.update(attached=[]))
        assert "curve.png: it was added" in refused(bundle)

    def test_what_is_careful_but_right_passes(self, bundle: Path) -> None:
        """The tools of these tests make bundles that pass when nothing was altered."""
        alter(bundle, "report.json", lambda _: None)
        assert Bundle(bundle)

    def test_predictions(self, bundle: Path) -> None:
        path = bundle / "predictions.npz"
        found = read_predictions(path)
        wrong = int(np.flatnonzero(found.predictions != found.labels)[0])
        better = found.predictions.copy()
        better[wrong] = found.labels[wrong]
        for columns in (
            {"predictions": better},
            {"losses": found.losses * 0.99},
            {"margins": found.margins + 1},
            {"reference_predictions": better},
            {"logit_diffs": found.logit_diffs * 2 if found.logit_diffs is not None else None},
            {"labels": (found.labels + 1) % 10},
            {"labels": found.labels + 10},
            {"losses": np.full(COUNT, np.nan)},
        ):
            path.write_bytes(predictions_bytes(path, replace(found, **columns)))
            mend(bundle)
            refused(bundle)
        path.write_bytes(b"PK")
        mend(bundle)
        assert "predictions.npz" in refused(bundle)

    @pytest.mark.parametrize(
        ("name", "change"),
        [
            ("alignment-source.json", lambda d: d.update(verdict="rounding")),
            ("alignment-source.json", lambda d: d["layers"][3]["float64"]["introduced"].update(max_abs_diff=1.0)),
            ("alignment-source.json", lambda d: d["layers"][3]["float64"]["introduced"].update(passed=False)),
            ("alignment-source.json", lambda d: d["layers"][-1]["float32"]["inherited"].update(bound=1.0)),
            ("alignment-source.json", lambda d: d["layers"][3]["float32"]["introduced"].update(max_abs_diff="nan")),
            ("alignment-finetuned.json", lambda d: d["gates"][2].update(passed=False)),
            ("alignment-finetuned.json", lambda d: d["gates"][3].update(sentence="fine")),
            ("alignment-finetuned.json", lambda d: d.update(layers=[])),
            ("alignment-finetuned.json", lambda d: d["settings"]["config"].update(num_blocks=5)),
            ("conversion-finetuned.json", lambda d: d["tensors"][0].update(source_sha256="0" * 64)),
            ("conversion-source.json", lambda d: d["output"].update(fingerprint="0" * 64)),
            ("manifest-finetuned.json", lambda d: d["output"].update(fingerprint="0" * 64)),
            ("manifest-finetuned.json", lambda d: d.update(variant={"name": "b16_in1k"})),
            ("report.json", lambda d: d["weights"].update(upstream="b16_in1k", fingerprint="0" * 64)),
            ("report.json", lambda d: d["source"].update(fingerprint="0" * 64)),
            ("report.json", lambda d: d["weights"].update(sha256="0" * 64)),
            ("report.json", lambda d: d["data"].update(canonical=True)),
            ("report.json", lambda d: d["uncertain"][0].update(png="AAAA")),
            ("report.json", lambda d: d.pop("accuracy")),
            ("report.json", lambda d: d.update(extra=1)),
        ],
    )
    def test_what_the_statistics_rest_on(
        self, bundle: Path, name: str, change: Callable[[dict[str, Any]], None]
    ) -> None:
        try:
            alter(bundle, name, change)
        except (KeyError, ValueError, Malformed):
            sum_up(bundle)
        refused(bundle)

    @pytest.mark.parametrize("name", ["report.md", "report.html", "statement.intoto.json"])
    def test_what_is_derived(self, bundle: Path, name: str) -> None:
        path = bundle / name
        path.write_text(path.read_text().replace("aligned", "perfect").replace("float64", "float46"))
        sum_up(bundle)
        assert name in refused(bundle)


def forge_alignment(bundle: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Change the measured figures of an alignment, and make it and all that shows it follow from them."""
    data = load_json(bundle, "alignment-source.json")
    change(data)
    again = rejudged(record_of(AlignmentResult, data), points_in(data), data["settings"]["atol"])
    (bundle / "alignment-source.json").write_bytes(as_json(as_data(again)))
    (bundle / "report.json").write_bytes(as_json(asdict(report_of(facts_in(bundle)))))
    mend(bundle)


def points_in(data: dict[str, Any]) -> tuple[Point, ...]:
    return points_of(MixerConfig(**data["settings"]["config"]), data["settings"]["batch"])


def moved(data: dict[str, Any], precision: str, figure: str, by: float) -> None:
    """Have a figure differ by a part of the magnitude at every point."""
    for layer in data["layers"]:
        diff = layer[precision][figure]
        diff["candidate_value"] = diff["reference_value"] + by * diff["scale"]


class TestRerun:
    @pytest.mark.parametrize(
        ("what", "change"),
        [
            ("float32 reference vs witness", lambda d: moved(d, "float32", "reference_vs_witness", 3e-10)),
            ("float32 candidate vs witness", lambda d: moved(d, "float32", "candidate_vs_witness", 1e-3)),
            ("its size", lambda d: d["layers"][2].update(size=d["layers"][2]["size"] * 1.5)),
            ("its size", lambda d: d["layers"][2].update(size=None)),
            ("gate redrawn", lambda d: d["sections"][5]["checks"][0].update(bound=1e-3)),
            ("the verdict", lambda d: moved(d, "float64", "introduced", 1e-9)),
        ],
    )
    def test_figures_that_were_invented_are_found(
        self, bundle: Path, what: str, change: Callable[[dict[str, Any]], None]
    ) -> None:
        """They follow from each other, so that no other check of the bundle sees it."""
        forge_alignment(bundle, change)
        assert run("verify", bundle).exit_code == 0
        result = run("verify", bundle, "--rerun")
        assert result.exit_code == 1, result.output
        assert "the gates of the upstream's checkpoint give other figures" in result.stdout
        assert what in result.stdout

    def test_the_gates_are_run_on_the_checkpoint_that_is_named(self, made: Path, bundle: Path, tmp_path: Path) -> None:
        copied = tmp_path / "moved.safetensors"
        copied.write_bytes((made / "small.safetensors").read_bytes())
        assert run("verify", bundle, "--rerun", "--checkpoint", copied, "--device", "cpu").exit_code == 0
        other = save_safetensors(tmp_path / "other.safetensors", {"x": np.zeros(3, np.float32)})
        assert run("verify", bundle, "--rerun", "--checkpoint", other).exit_code == 3

    def test_it_gives_the_same_predictions(self, made: Path, bundle: Path, tmp_path: Path) -> None:
        result = run("verify", bundle, "--rerun", "--json", tmp_path / "v.json")
        assert result.exit_code == 0, result.output
        assert "all 30 predictions are the bundle's, bit for bit" in result.stdout
        assert "the gates of both ports give the bundle's figures" in result.stdout
        assert load_json(tmp_path, "v.json")["same"] is True
        assert run("verify", bundle, "--weights", made / "small.pdparams").exit_code == 2

    def test_the_same_weights_in_another_file_do(self, made: Path, bundle: Path, tmp_path: Path) -> None:
        """There the set of weights has another name."""
        from convert import files

        tensors = {key: np.array(array) for key, array in files.read(made / "small.pdparams").items()}
        path = tmp_path / "nested.pdparams"
        path.write_bytes(pickle.dumps({"model": tensors}, 4))
        result = run("verify", bundle, "--rerun", "--weights", path)
        assert result.exit_code == 0, result.output

    @pytest.mark.slow
    @pytest.mark.parametrize("kernels", ["Haswell", "SkylakeX"])
    def test_another_processor_rounds_otherwise_and_gives_the_bundle_s(self, bundle: Path, kernels: str) -> None:
        """OpenBLAS's kernels, and of oneDNN, MKL and PyTorch those without AVX-512."""
        knobs = {"OPENBLAS_CORETYPE": kernels}
        if kernels == "Haswell":
            knobs |= {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2", "MKL_ENABLE_INSTRUCTIONS": "AVX2"}
        command = [sys.executable, "-m", "reports.commands.cli", "verify", str(bundle), "--rerun"]
        found = subprocess.run(command, env=os.environ | knobs, capture_output=True, text=True, check=False)
        assert found.returncode == 0, found.stdout + found.stderr

    def test_other_weights_or_images_are_refused(
        self, made: Path, bundle: Path, square_config: MixerConfig, square_source: StateDict, tmp_path: Path
    ) -> None:
        moved = {**square_source, "head.bias": square_source["head.bias"] + np.float32(1)}
        weights = tmp_path / "w.pdparams"
        from convert import files

        with weights.open("wb") as stream:
            files.write(weights, stream, convert_state_dict(moved, square_config).state_dict)
        result = run("verify", bundle, "--rerun", "--weights", weights)
        assert (result.exit_code, "fingerprint" in result.stderr) == (5, True)
        other = write_archive(tmp_path / "o.tar.gz", python_files(COUNT + 1))
        result = run("verify", bundle, "--rerun", "--data", other)
        assert (result.exit_code, "pixels" in result.stderr) == (5, True)

    def test_a_bundle_that_agrees_with_itself_but_not_with_the_model_is_found(self, bundle: Path) -> None:
        """Somebody alters a prediction and everything that follows from it: only a rerun can tell."""
        path = bundle / "predictions.npz"
        found = read_predictions(path)
        better = found.predictions.copy()
        wrong = int(np.flatnonzero(better != found.labels)[0])
        better[wrong] = found.labels[wrong]
        write_predictions(path, replace(found, predictions=better))
        (bundle / "report.json").write_bytes(as_json(asdict(report_of(facts_in(bundle)))))
        mend(bundle)
        assert run("verify", bundle).exit_code == 0
        result = run("verify", bundle, "--rerun")
        assert (result.exit_code, f"images {wrong}" in result.stdout) == (1, True)


def test_a_file_that_is_far_too_large_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bundles.write_bundle(tmp_path / "b", {"a": b"12345"}, force=False)
    monkeypatch.setattr(bundles, "LIMIT", 4)
    with pytest.raises(BadInput, match="a is larger than any bundle's"):
        bundles.read_bundle(tmp_path / "b", {"a"})


def test_the_json_does_not_replace_an_input(made: Path, bundle: Path, tmp_path: Path) -> None:
    data = tmp_path / "tiny.tar.gz"
    data.write_bytes(content := (made / "tiny.tar.gz").read_bytes())
    result = run("verify", bundle, "--rerun", "--data", data, "--json", data)
    assert (result.exit_code, "--data names the same file" in result.stderr) == (2, True)
    assert data.read_bytes() == content


def test_verifying_needs_no_framework(bundle: Path) -> None:
    assert imported(["verify", str(bundle)], FRAMEWORKS, package="reports.commands") == "[]"


@pytest.mark.slow
def test_memory_is_bounded_whatever_is_attached(bundle: Path) -> None:
    """Files of 250 MB of which no byte is on the disk, listed and not: either is read piece by piece, or not at all."""
    before = peak_of(bundle)
    names = [f"sparse{i}" for i in range(4)]
    for name in names:
        with (bundle / name).open("wb") as stream:
            stream.truncate(250 * 2**20)
    assert peak_of(bundle) <= before + 16
    (bundle / SUMS).write_bytes((bundle / SUMS).read_bytes() + b"".join(b"0" * 64 + f"  {n}\n".encode() for n in names))
    assert peak_of(bundle) <= before + 16


def peak_of(bundle: Path) -> float:
    """Return the greatest memory of a verification in MB, whatever it comes to."""
    code = "import resource, sys; from reports.commands.cli import main; main(sys.argv[1:], standalone_mode=False)"
    told = "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, file=sys.stderr)"
    run = f"import atexit, resource, sys; atexit.register(lambda: {told}); {code}"
    found = subprocess.run(
        [sys.executable, "-c", run, "verify", str(bundle)], capture_output=True, text=True, check=False
    )
    return int(found.stderr.split()[-1]) / 1024
