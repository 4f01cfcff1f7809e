"""The hub, played by a small server on the loopback interface."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import resource
import shutil
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import HTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import RESOLVE, REVISION, Hub, HubHandler, save_safetensors, serving
from forked import WARM as FORKED
from warm import Warm

from convert import files
from convert.arrays import tensor_sha256s
from convert.errors import IntegrityProblem, Unavailable
from convert.hub.answers import judge, no_connection, stated_tag
from convert.hub.download import _limit
from convert.hub.watch import Watch
from convert.mixer.init import init_state_dict
from convert.mixer.variants import get_variant

B16 = ("--variant", "b16_in21k")
NOWHERE = "http://127.0.0.1:9"
BY_HAND = (
    "it where there is a network (https://huggingface.co/timm/mixer_b16_224.goog_in21k/blob/main/model.safetensors) "
    "and pass it: --variant b16_in21k --checkpoint model.safetensors\n"
)
SHORT = {"HF_HUB_ETAG_TIMEOUT": "1", "HF_HUB_DOWNLOAD_TIMEOUT": "1"}
"""What a user may shorten the limits to."""
OWN_COMMANDS = str(Path(sys.executable).parent)
SHA1 = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture(scope="module", autouse=True)
def warm_conversions() -> Iterator[None]:
    """`mixer-convert` on PATH, with all that it imports before it knows that it has to ask the hub."""
    with Warm(FORKED, ["mixer-convert"]) as warm, pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", os.pathsep.join([str(warm.path), OWN_COMMANDS, os.environ["PATH"]]))
        yield


def mixer_convert(folder: Path, endpoint: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the command in a process that has not imported huggingface_hub, which reads its settings then."""
    clean = {key: value for key, value in os.environ.items() if not key.startswith("HF_")}
    return subprocess.run(
        ["mixer-convert", *arguments],
        cwd=folder,
        env={
            **clean,
            "HF_HOME": str(folder / "hf"),
            "HF_ENDPOINT": endpoint,
            **environment,
        },
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def failing(folder: Path, endpoint: str, code: int = 4, /, **environment: str) -> str:
    """Return the one sentence that a command which fails says, and check that it leaves nothing behind."""
    result = mixer_convert(folder, endpoint, *B16, **environment)
    assert result.returncode == code, result.stderr
    assert result.stderr.count("\n") == 1, result.stderr
    assert result.stderr.startswith("Error: ")
    assert code != 4 or result.stderr.endswith(BY_HAND), result.stderr
    assert not result.stdout
    assert not list(folder.glob("*.pdparams*"))
    assert not [path for path in cached(folder) if path.name.endswith(".incomplete")]
    return result.stderr


def cached(folder: Path) -> list[Path]:
    """Return the blobs and the snapshots' files in the cache."""
    repositories = folder / "hf" / "hub"
    return [*repositories.glob("models--*/blobs/*"), *repositories.glob("models--*/snapshots/*/*")]


def others_weights(hub: Hub) -> str:
    """Serve a checkpoint that is whole but of another model, which is refused (exit 3) after all the hub's checks."""
    save_safetensors(hub.file, {"a": np.arange(100_000, dtype=np.float32)})
    return hashlib.sha256(hub.file.read_bytes()).hexdigest()


@pytest.mark.slow
def test_the_headline_command_downloads_and_converts_the_full_size(hub: Hub, tmp_path: Path) -> None:
    source = init_state_dict(get_variant("b16_in21k").config, 0)
    save_safetensors(hub.file, source)
    assert hub.file.stat().st_size > 303_000_000
    result = mixer_convert(tmp_path, hub.endpoint, "--src", "timm", "--variant", "b16_in21k")
    assert result.returncode == 0, result.stderr
    assert result.stderr.count("\n") == 1
    assert hub.requests[-1] == f"GET {RESOLVE}"
    out = tmp_path / "mixer_b16_224.goog_in21k.pdparams"
    manifest = json.loads(Path(f"{out}.manifest.json").read_text())
    assert manifest["source"]["repo_id"] == "timm/mixer_b16_224.goog_in21k"
    assert manifest["source"]["revision"] == REVISION
    assert manifest["source"]["verified_by_hub"] is True
    assert manifest["notes"] == []
    assert manifest["source"]["sha256"] == hashlib.sha256(hub.file.read_bytes()).hexdigest()
    assert {t["source"]: t["source_sha256"] for t in manifest["tensors"]} == tensor_sha256s(source)
    assert files.read(out)["head.weight"].shape == (768, 21843)

    out.unlink()
    before = len(hub.requests)
    again = mixer_convert(tmp_path, hub.endpoint, "--variant", "b16_in21k", "--force", HF_HUB_OFFLINE="1")
    assert again.returncode == 0, again.stderr
    assert out.exists()
    assert len(hub.requests) == before, "the cache must serve when offline"


class TestNoNetwork:
    @pytest.mark.parametrize(
        ("environment", "reason"),
        [
            ({"HF_HUB_OFFLINE": "1"}, "HF_HUB_OFFLINE is set"),
            ({}, "no network: 127.0.0.1:9 refused the connection"),
        ],
    )
    def test_without_a_cache_it_is_said_at_once(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], reason: str
    ) -> None:
        """The client alone would try for half a minute, saying so each time."""
        monkeypatch.setenv("PATH", OWN_COMMANDS)  # in a child of this process, which is told how long that computes
        before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
        assert f"({reason})" in failing(tmp_path, NOWHERE, **environment)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 3
        assert time.monotonic() - start < 15, "it waited for something"

    def test_a_setting_that_is_no_number_exits_2(self, tmp_path: Path) -> None:
        assert "HF_HUB_" in failing(tmp_path, NOWHERE, 2, HF_HUB_ETAG_TIMEOUT="soon")

    @pytest.mark.parametrize(
        ("error", "said"),
        [
            (socket.gaierror(-2, "Name or service not known"), "no network: the name hub.example is not known"),
            (OSError(101, "Network is unreachable"), "no network: hub.example: Network is unreachable"),
            (ssl.SSLError(1, "wrong version"), "no secure connection to hub.example"),
            (ValueError("Bearer secret"), "hub.example broke off or gave no answer in HTTP"),
        ],
    )
    def test_each_cause_has_its_words(self, error: Exception, said: str) -> None:
        outer = RuntimeError()
        outer.__cause__ = error
        reason, _ = no_connection(outer, "hub.example")
        assert reason.startswith(said)
        assert "secret" not in reason

    def test_a_certificate_that_is_not_accepted(self, hub: Hub, tmp_path: Path) -> None:
        openssl = shutil.which("openssl")
        if openssl is None:
            pytest.skip("needs openssl, which is not here")
        pem = tmp_path / "hub.pem"
        request = ["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=127.0.0.1", "-days", "1"]
        subprocess.run([openssl, *request, "-keyout", pem, "-out", f"{pem}.crt"], check=True, capture_output=True)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(f"{pem}.crt", pem)
        with HTTPServer(("127.0.0.1", 0), type("Handler", (HubHandler,), {"hub": hub})) as server:
            server.handle_error = lambda *_: None  # type: ignore[method-assign]
            server.socket = context.wrap_socket(server.socket, server_side=True)
            thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
            thread.start()
            try:
                said = failing(tmp_path, f"https://127.0.0.1:{server.server_port}")
            finally:
                server.shutdown()
                thread.join()
        assert "the certificate of 127.0.0.1:" in said
        assert "is not accepted: self" in said


class TestRefusals:
    @pytest.mark.parametrize(
        ("status", "headers", "said"),
        [
            (401, {}, "401: without a token it shows nothing of that name) and is not in the cache. Set HF_TOKEN to"),
            (401, {"X-Error-Code": "GatedRepo"}, "Accept the terms at https://huggingface.co/timm/mixer_b16_224.goog_"),
            (403, {}, "403: no access) and is not in the cache. Accept the terms at https://huggingface.co/timm/mixer"),
            (404, {}, "answered 404: no such repository, file or revision)"),
            (404, {"X-Error-Code": "RepoNotFound"}, "answered 404: no such repository)"),
            (404, {"X-Error-Code": "RevisionNotFound"}, "answered 404: no such revision)"),
            (404, {"X-Error-Code": "EntryNotFound"}, "answered 404: no such file)"),
            (418, {}, "the hub answered 418)"),
            (429, {}, "429: too many requests) and is not in the cache. Wait some minutes and run again."),
            (429, {"Retry-After": "77"}, "Wait 77 s and run again."),
            (429, {"Retry-After": "\x1b[31m"}, "Wait some minutes and run again."),
            (429, {"Retry-After": "Wed, 21 Oct 2026 07:28:00 GMT"}, "Wait until Wed, 21 Oct 2026 07:28:00 GMT and run"),
            (429, {"RateLimit": '"api";r=0;t=55'}, "Wait 55 s and run again."),
            (500, {}, "500: it has a fault) and is not in the cache. Try again later."),
            (503, {"Retry-After": "1"}, "503: it has a fault)"),
        ],
    )
    def test_each_has_its_sentence(self, status: int, headers: dict[str, str], said: str) -> None:
        with pytest.raises(Unavailable) as caught:
            judge(answer(status, headers), get_variant("b16_in21k"))
        assert said in str(caught.value)
        assert f"{caught.value}\n".endswith(BY_HAND)

    @pytest.mark.parametrize("status", [404, 429])
    def test_it_is_no_reason_to_ask_again(self, hub: Hub, tmp_path: Path, status: int) -> None:
        hub.file.write_bytes(b"x")
        hub.status = status
        assert f"answered {status}: " in failing(tmp_path, hub.endpoint)
        assert hub.requests.count(f"HEAD {RESOLVE}") == 1

    def test_a_token_that_is_not_accepted_is_not_shown(self, hub: Hub, tmp_path: Path) -> None:
        hub.file.write_bytes(b"x")
        hub.status = 401
        said = failing(tmp_path, hub.endpoint, HF_TOKEN="hf_secret")
        assert "401: it does not accept the token) and is not in the cache. Set HF_TOKEN" in said
        assert "secret" not in said

    def test_where_the_file_itself_is_refused(self, hub: Hub, tmp_path: Path) -> None:
        hub.file.write_bytes(b"x")
        hub.status, hub.to = 503, ("GET",)
        assert "answered 503: " in failing(tmp_path, hub.endpoint)

    def test_a_repository_that_is_not_there(self, hub: Hub, tmp_path: Path) -> None:
        hub.file.write_bytes(b"x")
        result = mixer_convert(tmp_path, hub.endpoint, "--variant", "l16_in1k")
        assert result.returncode == 4
        assert "timm/mixer_l16_224.goog_in21k_ft_in1k" in result.stderr

    @pytest.mark.parametrize("header", ["X-Repo-Commit", "X-Linked-Etag"])
    def test_what_is_no_hub(self, hub: Hub, tmp_path: Path, header: str) -> None:
        hub.file.write_bytes(b"x")
        hub.headers = {header: None, "ETag": None}
        assert "what answered is no hub" in failing(tmp_path, hub.endpoint)

    def test_a_cache_that_cannot_be_written(self, hub: Hub, tmp_path: Path) -> None:
        hub.file.write_bytes(b"x")
        (tmp_path / "hf").write_text("no folder")
        assert "the hub's cache cannot be written: " in failing(tmp_path, hub.endpoint)


class TestSilence:
    @pytest.mark.parametrize("to", [("HEAD", "GET"), ("GET",)])
    @pytest.mark.parametrize("how", ["silent", "drip"])
    def test_a_hub_that_does_not_answer(self, hub: Hub, tmp_path: Path, how: str, to: tuple[str, ...]) -> None:
        hub.file.write_bytes(b"x")
        hub.to, hub.silent, hub.drip = to, how == "silent", 0.1 if how == "drip" else 0
        start = time.monotonic()
        assert "did not answer within 1 s)" in failing(tmp_path, hub.endpoint, **SHORT)
        assert time.monotonic() - start < 20

    def test_a_body_that_stalls(self, hub: Hub, tmp_path: Path) -> None:
        others_weights(hub)
        hub.stall_after = 100_000
        said = failing(tmp_path, hub.endpoint, **SHORT)
        assert f"the download stalled after 100,000 of {hub.file.stat().st_size:,} bytes)" in said

    def test_a_body_that_comes_by_the_byte_stalls(self, hub: Hub, tmp_path: Path) -> None:
        others_weights(hub)
        hub.pace = (1, 0.1)
        assert "the download stalled after " in failing(tmp_path, hub.endpoint, **SHORT)

    @pytest.mark.slow
    def test_within_30_seconds_by_default(self, tmp_path: Path) -> None:
        """Three hubs at once, each of which is waited for."""
        with contextlib.ExitStack() as served, ThreadPoolExecutor() as pool:
            start, waits = time.monotonic(), {}
            for how in ("silent", "drip", "stall"):
                (tmp_path / how).mkdir()
                hub = served.enter_context(serving(tmp_path / how / "served.safetensors"))
                others_weights(hub)
                hub.silent, hub.drip = how == "silent", 1 if how == "drip" else 0
                hub.stall_after = 100_000 if how == "stall" else None
                waits[how] = pool.submit(failing, tmp_path / how, hub.endpoint)
            said = {how: wait.result() for how, wait in waits.items()}
        assert time.monotonic() - start < 30
        assert "did not answer within 20 s" in said["silent"]
        assert "did not answer within 20 s" in said["drip"]
        assert "stalled after 100,000 of" in said["stall"]

    def test_a_longer_limit_of_the_user_is_not_waited_for(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("HF_HUB_ETAG_TIMEOUT", "3600")
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_ETAG_TIMEOUT", 3600)
        assert _limit("HF_HUB_ETAG_TIMEOUT") == 20

    def test_a_slow_download_that_comes_along_is_not_cut(self, hub: Hub, tmp_path: Path) -> None:
        others_weights(hub)
        hub.pace = (20_000, 0.25)  # 5 s in all
        assert "no vision MLP that is known here" in mixer_convert(tmp_path, hub.endpoint, *B16, **SHORT).stderr

    def test_one_that_waits_for_another_process_is_not_cut(self, hub: Hub, tmp_path: Path) -> None:
        lock = tmp_path / f"hf/hub/.locks/models--timm--mixer_b16_224.goog_in21k/{others_weights(hub)}.lock"
        lock.parent.mkdir(parents=True)
        with lock.open("w") as stream:
            fcntl.flock(stream, fcntl.LOCK_EX)
            release = threading.Timer(5, lambda: fcntl.flock(stream, fcntl.LOCK_UN))
            release.start()
            said = mixer_convert(tmp_path, hub.endpoint, *B16, **SHORT).stderr
            release.join()
        assert "no vision MLP that is known here" in said

    def test_a_download_that_breaks_off(self, hub: Hub, tmp_path: Path) -> None:
        """The client tries again; as long as no more comes than before, that is no progress."""
        others_weights(hub)
        hub.cut_after = 1000
        assert " after 1,000 of 400," in failing(tmp_path, hub.endpoint, **SHORT)


class TestCache:
    @pytest.fixture
    def resmlp(self, hub: Hub) -> Hub:
        save_safetensors(hub.file, init_state_dict(get_variant("resmlp_12").config, 0))
        hub.path = f"/{get_variant('resmlp_12').repo_id}/resolve/main/model.safetensors"
        return hub

    def convert(self, folder: Path, endpoint: str, **environment: str) -> tuple[str, dict[str, Any]]:
        """Return what is said, and the manifest's entry for the source, with the manifest's notes."""
        arguments = ("--variant", "resmlp_12", "--out", "out.pdparams", "--force")
        result = mixer_convert(folder, endpoint, *arguments, **environment)
        assert result.returncode == 0, result.stderr
        assert result.stderr.count("\n") == 1, result.stderr
        manifest = json.loads((folder / "out.pdparams.manifest.json").read_text())
        return result.stderr, {**manifest["source"], "notes": manifest["notes"]}

    def test_it_serves_where_the_hub_cannot_be_asked_and_that_is_said(self, resmlp: Hub, tmp_path: Path) -> None:
        said, source = self.convert(tmp_path, resmlp.endpoint)
        assert source["verified_by_hub"] is True
        assert source["notes"] == []
        assert "cache" not in said
        start = time.monotonic()
        said, source = self.convert(tmp_path, NOWHERE)
        note = (
            "he hub could not be asked (no network: 127.0.0.1:9 refused the connection): the weights are those of the"
        )
        assert f"T{note} cache." in said
        assert source["notes"] == [f"t{note} cache"]
        assert source["verified_by_hub"] is True
        assert time.monotonic() - start < 15
        resmlp.status = 503
        assert "(the hub answered 503: it has a fault): the weights" in self.convert(tmp_path, resmlp.endpoint)[0]
        resmlp.status, resmlp.headers = 200, {"Content-Type": "text/html"}
        assert "(an HTML page came in its stead): the weights" in self.convert(tmp_path, resmlp.endpoint)[0]

    def test_a_file_without_a_stated_sha256_is_said_to_be_unverified(self, resmlp: Hub, tmp_path: Path) -> None:
        resmlp.headers = {"X-Linked-Etag": None, "ETag": f'"{SHA1}"'}
        for environment in ({}, {"HF_HUB_OFFLINE": "1"}):
            said, source = self.convert(tmp_path, resmlp.endpoint, **environment)
            assert "The hub stated no SHA-256, so what came could not be checked against it." in said
            assert source["verified_by_hub"] is False
            assert len(source["notes"]) == 1

    def test_a_file_system_without_links(self, resmlp: Hub, tmp_path: Path) -> None:
        assert self.convert(tmp_path, resmlp.endpoint, HF_HUB_DISABLE_SYMLINKS="1")[1]["verified_by_hub"] is True
        assert self.convert(tmp_path, NOWHERE, HF_HUB_DISABLE_SYMLINKS="1")[1]["verified_by_hub"] is False

    def test_a_blob_in_the_store_that_repositories_share(self, resmlp: Hub, tmp_path: Path) -> None:
        """Its name there is a hash of another kind, which was taken for the stated SHA-256."""
        self.convert(tmp_path, resmlp.endpoint)
        (blob,) = (tmp_path / "hf/hub").glob("models--*/blobs/*")
        shared = tmp_path / "hf/hub/blobs/ab" / ("ab" * 32)
        shared.parent.mkdir(parents=True)
        blob.rename(shared)
        blob.symlink_to(os.path.relpath(shared, blob.parent))
        assert self.convert(tmp_path, resmlp.endpoint)[1]["verified_by_hub"] is True
        spoil(shared)
        assert mixer_convert(tmp_path, NOWHERE, "--variant", "resmlp_12").returncode == 5
        assert not shared.exists()
        assert not os.path.lexists(blob)

    def test_the_way_by_another_host(self, resmlp: Hub, tmp_path: Path) -> None:
        """As the real hub has it; not past us by the library for the hub's own storage."""
        resmlp.cdn, resmlp.headers = True, {"X-Xet-Hash": "ab" * 32, "X-Xet-Refresh-Route": "/xet"}
        assert self.convert(tmp_path, resmlp.endpoint)[1]["verified_by_hub"] is True
        assert resmlp.requests[-2:] == [f"HEAD {resmlp.path}", "GET /cdn"]


class TestBadContent:
    @pytest.mark.parametrize("header", ["text/html; charset=utf-8", None])
    def test_an_html_page_exits_3_and_does_not_stay(self, hub: Hub, tmp_path: Path, header: str | None) -> None:
        hub.file.write_bytes(b"<!doctype html><title>Sign in</title>")
        hub.headers = {"Content-Type": header}
        assert "an HTML page" in failing(tmp_path, hub.endpoint, 3)
        assert cached(tmp_path) == []

    def test_what_is_not_what_the_hub_stated_exits_5_and_does_not_stay(self, hub: Hub, tmp_path: Path) -> None:
        sha256, hub.stated = others_weights(hub), "0123456789abcdef" * 4
        said = failing(tmp_path, hub.endpoint, 5)
        assert f"its SHA-256 is {sha256}, but the hub stated {hub.stated}. It was removed from the cache" in said
        assert cached(tmp_path) == []

    def test_a_cached_file_that_changed_exits_5_and_is_fetched_anew(self, hub: Hub, tmp_path: Path) -> None:
        """Weights of another model: refused (exit 3), but only after their bytes were found to be the right ones."""
        others_weights(hub)
        assert "no vision MLP that is known here" in failing(tmp_path, hub.endpoint, 3)
        blob, link = cached(tmp_path)
        spoil(blob)
        assert "removed from the cache" in failing(tmp_path, hub.endpoint, 5, HF_HUB_OFFLINE="1")
        assert cached(tmp_path) == []
        assert "no vision MLP that is known here" in failing(tmp_path, hub.endpoint, 3)
        assert hashlib.sha256(blob.read_bytes()).hexdigest() == blob.name
        assert cached(tmp_path) == [blob, link]

    def test_nothing_outside_the_cache_is_removed(self, hub: Hub, tmp_path: Path) -> None:
        others_weights(hub)
        failing(tmp_path, hub.endpoint, 3)
        blob, _ = cached(tmp_path)
        outside = blob.rename(tmp_path / "precious")
        blob.symlink_to(outside)
        spoil(outside)
        failing(tmp_path, hub.endpoint, 5)
        assert outside.exists()
        assert cached(tmp_path) == []


HOSTILE = {
    "relative": "../../../../escaped",
    "absolute": "/nowhere/escaped",
    "encoded": "%2e%2e%2f%2e%2e%2fescaped",
    "backslashes": "..\\..\\escaped",
    "long": "a" * 10_000,
    "parent": "..",
    "hidden": ".locks",
    "empty": "",
    "control": "a\x1b[31mb",
    "through a link": "snapshots/../../escaped",
    "two": "aaaa, bbbb",
}


class TestHostileHeaders:
    @pytest.mark.parametrize("status", [200, 302, 404])
    @pytest.mark.parametrize("to", ["HEAD", "GET"])
    @pytest.mark.parametrize("header", ["ETag", "X-Linked-Etag", "X-Repo-Commit"])
    def test_none_is_taken_for_a_name(self, header: str, to: str, status: int) -> None:
        """In this process, for there are many; the next test shows that the command asks the same function."""
        for value in HOSTILE.values():
            for form in (value, f'"{value}"', f'W/"{value}"'):
                with pytest.raises(IntegrityProblem, match=header):
                    judge(answer(status, {"Location": "/x", header: form}, to), get_variant("b16_in21k"))

    @pytest.mark.parametrize("tag", ["a" * 64, SHA1, f"{'a' * 32}-5", "of the storage behind", "0x8D4BCC2E4835CD0"])
    def test_what_hubs_and_storages_say_is(self, tag: str) -> None:
        for form in (tag, f'"{tag}"', f'W/"{tag}"'):
            headers = {"ETag": form, "X-Repo-Commit": REVISION}
            judge(answer(200, headers), get_variant("b16_in21k"))
            assert stated_tag(answer(200, headers)) == tag

    @pytest.mark.parametrize("to", ["HEAD", "GET"])
    @pytest.mark.parametrize(
        ("header", "value"),
        [
            ("X-Linked-Etag", f'"{HOSTILE["relative"]}"'),
            ("X-Linked-Etag", "{folder}/escaped"),
            ("ETag", HOSTILE["encoded"]),
            ("X-Repo-Commit", HOSTILE["relative"]),
            ("X-Repo-Commit", HOSTILE["long"]),
            ("X-Repo-Commit", "a\0b"),
        ],
    )
    def test_nothing_is_written(self, hub: Hub, tmp_path: Path, header: str, value: str, to: str) -> None:
        others_weights(hub)
        hub.to, hub.headers = (to,), {header: value.replace("{folder}", str(tmp_path))}
        before = sorted(tmp_path.rglob("*"))
        result = mixer_convert(tmp_path, hub.endpoint, *B16, **SHORT)
        assert result.returncode == (4 if "\0" in value else 5), result.stderr
        assert result.stderr.count("\n") == 1
        assert len(result.stderr) < 600
        outside = [path for path in sorted(tmp_path.rglob("*")) if not path.is_relative_to(tmp_path / "hf")]
        assert outside == before
        assert cached(tmp_path) == []

    @pytest.mark.parametrize("status", [302, 404])
    def test_nothing_is_written_on_a_redirect_or_a_refusal(self, hub: Hub, tmp_path: Path, status: int) -> None:
        others_weights(hub)
        hub.status, hub.headers = (
            status,
            {
                "Location": f"http://localhost:{hub.endpoint.rpartition(':')[2]}/cdn",
                "X-Error-Code": "EntryNotFound",
                "X-Repo-Commit": "../../../escaped",
            },
        )
        assert "X-Repo-Commit header names no file: ../../../escaped." in failing(tmp_path, hub.endpoint, 5)
        assert {path.name for path in tmp_path.iterdir()} <= {"served.safetensors", "hf"}
        assert not list(tmp_path.rglob("escaped*"))

    @pytest.mark.parametrize("to", ["HEAD", "GET"])
    def test_a_redirect_to_another_scheme_is_not_followed(self, hub: Hub, tmp_path: Path, to: str) -> None:
        others_weights(hub)
        hub.to, hub.status, hub.headers = (to,), 302, {"Location": "file:///etc/hostname"}
        assert "the hub redirects from http to file, which is not followed" in failing(tmp_path, hub.endpoint)
        assert cached(tmp_path) == []

    @pytest.mark.parametrize("location", ["file:///x", "ftp://127.0.0.1/x", "https://127.0.0.1/x", "http://["])
    @pytest.mark.parametrize("status", [200, 302])
    def test_no_other_scheme_is(self, location: str, status: int) -> None:
        with pytest.raises(Unavailable, match="redirects from http to"):
            judge(answer(status, {"Location": location}), get_variant("b16_in21k"))


def test_a_client_has_its_own_hooks_back_and_only_our_thread_is_watched() -> None:
    from huggingface_hub import get_session

    client = get_session()
    before = client.event_hooks
    watch = Watch(get_variant("b16_in21k"))
    with watch.over(client):
        assert [len(client.event_hooks[kind]) - len(before[kind]) for kind in before] == [1, 1]
        for hooks in client.event_hooks.values():
            hooks[-1](None)  # neither a request nor an answer: in this thread it is not looked at
        with pytest.raises(ZeroDivisionError):
            watch.run(lambda: 1 // 0)
    assert client.event_hooks == before


def answer(status: int, headers: dict[str, str], method: str = "HEAD") -> Any:
    """Return an answer as the hub's client has it, of whichever HTTP library it is made."""
    from huggingface_hub import get_session

    library = sys.modules[type(get_session()).__module__.partition(".")[0]]
    return library.Response(status, headers=headers, request=library.Request(method, "http://127.0.0.1/"))


def spoil(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
