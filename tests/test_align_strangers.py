"""Models that other people wrote, aligned by hooks alone: in memory, by the pytest fixture and by the command."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import Result
from conftest import Run, save_safetensors
from strangers import (
    CONFIG,
    MISTAKEN,
    OTHER_NAMES,
    RIGHT,
    SCHEMA,
    STRANGERS,
    TIMM_NAMES,
    Stranger,
    other_names_pairing,
    timm_model,
    timm_weights,
)

import align
from convert.arrays import StateDict

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def weights() -> StateDict:
    return timm_weights(0)


@pytest.fixture(scope="module")
def reference(weights: StateDict, one_thread: None) -> Any:
    return timm_model(weights)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory, weights: StateDict) -> Path:
    """The checkpoint of both strangers' sizes."""
    return save_safetensors(tmp_path_factory.mktemp("strangers") / "timm.safetensors", weights)


@pytest.fixture
def aligned_by_command(mixer_align: Run, small: Path, tmp_path: Path) -> Callable[..., Result]:
    """Run the command on one of the strangers, with its pairing file unless another is given."""

    def run(stranger: Stranger, *more: Any, target: str = "", pairing: Path | None = None, **arguments: Any) -> Result:
        pairing = pairing or stranger.pairing(tmp_path, arguments.get("variant", "plain"))
        target = target or f"{stranger.file}:build"
        options = ["--checkpoint", small, "--candidate-model", target, "--candidate-args", json.dumps(arguments)]
        return mixer_align(*options, *(["--pairing", pairing] if pairing else []), *more)

    return run


def sentence(run: Result, *codes: int) -> str:
    """Return the one error sentence of a run that ended with one of these codes."""
    assert run.exit_code in codes, run.output
    assert "Traceback" not in run.output
    errors = [line for line in run.stderr.splitlines() if line.startswith("Error: ")]
    assert len(errors) == 1, run.output
    assert "No such option" not in errors[0]
    assert run.stderr.rstrip().endswith(errors[0]), "the sentence goes on over several lines"
    return errors[0]


def verdict_or_error(timm: Any, layer: Any, pairing: Path | None) -> str:
    from convert.errors import MixerConvertError

    try:
        return align.align(timm, layer, pairing).verdict
    except MixerConvertError as error:
        return str(error)


def failed_gates(result: Any) -> set[str]:
    return {gate.name for gate in result.gates if gate.passed is False}


class TestInMemory:
    @pytest.mark.parametrize(("name", "variant"), RIGHT)
    def test_right_ones_are_aligned(
        self, reference: Any, weights: StateDict, tmp_path: Path, name: str, variant: str
    ) -> None:
        stranger = STRANGERS[name]
        layer = stranger.build(weights, variant=variant)
        result = align.align(reference, layer, stranger.pairing(tmp_path, variant))
        assert result.verdict == "aligned", result.first_divergence or result.gates
        assert result.first_divergence is None
        passed = {gate.name for gate in result.gates if gate.passed}
        assert passed >= {"structure", "weights", "float64", "float32", "determinism", "output", "batch", "state"}

    @pytest.mark.parametrize(("name", "mistake"), MISTAKEN)
    def test_mistakes_are_not_and_are_placed(
        self, reference: Any, weights: StateDict, tmp_path: Path, name: str, mistake: str
    ) -> None:
        stranger = STRANGERS[name]
        result = align.align(reference, stranger.build(weights, mistake=mistake), stranger.pairing(tmp_path))
        assert result.verdict in ("diverged", "inconclusive"), (result.verdict, result.gates)
        assert failed_gates(result) or result.verdict == "inconclusive"
        assert result.first_divergence is not None
        assert result.first_divergence.layer in stranger.mistakes[mistake], result.first_divergence
        assert "\n" not in result.first_divergence.sentence

    @pytest.mark.parametrize(
        ("mistake", "gate"),
        [
            ("unhooked", "output"),
            ("wrong-at-1", "batch"),
            ("squeezed", "batch"),
            ("two-and-zeros", "batch"),
            ("two-and-copies", "batch"),
            ("wrong-beyond-2", "batch"),
            ("hidden-buffer", "float64"),
            ("ignored-token-bias", "float64"),
            ("extra-parameter", "structure"),
        ],
    )
    @pytest.mark.parametrize("name", STRANGERS)
    def test_it_is_this_gate_that_fails(
        self, reference: Any, weights: StateDict, tmp_path: Path, name: str, mistake: str, gate: str
    ) -> None:
        stranger = STRANGERS[name]
        result = align.align(reference, stranger.build(weights, mistake=mistake), stranger.pairing(tmp_path))
        assert gate in failed_gates(result)

    @pytest.mark.parametrize("batch", [1, 3])
    @pytest.mark.parametrize("name", STRANGERS)
    @pytest.mark.parametrize("mistake", ["two-and-zeros", "squeezed", "wrong-at-1", "wrong-beyond-2", None])
    def test_the_batch_chosen_changes_no_verdict(
        self, reference: Any, weights: StateDict, tmp_path: Path, name: str, mistake: str | None, batch: int
    ) -> None:
        stranger = STRANGERS[name]
        layer = stranger.build(weights, mistake=mistake)
        result = align.align(reference, layer, stranger.pairing(tmp_path), batch=batch, input_seed=4)
        assert (result.verdict == "aligned") == (mistake is None)

    @pytest.mark.parametrize("name", STRANGERS)
    @pytest.mark.parametrize("key", ["stem.proj.bias", "blocks.2.mlp_tokens.fc1.weight", "head.bias"])
    def test_one_wrong_weight_is_named(
        self, reference: Any, weights: StateDict, tmp_path: Path, name: str, key: str
    ) -> None:
        stranger = STRANGERS[name]
        altered = {other: array.copy() for other, array in weights.items()}
        altered[key].flat[3] = np.nextafter(altered[key].flat[3], np.float32(9))
        result = align.align(reference, stranger.build(altered), stranger.pairing(tmp_path))
        assert result.verdict == "diverged"
        assert "weights" in failed_gates(result)
        assert result.first_divergence is not None
        expected = {"stem.proj": "stem", "head": "logits"}.get(key.rpartition(".")[0], key.rpartition(".")[0])
        assert result.first_divergence.layer == expected

    @pytest.mark.parametrize("name", STRANGERS)
    def test_neither_model_is_changed(self, reference: Any, weights: StateDict, tmp_path: Path, name: str) -> None:
        import paddle
        import torch

        stranger = STRANGERS[name]
        layer = stranger.build(weights, variant="never-evaluated")
        before = {key: tensor.numpy().copy() for key, tensor in layer.state_dict().items()}
        align.align(reference, layer, stranger.pairing(tmp_path))
        assert all(part.training for part in layer.sublayers(include_self=True))
        assert not any(
            part._forward_pre_hooks or part._forward_post_hooks for part in layer.sublayers(include_self=True)
        )
        assert not any(part._forward_pre_hooks or part._forward_hooks for part in reference.modules())
        assert {parameter.dtype for parameter in layer.parameters()} == {paddle.float32}
        assert {parameter.dtype for parameter in reference.parameters()} == {torch.float32}
        after = layer.state_dict()
        assert all(np.array_equal(after[key].numpy(), array) for key, array in before.items())

    def test_two_alignments_of_one_model_say_the_same(self, reference: Any, weights: StateDict) -> None:
        layer = TIMM_NAMES.build(weights, mistake="tanh-in-channels")
        first, second = (align.align(reference, layer).first_divergence for _ in range(2))
        assert first == second

    def test_points_that_are_not_shown_are_named(self, reference: Any, weights: StateDict) -> None:
        result = align.align(reference, TIMM_NAMES.build(weights, variant="functional-fc2"))
        said = " ".join(gate.sentence for gate in result.gates)
        assert "mlp_channels.fc2" in said

    def test_an_uncovered_parameter_may_be_listed_with_a_reason(
        self, reference: Any, weights: StateDict, tmp_path: Path
    ) -> None:
        pairing = tmp_path / "listed.toml"
        pairing.write_text(f'{SCHEMA}[not-covered]\n"pos_embed" = "kept for old checkpoints"\n')
        layer = TIMM_NAMES.build(weights, mistake="extra-parameter")
        assert align.align(reference, layer, pairing).verdict == "aligned"

    def test_leaving_a_point_out_does_not_pass_what_is_wrong_there(
        self, reference: Any, weights: StateDict, tmp_path: Path
    ) -> None:
        pairing = tmp_path / "out.toml"
        pairing.write_text(f'{SCHEMA}[left-out]\n"blocks.{{i}}.mlp_tokens.act" = "I would rather not"\n')
        assert align.align(reference, TIMM_NAMES.build(weights), pairing).verdict == "aligned"
        result = align.align(reference, TIMM_NAMES.build(weights, mistake="tanh-in-tokens"), pairing)
        assert result.first_divergence is not None
        assert result.first_divergence.layer == "blocks.0.mlp_tokens.fc2"

    @pytest.mark.parametrize("name", STRANGERS)
    def test_a_forward_that_raises_is_no_alignment(
        self, reference: Any, weights: StateDict, tmp_path: Path, name: str
    ) -> None:
        stranger = STRANGERS[name]
        said = verdict_or_error(reference, stranger.build(weights, mistake="raises"), stranger.pairing(tmp_path))
        assert said != "aligned"
        assert "\n" not in said

    @pytest.mark.parametrize("layer", [None, {}, "model", np.zeros(3)])
    def test_what_is_no_layer_is_refused(self, reference: Any, layer: Any) -> None:
        from convert.errors import MixerConvertError

        with pytest.raises(MixerConvertError, match=r"paddle\.nn\.Layer"):
            align.align(reference, layer)


class TestFixture:
    @pytest.mark.parametrize("name", STRANGERS)
    def test_it_passes_what_is_right(
        self, assert_aligned: Callable[..., Any], reference: Any, weights: StateDict, tmp_path: Path, name: str
    ) -> None:
        stranger = STRANGERS[name]
        assert assert_aligned(reference, stranger.build(weights), pairing=stranger.pairing(tmp_path))

    @pytest.mark.parametrize("name", STRANGERS)
    def test_it_fails_what_is_wrong_with_the_point(
        self, assert_aligned: Callable[..., Any], reference: Any, weights: StateDict, tmp_path: Path, name: str
    ) -> None:
        stranger = STRANGERS[name]
        layer = stranger.build(weights, mistake="no-token-residual")
        with pytest.raises(pytest.fail.Exception, match=re.escape("blocks.1.token_mixing")):
            assert_aligned(reference, layer, pairing=stranger.pairing(tmp_path))


class TestCommand:
    @pytest.mark.parametrize(
        ("name", "variant"),
        [
            ("timm-names", "plain"),
            ("timm-names", "functional-fc2"),
            ("other-names", "plain"),
            ("other-names", "functional-out"),
        ],
    )
    def test_right_ones_exit_0(self, aligned_by_command: Callable[..., Result], name: str, variant: str) -> None:
        run = aligned_by_command(STRANGERS[name], variant=variant)
        assert run.exit_code == 0, run.output
        assert "aligned" in run.stdout

    @pytest.mark.parametrize("name", STRANGERS)
    @pytest.mark.parametrize("mistake", ["hidden-buffer", "unhooked", "two-and-copies", "returns-nothing", "buffer"])
    def test_mistakes_exit_1(self, aligned_by_command: Callable[..., Result], name: str, mistake: str) -> None:
        run = aligned_by_command(STRANGERS[name], mistake=mistake)
        assert run.exit_code == 1, run.output
        assert "Traceback" not in run.output
        assert "Error: " not in run.output

    @pytest.mark.parametrize("name", STRANGERS)
    def test_a_target_can_be_a_module(self, aligned_by_command: Callable[..., Result], name: str) -> None:
        stranger = STRANGERS[name]
        assert aligned_by_command(stranger, target=f"{stranger.module}:build").exit_code == 0
        wrong = aligned_by_command(stranger, target=f"{stranger.module}:build", mistake="epsilon")
        assert wrong.exit_code == 1
        assert "blocks.0.norm1" in wrong.stdout

    def test_without_arguments_the_callable_gets_none(self, mixer_align: Run, small: Path) -> None:
        run = mixer_align("--checkpoint", small, "--candidate-model", f"{TIMM_NAMES.file}:build")
        assert run.exit_code == 0, run.output

    def test_a_forward_that_raises(self, aligned_by_command: Callable[..., Result]) -> None:
        for stranger in STRANGERS.values():
            run = aligned_by_command(stranger, mistake="raises")
            assert run.exit_code in (1, 3), run.output
            assert "Traceback" not in run.output
            if run.exit_code == 3:
                sentence(run, 3)

    @pytest.mark.parametrize("name", STRANGERS)
    def test_own_weights_are_compared_as_they_are(
        self, aligned_by_command: Callable[..., Result], weights: StateDict, tmp_path: Path, name: str
    ) -> None:
        stranger = STRANGERS[name]
        np.savez(tmp_path / "own.npz", **stranger.state_dict(weights))
        target = tmp_path / "loads_its_own.py"
        target.write_text(
            "import numpy as np\n"
            f"from {stranger.module} import build as empty\n"
            "def build(**arguments):\n"
            "    model = empty(**arguments)\n"
            f"    model.set_state_dict(dict(np.load({str(tmp_path / 'own.npz')!r})))\n"
            "    return model\n"
        )
        run = aligned_by_command(stranger, "--own-weights", target=f"{target}:build")
        assert run.exit_code == 0, run.output
        assert aligned_by_command(stranger, "--own-weights").exit_code == 1  # Paddle's initial weights

    @pytest.mark.parametrize("name", STRANGERS)
    def test_the_candidate_s_weights_may_be_a_file(
        self, aligned_by_command: Callable[..., Result], weights: StateDict, tmp_path: Path, name: str
    ) -> None:
        import paddle

        stranger, candidate = STRANGERS[name], tmp_path / "candidate.pdparams"
        layer = stranger.build(weights)
        paddle.save(layer.state_dict(), str(candidate))
        run = aligned_by_command(stranger, "--candidate", candidate)
        assert run.exit_code == 0, run.output
        bias = dict(layer.named_parameters())[stranger.parameter("blocks.1.norm2.bias")]
        bias.set_value(bias.numpy() * np.float32(1.01))
        paddle.save(layer.state_dict(), str(candidate))
        run = aligned_by_command(stranger, "--candidate", candidate)
        assert run.exit_code == 1, run.output
        assert "blocks.1.norm2" in run.stdout

    def test_a_file_lacking_a_parameter_is_not_filled_up(
        self, aligned_by_command: Callable[..., Result], weights: StateDict, tmp_path: Path
    ) -> None:
        import paddle

        candidate = tmp_path / "candidate.pdparams"
        state = OTHER_NAMES.build(weights).state_dict()
        del state["classifier.fc.bias"]
        paddle.save(state, str(candidate))
        run = aligned_by_command(OTHER_NAMES, "--candidate", candidate)
        assert run.exit_code in (1, 3), run.output
        assert "classifier.fc.bias" in run.output or "head.bias" in run.output

    def test_our_own_paddlevit_file_is_aligned(
        self, mixer_convert: Run, mixer_align: Run, small: Path, tmp_path: Path
    ) -> None:
        out = tmp_path / "paddlevit.pdparams"
        run = mixer_convert("--checkpoint", small, "--dst", "paddlevit", "--out", out)
        assert run.exit_code == 0, run.output
        run = mixer_align("--checkpoint", small, "--candidate", out)
        assert run.exit_code == 0, run.output
        assert "aligned" in run.stdout


class TestWrongNames:
    def test_without_a_pairing_file_the_option_is_named(self, mixer_align: Run, small: Path) -> None:
        run = mixer_align("--checkpoint", small, "--candidate-model", f"{OTHER_NAMES.file}:build")
        assert "--pairing" in sentence(run, 2, 3)

    def test_in_memory_it_is_an_error_too(self, reference: Any, weights: StateDict) -> None:
        from convert.errors import MixerConvertError

        with pytest.raises(MixerConvertError, match="pairing"):
            align.align(reference, OTHER_NAMES.build(weights))


TYPOS: dict[str, tuple[str, str, str]] = {
    "unknown candidate module": ('"classifier.fc"\n', '"classifier.fcc"\n', "classifier.fcc"),
    "unknown reference module": ('"head" =', '"heads" =', "heads"),
    "unknown module in a point": ("token_mixer.dense_out" + '" }', "token_mixer.dense_on" + '" }', "dense_on"),
    "unknown point": ('"pooled" =', '"poled" =', "poled"),
    "unknown table": ("[points]", "[point]", "point"),
    "unknown place": ('{ input = "classifier.fc" }', '{ inputs = "classifier.fc" }', "inputs"),
    "place that is a number": ('{ input = "classifier.fc" }', "7", "pooled"),
    "module that is a number": ('"norm" = "classifier.norm"', '"norm" = 7', "norm"),
    "rule that never fires": (
        "\n[points]",
        '"blocks.{i}.mlp_gates" = "mixer_layers.{i}.gates"\n\n[points]',
        "mlp_gates",
    ),
    "block that is not": ("\n[points]", '"blocks.7" = "mixer_layers.2"\n\n[points]', "blocks.7"),
    "left-out point that is not": ("\n[points]", '\n[left-out]\n"gated" = "no gate"\n\n[points]', "gated"),
    "left out without a reason": ("\n[points]", '\n[left-out]\n"norm" = ""\n\n[points]', "norm"),
    "placed and left out": ("\n[points]", '\n[left-out]\n"pooled" = "both"\n\n[points]', "pooled"),
    "uncovered that is not": ("\n[points]", '\n[not-covered]\n"lost.weight" = "gone"\n\n[points]', "lost.weight"),
    "twice": ("\n[points]", '"head" = "classifier.fc"\n\n[points]', ""),
    "two for one": ("\n[points]", '"stem" = "classifier.fc"\n\n[points]', "classifier.fc"),
    "bad TOML": ('"head" = ', '"head" ', ""),
    "no schema": (SCHEMA, "", "schema"),
    "another schema": ("pairing/1", "pairing/9", "pairing/9"),
}
"""What is replaced in a right pairing file, by what, and what the sentence has to name."""


class TestPairingFile:
    @pytest.mark.parametrize("case", TYPOS)
    def test_a_typo_ends_in_a_sentence_that_names_it(
        self, aligned_by_command: Callable[..., Result], tmp_path: Path, case: str
    ) -> None:
        old, new, named = TYPOS[case]
        right = other_names_pairing()
        assert right.count(old) == 1
        pairing = tmp_path / "with_a_typo.toml"
        pairing.write_text(right.replace(old, new))
        said = sentence(aligned_by_command(OTHER_NAMES, pairing=pairing), 2, 3)
        assert "with_a_typo.toml" in said
        assert named in said

    def test_one_that_is_not_there(self, aligned_by_command: Callable[..., Result], tmp_path: Path) -> None:
        said = sentence(aligned_by_command(OTHER_NAMES, pairing=tmp_path / "nowhere.toml"), 4)
        assert "nowhere.toml" in said

    def test_one_that_is_no_text(self, aligned_by_command: Callable[..., Result], tmp_path: Path) -> None:
        pairing = tmp_path / "binary.toml"
        pairing.write_bytes(b"\xff\xfe\x00\x01")
        assert "binary.toml" in sentence(aligned_by_command(OTHER_NAMES, pairing=pairing), 2, 3)

    def test_an_empty_one_says_nothing(self, aligned_by_command: Callable[..., Result], tmp_path: Path) -> None:
        pairing = tmp_path / "empty.toml"
        pairing.write_text(SCHEMA)
        assert aligned_by_command(TIMM_NAMES, pairing=pairing).exit_code == 0

    @pytest.mark.parametrize(
        ("one", "other"),
        [
            ("channel_mixer.norm", "token_mixer.norm"),
            ("channel_mixer.dense_in", "channel_mixer.dense_out"),
            ("token_mixer.dense_in", "token_mixer.dense_out"),
        ],
    )
    def test_a_wrong_pairing_of_right_models_does_not_pass(
        self, reference: Any, weights: StateDict, tmp_path: Path, one: str, other: str
    ) -> None:
        """Two names are exchanged; of the norms not even a shape shows it."""
        swapped = other_names_pairing().replace(one, "\0").replace(other, one).replace("\0", other)
        pairing = tmp_path / "swapped.toml"
        pairing.write_text(swapped)
        said = verdict_or_error(reference, OTHER_NAMES.build(weights), pairing)
        assert said not in ("aligned", "rounding")
        assert "\n" not in said


BAD_TARGETS: dict[str, tuple[str, str]] = {
    "no colon": ("{folder}/targets.py", "targets.py"),
    "no such file": ("{folder}/nowhere.py:build", "nowhere.py"),
    "no such module": ("no_such_package.models:build", "no_such_package"),
    "no such name": ("{folder}/targets.py:missing", "missing"),
    "not callable": ("{folder}/targets.py:number", "number"),
    "raises": ("{folder}/targets.py:raises", "on purpose"),
    "exits": ("{folder}/targets.py:exits", "exits"),
    "returns None": ("{folder}/targets.py:nothing", "nothing"),
    "returns weights": ("{folder}/targets.py:weights", "weights"),
    "returns a torch module": ("{folder}/targets.py:torch_module", "torch_module"),
    "a file with a syntax error": ("{folder}/broken.py:build", "broken.py"),
    "a file that raises": ("{folder}/raising.py:build", "raising.py"),
    "a file that finds another one missing": ("{folder}/reading.py:build", "importing it raises FileNotFoundError"),
    "empty": ("", "--candidate-model"),
}
TARGETS = """
number = 7
def raises(): raise RuntimeError("on purpose,\\nover two lines")
def exits(): raise SystemExit(0)
def nothing(): return None
def weights(): return {}
def torch_module():
    import torch
    return torch.nn.Linear(2, 3)
def build(*, sizes): raise AssertionError
"""


class TestTarget:
    @pytest.fixture
    def folder(self, tmp_path: Path) -> Path:
        (tmp_path / "targets.py").write_text(TARGETS)
        (tmp_path / "broken.py").write_text("def build(:\n")
        (tmp_path / "raising.py").write_text("raise OSError('no such device')\n")
        (tmp_path / "reading.py").write_text("open(f'{__file__}.json')\n")
        return tmp_path

    @pytest.mark.parametrize("case", BAD_TARGETS)
    def test_a_bad_one_ends_in_a_sentence(self, mixer_align: Run, small: Path, folder: Path, case: str) -> None:
        target, named = BAD_TARGETS[case]
        run = mixer_align("--checkpoint", small, "--candidate-model", target.format(folder=folder))
        assert named in sentence(run, 2, 3)

    @pytest.mark.parametrize("arguments", ["{", "[1]", '"x"', '{"depth": NaN}', '{"wrong": 1}'])
    def test_bad_arguments_end_in_a_sentence(self, mixer_align: Run, small: Path, arguments: str) -> None:
        target = f"{TIMM_NAMES.file}:build"
        run = mixer_align("--checkpoint", small, "--candidate-model", target, "--candidate-args", arguments)
        sentence(run, 2, 3)

    @pytest.mark.parametrize("option", [("--candidate-args", "{}"), ("--own-weights",)])
    def test_an_option_without_a_model_is_refused(self, mixer_align: Run, small: Path, option: tuple[str, ...]) -> None:
        assert option[0] in sentence(mixer_align("--checkpoint", small, *option), 2)

    def test_own_weights_and_a_file_of_weights_contradict(
        self, aligned_by_command: Callable[..., Result], small: Path
    ) -> None:
        assert "--own-weights" in sentence(aligned_by_command(TIMM_NAMES, "--own-weights", "--candidate", small), 2)

    def test_a_model_of_other_sizes_is_refused_or_differs(self, aligned_by_command: Callable[..., Result]) -> None:
        sizes = {"depth": (0, 2, 4), "embed_dim": (12,), "num_classes": (0, 8), "patch_size": (4,)}
        for arguments in ({name: size} for name, each in sizes.items() for size in each):
            run = aligned_by_command(TIMM_NAMES, **arguments)
            assert run.exit_code in (1, 2, 3), (arguments, run.output)
            assert "No such option" not in run.output
            assert "Traceback" not in run.output


def test_the_config_is_what_both_build(frameworks: None) -> None:
    for stranger in STRANGERS.values():
        assert len(stranger.build().state_dict()) == 12 * CONFIG.num_blocks + 6
