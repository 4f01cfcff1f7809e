"""A side that does not repeat itself proves nothing; nor does a torch that is Paddle."""

from __future__ import annotations

import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from altered import Change, altering, with_candidate, with_reference
from conftest import Run, save_safetensors
from warm import Warm

from align.core.case import Case
from align.mixer import models
from align.mixer.case import Subject, case_of
from align.run import align
from convert.arrays import StateDict
from convert.errors import BadInput
from convert.mixer.variants import MixerConfig

pytestmark = pytest.mark.usefixtures("frameworks")


@pytest.fixture(scope="module")
def case(config: MixerConfig, source: StateDict) -> Case:
    return case_of(Subject(source=source, config=config, name="small"))


def noisy_torch(size: float) -> Change:
    """Return what adds fresh noise of this size, in float32 alone, to block 2's first norm."""
    import torch

    def noise(_module: Any, _inputs: Any, output: Any) -> Any:
        return output + size * torch.randn_like(output) if output.dtype == torch.float32 else output

    return lambda model: model.blocks[2].norm1.register_forward_hook(noise)


def noisy_paddle(size: float) -> Change:
    import paddle

    def noise(_layer: Any, _inputs: Any, y: Any) -> Any:
        return y + size * paddle.randn(y.shape, y.dtype) if y.dtype == paddle.float32 else y

    return lambda model: model.blocks[2].norm1.register_forward_post_hook(noise)


def test_both_sides_repeat_themselves(case: Case) -> None:
    result = align(case)
    assert result.gate("determinism").passed is True
    again = [check for check in result.sections[0].checks if check.bound is not None]
    assert [(check.subject.split(",")[0], check.figure, check.bound) for check in again] == [
        ("torch", 0, 0),
        ("Paddle", 0, 0),
    ]


@pytest.mark.parametrize("size", [1e-7, 1e-2])
@pytest.mark.parametrize("side", ["torch", "Paddle"])
def test_fresh_noise_makes_the_result_inconclusive_and_names_the_side(case: Case, side: str, size: float) -> None:
    noisy = with_reference(case, noisy_torch(size)) if side == "torch" else with_candidate(case, noisy_paddle(size))
    result = align(noisy)
    assert result.verdict == "inconclusive"
    assert result.failed(accept_rounding=True)
    assert result.first_divergence is not None
    assert result.first_divergence.layer == "blocks.2.norm1"
    assert result.first_divergence.sentence.startswith(f"{side} does not repeat itself: blocks.2.norm1: ")


def test_an_inconclusive_result_exits_1(
    mixer_align: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, source: StateDict
) -> None:
    monkeypatch.setattr(models, "build_paddle", altering(models.build_paddle, noisy_paddle(1e-7)))
    result = mixer_align("--checkpoint", save_safetensors(tmp_path / "x.safetensors", source))
    assert result.exit_code == 1, result.output
    assert result.stdout.splitlines()[-1].startswith("inconclusive: x.safetensors: Paddle does not repeat itself: ")


def test_the_arithmetic_is_recorded(case: Case) -> None:
    arithmetic = align(case).environment["arithmetic"]
    assert arithmetic["torch"]["threads"] >= 1
    assert arithmetic["torch"]["tf32"] is False
    assert {"threads", "FLAGS_use_mkldnn"} <= arithmetic["paddle"].keys()


def test_the_threads_are_given_back(case: Case) -> None:
    import torch

    before = torch.get_num_threads()
    align(case)
    assert torch.get_num_threads() == before


PROXY = """
import warnings
warnings.simplefilter("ignore")
import paddle, timm
from click.testing import CliRunner
import align
from align.commands.cli import main
from convert.errors import BadInput
timm_model = timm.create_model("mixer_s32_224")
for plant in (lambda: None, paddle.compat.enable_torch_proxy):
    plant()
    result = CliRunner().invoke(main, ["--checkpoint", {checkpoint!r}])
    print(result.exit_code, result.output.splitlines()[-1])
try:
    align.align(timm_model, None)
except BadInput as refused:
    print(refused)
"""


def test_a_torch_that_is_paddle_is_refused(warm: Warm, checkpoint: Path) -> None:
    """In a process of its own, which no other test is to find so."""
    code = PROXY.format(checkpoint=str(checkpoint))
    run = subprocess.run([warm.path / "python", "-"], input=code, capture_output=True, text=True, check=True)
    before, command, function = run.stdout.splitlines()
    assert before.startswith("0 aligned: ")
    assert command.startswith("3 Error: torch: `import torch` gives ")
    assert "which is not PyTorch" in command
    assert "which is not PyTorch" in function


def test_a_paddle_model_is_no_reference(case: Case) -> None:
    with pytest.raises(BadInput, match=r"the reference: it is no torch\.nn\.Module"):
        align(replace(case, reference=replace(case.reference, build=case.candidate.build)))
