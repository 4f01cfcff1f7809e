"""An audit: the bundle it writes, whole or not at all, what it says, and its verdicts."""

from __future__ import annotations

import errno
import hashlib
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bundles import COUNT, NAMES, audit_of, load_json, run, with_circumstances
from cifar_files import images, python_files, write_archive
from conftest import Run, save_safetensors

from convert import files
from convert.arrays import StateDict
from convert.disk import atomic_folder
from convert.mixer.mapping import convert_state_dict
from convert.mixer.variants import MixerConfig
from reports.audit import bundle as bundles
from reports.audit.bundle import SUMS
from reports.audit.provenance import git_state
from reports.render.conversion import Manifest, ManifestOutput, ManifestSource
from reports.render.report import SUBJECTS, AuditReport, report_of
from reports.score.predictions import read_predictions
from reports.score.published import figure_by_id


class TestAudit:
    def test_the_bundle_is_whole(self, made: Path) -> None:
        assert {file.name for file in (made / "bundle").iterdir()} == NAMES
        assert [path.name for path in made.iterdir() if path.name.startswith(".")] == []
        if shutil.which("sha256sum"):
            subprocess.run(
                ["sha256sum", "--check", "--strict", SUMS], cwd=made / "bundle", check=True, capture_output=True
            )

    def test_it_says_what_was_counted(self, made: Path) -> None:
        report, found = load_json(made / "bundle", "report.json"), read_predictions(made / "bundle" / "predictions.npz")
        rows, labels = images(COUNT)
        assert found.labels.tolist() == labels
        correct = int((found.predictions == np.array(labels)).sum())
        assert (report["accuracy"]["correct"], report["accuracy"]["total"]) == (correct, COUNT)
        assert report["timm"]["disagreements"] == 0
        assert [report["alignments"][name]["verdict"] for name in SUBJECTS] == ["aligned", "aligned"]
        margins = [image["margin"] for image in report["uncertain"]]
        assert margins == sorted(found.margins.tolist())[: len(margins)]
        assert len(rows) == COUNT
        assert report["lineage"]["names_source"] is True

    def test_every_rendering_says_verdict_figures_and_limits(self, made: Path) -> None:
        report = load_json(made / "bundle", "report.json")
        for name in ("report.md", "report.html"):
            text = (made / "bundle" / name).read_text().replace("\\", "")
            for said in ("not comparable", f"{report['accuracy']['correct']:,} of 30", "96.72 and 96.82 are not"):
                assert said in text, (name, said)
            assert report["weights"]["fingerprint"] in text

    def test_the_forbidden_word_is_nowhere(self, made: Path) -> None:
        texts = [file.read_bytes().lower() for file in (made / "bundle").iterdir()]
        texts += [run(command, "--help").stdout.lower().encode() for command in ("audit", "verify", "evaluate")]
        texts.append(run("published").stdout.lower().encode())
        texts.append(run("verify", made / "bundle").stdout.lower().encode())
        assert all(b"reproduces" not in text for text in texts)

    def test_the_statement_names_every_file_by_its_digest(self, made: Path) -> None:
        statement = load_json(made / "bundle", "statement.intoto.json")
        assert statement["_type"] == "https://in-toto.io/Statement/v1"
        subjects = {subject["name"]: subject["digest"]["sha256"] for subject in statement["subject"]}
        assert len(subjects) == len(statement["subject"])
        files = {f"weights/{name}": made / name for name in ("small.pdparams",)}
        files |= {"source/small.safetensors": made / "small.safetensors", "data/tiny.tar.gz": made / "tiny.tar.gz"}
        files |= {name: made / "bundle" / name for name in NAMES - {SUMS, "statement.intoto.json"}}
        assert subjects == {name: hashlib.sha256(file.read_bytes()).hexdigest() for name, file in files.items()}
        predicate = statement["predicate"]
        assert predicate["result"] == "FAILED"
        assert predicate["failedTests"] == ["accuracy: consistent with or above the published figure"]
        assert "alignment of finetuned: float64" in predicate["passedTests"]

    def test_an_existing_bundle_is_kept_without_force_and_a_folder_that_is_none_always(self, made: Path) -> None:
        before = (made / "bundle" / SUMS).read_bytes()
        assert audit_of(made).exit_code == 2
        (made / "mine").mkdir(exist_ok=True)
        (made / "mine" / "thesis.txt").write_text("x")
        assert audit_of(made, "--force", out="mine").exit_code == 2
        assert (made / "mine" / "thesis.txt").exists()
        assert audit_of(made, out="no/such").exit_code == 4
        assert (made / "bundle" / SUMS).read_bytes() == before

    @pytest.mark.parametrize("force", [False, True])
    def test_a_full_disk_leaves_no_half_bundle(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, force: bool
    ) -> None:
        target, written = tmp_path / "b", list[str]()
        if force:
            bundles.write_bundle(target, {"old": b"1"}, force=False)

        def write(path: Path, content: bytes) -> None:
            written.append(path.name)
            if path.name == SUMS:
                raise OSError(errno.ENOSPC, "No space left on device")
            path.write_bytes(content)

        monkeypatch.setattr(atomic_folder, "_write", write)
        with pytest.raises(Exception, match="No space left"):
            bundles.write_bundle(target, {"a": b"1", "b": b"2"}, force=force)
        assert written == ["a", "b", SUMS], "the checksums come last"
        assert [path.name for path in tmp_path.iterdir()] == (["b"] if force else [])
        assert not force or (target / "old").read_bytes() == b"1"

    def test_force_replaces_a_bundle_whole(self, tmp_path: Path) -> None:
        bundles.write_bundle(tmp_path / "b", {"old": b"1"}, force=False)
        bundles.write_bundle(tmp_path / "b", {"new": b"2"}, force=True)
        assert {file.name for file in (tmp_path / "b").iterdir()} == {"new", SUMS}
        assert [path.name for path in tmp_path.iterdir()] == ["b"]

    @pytest.mark.parametrize(("checkpoint", "weights"), [("timm", "timm"), ("paddle", "google"), ("google", "paddle")])
    def test_files_of_any_layout(
        self, tmp_path: Path, square_config: MixerConfig, square_source: StateDict, checkpoint: str, weights: str
    ) -> None:
        """The gates hold, timm agrees, and what is written verifies, whichever layout either file has."""
        google = convert_state_dict(square_source, square_config, dst="google").state_dict
        np.savez(tmp_path / "google.npz", **google)
        with (tmp_path / "paddle.pdparams").open("wb") as stream:
            files.write(
                tmp_path / "paddle.pdparams", stream, convert_state_dict(square_source, square_config).state_dict
            )
        save_safetensors(tmp_path / "timm.safetensors", square_source)
        names = {"timm": "timm.safetensors", "paddle": "paddle.pdparams", "google": "google.npz"}
        data = write_archive(tmp_path / "tiny.tar.gz", python_files(4))
        inputs = ["--checkpoint", tmp_path / names[checkpoint], "--weights", tmp_path / names[weights], "--data", data]
        result = run("audit", *inputs, "--gelu", "tanh", "--out", tmp_path / "b", "--engine", "eager")
        assert result.exit_code == 1, result.output
        report = load_json(tmp_path / "b", "report.json")
        assert [found["verdict"] for found in report["alignments"].values()] == ["aligned", "aligned"]
        assert report["lineage"]["names_source"] is None
        assert run("verify", tmp_path / "b").exit_code == 0

    def test_a_checkpoint_of_another_model_is_refused(self, made: Path, source: StateDict) -> None:
        other = save_safetensors(made / "other.safetensors", source)
        result = audit_of(made, "--checkpoint", other, out="x")
        assert (result.exit_code, "Is it the checkpoint" in result.stderr) == (3, True)
        assert audit_of(made, "--attach", made / "bundle" / "report.json", out="x").exit_code == 2


class TestVerdicts:
    """Facts of a real bundle with other circumstances around them."""

    def found(self, bundle: Path, percent: float, verdict: str = "aligned", **changes: Any) -> AuditReport:
        figure = replace(figure_by_id("google_b16_in1k"), percent=percent)
        facts = with_circumstances(bundle, figure, **changes)
        alignments = {**facts.alignments, "finetuned": replace(facts.alignments["finetuned"], verdict=verdict)}
        return report_of(replace(facts, alignments=alignments))

    @pytest.mark.parametrize(("percent", "verdict"), [(0.0, "above"), (50.0, "below"), ("measured", "consistent with")])
    def test_by_the_interval(
        self, made: Path, monkeypatch: pytest.MonkeyPatch, percent: float | str, verdict: str
    ) -> None:
        monkeypatch.setattr("reports.score.verdict.TEST_IMAGES", COUNT)
        measured = load_json(made / "bundle", "report.json")["accuracy"]["percent"]
        assert measured < 25, "of thirty images, fewer than eight: 50 % lies above the interval"
        report = self.found(made / "bundle", measured if percent == "measured" else float(percent))
        assert report.verdict == verdict
        assert report.passed is (verdict != "below")

    def test_a_port_that_failed_its_gates_makes_it_not_comparable(
        self, made: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("reports.score.verdict.TEST_IMAGES", COUNT)
        for verdict, accepted, passed in (
            ("diverged", True, False),
            ("inconclusive", True, False),
            ("rounding", False, False),
            ("rounding", True, True),
        ):
            report = self.found(made / "bundle", 0.0, verdict, accept_rounding=accepted)
            assert report.passed is passed, verdict
            assert ("another function" in report.sentence) is not passed

    def test_lineage(self, made: Path) -> None:
        for recorded, named in (("0" * 64, False), (None, None)):
            beside = Manifest(output=ManifestOutput(fingerprint=""), source=ManifestSource(fingerprint=recorded))
            found = self.found(made / "bundle", 50.0, manifest=beside if recorded else None)
            assert found.lineage.names_source is named


def test_git_state_is_that_of_the_checkout_a_file_is_tracked_in(tmp_path: Path) -> None:
    def git(*arguments: str) -> None:
        identity = ("-c", "user.name=a", "-c", "user.email=a@example.org")
        subprocess.run(["git", *identity, *arguments], cwd=tmp_path, check=True, capture_output=True)

    if not shutil.which("git"):
        pytest.skip("needs git")
    tracked, untracked = tmp_path / "a.py", tmp_path / "b.py"
    assert git_state(tracked) is None
    git("init", "-q")
    tracked.write_text("1")
    untracked.write_text("1")
    git("add", "a.py")
    git("commit", "-q", "-m", "a")
    state = git_state(tracked)
    assert state is not None
    assert (len(state.commit), state.dirty) == (40, False)
    assert git_state(untracked) is None, "a package that is installed below somebody else's checkout"
    tracked.write_text("2")
    assert git_state(tracked) == replace(state, dirty=True)


def test_a_thumbnail_that_is_none_is_refused() -> None:
    from reports.data.thumbnails import pixels, thumbnails

    pattern = np.arange(32 * 32 * 3, dtype=np.uint8).reshape(1, 32, 32, 3)
    np.testing.assert_array_equal(pixels(thumbnails(pattern, [0])[0]), pattern[0])
    with pytest.raises((ValueError, OSError)):
        pixels("AAAA")


@pytest.mark.slow
def test_the_trained_mixer_on_all_test_images(
    mixer_convert: Run, frameworks: None, trained: Path, test_images: Path, tmp_path: Path
) -> None:
    """5,991 right and a cross-entropy of 1.12832 are the checkpoint's card, measured with torch."""
    weights, bundle = tmp_path / "mixer.pdparams", tmp_path / "bundle"
    assert mixer_convert("--checkpoint", trained, "--out", weights).exit_code == 0
    inputs = ["--checkpoint", trained, "--weights", weights, "--data", test_images, "--batch-size", 50]
    result = run("audit", *inputs, "--out", bundle)
    assert result.exit_code == 1, result.output
    assert "other archive" in result.stdout
    report = load_json(bundle, "report.json")
    assert report["accuracy"]["correct"] == 5991
    assert report["accuracy"]["loss"] == pytest.approx(1.12832, abs=5e-6)
    assert (report["timm"]["disagreements"], report["verdict"]) == (0, "not comparable")
    moved = shutil.move(bundle, tmp_path / "elsewhere")
    assert run("verify", moved).exit_code == 0
