"""The hub, played by a small server on the loopback interface."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import RESOLVE, REVISION, Hub, save_safetensors

from convert import files
from convert.fingerprint import tensor_sha256s
from convert.init import init_state_dict
from convert.variants import get_variant

COMMAND = ("-m", "convert.cli")
WITHOUT_WAITS = ("-c", "import time; time.sleep = lambda seconds: None; from convert.cli import main; main()")
"""The same, but the hub's client, which tries as often as ever, does not wait 1 to 8 s before it tries again."""


def mixer_convert(
    folder: Path, endpoint: str, *arguments: str, command: tuple[str, str] = COMMAND, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run the command in a process of its own, because huggingface_hub reads its settings on import."""
    clean = {key: value for key, value in os.environ.items() if not key.startswith("HF_")}
    return subprocess.run(
        [sys.executable, *command, *arguments],
        cwd=folder,
        env={
            **clean,
            "PYTHONPATH": str(Path(__file__).resolve().parents[1]),
            "HF_HOME": str(folder / "hf"),
            "HF_ENDPOINT": endpoint,
            **environment,
        },
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.slow
def test_the_headline_command_downloads_and_converts_the_full_size(hub: Hub, tmp_path: Path) -> None:
    source = init_state_dict(get_variant("b16_in21k").config, 0)
    save_safetensors(hub.file, source)
    assert hub.file.stat().st_size > 303_000_000
    result = mixer_convert(tmp_path, hub.endpoint, "--src", "timm", "--variant", "b16_in21k")
    assert result.returncode == 0, result.stderr
    assert hub.requests[-1] == f"GET {RESOLVE}"
    out = tmp_path / "mixer_b16_224.goog_in21k.pdparams"
    manifest = json.loads(Path(f"{out}.manifest.json").read_text())
    assert manifest["source"]["repo_id"] == "timm/mixer_b16_224.goog_in21k"
    assert manifest["source"]["revision"] == REVISION
    assert manifest["source"]["sha256"] == hashlib.sha256(hub.file.read_bytes()).hexdigest()
    assert {t["source"]: t["source_sha256"] for t in manifest["tensors"]} == tensor_sha256s(source)
    assert files.read(out)["head.weight"].shape == (768, 21843)

    out.unlink()
    before = len(hub.requests)
    again = mixer_convert(tmp_path, hub.endpoint, "--variant", "b16_in21k", "--force", HF_HUB_OFFLINE="1")
    assert again.returncode == 0, again.stderr
    assert out.exists()
    assert len(hub.requests) == before, "the cache must serve when offline"


def test_offline_without_cache_exits_4_and_says_what_to_fetch(tmp_path: Path) -> None:
    result = mixer_convert(tmp_path, "http://127.0.0.1:9", "--variant", "b16_in21k", HF_HUB_OFFLINE="1")
    assert result.returncode == 4
    assert "timm/mixer_b16_224.goog_in21k" in result.stderr
    assert "--variant b16_in21k --checkpoint model.safetensors" in result.stderr
    assert "Traceback" not in result.stderr
    assert not list(tmp_path.glob("*.pdparams*"))


def test_no_network_exits_4_and_says_what_to_fetch(tmp_path: Path) -> None:
    result = mixer_convert(tmp_path, "http://127.0.0.1:9", "--variant", "b16_in21k", command=WITHOUT_WAITS)
    assert result.returncode == 4
    assert "--variant b16_in21k --checkpoint model.safetensors" in result.stderr
    assert "Traceback" not in result.stderr


def test_a_repository_that_is_not_there_exits_4(hub: Hub, tmp_path: Path) -> None:
    hub.file.write_bytes(b"x")
    result = mixer_convert(tmp_path, hub.endpoint, "--variant", "l16_in1k")
    assert result.returncode == 4
    assert "timm/mixer_l16_224.goog_in21k_ft_in1k" in result.stderr
    assert "Traceback" not in result.stderr


def test_a_download_that_breaks_off_exits_4(hub: Hub, tmp_path: Path) -> None:
    hub.file.write_bytes(bytes(100_000))
    hub.cut_after = 1000
    arguments = "--variant", "b16_in21k"
    result = mixer_convert(tmp_path, hub.endpoint, *arguments, command=WITHOUT_WAITS, HF_HUB_DOWNLOAD_TIMEOUT="1")
    assert result.returncode == 4, result.stderr
    assert "Traceback" not in result.stderr
    assert not list(tmp_path.glob("*.pdparams*"))


def test_an_html_page_from_the_hub_exits_3(hub: Hub, tmp_path: Path) -> None:
    hub.file.write_bytes(b"<!doctype html><title>Sign in</title>")
    result = mixer_convert(tmp_path, hub.endpoint, "--variant", "b16_in21k")
    assert result.returncode == 3
    assert "an HTML page" in result.stderr


def test_a_download_that_is_not_what_the_hub_stated_exits_5(hub: Hub, tmp_path: Path) -> None:
    save_safetensors(hub.file, {"a": np.zeros(3, np.float32)})
    hub.stated = "0123456789abcdef" * 4
    result = mixer_convert(tmp_path, hub.endpoint, "--variant", "b16_in21k")
    assert result.returncode == 5, result.stderr
    assert f"the hub stated {hub.stated}. Delete " in result.stderr
    assert hashlib.sha256(hub.file.read_bytes()).hexdigest() in result.stderr
    assert not list(tmp_path.glob("*.pdparams*"))


def test_a_cached_file_that_changed_exits_5_and_is_fetched_anew_once_deleted(hub: Hub, tmp_path: Path) -> None:
    """Weights of another model: refused (exit 3), but only after their bytes were found to be the right ones."""
    save_safetensors(hub.file, {"a": np.zeros(3, np.float32)})
    assert mixer_convert(tmp_path, hub.endpoint, "--variant", "b16_in21k").returncode == 3
    (blob,) = (tmp_path / "hf").glob("hub/models--*/blobs/*")
    content = bytearray(blob.read_bytes())
    content[-1] ^= 1
    blob.write_bytes(content)
    result = mixer_convert(tmp_path, hub.endpoint, "--variant", "b16_in21k", HF_HUB_OFFLINE="1")
    assert result.returncode == 5, result.stderr
    assert f"Delete {blob} and run again" in result.stderr
    blob.unlink()
    assert mixer_convert(tmp_path, hub.endpoint, "--variant", "b16_in21k").returncode == 3
    assert hashlib.sha256(blob.read_bytes()).hexdigest() == blob.name
