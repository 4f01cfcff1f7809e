"""Every shell block of the README runs, in order, in a copy of the project with a new virtual environment."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import sysconfig
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from cifar_files import python_files, write_archive
from conftest import Hub, save_safetensors

from align.core.inputs import seeded_images
from convert.commands.tables import markdown
from convert.mixer.init import init_state_dict
from convert.mixer.listing import HEADERS, as_row
from convert.mixer.mapping import convert_state_dict
from convert.mixer.variants import VARIANTS, get_variant

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
KEPT = (
    *("convert", "align", "reports", "docs", "tests", "pyproject.toml", "constraints.txt", "README.md", "LICENSE"),
    *("action.yml", ".pre-commit-hooks.yaml"),
)

MY_MODELS = """
from paddle import nn

from convert.mixer.paddle_mixer import MixerBlock, MlpMixer
from convert.mixer.variants import get_variant


class Mine(MlpMixer):
    def __init__(self, config, depth):
        nn.Layer.__init__(self)
        self.patch_embed = nn.Layer()
        self.patch_embed.patch_embed = nn.Conv2D(3, config.hidden_dim, config.patch_size, stride=config.patch_size)
        self.mixer_layers = nn.LayerList([MixerBlock(config) for _ in range(depth)])
        self.norm = nn.LayerNorm(config.hidden_dim, epsilon=1e-6)
        self.head = nn.Linear(config.hidden_dim, config.num_classes)

    def stem(self, images):
        return self.patch_embed.patch_embed(images).flatten(2).transpose([0, 2, 1])

    @property
    def blocks(self):
        return self.mixer_layers


def mixer(depth):
    return Mine(get_variant("s32").config, depth)
"""


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", README, flags=re.MULTILINE | re.DOTALL)


def test_the_readme_opens_with_the_two_commands() -> None:
    job, tests, *others = blocks("sh")
    assert job.count("\n") == tests.count("\n") == 1, "each has to be one line to paste"
    assert "mixer-align" in job
    assert "pytest" in tests
    assert others


def test_the_variant_table_is_the_table() -> None:
    assert markdown(HEADERS, [as_row(variant) for variant in VARIANTS]) in README


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """The project as a user gets it, with the files that the examples name."""
    folder = tmp_path / "copy"
    folder.mkdir()
    for name in KEPT:
        ignore = shutil.ignore_patterns("__pycache__", "*.egg-info")
        source = ROOT / name
        (shutil.copytree(source, folder / name, ignore=ignore) if source.is_dir() else shutil.copy(source, folder))
    config = get_variant("s32").config
    weights = init_state_dict(config, 0)
    save_safetensors(folder / "my_mixer.safetensors", weights)
    np.save(folder / "images.npy", seeded_images((2, 3, 224, 224), 0))
    (folder / "my_models.py").write_text(MY_MODELS)
    (folder / "pairing.toml").write_text(blocks("toml")[0])
    tuned = replace(config, image_size=32, patch_size=8, num_blocks=2, hidden_dim=64, channels_mlp_dim=256)
    tuned_weights = init_state_dict(replace(tuned, tokens_mlp_dim=32, num_classes=10), 0)
    save_safetensors(folder / "my_tuned_mixer.safetensors", tuned_weights)
    write_archive(folder / "my_cifar10.tar.gz", python_files())
    np.savez(folder / "google_mixer.npz", **convert_state_dict(weights, config, dst="google").state_dict)
    return folder


@pytest.mark.slow
def test_every_block_runs(copy: Path, hub: Hub) -> None:
    """The packages of this environment serve the new one, so that gigabytes need not be installed twice.

    The README's test command runs the tests of the mapping alone: it would otherwise run this test too.
    """
    save_safetensors(hub.file, init_state_dict(get_variant("b16_in21k").config, 0))
    environment = {
        **os.environ,
        "PATH": f"{copy / '.venv' / 'bin'}:{Path(sys.executable).parent}:{os.environ['PATH']}",
        "PYTHONPATH": sysconfig.get_path("purelib"),
        "PYTEST_ADDOPTS": "tests/test_convert_mapping.py",
        "HF_HOME": str(copy / "hf"),
        "HF_ENDPOINT": hub.endpoint,
        "PIP_NO_BUILD_ISOLATION": "false",  # pip reads this one the wrong way round: it means --no-build-isolation
    }
    environment.pop("HF_HUB_OFFLINE", None)
    outputs = []
    for block in [*blocks("sh"), *(f"python - <<'EOF'\n{code}EOF\n" for code in blocks("python"))]:
        run = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", block],
            cwd=copy,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert run.returncode == 0, f"{block}\n{run.stdout}\n{run.stderr}"
        outputs.append(run.stdout)
    assert outputs[0].splitlines()[-1].startswith("aligned: b16_in21k")
    assert " passed" in outputs[1]


def test_a_block_that_fails_is_seen(copy: Path) -> None:
    run = subprocess.run(["bash", "-euo", "pipefail", "-c", "false\ntrue\n"], cwd=copy, check=False)
    assert run.returncode != 0
