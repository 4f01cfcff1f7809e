"""A side that does not repeat itself proves nothing; nor does a torch that is Paddle."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from conftest import Run, save_safetensors

from align.probes import paddle_probe, torch_probe
from align.run import Subject, align
from convert.arrays import StateDict
from convert.errors import BadInput
from convert.mixer.mapping import convert_state_dict
from convert.mixer.variants import MixerConfig

pytestmark = pytest.mark.usefixtures("frameworks")


@pytest.fixture
def subject(config: MixerConfig, source: StateDict) -> Subject:
    return Subject(source=source, config=config, name="small")


def noisy_torch(size: float) -> Any:
    """Return a builder of a reference that adds fresh noise of this size, in float32 alone, to block 2's first norm."""
    import torch

    def build(subject: Subject) -> Any:
        model = torch_probe.build(subject.config, None, subject.source)

        def noise(_module: Any, _inputs: Any, output: Any) -> Any:
            return output + size * torch.randn_like(output) if output.dtype == torch.float32 else output

        model.blocks[2].norm1.register_forward_hook(noise)
        return model

    return build


def noisy_paddle(size: float) -> Any:
    import paddle

    build_right = paddle_probe.build

    def build(config: MixerConfig, state_dict: StateDict) -> Any:
        model = build_right(config, state_dict)
        norm = model.blocks[2].norm1.forward

        def forward(x: Any) -> Any:
            y = norm(x)
            return y + size * paddle.randn(y.shape, y.dtype) if y.dtype == paddle.float32 else y

        model.blocks[2].norm1.forward = forward
        return model

    return build


def test_both_sides_repeat_themselves(subject: Subject) -> None:
    result = align(subject)
    assert result.gate("determinism").passed is True
    (section,) = result.sections
    again = [check for check in section.checks if check.bound is not None]
    assert [(check.name.split(",")[0], check.figure, check.bound) for check in again] == [
        ("torch", 0, 0),
        ("Paddle", 0, 0),
    ]


@pytest.mark.parametrize("size", [1e-7, 1e-2])
@pytest.mark.parametrize("side", ["torch", "Paddle"])
def test_fresh_noise_makes_the_result_inconclusive_and_names_the_side(subject: Subject, side: str, size: float) -> None:
    faults = {"build_reference": noisy_torch(size)} if side == "torch" else {"build_candidate": noisy_paddle(size)}
    result = align(subject, **faults)
    assert result.verdict == "inconclusive"
    assert result.failed(accept_rounding=True)
    assert result.first_divergence is not None
    assert result.first_divergence.layer == "blocks.2.norm1"
    assert result.first_divergence.sentence.startswith(f"{side} does not repeat itself: blocks.2.norm1: ")


def test_an_inconclusive_result_exits_1(
    mixer_align: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, source: StateDict
) -> None:
    monkeypatch.setattr(paddle_probe, "build", noisy_paddle(1e-7))
    result = mixer_align("--checkpoint", save_safetensors(tmp_path / "x.safetensors", source))
    assert result.exit_code == 1, result.output
    assert result.stdout.splitlines()[-1].startswith("inconclusive: x.safetensors: Paddle does not repeat itself: ")


def test_the_arithmetic_is_recorded(subject: Subject) -> None:
    arithmetic = align(subject).environment["arithmetic"]
    assert arithmetic["torch"]["threads"] >= 1
    assert arithmetic["torch"]["tf32"] is False
    assert {"threads", "FLAGS_use_mkldnn"} <= arithmetic["paddle"].keys()


def test_the_threads_are_given_back(subject: Subject) -> None:
    import torch

    before = torch.get_num_threads()
    align(subject)
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


def test_a_torch_that_is_paddle_is_refused(checkpoint: Path) -> None:
    code = PROXY.format(checkpoint=str(checkpoint))
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    before, command, function = run.stdout.splitlines()
    assert before.startswith("0 aligned: ")
    assert command.startswith("3 Error: torch: `import torch` gives ")
    assert "which is not PyTorch" in command
    assert "which is not PyTorch" in function


def test_a_paddle_model_is_no_reference(subject: Subject) -> None:
    with pytest.raises(BadInput, match="the reference is no module of PyTorch"):
        align(
            subject,
            build_reference=lambda _: paddle_probe.build(
                subject.config, convert_state_dict(subject.source, subject.config).state_dict
            ),
        )
