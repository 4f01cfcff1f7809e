"""The one way in which files are written: what is refused, swept and left alone; and that it is the only one."""

from __future__ import annotations

import ast
import errno
import fcntl
import json
import os
import re
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import Run
from forked import ROOT

from convert import files
from convert.disk import atomic, atomic_folder
from convert.disk.atomic import write_atomically, write_report
from convert.disk.atomic_folder import write_folder_atomically
from convert.disk.temporary import exclusive, temporary_file
from convert.errors import IntegrityProblem, IOProblem, OutputRefused, Unreadable
from convert.evidence.recorded import manifest_path

STALE = ".mixer-tmp-0123456789abcdef.pdparams"


def write(path: Path, content: bytes = b"new", **how: Any) -> None:
    write_atomically(path, lambda stream: stream.write(content) and None, **how)


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


class TestRefused:
    @pytest.mark.parametrize("kind", ["symlink", "broken symlink", "folder", "pipe", "input", "link to the input"])
    def test_even_with_force(self, mixer_convert: Run, checkpoint: Path, tmp_path: Path, kind: str) -> None:
        out, before = tmp_path / "out.safetensors", checkpoint.read_bytes()
        match kind:
            case "symlink":
                out.symlink_to(checkpoint.rename(tmp_path / "other.safetensors"))
                checkpoint.write_bytes(before)
            case "broken symlink":
                out.symlink_to("nowhere")
            case "folder":
                out.mkdir()
            case "pipe":
                os.mkfifo(out)
            case "input":
                out = tmp_path / "." / checkpoint.name
            case "link to the input":
                out.hardlink_to(checkpoint)
        there = names(tmp_path)
        result = mixer_convert("--checkpoint", checkpoint, "--out", out, "--force")
        assert result.exit_code == 2, result.output
        assert ("the input itself" if "input" in kind else "not a regular file") in result.stderr
        assert checkpoint.read_bytes() == before
        assert names(tmp_path) == there

    def test_a_name_that_is_too_long(self, mixer_convert: Run, checkpoint: Path, tmp_path: Path) -> None:
        """The output's would fit, but not its manifest's: said before anything is written."""
        result = mixer_convert("--checkpoint", checkpoint, "--out", tmp_path / f"{'x' * 240}.pdparams")
        assert result.exit_code == 4
        assert "File name too long" in result.stderr
        assert names(tmp_path) == {checkpoint.name}

    def test_a_folder_that_takes_no_files_is_told_before_the_work(
        self, mixer_convert: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Asked of the system, as root may write wherever it likes."""
        monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != tmp_path)
        monkeypatch.setattr(files, "load", lambda path: pytest.fail("it was read"))
        (tmp_path / "x.safetensors").write_bytes(b"x")
        result = mixer_convert("--checkpoint", tmp_path / "x.safetensors", "--json", tmp_path / "x.json")
        assert result.exit_code == 4
        said = f"{tmp_path / 'x.json'}: cannot be written (Permission denied). Check the folder's permissions"
        assert said in result.stderr

    def test_what_appeared_meanwhile_stays(self, tmp_path: Path) -> None:
        path = tmp_path / "x"
        with pytest.raises(OutputRefused, match="it exists"):
            write(path, force=False, check=lambda _: path.write_bytes(b"theirs") and None)
        assert path.read_bytes() == b"theirs"
        assert names(tmp_path) == {"x"}

    def test_what_appears_at_the_last_moment_stays(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Another program's file, which no lock of ours keeps away: the system refuses the name."""
        path = tmp_path / "x"
        path.write_bytes(b"theirs")
        monkeypatch.setattr(atomic.os.path, "lexists", lambda _: False)
        with pytest.raises(OutputRefused, match="it exists"):
            write(path, force=False)
        assert path.read_bytes() == b"theirs"

    def test_a_file_system_without_hard_links(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def refuse(*_: object) -> None:
            raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))

        monkeypatch.setattr(Path, "hardlink_to", refuse)
        write(tmp_path / "x", force=False)
        assert (tmp_path / "x").read_bytes() == b"new"
        assert names(tmp_path) == {"x"}

    @pytest.mark.parametrize("code", [errno.EACCES, errno.EINVAL])
    def test_a_folder_that_cannot_be_synced_has_the_file_all_the_same(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
    ) -> None:
        fsync = os.fsync

        def refuse(handle: int) -> None:
            if stat.S_ISDIR(os.fstat(handle).st_mode):
                raise OSError(code, os.strerror(code))
            fsync(handle)

        monkeypatch.setattr(os, "fsync", refuse)
        write(tmp_path / "x")
        assert (tmp_path / "x").read_bytes() == b"new"

    @pytest.mark.parametrize("code", sorted(atomic.ADVICE))
    def test_what_the_system_refuses_is_one_sentence_with_advice(self, tmp_path: Path, code: int) -> None:
        def fill(_: object) -> None:
            raise OSError(code, os.strerror(code))

        with pytest.raises(IOProblem, match=os.strerror(code)) as caught:
            write_atomically(tmp_path / "x", fill)
        assert str(caught.value).endswith(atomic.ADVICE[code])
        assert names(tmp_path) == set()

    def test_what_cannot_be_read_back_is_no_bad_input(self, tmp_path: Path) -> None:
        def check(path: Path) -> None:
            raise Unreadable(path, "it is truncated")

        with pytest.raises(IntegrityProblem, match="cannot be read back"):
            write(tmp_path / "x", check=check)


class TestTemporaries:
    def test_what_a_killed_writer_left_is_swept(self, tmp_path: Path) -> None:
        (tmp_path / STALE).write_bytes(b"half")
        (tmp_path / ".mixer-lock-0123456789abcdef").touch()
        (tmp_path / ".mixer-tmp-0000000000000000").mkdir()
        (tmp_path / ".mixer-tmp-0000000000000000" / "x").touch()
        write(tmp_path / "out")
        assert names(tmp_path) == {"out"}

    def test_a_running_writer_s_is_left_alone(self, tmp_path: Path) -> None:
        with temporary_file(tmp_path, ".bin") as (path, _):
            write(tmp_path / "out")
            assert path.exists()
        with exclusive(tmp_path / "other"):
            lock = names(tmp_path) - {"out"}
            write(tmp_path / "out")
            assert lock < names(tmp_path)
        assert names(tmp_path) == {"out"}

    def test_another_process_s_is_left_alone_until_it_is_gone(self, tmp_path: Path) -> None:
        code = f"""
from pathlib import Path
from convert.disk.temporary import temporary_file
with temporary_file(Path({str(tmp_path)!r}), "") as (path, _):
    print(path.name, flush=True)
    input()
"""
        with subprocess.Popen(
            [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT
        ) as writer:
            assert writer.stdout is not None
            name = writer.stdout.readline().strip()
            write(tmp_path / "out")
            assert names(tmp_path) == {"out", name}
            writer.kill()
        write(tmp_path / "out")
        assert names(tmp_path) == {"out"}

    def test_names_that_are_not_ours_are_left_alone(self, tmp_path: Path) -> None:
        others = {".mixer-tmp-", ".mixer-tmp-0123456789abcdeX", "x.mixer-tmp-0123456789abcdef", ".out.tmp"}
        for name in others:
            (tmp_path / name).touch()
        (tmp_path / STALE).symlink_to("nowhere")
        os.mkfifo(tmp_path / ".mixer-tmp-0000000000000000")
        there = names(tmp_path)
        write(tmp_path / "out")
        assert names(tmp_path) == there | {"out"}

    def test_a_lock_on_the_folder_itself_is_the_user_s_own(self, tmp_path: Path) -> None:
        """`flock FOLDER mixer-convert --out FOLDER/…` is no deadlock."""
        handle = os.open(tmp_path, os.O_RDONLY)
        fcntl.flock(handle, fcntl.LOCK_EX)
        write(tmp_path / "out", beside=(tmp_path / "out.manifest", lambda: b"about it"))
        os.close(handle)
        assert names(tmp_path) == {"out", "out.manifest"}

    def test_a_file_system_without_locks(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def refuse(*_: object) -> None:
            raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

        monkeypatch.setattr(fcntl, "flock", refuse)
        (tmp_path / STALE).touch()
        write(tmp_path / "out", beside=(tmp_path / "out.manifest", lambda: b"about it"))
        assert names(tmp_path) == {STALE, "out", "out.manifest"}, "what may be in use is not swept"


class TestReports:
    def test_a_symlink_stays_one_and_its_target_is_replaced(self, tmp_path: Path) -> None:
        target, link = tmp_path / "target", tmp_path / "link"
        target.write_bytes(b"old")
        link.symlink_to("target")
        before = target.stat().st_ino
        write_report(link, b"new")
        assert link.is_symlink()
        assert target.read_bytes() == b"new"
        assert target.stat().st_ino != before, "whole or not at all"

    def test_standard_output_is_written_to_as_it_is(self, tmp_path: Path) -> None:
        out = tmp_path / "out"
        code = (
            "from pathlib import Path; from convert.disk.atomic import write_report as w; w(Path('/dev/stdout'), b'x')"
        )
        with out.open("wb") as stream:
            subprocess.run(
                [sys.executable, "-c", f"print('first', flush=True); {code}"], stdout=stream, check=True, cwd=ROOT
            )
            inode = os.fstat(stream.fileno()).st_ino
        assert out.stat().st_ino == inode
        assert names(tmp_path) == {"out"}

    @pytest.mark.parametrize("command", ["convert", "convert out", "inspect", "verify", "verify b", "manifest"])
    def test_the_json_never_replaces_another_file_of_the_command(
        self, mixer_convert: Run, checkpoint: Path, tmp_path: Path, command: str
    ) -> None:
        out = tmp_path / "out.pdparams"
        mixer_convert("--checkpoint", checkpoint, "--out", out)
        arguments, target = {
            "convert": (["--checkpoint", checkpoint, "--out", tmp_path / "new.pdparams"], checkpoint),
            "convert out": (
                ["--checkpoint", checkpoint, "--out", tmp_path / "new.pdparams"],
                tmp_path / "new.pdparams",
            ),
            "inspect": (["inspect", checkpoint], checkpoint),
            "verify": (["verify", out], out),
            "verify b": (["verify", checkpoint, out], out),
            "manifest": (["verify", checkpoint, "--manifest", manifest_path(out)], manifest_path(out)),
        }[command]
        before = {path: path.read_bytes() for path in tmp_path.iterdir()}
        link = tmp_path / "link"
        if target.exists():
            link.hardlink_to(target)
        for json_target in (target, tmp_path / ".." / tmp_path.name / target.name, *([link] if link.exists() else [])):
            result = mixer_convert(*arguments, "--json", json_target)
            assert result.exit_code == 2, result.output
            assert "names the same file" in result.stderr
        link.unlink(missing_ok=True)
        assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before

    def test_an_older_json_is_replaced(self, mixer_convert: Run, checkpoint: Path, tmp_path: Path) -> None:
        for _ in range(2):
            assert mixer_convert("inspect", checkpoint, "--json", tmp_path / "x.json").exit_code == 0
        assert json.loads((tmp_path / "x.json").read_text())["layouts"] == ["timm"]


class TestFolder:
    @pytest.fixture(params=[True, False], ids=["one step", "two steps"])
    def exchange(self, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
        if not request.param:
            monkeypatch.setattr(atomic_folder, "_exchange", lambda *_: False)

    def test_an_older_one_goes_whole(self, tmp_path: Path, exchange: None) -> None:
        for content in ({"a": b"1", "b": b"2"}, {"c": b"3"}):
            write_folder_atomically(tmp_path / "x", content)
            assert {path.name: path.read_bytes() for path in (tmp_path / "x").iterdir()} == content
            assert names(tmp_path) == {"x"}

    def test_a_failure_leaves_the_older_one(
        self, tmp_path: Path, exchange: None, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        write_folder_atomically(tmp_path / "x", {"a": b"1"})

        def refuse(*_: object) -> None:
            raise OSError(errno.EIO, os.strerror(errno.EIO))

        monkeypatch.setattr(atomic_folder, "sync_folder", refuse)
        with pytest.raises(IOProblem, match="cannot be written"):
            write_folder_atomically(tmp_path / "x", {"b": b"2"})
        assert names(tmp_path / "x") == {"a"}
        assert names(tmp_path) == {"x"}

    def test_a_second_step_that_fails_takes_the_first_one_back(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        write_folder_atomically(tmp_path / "x", {"a": b"1"})
        rename = Path.rename

        def refuse(path: Path, target: Path) -> Path:
            if path.name.startswith(".mixer-tmp-"):
                raise OSError(errno.EIO, os.strerror(errno.EIO))
            return rename(path, target)

        monkeypatch.setattr(atomic_folder, "_exchange", lambda *_: False)
        monkeypatch.setattr(Path, "rename", refuse)
        with pytest.raises(IOProblem, match="cannot be written"):
            write_folder_atomically(tmp_path / "x", {"b": b"2"})
        assert names(tmp_path / "x") == {"a"}
        assert names(tmp_path) == {"x"}

    def test_where_the_system_can_it_is_one_step(self, tmp_path: Path) -> None:
        for name in ("a", "b"):
            (tmp_path / name).mkdir()
            (tmp_path / name / name).touch()
        assert atomic_folder._exchange(tmp_path / "a", tmp_path / "b")
        assert names(tmp_path / "a") == {"b"}
        assert not atomic_folder._exchange(tmp_path / "a", tmp_path / "none")


WRITING = {"write_text", "write_bytes", "mkstemp", "mkdtemp", "NamedTemporaryFile", "TemporaryDirectory", "savefig"}
WRITING |= {"save", "savez", "savez_compressed", "tofile", "save_file", "truncate", "copyfile", "copytree", "move"}
WRITING |= {"rename", "renames", "link", "hardlink_to", "symlink_to", "unlink", "rmtree", "rmdir"}
WRITING |= {"os.remove", "os.replace", "shutil.copy", "shutil.copy2"}
MODE = re.compile("[rbt]*[wxa+][rbt+]*")
ALLOWED = {
    "convert/hub/download.py": {"unlink"},  # of a bad download, in the hub's cache
    "convert/disk/atomic.py": {
        "fdopen",
        "write_bytes",
        "hardlink_to",
        "replace",
    },  # write_bytes: a pipe or /dev/stdout
    "convert/commands/streams.py": {"fdopen"},  # a standard stream that is closed goes nowhere
    "convert/disk/atomic_folder.py": {"open", "rename", "rmtree"},
    "convert/disk/temporary.py": {"unlink", "rmtree"},
    "align/gates/forward.py": {"replace"},  # of an array's holder, in memory
    "align/trace/sketches.py": {"replace"},  # the same
    "align/commands/publish.py": {"open"},  # appends to the file that GitHub names
    "align/reprod/stages.py": {"save", "unlink"},  # to a stream of write_atomically; a log that would no longer be true
    "reports/train/run_folder.py": {"open", "truncate"},  # a log that grows
    "reports/train/checkpoints.py": {"unlink"},  # those that are no longer kept
    "reports/rehearsal/made_up.py": {"open"},  # to memory
    "reports/rehearsal/record.py": {"rmtree", "unlink"},  # what a step that was stopped left behind
    "reports/sign/ssh_keygen.py": {"TemporaryDirectory", "write_bytes", "write_text"},  # what ssh-keygen reads
    "reports/score/engines.py": {"TemporaryDirectory", "save", "open"},  # what Paddle exports for itself; /dev/null
    "reports/score/predictions.py": {"savez"},  # to memory
    "reports/train/curves.py": {"savefig"},  # to memory
    "reports/data/thumbnails.py": {"save"},  # to memory
}


def writing_calls(tree: ast.AST) -> Iterator[str]:
    """Yield the name of each call that may write to the file system, or change what is there."""
    for call in (node for node in ast.walk(tree) if isinstance(node, ast.Call)):
        name = ast.unparse(call.func)
        given = [*call.args, *(keyword.value for keyword in call.keywords)]
        texts = [argument.value for argument in given if isinstance(argument, ast.Constant)]
        last = name.rpartition(".")[2]
        opened = last in ("open", "fdopen") and any(MODE.fullmatch(str(text)) for text in texts)
        moved = last == "replace" and "." in name and len(given) == 1  # of a path; that of a string takes two
        if opened or moved or last in WRITING or name in WRITING:
            yield last


def test_nothing_is_written_by_another_way() -> None:
    found: dict[str, set[str]] = {}
    for package in ("convert", "align", "reports"):
        for file in (ROOT / package).rglob("*.py"):
            if calls := set(writing_calls(ast.parse(file.read_text(encoding="utf-8")))):
                found[str(file.relative_to(ROOT))] = calls
    assert found == ALLOWED


@pytest.mark.parametrize(
    "code",
    [
        "path.open('w')",
        "open(path, mode='ab')",
        "path.write_text(x)",
        "np.savez(path, x)",
        "shutil.copy(a, b)",
        "path.replace(b)",
    ],
)
def test_another_way_would_be_seen(code: str) -> None:
    assert list(writing_calls(ast.parse(code)))


class TestAccess:
    """What is replaced keeps who may do what with it."""

    @pytest.mark.parametrize("mode", [0o640, 0o600, 0o444, 0o755])
    def test_the_command_keeps_the_modes_of_file_and_manifest(
        self, mixer_convert: Run, checkpoint: Path, tmp_path: Path, mode: int
    ) -> None:
        out = tmp_path / "out.pdparams"
        assert mixer_convert("--checkpoint", checkpoint, "--out", out).exit_code == 0
        out.chmod(mode)
        manifest_path(out).chmod(0o600)
        assert mixer_convert("--checkpoint", checkpoint, "--out", out, "--force").exit_code == 0
        assert stat.S_IMODE(out.stat().st_mode) == mode
        assert stat.S_IMODE(manifest_path(out).stat().st_mode) == 0o600

    def test_a_new_file_has_the_mode_that_the_umask_says(self, tmp_path: Path) -> None:
        before = os.umask(0o027)
        try:
            write(tmp_path / "x")
        finally:
            os.umask(before)
        assert stat.S_IMODE((tmp_path / "x").stat().st_mode) == 0o640

    def test_nobody_else_reads_it_meanwhile(self, tmp_path: Path) -> None:
        """Not even before it is filled: a descriptor that was opened then would read on."""
        path = tmp_path / "x"
        path.touch(0o600)
        seen = []

        def fill(stream: Any) -> None:
            seen.append(stat.S_IMODE(os.fstat(stream.fileno()).st_mode))

        write_atomically(path, fill, lambda temporary: seen.append(stat.S_IMODE(temporary.stat().st_mode)))
        assert seen == [0o600, 0o600]

    @pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
    @pytest.mark.parametrize("mode", [0o640, 0o600, 0o6755])
    def test_root_keeps_owner_and_group(self, tmp_path: Path, mode: int) -> None:
        path = tmp_path / "x"
        path.touch()
        os.chown(path, 12345, 23456)
        path.chmod(mode)
        write(path)
        found = path.stat()
        assert (found.st_uid, found.st_gid, stat.S_IMODE(found.st_mode)) == (12345, 23456, mode)
        assert path.read_bytes() == b"new"

    @pytest.mark.parametrize(
        ("group", "mode", "kept"),
        [
            (False, 0o640, 0o600),
            (False, 0o6755, 0o705),
            (False, 0o604, 0o600),
            (False, 0o664, 0o604),
            (True, 0o640, 0o640),
            (True, 0o6755, 0o755),
        ],
    )
    def test_what_cannot_be_kept_gives_nobody_more(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, group: bool, mode: int, kept: int
    ) -> None:
        """Another's file: its owner cannot be kept, its group where we are in it."""
        path = tmp_path / "x"
        path.touch()
        path.chmod(mode)
        found = path.stat()
        theirs = [*found[:4], found.st_uid + 1, found.st_gid + (not group), *found[6:]]
        monkeypatch.setattr(atomic, "_regular", lambda _: os.stat_result(theirs))

        def chown(handle: int, owner: int, gid: int) -> None:
            if owner != -1 or not group:
                raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))

        monkeypatch.setattr(os, "fchown", chown)
        write(path)
        assert stat.S_IMODE(path.stat().st_mode) == kept
        assert path.read_bytes() == b"new"

    def test_a_file_system_without_modes(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def refuse(*_: object) -> None:
            raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))

        path = tmp_path / "x"
        path.touch()
        monkeypatch.setattr(os, "fchmod", refuse)
        write(path)
        assert path.read_bytes() == b"new"
