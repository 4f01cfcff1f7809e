"""Any model of PyTorch's and its twin in Paddle: right ones are aligned, others are blamed where they are wrong."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
from conftest import Run
from twin_nets import (
    IDS,
    IMAGE,
    WRONG_WEIGHTS,
    in_paddle,
    in_torch,
    of_tokens_in_paddle,
    of_tokens_in_torch,
)

import align
from align.core.bounds import Accepted
from align.core.result import AlignmentResult
from align.pairing.pairing import Pairing
from align.probes import paddle_probe, torch_probe
from align.render import as_data, schema_text, verdict_line
from align.render.junit import junit
from align.render.markdown import markdown
from align.run import align as run
from align.twins.case import Twins, case_of_twins
from convert.errors import BadInput, UsageProblem

pytestmark = pytest.mark.usefixtures("frameworks")

HERE = Path(__file__).with_name("twin_nets.py")


def aligned(candidate: Any = None, **more: Any) -> AlignmentResult:
    """Return how the small network and a twin of it compare, both with seeded weights."""
    layer = in_paddle() if candidate is None else candidate
    return run(case_of_twins(Twins(**{"reference": in_torch(), "candidate": layer, "inputs": IMAGE, **more})))


def blamed(result: AlignmentResult) -> str:
    assert result.first_divergence is not None, result.gates
    return result.first_divergence.layer


class TestRight:
    def test_every_module_is_a_point_and_so_is_what_is_returned(self) -> None:
        result = aligned()
        assert result.verdict == "aligned", verdict_line(result)
        names = [layer.name for layer in result.layers]
        assert names[-1] == "output"
        assert {"stem", "pool", "block", "block.conv", "block.bn", "block.act", "again", "drop", "fc2"} <= {*names}
        assert "(no witness)" in verdict_line(result)
        jsonschema.validate(as_data(result), json.loads(schema_text()))

    def test_in_memory_with_their_own_weights_or_with_seeded_ones(self) -> None:
        reference, candidate = in_torch(), in_paddle()
        assert align.align(reference, candidate, input_shape=(3, 12, 12)).verdict == "diverged"
        assert align.align(reference, candidate, input_shape=(3, 12, 12), draw=True).verdict == "aligned"

    def test_neither_is_changed(self) -> None:
        reference, candidate = in_torch(), in_paddle()
        before = torch_probe.parameters(reference), paddle_probe.parameters(candidate)
        assert reference.training
        aligned(candidate, reference=reference)
        assert reference.training
        for held, now in zip(
            before, (torch_probe.parameters(reference), paddle_probe.parameters(candidate)), strict=True
        ):
            assert held.keys() == now.keys()
            assert all(np.array_equal(held[key], now[key]) for key in held)

    def test_by_the_command(self, mixer_align: Run, tmp_path: Path) -> None:
        targets = ("--reference-model", f"{HERE}:in_torch", "--candidate-model", f"{HERE}:in_paddle")
        found = mixer_align(*targets, "--input-shape", "3,12,12", "--json", tmp_path / "found.json")
        assert found.exit_code == 0, found.output
        assert found.stdout.splitlines()[-1].startswith("aligned: in_torch: output differ by")
        settings = json.loads((tmp_path / "found.json").read_text())["settings"]
        assert settings["inputs_given"] == [{"name": "", "shape": [3, 12, 12], "dtype": "float32", "between": None}]
        assert settings["reference_model"] == f"{HERE}:in_torch"

    def test_files_are_judged(self, mixer_align: Run, tmp_path: Path) -> None:
        import paddle
        import torch

        reference, layer = in_torch(), in_paddle()
        torch.save(reference.state_dict(), tmp_path / "net.pth")
        case = case_of_twins(Twins(reference=reference, candidate=layer, inputs=IMAGE, own_weights=True))
        paddle_probe.load(layer, case.rules.apply(case.reference.state_dict))
        paddle.save(layer.state_dict(), str(tmp_path / "net.pdparams"))
        targets = ("--reference-model", f"{HERE}:in_torch", "--candidate-model", f"{HERE}:in_paddle")
        files = ("--checkpoint", tmp_path / "net.pth", "--candidate", tmp_path / "net.pdparams")
        found = mixer_align(*targets, "--input-shape", "3,12,12", *files)
        assert found.exit_code == 0, found.output
        layer.fc2.bias.set_value(layer.fc2.bias.numpy() + np.float32(1e-3))
        paddle.save(layer.state_dict(), str(tmp_path / "net.pdparams"))
        found = mixer_align(*targets, "--input-shape", "3,12,12", *files)
        assert found.exit_code == 1
        assert found.stdout.splitlines()[-1].startswith("diverged: in_torch (no witness): fc2: ")

    def test_several_inputs_by_name_and_whole_numbers(self) -> None:
        given = {"reference": of_tokens_in_torch(), "inputs": IDS}
        assert aligned(of_tokens_in_paddle(), **given).verdict == "aligned"
        wrong = aligned(of_tokens_in_paddle(wrong=True), **given)
        assert (wrong.verdict, blamed(wrong)) == ("diverged", "fc")


CODE = [
    ({"epsilon": 1e-3}, "block.bn", "epsilon is 0.001, the reference's 1e-05"),
    ({"padding_mode": "reflect"}, "block.conv", "padding"),
    ({"stride": 1}, "pool", "stride"),
    ({"mode": "downscale_in_infer"}, "drop", "downscale_in_infer"),
    ({"approximate": True}, "act", "approximat"),
    ({"skip": True}, "block.act", ""),
]


class TestWrong:
    @pytest.mark.parametrize(("different", "layer", "why"), CODE, ids=[str(one[0]) for one in CODE])
    def test_code_is_blamed_where_it_is_and_the_setting_is_named(
        self, different: dict[str, Any], layer: str, why: str
    ) -> None:
        result = aligned(in_paddle(**different))
        assert result.verdict == "diverged"
        assert blamed(result) == layer
        assert result.first_divergence is not None
        assert why in result.first_divergence.sentence

    @pytest.mark.parametrize("what", WRONG_WEIGHTS)
    def test_weights_are_blamed_where_they_are(self, what: str) -> None:
        change, layer = WRONG_WEIGHTS[what]
        candidate = in_paddle()
        right = case_of_twins(Twins(reference=in_torch(), candidate=candidate, inputs=IMAGE))
        paddle_probe.load(candidate, right.candidate.state_dict)
        change(candidate)
        result = aligned(candidate, candidate_weights=paddle_probe.parameters(candidate))
        assert result.verdict == "diverged"
        assert blamed(result) == layer

    @pytest.mark.filterwarnings("ignore:When training, we now always track global mean")
    def test_a_batch_norm_in_training_mode(self) -> None:
        candidate = in_paddle()
        candidate.block.bn.train()
        result = aligned(candidate)
        assert (result.verdict, blamed(result)) == ("diverged", "block.bn")

    def test_a_missing_block(self) -> None:
        result = aligned(in_paddle(missing=True))
        assert result.verdict != "aligned"

    def test_one_that_raises_is_a_sentence(self) -> None:
        with pytest.raises(BadInput, match=r"^the reference: its forward fails with .* Is --input-shape"):
            aligned(inputs=(replace(IMAGE[0], shape=(4, 12, 12)),))
        with pytest.raises(BadInput, match=r"^the candidate: its forward fails with"):
            aligned(in_paddle(padding=2))


class TestOpen:
    """Where something is not compared nothing is proved, and nothing is called wrong either."""

    def test_other_names(self) -> None:
        result = aligned(in_paddle(head="classifier"))
        assert result.verdict == "inconclusive"
        assert result.first_divergence is not None
        assert result.first_divergence.sentence.startswith(
            "fc2: fc2.weight: the candidate has no module fc2; a pairing file"
        )
        mine = Pairing(place="mine.toml", modules={"block": "block"})
        told = aligned(in_paddle(head="classifier"), pairing=mine).first_divergence
        assert told is not None
        assert told.sentence.endswith("the candidate has no module fc2; say in mine.toml what goes with it")
        names = Pairing(modules={"fc2": "classifier"})
        assert aligned(in_paddle(head="classifier"), pairing=names).verdict == "aligned"

    def test_a_weight_of_the_candidate_alone(self) -> None:
        result = aligned(in_paddle(unused=True))
        assert result.verdict == "inconclusive"
        assert "extra.weight" in result.gate("structure").sentence
        accepted = Pairing(not_covered={"extra.weight": "of training", "extra.bias": "of training"})
        assert aligned(in_paddle(unused=True), pairing=accepted).verdict == "aligned"

    def test_a_weight_that_neither_uses(self) -> None:
        import torch

        reference = in_torch()
        reference.extra = torch.nn.Linear(2, 2)
        result = aligned(in_paddle(unused=True), reference=reference)
        assert result.verdict == "inconclusive"
        assert "extra.weight: it has no part in what Paddle returns" in result.gate("structure").sentence

    def test_a_type_that_is_not_known(self) -> None:
        import paddle
        import torch

        reference, candidate = in_torch(), in_paddle()
        reference.gate = torch.nn.Parameter(torch.ones(5, 5))
        candidate.gate = candidate.create_parameter([5, 5])
        with pytest.raises(BadInput, match=r"^gate: it is of a Net, whose layout is not known, and its shape \(5, 5\)"):
            aligned(candidate, reference=reference)
        assert paddle.in_dynamic_mode()


class TestAccepted:
    """A difference that cannot be removed is named, bounded, and counted; one that is not there fails."""

    different = staticmethod(lambda: in_paddle(epsilon=1.001e-5))

    def test_it_is_counted_and_listed(self) -> None:
        assert aligned(self.different()).verdict == "diverged"
        accepted = Pairing(accepted={"block.bn": Accepted(bound=1e-6, reason="another epsilon")})
        result = aligned(self.different(), pairing=accepted)
        assert result.verdict == "aligned", verdict_line(result)
        assert "1 accepted difference" in verdict_line(result)
        data = as_data(result)
        jsonschema.validate(data, json.loads(schema_text()))
        assert data["accepted"] == {"block.bn": {"bound": 1e-6, "reason": "another epsilon"}}
        assert "another epsilon" in markdown(data)
        assert "another epsilon" in junit(data).decode()

    def test_it_is_bounded(self) -> None:
        accepted = Pairing(accepted={"block.bn": Accepted(bound=1e-11, reason="another epsilon")})
        result = aligned(self.different(), pairing=accepted)
        assert (result.verdict, blamed(result)) == ("diverged", "block.bn")

    def test_it_hides_nothing_behind_it(self) -> None:
        accepted = Pairing(accepted={"block.bn": Accepted(bound=1e-6, reason="another epsilon")})
        result = aligned(in_paddle(epsilon=1.001e-5, approximate=True), pairing=accepted)
        assert (result.verdict, blamed(result)) == ("diverged", "act")

    def test_one_that_is_not_needed_fails(self) -> None:
        accepted = Pairing(accepted={"block.bn": Accepted(bound=1e-6, reason="another epsilon")})
        result = aligned(pairing=accepted)
        assert result.verdict == "diverged"
        assert "Take it out of [accepted]" in verdict_line(result)

    def test_one_of_no_point_is_refused(self) -> None:
        accepted = Pairing(accepted={"nowhere": Accepted(bound=1e-6, reason="another epsilon")})
        with pytest.raises(BadInput, match=r"\[accepted\] nowhere"):
            aligned(pairing=accepted)


class TestSettings:
    def test_what_these_inputs_do_not_show_is_named(self) -> None:
        result = aligned(in_paddle(p=0.5))
        assert result.verdict == "aligned"
        assert "drop: " in result.gate("settings").sentence
        assert "0.5" in result.gate("settings").sentence

    def test_nothing_is_said_of_a_right_one(self) -> None:
        assert aligned().gate("settings").sentence == "all that both sides have are the same"


REFUSED = [
    (["--input-shape", "3,x"], "--input-shape 3,x: it has to be sizes"),
    ([], "Nothing says what the models are given"),
    (["--input-shape", "3,12,12", "--variant", "s32"], "--variant is about the models that mixer-convert --list names"),
    (["--input-shape", "3,12,12", "--own-weights", "--checkpoint", HERE], "--own-weights judges what the models hold"),
    (["--input-shape", "3,12,12", "--weights-key", "x"], "--weights-key and --ema go with --checkpoint"),
    (["--input-shape", "3,12,12", "--candidate-key", "x"], "--candidate-key goes with --candidate"),
]


class TestRefused:
    @pytest.mark.parametrize(("options", "sentence"), REFUSED, ids=[one[1][:24] for one in REFUSED])
    def test_what_says_nothing(self, mixer_align: Run, options: list[str], sentence: str) -> None:
        targets = ("--reference-model", f"{HERE}:in_torch", "--candidate-model", f"{HERE}:in_paddle")
        found = mixer_align(*targets, *options)
        assert found.exit_code == 2, found.output
        assert sentence in found.stderr

    def test_one_model_alone(self, mixer_align: Run) -> None:
        found = mixer_align("--reference-model", f"{HERE}:in_torch", "--input-shape", "3,12,12")
        assert found.exit_code == 2
        assert "--reference-model goes with --candidate-model" in found.stderr
        found = mixer_align("--input-shape", "3,12,12")
        assert found.exit_code == 2
        assert "--input-shape goes with --reference-model" in found.stderr

    def test_models_that_are_on_the_other_side(self, mixer_align: Run) -> None:
        found = mixer_align(
            *("--reference-model", f"{HERE}:in_paddle", "--candidate-model", f"{HERE}:in_torch"),
            *("--input-shape", "3,12,12"),
        )
        assert found.exit_code == 3
        assert "it is no torch.nn.Module" in found.stderr

    def test_no_inputs_in_memory(self) -> None:
        with pytest.raises(UsageProblem, match="Nothing says what the models are given"):
            align.align(in_torch(), in_paddle())
