"""Faults while writing: a full disk, a kill, a read-only folder, many writers. The old file or the complete new one."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from conftest import save_safetensors
from forked import ROOT, Forker

from convert.disk.hashing import file_sha256
from convert.evidence.recorded import manifest_path
from convert.mixer.init import init_state_dict
from convert.mixer.variants import MixerConfig

PAGE = 4096
KILLS, WRITERS, ROUNDS = 50, 8, 10


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory, square_config: MixerConfig) -> list[Path]:
    """A checkpoint for each writer, of other weights; one block, because every further tensor takes the same steps."""
    folder, config = tmp_path_factory.mktemp("sources"), replace(square_config, num_blocks=1)
    return [save_safetensors(folder / f"{seed}.safetensors", init_state_dict(config, seed)) for seed in range(WRITERS)]


@pytest.fixture(scope="module")
def warm(forker: Forker, sources: list[Path], tmp_path_factory: pytest.TempPathFactory) -> dict[int, str]:
    """The SHA-256 of the output that each checkpoint gives."""
    folder = tmp_path_factory.mktemp("expected")
    for seed, source in enumerate(sources):
        assert forker.run("--checkpoint", source, "--out", folder / f"{seed}.pdparams")["status"] == 0
    return {seed: file_sha256(folder / f"{seed}.pdparams") for seed in range(len(sources))}


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def outputs(out: Path) -> set[str]:
    return {out.name, manifest_path(out).name}


class TestKill:
    """A conversion of other weights over an old output, killed: the old file or the complete new one is there."""

    @pytest.fixture
    def out(self, forker: Forker, sources: list[Path], warm: dict[int, str], tmp_path: Path) -> Path:
        out = tmp_path / "out.pdparams"
        assert forker.run("--checkpoint", sources[0], "--out", out)["status"] == 0
        return out

    @pytest.mark.slow
    def test_at_fifty_moments(self, forker: Forker, sources: list[Path], warm: dict[int, str], out: Path) -> None:
        arguments = "--checkpoint", sources[1], "--out", out, "--force"
        seconds = max(forker.run(*arguments)["seconds"] for _ in range(3))
        killed = 0
        for moment in range(KILLS):
            assert forker.run("--checkpoint", sources[0], "--out", out, "--force")["status"] == 0
            assert names(out.parent) == outputs(out), "the next run leaves no stray file"
            ended = forker.run(*arguments, kill_after=seconds * moment / KILLS)
            killed += ended["status"] == -9
            assert file_sha256(out) in (warm[0], warm[1])
            assert manifest_path(out).exists()
        assert killed > 0

    @pytest.mark.slow
    def test_before_every_step(self, forker: Forker, sources: list[Path], warm: dict[int, str], out: Path) -> None:
        """Only between the two moves does the manifest lag behind, and then `verify` says so.

        Each step finds the old output as it was; `verify` is asked once of each pair of files that is left.
        """
        old, seen = {path: path.read_bytes() for path in out.parent.iterdir()}, dict[tuple[bytes, bytes], int]()
        verdicts, step, status = [], 0, -9
        while status == -9:
            step += 1
            for path, content in old.items():
                path.write_bytes(content)
            status = forker.run("--checkpoint", sources[1], "--out", out, "--force", die_at=step)["status"]
            assert file_sha256(out) in (warm[0], warm[1])
            pair = out.read_bytes(), manifest_path(out).read_bytes()
            if pair not in seen:
                seen[pair] = forker.run("verify", out)["status"]
            verdicts.append(seen[pair])
        assert status == 0
        assert step > 20, "there are that many steps at least"
        assert verdicts.count(5) == 1
        assert set(verdicts) == {0, 5}
        assert names(out.parent) == outputs(out)

    def test_before_every_step_of_a_first_conversion(
        self, forker: Forker, sources: list[Path], warm: dict[int, str], tmp_path: Path
    ) -> None:
        out, step, status = tmp_path / "new.pdparams", 0, -9
        while status == -9:
            step += 1
            for path in (out, manifest_path(out)):
                path.unlink(missing_ok=True)
            status = forker.run("--checkpoint", sources[1], "--out", out, die_at=step)["status"]
            assert not out.exists() or file_sha256(out) == warm[1]
            assert out.exists() or not manifest_path(out).exists(), "the manifest comes last"
        assert status == 0
        assert names(tmp_path) == outputs(out)


class TestFullDisk:
    def test_a_limit_on_file_sizes_at_every_page(
        self, forker: Forker, sources: list[Path], warm: dict[int, str], tmp_path: Path
    ) -> None:
        out = tmp_path / "out.pdparams"
        assert forker.run("--checkpoint", sources[0], "--out", out)["status"] == 0
        before = file_sha256(manifest_path(out))
        limits = range(0, max(out.stat().st_size, manifest_path(out).stat().st_size), PAGE)
        assert len(limits) > 10
        for limit in limits:
            ended = forker.run("--checkpoint", sources[1], "--out", out, "--force", limit=limit)
            assert ended["status"] == 4, ended["said"]
            assert ended["said"].count("\n") == 1
            assert "File too large" in ended["said"]
            assert (file_sha256(out), file_sha256(manifest_path(out))) == (warm[0], before)
            assert names(tmp_path) == outputs(out)
        ended = forker.run("--checkpoint", sources[1], "--out", out, "--force", limit=limits[-1] + PAGE)
        assert (ended["status"], file_sha256(out)) == (0, warm[1])

    def test_a_file_system_that_is_full(self, sources: list[Path], warm: dict[int, str], tmp_path: Path) -> None:
        if not Forker.can_mount():
            pytest.skip("needs to mount a tmpfs in a namespace of its own, which is not allowed here")
        disk, size = tmp_path / "disk", 2**20
        disk.mkdir()
        out, filler = disk / "out.pdparams", disk / "filler"
        with Forker("-t", "tmpfs", "-o", f"size={size}", "none", str(disk)) as forker:
            assert forker.run("--checkpoint", sources[0], "--out", out)["status"] == 0
            statuses, old = [], forker.look(disk)
            for free in range(size // PAGE):
                forker.leave(filler, free * PAGE)
                ended = forker.run("--checkpoint", sources[1], "--out", out, "--force")
                statuses.append(ended["status"])
                now = forker.look(disk)
                now.pop("filler")
                if ended["status"] == 0:
                    break
                assert ended["status"] == 4
                assert "No space left" in ended["said"]
                assert now == old
            assert statuses[-1] == 0
            assert len(statuses) > 10
            assert now[out.name] == warm[1]


class TestReadOnly:
    def test_a_file_system_that_is_read_only(self, sources: list[Path], tmp_path: Path) -> None:
        if not Forker.can_mount():
            pytest.skip("needs to mount a tmpfs in a namespace of its own, which is not allowed here")
        with Forker("-t", "tmpfs", "-o", "ro", "none", str(tmp_path)) as forker:
            ended = forker.run("--checkpoint", sources[0], "--out", tmp_path / "out.pdparams")
            assert ended["status"] == 4
            assert "Read-only file system" in ended["said"]
            assert ended["said"].count("\n") == 1
            assert forker.look(tmp_path) == {}


@pytest.mark.slow
class TestManyWriters:
    def test_with_force_the_last_one_wins_whole(
        self, forker: Forker, sources: list[Path], warm: dict[int, str], tmp_path: Path
    ) -> None:
        out = tmp_path / "out.pdparams"
        argv = [["--checkpoint", str(source), "--out", str(out), "--force"] for source in sources]
        for _ in range(ROUNDS):
            ended = forker.together(*({"argv": arguments} for arguments in argv))
            assert [run["status"] for run in ended] == [0] * WRITERS, ended
            assert file_sha256(out) in warm.values()
            verdict = forker.run("verify", out)
            assert verdict["status"] == 0, verdict["said"]
            assert names(tmp_path) == outputs(out)

    def test_without_force_one_wins_and_the_others_are_refused(
        self, forker: Forker, sources: list[Path], warm: dict[int, str], tmp_path: Path
    ) -> None:
        argv = [["--checkpoint", str(source), "--out", str(tmp_path / "out.pdparams")] for source in sources]
        out = tmp_path / "out.pdparams"
        for _ in range(ROUNDS):
            ended = forker.together(*({"argv": arguments} for arguments in argv))
            assert sorted(run["status"] for run in ended) == [0] + [2] * (WRITERS - 1), ended
            winner = next(seed for seed, run in enumerate(ended) if run["status"] == 0)
            assert file_sha256(out) == warm[winner]
            assert forker.run("verify", out)["status"] == 0
            assert names(tmp_path) == outputs(out)
            for path in tmp_path.iterdir():
                path.unlink()


def test_any_process_writes_the_same_bytes(sources: list[Path], tmp_path: Path) -> None:
    """Hash seed and umask differ: bytes and manifests are equal, the modes as the umask says."""
    written = []
    for seed, umask in ((1, 0o077), (2, 0o022), (3, 0o002)):
        folder = tmp_path / str(seed)
        folder.mkdir()
        code = "import os, sys; os.umask(int(sys.argv.pop(1), 8)); from convert.commands.cli import main; main()"
        for suffix in (".pdparams", ".safetensors"):
            arguments = ["--checkpoint", str(sources[0]), "--out", f"out{suffix}"]
            subprocess.run(
                [sys.executable, "-c", code, f"{umask:o}", *arguments],
                cwd=folder,
                env={**os.environ, "PYTHONHASHSEED": str(seed), "PYTHONPATH": str(ROOT)},
                capture_output=True,
                check=True,
            )
        assert {path.stat().st_mode & 0o777 for path in folder.iterdir()} == {0o666 & ~umask}
        written.append({path.name: path.read_bytes() for path in folder.iterdir()})
    assert len(written[0]) == 4
    assert written[0] == written[1] == written[2]
