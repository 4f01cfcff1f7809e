"""mixer-align propose: each way to pair wins where it is right, what it cannot know stays open, and the file aligns."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import Run

from align.core.case import Settings
from align.core.inputs import Input
from align.core.result import AlignmentResult
from align.pairing.file import read_pairing
from align.run import align
from align.twins.case import Twins, case_of_twins
from align.twins.doubts import doubts_of
from align.twins.proposal_file import text, write
from align.twins.propose import Proposal, propose
from align.twins.trial import distance
from convert.errors import BadInput

pytestmark = pytest.mark.usefixtures("frameworks")

MODELS = Path(__file__).with_name("stranger_twins.py")
IMAGE = "3,12,10"
Propose = Callable[..., Any]


@pytest.fixture
def proposed(mixer_align: Run, tmp_path: Path) -> Propose:
    """Run the command on two of the strangers' models; return its result and the file that it wrote."""

    def run(reference: str, candidate: str, shape: str | None = IMAGE, *more: Any) -> tuple[Any, Path]:
        out = tmp_path / "pairing.toml"
        targets = ("--reference-model", f"{MODELS}:{reference}", "--candidate-model", f"{MODELS}:{candidate}")
        given = ("--input-shape", shape) if shape is not None else ()
        return mixer_align("propose", *targets, *given, "--out", out, *more), out

    return run


def twins(reference: str, candidate: str, shape: str = IMAGE, **arguments: Any) -> Twins:
    import stranger_twins

    made = getattr(stranger_twins, reference)(), getattr(stranger_twins, candidate)(**arguments)
    made[1].eval()
    return Twins(reference=made[0], candidate=made[1], inputs=(Input(shape=tuple(map(int, shape.split(",")))),))


def aligned(of: Twins, pairing: Path, *, stress: bool = False) -> AlignmentResult:
    return align(case_of_twins(replace(of, pairing=read_pairing(pairing)), Settings(stress=stress)))


def order(found: Proposal) -> tuple[str, bool]:
    return found.best.draft.order, found.best.agrees


class TestOrders:
    """The way to lay layers side by side under which both models return the same."""

    def test_names_where_they_are_equal(self) -> None:
        found = propose(twins("Plain", "SameNames"))
        assert order(found) == ("names", True)
        assert (
            found.best.trial.agreeing == len(found.best.points) == 8
        )  # six layers, one of them called twice, and the model
        assert found.best.draft.modules == {}

    def test_calls_where_the_definition_is_in_another_order(self) -> None:
        found = propose(twins("Branches", "DefinedOtherwise", "6"))
        assert order(found) == ("call order", True)
        assert found.best.draft.pairs == {"left": "two", "right": "one"}
        assert found.others["definition order"] == "2 of 2 layers with tensors agree, the output does not"
        assert found.others["names"].startswith("0 of 2 layers go with one of their name, left is the first")

    def test_the_definition_where_calls_are_in_another_order(self) -> None:
        found = propose(twins("Branches", "CalledOtherwise", "6"))
        assert order(found) == ("definition order", True)
        assert found.best.draft.pairs == {"left": "one", "right": "two"}
        assert found.others["call order"] == "2 of 2 layers with tensors agree, the output does not"

    def test_neither_model_is_changed(self) -> None:
        of = twins("Plain", "OtherNames")
        before = {key: tensor.numpy().copy() for key, tensor in of.candidate.state_dict().items()}
        own = {key: tensor.detach().numpy().copy() for key, tensor in of.reference.state_dict().items()}
        propose(of)
        assert of.reference.training
        assert all(np.array_equal(before[key], tensor.numpy()) for key, tensor in of.candidate.state_dict().items())
        assert all(np.array_equal(own[key], tensor.numpy()) for key, tensor in of.reference.state_dict().items())


class TestPlaces:
    """Where the candidate shows a point, and which points it does not."""

    def test_a_fused_activation_is_found_by_its_value(self, proposed: Propose) -> None:
        result, out = proposed("FusedReference", "Fused")
        assert result.exit_code == 0, result.output
        tables = tomllib.loads(out.read_text())
        assert tables["points"] == {"act": "bn"}
        assert tables["left-out"] == {"norm": "the candidate computes it together with act, and shows only that"}
        found = aligned(twins("FusedReference", "Fused"), out, stress=True)
        assert (found.verdict, found.first_divergence) == ("aligned", None)

    def test_one_that_no_layer_of_the_references_shows_is_left_out(self, proposed: Propose) -> None:
        result, out = proposed("FunctionalReference", "Fused")
        assert result.exit_code == 0, result.output
        tables = tomllib.loads(out.read_text())
        assert "points" not in tables
        assert tables["left-out"] == {"norm": "the candidate shows another value here, and what lies behind it agrees"}
        found = aligned(twins("FunctionalReference", "Fused"), out, stress=True)
        assert (found.verdict, found.first_divergence) == ("aligned", None)

    def test_a_fused_activation_is_found_behind_a_norm_that_differs(self, proposed: Propose) -> None:
        result, out = proposed("FusedReference", "Fused", IMAGE, "--candidate-args", '{"epsilon": 1e-3}')
        assert result.exit_code == 1
        assert tomllib.loads(out.read_text())["points"] == {"act": "bn"}
        assert "4 of 5 points agree in float64, each layer given the reference's values" in result.output
        assert re.search(
            r'"act" = "bn"  # found by its value: differs by \de-0[345] of its largest value', out.read_text()
        )
        found = aligned(twins("FusedReference", "Fused", epsilon=1e-3), out)
        assert found.verdict == "diverged"
        assert found.first_divergence is not None
        assert found.first_divergence.layer == "act"

    def test_an_output_of_another_shape_is_no_other_point(self, proposed: Propose) -> None:
        result, out = proposed("FusedReference", "Fused", IMAGE, "--candidate-args", '{"padding": 1}')
        assert result.exit_code == 1
        assert '"conv.weight" = "c.weight"  # call order, Conv2d: its output has another shape' in out.read_text()
        assert "points" not in tomllib.loads(out.read_text())
        found = aligned(twins("FusedReference", "Fused", padding=1), out)
        assert found.verdict == "diverged"
        assert found.first_divergence is not None
        assert found.first_divergence.layer == "conv"

    def test_its_tensors_act_there(self, proposed: Propose) -> None:
        """What is wrong with one is told of the point that is shown, not of the model around it."""
        _, out = proposed("FusedReference", "Fused")
        case = case_of_twins(replace(twins("FusedReference", "Fused"), pairing=read_pairing(out)))
        places = {key: case.place(key) for key in case.candidate.state_dict}
        assert {place for key, place in places.items() if key.startswith("bn.")} == {"act"}
        assert {place for key, place in places.items() if key.startswith("c.")} == {"conv"}

    def test_without_that_the_alignment_calls_it_mispaired(self, proposed: Propose) -> None:
        _, out = proposed("FusedReference", "Fused")
        text = re.sub(r"(?s)\[points\].*", "", out.read_text())
        out.write_text(text)
        found = aligned(twins("FusedReference", "Fused"), out)
        assert found.verdict == "inconclusive"
        assert found.first_divergence is not None
        assert found.first_divergence.sentence.startswith("norm: mispaired: Paddle shows another value here (")

    def test_it_hides_no_divergence_of_the_fused_layer(self, proposed: Propose) -> None:
        _, out = proposed("FusedReference", "Fused")
        wrong = twins("FusedReference", "Fused", epsilon=1e-3)
        assert aligned(wrong, out).verdict == "diverged"
        out.write_text(re.sub(r"(?s)\[points\].*", "", out.read_text()))
        assert aligned(wrong, out).verdict == "diverged"

    def test_layers_without_tensors_are_paired_by_what_is_around_them(self, proposed: Propose) -> None:
        result, out = proposed("Plain", "OtherNames")
        assert result.exit_code == 0, result.output
        tables = tomllib.loads(out.read_text())
        assert tables["modules"] == {"drop": "dropped"}
        assert tables["left-out"] == {
            "act": "called 2 times, where the candidate has 2 layers",
            "act:1": "called 2 times, where the candidate has 2 layers",
        }
        found = aligned(twins("Plain", "OtherNames"), out)
        assert found.verdict == "aligned"

    def test_what_differs_is_paired_all_the_same_so_that_it_is_named(self, proposed: Propose) -> None:
        result, out = proposed("Plain", "OtherNames", IMAGE, "--candidate-args", '{"mode": "downscale_in_infer"}')
        assert result.exit_code == 1
        assert "the outputs do not agree under it" in result.output
        assert '"drop" = "dropped"  # differs by 4e-01 of its largest value' in out.read_text()
        found = aligned(twins("Plain", "OtherNames", mode="downscale_in_infer"), out)
        assert found.verdict == "diverged"
        assert found.first_divergence is not None
        assert found.first_divergence.layer == "drop"


class TestWeights:
    def test_every_tensor_has_an_entry_with_a_comment(self, proposed: Propose) -> None:
        _, out = proposed("Plain", "OtherNames")
        of = twins("Plain", "OtherNames")
        weights = tomllib.loads(out.read_text())["weights"]
        assert list(weights) == list(of.reference.state_dict())
        assert weights["fc1.weight"] == {"to": "head.0.weight", "transform": "transpose"}
        assert weights["norm.running_var"] == "stem.1._variance"
        assert weights["norm.num_batches_tracked"] == {"drop": "Paddle's BatchNorm counts no batches"}
        entries = [line for line in out.read_text().splitlines() if line.startswith('"')]
        assert all("  # " in line for line in entries)

    def test_what_is_the_same_is_not_said_to_agree_within_nothing(self) -> None:
        """A table that is looked up in."""
        import paddle
        import torch

        models = torch.nn.Sequential(torch.nn.Embedding(9, 4)), paddle.nn.Sequential(paddle.nn.Embedding(9, 4))
        given = Input(shape=(5,), dtype="int64", between=(0, 9))
        found = propose(Twins(reference=models[0], candidate=models[1], inputs=(given,)))
        content = text(found, [], ("one", "other"))
        assert content.count("agrees exactly") == 1
        assert "and so does the output, exactly." in content
        assert "0e+00" not in content

    def test_the_file_converts_a_checkpoint(self, proposed: Propose) -> None:
        """What the candidate computes with the weights that the file's rules give it, next to torch itself."""
        import paddle
        import torch

        _, out = proposed("Plain", "OtherNames")
        of, table = twins("Plain", "OtherNames"), read_pairing(out).weights
        assert table is not None
        state = {key: tensor.numpy() for key, tensor in of.reference.state_dict().items()}
        rules, _ = table.rules_for(state.keys())
        converted = {key: paddle.to_tensor(np.ascontiguousarray(a)) for key, a in rules.apply(state).items()}
        assert of.candidate.set_state_dict(converted) == ([], [])
        x = np.random.default_rng(3).standard_normal((2, 3, 12, 10), dtype=np.float32)
        with torch.no_grad():
            there = of.reference.eval()(torch.from_numpy(x)).numpy()
        assert np.abs(there - of.candidate(paddle.to_tensor(x)).numpy()).max() < 1e-6


class TestInputs:
    """A model of several inputs, which a file names."""

    FILE = """schema = "mixer-align/pairing/1"
[inputs]
ids = { shape = [7], dtype = "int64", between = [0, 11] }
scale = { shape = [7, 6] }
"""

    def test_they_are_taken_from_a_pairing_file_and_written_into_the_new_one(
        self, proposed: Propose, tmp_path: Path
    ) -> None:
        given = tmp_path / "inputs.toml"
        given.write_text(self.FILE)
        result, out = proposed("Tokens", "TokensTwin", None, "--pairing", given)
        assert result.exit_code == 0, result.output
        assert read_pairing(out).inputs == read_pairing(given).inputs
        assert [one.name for one in read_pairing(out).inputs] == ["ids", "scale"]
        assert tomllib.loads(out.read_text())["weights"] == {"embed.weight": "words.weight"}

    def test_nothing_else_is_taken_of_it(self, proposed: Propose, tmp_path: Path) -> None:
        given = tmp_path / "inputs.toml"
        given.write_text(self.FILE + '[modules]\n"embed" = "words"\n')
        result, _ = proposed("Tokens", "TokensTwin", None, "--pairing", given)
        assert result.exit_code == 2
        assert f"--pairing {given}: only [inputs] is taken of it here. Take the rest out." in result.output

    def test_it_is_not_overwritten(self, proposed: Propose, tmp_path: Path) -> None:
        (tmp_path / "pairing.toml").write_text(self.FILE)
        result, out = proposed("Tokens", "TokensTwin", None, "--pairing", tmp_path / "pairing.toml", "--force")
        assert result.exit_code == 2
        assert "it is the input itself" in result.output
        assert out.read_text() == self.FILE


class TestOpen:
    """What nothing shows to be right is not written as if it were."""

    def test_a_square_parameter_is_settled_by_an_output_that_agrees(self, proposed: Propose) -> None:
        result, out = proposed("Square", "SquareTwin", "6")
        assert result.exit_code == 0, result.output
        assert tomllib.loads(out.read_text())["weights"]["mix"] == "mix"

    def test_else_it_is_left_open(self, proposed: Propose) -> None:
        result, out = proposed("Square", "SquareTwin", "6", "--candidate-args", '{"factor": 2.0}')
        assert result.exit_code == 1
        assert (
            "open: mix ((6, 6)) is in a layer of no known type, Square, and its shape leaves several layouts"
            in result.output
        )
        assert "mix" not in tomllib.loads(out.read_text())["weights"]
        assert '# "mix" = "mix"\n# "mix" = { to = "mix", transform = "transpose" }' in out.read_text()

    def test_layers_alike_that_nothing_calls(self, proposed: Propose) -> None:
        result, out = proposed("Idle", "IdleTwin", "6")
        assert result.exit_code == 1
        assert (
            "open: aux1 is never called here, and 2 of the candidate's layers that are not may be it" in result.output
        )
        assert tomllib.loads(out.read_text())["weights"].keys() == {"fc.weight", "fc.bias"}
        assert '# "aux2.bias" = "idle2.bias"' in out.read_text()

    def test_a_layer_of_the_candidates_alone(self, proposed: Propose) -> None:
        result, out = proposed("Plain", "Longer")
        assert result.exit_code == 1
        assert "open: nothing of the reference's goes with the candidate's extra" in result.output
        assert '# "extra.bias" = ' in out.read_text()


class TestRefused:
    def test_models_that_cannot_be_paired(self, proposed: Propose) -> None:
        result, out = proposed("Plain", "NoNorm")
        assert result.exit_code == 3
        assert not out.exists()
        assert "the reference has 4 layers that hold tensors (BatchNorm 1, Conv2d 1, Linear 2)" in result.output
        assert "the candidate 3 (Conv2d 1, Linear 2); on the reference's side only: BatchNorm 1" in result.output
        assert "in the order of calls they part at layer 2, norm (BatchNorm) and a (Linear)" in result.output

    def test_a_file_that_is_there(self, proposed: Propose) -> None:
        proposed("Plain", "SameNames")
        result, out = proposed("Plain", "OtherNames")
        assert result.exit_code == 2
        assert "Pass --force" in result.output
        assert '"fc1.weight" = { to = "fc1.weight"' in out.read_text()
        result, out = proposed("Plain", "OtherNames", IMAGE, "--force")
        assert result.exit_code == 0
        assert '"fc1.weight" = { to = "head.0.weight"' in out.read_text()

    @pytest.mark.parametrize("shape", ["3,-1", "3,,4", "x", "0", "3,1.5"])
    def test_a_shape_that_is_none(self, proposed: Propose, shape: str) -> None:
        result, _ = proposed("Plain", "OtherNames", shape)
        assert result.exit_code == 2
        assert f"--input-shape {shape}: it has to be sizes" in result.output

    def test_no_reference(self, mixer_align: Run, tmp_path: Path) -> None:
        result = mixer_align("propose", "--candidate-model", f"{MODELS}:OtherNames", "--out", tmp_path / "pairing.toml")
        assert result.exit_code == 2
        assert "--reference-model and --candidate-model name what is to be paired" in result.output

    def test_a_shape_that_a_model_does_not_take(self, proposed: Propose) -> None:
        result, out = proposed("Plain", "OtherNames", "4,12,10")
        assert result.exit_code == 3
        assert "the reference: its forward fails with RuntimeError" in result.output
        assert "Is --input-shape, or [inputs] of the pairing file, what it takes?" in result.output
        assert not out.exists()

    def test_a_model_that_is_none_of_the_framework(self) -> None:
        of = twins("Plain", "OtherNames")
        with pytest.raises(BadInput, match=r"it is no torch\.nn\.Module"):
            propose(Twins(reference=of.candidate, candidate=of.candidate, inputs=of.inputs))


class TestIndices:
    """Whole numbers that one side saves with its weights and the other one does not."""

    WHY = "whole numbers, an index, of which the other side saves none"

    def test_the_candidates(self, proposed: Propose) -> None:
        result, out = proposed("Indexed", "IndexedTwin", "6")
        assert result.exit_code == 0, result.output
        tables = tomllib.loads(out.read_text())
        assert tables["weights"] == {"table": "bias_table"}
        assert tables["not-covered"] == {"index": self.WHY}
        assert aligned(twins("Indexed", "IndexedTwin", "6"), out).verdict == "aligned"
        wrong = aligned(twins("Indexed", "IndexedTwin", "6", modulus=4), out)
        assert wrong.verdict == "diverged"

    def test_the_references(self, proposed: Propose) -> None:
        saved = ("--reference-args", '{"saved": true}', "--candidate-args", '{"saved": false}')
        result, out = proposed("Indexed", "IndexedTwin", "6", *saved)
        assert result.exit_code == 0, result.output
        tables = tomllib.loads(out.read_text())
        assert tables["weights"] == {"table": "bias_table", "places": {"drop": self.WHY}}
        assert "not-covered" not in tables

    def test_a_weight_of_the_candidates_is_none(self, proposed: Propose) -> None:
        result, out = proposed("Plain", "Longer")
        assert result.exit_code == 1
        assert not tomllib.loads(out.read_text())["not-covered"]


def test_a_layer_of_somebody_s_own_may_stand_for_a_known_one(proposed: Propose) -> None:
    result, out = proposed("Normed", "NormedTwin", "6")
    assert result.exit_code == 0, result.output
    assert tomllib.loads(out.read_text())["weights"]["norm.bias"] == "scaled.bias"
    assert aligned(twins("Normed", "NormedTwin", "6"), out).verdict == "aligned"
    wrong = aligned(twins("Normed", "NormedTwin", "6", epsilon=1e-3), out)
    assert wrong.first_divergence is not None
    assert (wrong.verdict, wrong.first_divergence.layer) == ("diverged", "norm")


def test_a_distance_is_relative_and_shapes_count() -> None:
    one = np.array([0.0, 4.0])
    assert distance(one, np.array([1.0, 4.0])) == 0.25
    assert distance(one, one[None]) == np.inf
    assert distance(one, np.array([np.nan, 4.0])) == np.inf
    assert distance(np.zeros(2), np.ones(2)) == np.inf
    assert distance(np.zeros(2), np.zeros(2)) == 0.0


def vision(name: str, size: int) -> Twins:
    import paddle
    import torch
    import torchvision

    torch.manual_seed(0)
    more = {"init_weights": False} if name in ("inception_v3", "googlenet") else {}
    reference, candidate = getattr(torchvision.models, name)(**more), getattr(paddle.vision.models, name)()
    candidate.eval()
    return Twins(reference=reference, candidate=candidate, inputs=(Input(shape=(3, size, size)),))


def written(of: Twins, out: Path) -> Proposal:
    """Write what is proposed, without a line left open."""
    found = propose(of)
    assert doubts_of(found) == []
    write(out, text(found, [], ("torchvision", "paddle.vision")), found, [], force=False)
    return found


@pytest.mark.slow
class TestVision:
    """torchvision's models and Paddle's own, under the proposed file as it is."""

    @pytest.mark.parametrize(
        ("name", "by"), [("shufflenet_v2_x1_0", "call order"), ("densenet121", "call order"), ("resnet18", "names")]
    )
    def test_right_ports_are_aligned(self, name: str, by: str, tmp_path: Path) -> None:
        of, out = vision(name, 64), tmp_path / "pairing.toml"
        assert order(written(of, out)) == (by, True)
        found = aligned(of, out, stress=True)
        assert (found.verdict, found.first_divergence) == ("aligned", None)
        table = read_pairing(out).weights
        assert table is not None
        rules, dropped = table.rules_for(of.reference.state_dict().keys())
        assert {rule.target for rule in rules} == of.candidate.state_dict().keys()
        assert all(key.endswith("num_batches_tracked") for key in dropped)

    @pytest.mark.parametrize(
        ("name", "size", "layer", "why"),
        [
            ("mobilenet_v3_small", 64, "features.1.block.1.scale_activation", "slope is 0.1666667"),
            ("squeezenet1_1", 64, "features.0", "padding is 1, the reference's 0"),
            ("inception_v3", 80, "Conv2d_1a_3x3.bn", "epsilon is 1e-05, the reference's 0.001"),
        ],
    )
    def test_others_diverge_where_they_do(self, name: str, size: int, layer: str, why: str, tmp_path: Path) -> None:
        of, out = vision(name, size), tmp_path / "pairing.toml"
        assert order(written(of, out)) == ("call order", False)
        found = aligned(of, out)
        assert found.verdict == "diverged"
        assert found.first_divergence is not None
        assert found.first_divergence.layer == layer
        assert why in found.first_divergence.sentence

    def test_googlenet_is_another_network(self) -> None:
        with pytest.raises(BadInput, match=r"on the reference's side only: BatchNorm 59; .*part at layer 2, conv1\.bn"):
            propose(vision("googlenet", 224))
