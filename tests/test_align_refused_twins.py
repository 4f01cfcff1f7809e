"""What is said of two models that do not take what they are given, and of files that are not theirs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import align
from align.core.case import Settings
from align.core.inputs import Input
from align.twins.asked import WeightFiles, case_of_files
from align.twins.case import Twins
from convert.errors import BadInput

pytestmark = pytest.mark.usefixtures("frameworks")
SHAPE = (3, 5, 5)


def models() -> tuple[Any, Any]:
    from stranger_twins import Plain, SameNames

    pair = Plain().eval(), SameNames()
    pair[1].eval()
    return pair


def twins() -> Twins:
    reference, candidate = models()
    return Twins(reference=reference, candidate=candidate, inputs=(Input(shape=SHAPE),))


class TestWhatTheyAreGiven:
    @pytest.mark.parametrize("draw", [True, False])
    def test_a_shape_that_they_do_not_take(self, draw: bool) -> None:
        with pytest.raises(BadInput, match=r"^the reference: .*got 4 channels.*Is --input-shape, or \[inputs\]"):
            align.align(*models(), input_shape=(4, 5, 5), draw=draw)

    def test_nothing_that_can_be_compared(self) -> None:
        import paddle
        import torch

        class Words(torch.nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.fc = torch.nn.Linear(5, 5)

            def forward(self, images: Any) -> str:
                return str(self.fc(images).shape)

        class Numbers(paddle.nn.Layer):
            def __init__(self) -> None:
                super().__init__()
                self.fc = paddle.nn.Linear(5, 5)

            def forward(self, images: Any) -> Any:
                return self.fc(images)

        with pytest.raises(BadInput, match=r"it returns no tensor, and the candidate .* Wrap both"):
            align.align(Words(), Numbers(), input_shape=SHAPE, draw=True)

    @pytest.mark.filterwarnings("ignore:When training, we now always track")
    def test_a_candidate_in_training_mode_is_told_of(self) -> None:
        reference, candidate = models()
        candidate.norm.train()
        result = align.align(reference, candidate, input_shape=SHAPE, draw=True, stress=False)
        assert result.verdict == "diverged"
        assert result.first_divergence is not None
        assert "norm" in result.first_divergence.layer
        assert "call eval() on the candidate" in result.first_divergence.sentence


class TestCheckpoints:
    @pytest.mark.parametrize(
        ("change", "said"),
        [
            ("less", r"it has no fc2\.bias\. --checkpoint takes"),
            ("more", r"it has more, which the reference has not\."),
            ("shaped", r"fc2\.bias: it has \(7,\), the reference \(5,\)\. Is it a checkpoint of this model"),
        ],
    )
    def test_one_of_another_model(self, change: str, said: str, tmp_path: Path) -> None:
        import torch

        of = twins()
        tensors = dict(of.reference.state_dict())
        if change == "less":
            del tensors["fc2.bias"]
        else:
            tensors["more" if change == "more" else "fc2.bias"] = torch.ones(7)
        torch.save(tensors, tmp_path / "net.pth")
        with pytest.raises(BadInput, match=said):
            case_of_files(of, WeightFiles(checkpoint=tmp_path / "net.pth"), Settings(), lambda *_: None)

    def test_what_stands_before_every_name_is_taken_away_and_told(self, tmp_path: Path) -> None:
        import torch

        of, told = twins(), list[str]()
        tensors = {f"module.{key}": tensor for key, tensor in of.reference.state_dict().items()}
        torch.save(tensors, tmp_path / "net.pth")
        files = WeightFiles(checkpoint=tmp_path / "net.pth")
        case = case_of_files(of, files, Settings(), lambda _, notes: told.extend(notes))
        assert "the prefix module. was stripped from every name" in told
        assert not case.unpaired


def test_weights_that_would_get_another_shape_are_told_before_anything_runs(tmp_path: Path) -> None:
    """Linear weights are transposed; whoever writes [weights] by hand forgets it."""
    entries = {key: key for key in models()[0].state_dict()}
    entries |= {"norm.running_mean": "norm._mean", "norm.running_var": "norm._variance"}
    lines = [f'"{key}" = "{to}"' for key, to in entries.items() if not key.endswith("tracked")]
    lines += ['"norm.num_batches_tracked" = { drop = "none" }']
    path = tmp_path / "pairing.toml"
    path.write_text('schema = "mixer-align/pairing/1"\n[weights]\n' + "\n".join(lines))
    result = align.align(*models(), path, input_shape=SHAPE, draw=True, stress=False)
    assert result.verdict == "inconclusive"
    assert result.first_divergence is not None
    assert "from fc2.weight (5, 6) it would get (5, 6), and it has (6, 5)" in result.first_divergence.sentence
