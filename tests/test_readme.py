"""Every shell block of the README and of the site runs, page by page, in a copy of the project."""

from __future__ import annotations

import itertools
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
from doc_blocks import Block, blocks, shown
from warm import Warm

from align.core.inputs import seeded_images
from convert.commands.tables import markdown
from convert.mixer.init import init_state_dict
from convert.mixer.listing import HEADERS, as_row
from convert.mixer.mapping import convert_state_dict
from convert.mixer.variants import VARIANTS, get_variant

ROOT = Path(__file__).resolve().parents[1]
PAGES = (
    *("README.md", "docs/index.md", "docs/convert.md", "docs/models.md", "docs/prove.md"),
    *("docs/gradients.md", "docs/ci.md"),
    *("docs/accuracy.md", "docs/audit.md", "docs/how-it-works.md", "docs/performance.md", "docs/families.md"),
    *("docs/audit-bundle.md", "docs/errors.md", "docs/faults.md", "docs/security.md", "docs/changelog.md"),
)
CONVERTS = "mixer-convert --checkpoint my_mixer.safetensors --out my_mixer.pdparams\n"
"""The README's, which the other pages use the file of."""
DOWNLOADS = "mixer-convert --src timm --variant b16_in21k"
ELSEWHERE = {
    "docs/port-your-own-model.md": "test_docs_port.py",
    "docs/zoo.md": "test_docs_zoo.py",
    "docs/python-api.md": "test_docs_api.py",
    "docs/versions.md": "test_docs_versions.py",
}
"""Pages whose blocks another test runs."""
RUN_BY = {
    "mixer-align selftest --on small-mixer --seeds 1\n": "test_align_selftest.py",
    "mixer-report rehearse --out my_rehearsal\n": "test_reports_rehearse.py",
}
"""Blocks that take as long as all others together, and whose outcome another test looks at; it runs them."""
RUN_BEFORE = os.environ.get("README_COMMANDS_RUN", "").splitlines()
"""What `.ci/run` has run by then, in an environment and a checkout that are fresh, and to install gigabytes."""
NOT_RUN = {
    "text": "what a command prints, or a command that needs the network, the canonical data or a GPU",
    "py": "a test of the reader's own",
    "yaml": "a step of the reader's own workflow",
    "toml": "a part of a file",
}
SHOWS_A_POINT = 'Point(name="fc1", reference='
NUMBER = re.compile(r"-?\b\d+(?:\.\d+)?(?:e[+-]?\d+)?\b")
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


def page(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def of_pages(language: str) -> list[str]:
    """Return the blocks of all pages in their order, each once."""
    found = [block.text for name in PAGES for block in blocks(page(name)) if block.language == language]
    return list(dict.fromkeys(found))


def outputs_shown() -> list[tuple[str, str]]:
    """Return each command with what is shown of its output: a block of text that follows it at once."""
    pairs: list[tuple[Block, Block]] = []
    for name in PAGES:
        pairs += itertools.pairwise(blocks(page(name)))
    return [(one.text, after.text) for one, after in pairs if _follows(one, after)]


def of_each_page() -> dict[str, list[str]]:
    """Return what is to run of each page, in its order; what stands on several pages, of the first of them."""
    found: dict[str, list[str]] = {name: [] for name in PAGES}
    before = {*RUN_BY}
    for name in PAGES:
        for block in blocks(page(name)):
            runs = block.language == "sh" or (block.language == "python" and not block.text.startswith(SHOWS_A_POINT))
            text = as_shell(block.text) if block.language == "python" else block.text
            if runs and text not in before:
                before.add(text)
                found[name].append(text)
    return found


def as_shell(program: str) -> str:
    return f"python - <<'EOF'\n{program}EOF\n"


def _follows(one: Block, after: Block) -> bool:
    return (one.language, after.language, after.before) == ("sh", "text", "")


OF_PAGE = of_each_page()
OPENING = dict(zip(OF_PAGE["README.md"], ("\naligned: b16_in21k", " passed"), strict=False))
"""The README's two commands, and what each says."""


def test_the_readme_opens_with_the_two_commands() -> None:
    job, tests, *others = [block.text for block in blocks(page("README.md")) if block.language == "sh"]
    assert job.count("\n") == tests.count("\n") == 1, "each has to be one line to paste"
    assert "mixer-align" in job
    assert "pytest" in tests
    assert others
    assert [job, tests] == [*OPENING]
    assert RUN_BEFORE in ([], [job.strip(), tests.strip()])


def test_it_is_one_page() -> None:
    assert page("README.md").count("\n") <= 150


def test_the_variant_table_is_the_table() -> None:
    assert markdown(HEADERS, [as_row(variant) for variant in VARIANTS]) in page("docs/models.md")


def test_no_page_is_left_out() -> None:
    """A page whose blocks nothing runs is found; so is one whose language nobody knows."""
    here = {f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md") if not path.name.endswith(".zh.md")}
    assert here <= {*PAGES, *ELSEWHERE}
    run = [
        name for name in here & {*ELSEWHERE} if any(block.language in ("sh", "python") for block in blocks(page(name)))
    ]
    assert all((ROOT / "tests" / ELSEWHERE[name]).exists() for name in run)
    languages = {block.language for name in PAGES for block in blocks(page(name))}
    assert languages == {"sh", "python", *NOT_RUN}


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
    (pairing,) = (text for text in of_pages("toml") if text.startswith("schema = "))
    (folder / "pairing.toml").write_text(pairing)
    tuned = replace(config, image_size=32, patch_size=8, num_blocks=2, hidden_dim=64, channels_mlp_dim=256)
    tuned_weights = init_state_dict(replace(tuned, tokens_mlp_dim=32, num_classes=10), 0)
    save_safetensors(folder / "my_tuned_mixer.safetensors", tuned_weights)
    write_archive(folder / "my_cifar10.tar.gz", python_files())
    np.savez(folder / "google_mixer.npz", **convert_state_dict(weights, config, dst="google").state_dict)
    return folder


def environment(copy: Path, endpoint: str, block: str, commands: Path) -> dict[str, str]:
    """Return that of a user who has the copy installed; the packages of this environment serve what a block installs.

    So gigabytes need not be installed twice. What a block installs itself is not taken from the copy's folder.
    """
    packages = sysconfig.get_path("purelib")
    return {name: value for name, value in os.environ.items() if name != "HF_HUB_OFFLINE"} | {
        "PATH": f"{copy / '.venv' / 'bin'}:{commands}:{Path(sys.executable).parent}:{os.environ['PATH']}",
        "PYTHONPATH": packages if (copy / ".venv").exists() or ".venv" in block else f"{copy}:{packages}",
        "PYTEST_ADDOPTS": "tests/test_convert_mapping.py",
        "HF_HOME": str(copy / "hf"),
        "HF_ENDPOINT": endpoint,
        "PIP_NO_BUILD_ISOLATION": "false",  # pip reads this one the wrong way round: it means --no-build-isolation
    }


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name, own in OF_PAGE.items() if own])
def test_every_block_runs(copy: Path, hub: Hub, warm: Warm, name: str) -> None:
    """The README's test command runs the tests of the mapping alone: it would otherwise run this test too.

    Commands start as a user's do where a block has installed them; others have the frameworks loaded already.
    """
    own, shown_of, outputs = OF_PAGE[name], dict(outputs_shown()), dict[str, str]()
    own = [block for block in own if block.strip() not in RUN_BEFORE]
    if any(DOWNLOADS in block for block in own):
        save_safetensors(hub.file, init_state_dict(get_variant("b16_in21k").config, 0))
    for block in own if CONVERTS in own else [CONVERTS, *own]:
        run = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", block],
            cwd=copy,
            env=environment(copy, hub.endpoint, block, warm.path),
            capture_output=True,
            text=True,
            check=False,
        )
        assert run.returncode == 0, f"{block}\n{run.stdout}\n{run.stderr}"
        outputs[block] = run.stdout
        if block in shown_of:
            assert shown(NUMBER.sub("…", shown_of[block]), run.stdout) is None, run.stdout
    assert all(said in outputs.get(command, said) for command, said in OPENING.items())


def test_every_block_is_of_one_page_or_of_a_test_of_its_own() -> None:
    programs = [code for code in of_pages("python") if not code.startswith(SHOWS_A_POINT)]
    run = [block for own in OF_PAGE.values() for block in own]
    assert len(run) == len({*run})
    assert {*run, *RUN_BY} == {*of_pages("sh"), *map(as_shell, programs)}
    assert {*run} & {*dict(outputs_shown())}
    assert not {*RUN_BY} & {*dict(outputs_shown())}, "nothing would look at what is shown of it"
    for block, test in RUN_BY.items():
        assert block.strip() in (ROOT / "tests" / test).read_text(encoding="utf-8")


def test_a_block_that_fails_is_seen(copy: Path) -> None:
    run = subprocess.run(["bash", "-euo", "pipefail", "-c", "false\ntrue\n"], cwd=copy, check=False)
    assert run.returncode != 0
