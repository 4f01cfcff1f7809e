"""Which mappings of a checkpoint are sets of weights, and that none is taken, lost or changed without a word."""

from __future__ import annotations

import json
import pickle
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import Run

from convert import files
from convert.arrays import StateDict, same_bits
from convert.errors import Unreadable, UsageProblem
from convert.evidence.recorded import manifest_path
from convert.files.sets import Selection, choose, weight_sets
from convert.mixer.layouts import NAMING
from convert.mixer.mapping import convert_state_dict
from convert.mixer.variants import MixerConfig
from convert.sources import from_file


def halved(state_dict: StateDict) -> dict[str, np.ndarray]:
    return {key: array / 2 for key, array in state_dict.items()}


def dump(path: Path, content: object) -> Path:
    path.write_bytes(pickle.dumps(content, 4))
    return path


def prefixed(state_dict: StateDict, *prefixes: str) -> dict[str, np.ndarray]:
    return {prefix + key: array for prefix in prefixes for key, array in state_dict.items()}


def taken(content: object, selection: Selection | None = None) -> str:
    return choose(Path("x"), content, selection or Selection(), NAMING).key


@pytest.fixture
def paddle_weights(config: MixerConfig, source: StateDict) -> StateDict:
    converted = convert_state_dict(source, config).state_dict
    return {key: np.ascontiguousarray(array) for key, array in converted.items()}


class TestOneSet:
    @pytest.mark.parametrize(
        ("wrap", "key"),
        [
            (lambda w: w, "."),
            (lambda w: {"a name that nobody uses": w}, "a name that nobody uses"),
            (lambda w: {"state_dict": w, "epoch": 3, "model": {"name": "mixer", "depth": 2}}, "state_dict"),
            (lambda w: {"a": {"b": {"c": {"d": w}}}}, "a.b.c.d"),
            (lambda w: {"models": [{"name": "x"}, w]}, "models.1"),
            (lambda w: ({"epoch": 1}, w), "1"),
            (lambda w: {"model": w, "metrics": {"loss": np.zeros(3), "best": np.float32(3)}}, "model"),
            (lambda w: {"model": w, "step": np.array(7), "optimizer": {"0": {"exp_avg": np.zeros(3)}}}, "model"),
            (
                lambda w: {"model": w, "optimizer": {"state": {0: {"exp_avg": w["norm.bias"]}}, "param_groups": []}},
                "model",
            ),
            (lambda w: {"model": w, "the same again": w}, "model"),
        ],
    )
    def test_it_is_found_whatever_it_is_called(self, source: StateDict, wrap: Any, key: str) -> None:
        assert taken(wrap(source)) == key

    @pytest.mark.parametrize(
        "prefix", ["module.", "model.", "timm_model.", "model._orig_mod.", "backbone.", "_layers."]
    )
    def test_behind_a_prefix(self, source: StateDict, prefix: str) -> None:
        prefixed = {prefix + key: array for key, array in source.items()}
        assert taken({"weights": prefixed, "loss": {"a": np.zeros(2)}}) == "weights"
        assert NAMING.common_prefix(prefixed) == prefix

    def test_without_a_head(self, source: StateDict) -> None:
        body = {key: array for key, array in source.items() if not key.startswith("head")}
        assert taken({"net": body, "other": {"a": np.zeros(2)}}) == "net"

    def test_one_of_another_model_needs_no_names_that_are_known(self) -> None:
        content = {"state_dict": {"a.weight": np.zeros((2, 2))}, "optimizer": {"step": np.array(3)}, "epoch": 3}
        assert taken(content) == "state_dict"


class TestSeveral:
    """Two sets: refused, each named with its count, until one is chosen."""

    @pytest.mark.parametrize(
        ("wrap", "named"),
        [
            (lambda w: {"model": w, "averages": halved(w)}, ["model (54 tensors)", "averages (54 tensors)"]),
            (lambda w: {"model": w, **halved(w)}, ["beside them (54 tensors)", "model (54 tensors)", "(. for those"]),
            (lambda w: {"model": w, "head.bias": w["head.bias"] * 2}, ["beside them (1 tensor)", "model (54 tensors)"]),
            (lambda w: {"state_dict": w, "ema_state_dict": halved(w)}, ["state_dict (54", "ema_state_dict (54"]),
            (lambda w: {"a": {"module": w}, "b": {"module": halved(w)}}, ["a.module (54", "b.module (54"]),
            (lambda w: {"model": w, "cut": dict(list(w.items())[:9])}, ["model (54 tensors)", "cut (9 tensors)"]),
            (
                lambda w: {"param_groups": [], "state": w, "model": halved(w)},
                ["state (54 tensors)", "model (54 tensors)"],
            ),
            (lambda w: {"": w, "model": halved(w)}, ["'' (54 tensors)", "model (54 tensors)"]),
            (lambda w: {"sd": prefixed(w, "student.", "teacher.")}, ["sd.student (54 tensors)", "sd.teacher (54"]),
            (lambda w: prefixed(w, "", "ema_model.module."), ["beside them (54 tensors)", "ema_model.module (54"]),
            (lambda w: prefixed(w, "model.", "model.ema."), ["model (54 tensors)", "model.ema (54 tensors)"]),
        ],
    )
    def test_they_are_named_and_none_is_taken(self, source: StateDict, wrap: Any, named: list[str]) -> None:
        with pytest.raises(UsageProblem) as raised:
            taken(wrap(dict(source)))
        assert all(name in str(raised.value) for name in [*named, "--weights-key NAME"])

    def test_one_of_two_in_a_mapping_is_read(self, tmp_path: Path, source: StateDict) -> None:
        content = {
            **prefixed(source, "student."),
            **prefixed(halved(source), "teacher_ema."),
            "loss.weight": np.ones(3),
        }
        path = dump(tmp_path / "x.pdparams", {"state_dict": content})
        found = from_file(path, Selection(ema=True))
        assert found.provenance.weights_key == "state_dict.teacher_ema"
        assert found.provenance.stripped_prefix == "teacher_ema."
        assert same_bits(found.state_dict["norm.bias"], source["norm.bias"] / 2)
        assert found.state_dict.keys() == source.keys()

    def test_names_say_which_is_averaged_where_one_ends_in_ema(self, source: StateDict) -> None:
        for one, other in (("model", "model_ema"), ("state_dict", "state_dict_ema"), ("model", "ema")):
            content = {one: source, other: halved(source)}
            with pytest.raises(UsageProblem, match="--ema or --no-ema"):
                taken(content)
            assert [taken(content, Selection(ema=ema)) for ema in (False, True)] == [one, other]

    def test_mmengine_s_names_do_not(self, source: StateDict) -> None:
        """There the average is in `state_dict`, and what is called ema holds the raw weights."""
        content = {"state_dict": source, "ema_state_dict": halved(source)}
        with pytest.raises(UsageProblem) as raised:
            taken(content)
        assert "--ema" not in str(raised.value)
        for ema in (False, True):
            with pytest.raises(UsageProblem, match="weights by name"):
                taken(content, Selection(ema=ema))

    def test_a_name_that_is_none_is_refused_with_those_that_are(self, source: StateDict) -> None:
        with pytest.raises(UsageProblem, match=r"no set modell\. It holds one set of 54 tensors"):
            taken({"model": source}, Selection(key="modell"))

    def test_two_that_are_called_the_same_are_not_told_apart_by_the_name(self, source: StateDict) -> None:
        content = {"a.b": source, "a": {"b": halved(source)}}
        with pytest.raises(UsageProblem, match="2 sets of weights"):
            taken(content, Selection(key="a.b"))

    def test_a_name_and_ema_exclude_each_other(self) -> None:
        with pytest.raises(UsageProblem, match="exclude each other"):
            Selection(key="a", ema=True)


class TestOddTrees:
    def test_one_that_holds_itself_ends(self, source: StateDict) -> None:
        content: dict[str, Any] = {"model": source}
        content["again"] = [content]
        assert taken(content) == "model"

    def test_many_names_for_the_same_thing_take_no_time(self) -> None:
        nest: list[Any] = [{"a": np.zeros(2)}]
        for _ in range(60):
            nest = [nest, nest]
        assert len(weight_sets(nest)) == 1

    def test_a_file_of_such_names_takes_no_time(self, tmp_path: Path) -> None:
        """Each could stand behind a prefix of its own; trying them all took minutes."""
        names = [f"{i:x}.norm.weight" for i in range(4000)]
        start = time.process_time()
        assert NAMING.common_prefix(names) == ""
        assert time.process_time() - start < 10

    def test_a_prefix_before_some_names_is_none(self, source: StateDict) -> None:
        half = {(f"a.{key}" if i % 2 else key): array for i, (key, array) in enumerate(source.items())}
        assert NAMING.common_prefix(half) == ""
        two = {(f"b.{key}" if key.startswith("blocks.0") else f"a.{key}"): array for key, array in source.items()}
        assert NAMING.common_prefix(two) == "a."

    def test_slices_are_joined_where_paddle_joins_them(self, tmp_path: Path, frameworks: None) -> None:
        import paddle

        table = {"b": {"OriginShape": (2,), "slices": ["c"]}}
        parts = {"a": np.zeros(2), "b": np.ones(2), "c": np.full(2, 9.0), "UnpackBigParamInfor@@": table}
        nested = dump(tmp_path / "x.pdparams", {"m": parts})
        assert np.array_equal(files.read(nested)["b"], np.ones(2))
        assert np.array_equal(paddle.load(str(nested), return_numpy=True)["m"]["b"], np.ones(2))
        for odd in (parts, {**parts, "b": np.zeros(1), "c": np.zeros(1, np.float32)}):
            with pytest.raises(Unreadable, match="do not fit together"):
                files.read(dump(tmp_path / "y.pdparams", odd))

    @pytest.mark.parametrize(
        ("content", "says"),
        [
            ({"state": {0: {"exp_avg": np.zeros(2)}, 1: {"exp_avg": np.zeros(3)}}}, "an optimizer's state"),
            ({}, "holds a dict without weights"),
            ([1, 2], "holds a list without weights"),
            (3, "holds a int without weights"),
            ({"state_dict": {"a": 1.0}}, "entry 'a' is not a tensor but a float"),
            ({1: np.zeros(2)}, "entry 1 has no text for a name"),
        ],
    )
    def test_what_holds_none_is_said(self, content: object, says: str) -> None:
        with pytest.raises(Unreadable, match=says):
            taken(content)

    def test_a_weight_s_name_with_something_else_is_refused(self, tmp_path: Path, source: StateDict) -> None:
        for value in (3.0, None, {"a": 1}, [np.zeros(2)]):
            path = dump(tmp_path / "x.pdparams", {**source, "head.bias": value})
            with pytest.raises(Unreadable, match=r"entry 'head\.bias' is not a tensor but"):
                from_file(path)

    def test_what_lies_beside_under_another_name_is_named_as_left_out(self, tmp_path: Path, source: StateDict) -> None:
        found = from_file(dump(tmp_path / "x.pdparams", {**source, "epoch": 3, "n_averaged": np.array(5)}))
        assert found.notes == ("left out: epoch (a int), n_averaged (a counter)",)
        assert found.state_dict.keys() == source.keys()
        assert found.dropped.keys() == {"n_averaged"}

    def test_a_number_that_is_no_count_is_not_left_out(
        self, mixer_convert: Run, tmp_path: Path, paddle_weights: Any
    ) -> None:
        content = {**paddle_weights, "total_ops": np.array([3.0])}
        result = mixer_convert("--checkpoint", dump(tmp_path / "x.pdparams", content), "--out", tmp_path / "o.pdparams")
        assert result.exit_code == 3
        assert "1 unexpected (+ total_ops)" in result.stderr

    def test_a_prefix_that_would_make_one_name_of_two_is_none(self, source: StateDict) -> None:
        assert NAMING.common_prefix([*source, *(f"model.{key}" for key in source)]) == ""


class TestCommands:
    @pytest.fixture
    def two(self, tmp_path: Path, paddle_weights: StateDict) -> Path:
        return dump(tmp_path / "two.pdparams", {"model": paddle_weights, "averages": halved(paddle_weights)})

    def test_convert(self, mixer_convert: Run, two: Path, tmp_path: Path, source: StateDict) -> None:
        out = tmp_path / "out.safetensors"
        arguments = ("--checkpoint", two, "--dst", "timm", "--out", out)
        refused = mixer_convert(*arguments)
        assert refused.exit_code == 2
        assert "model (54 tensors), averages (54 tensors)" in refused.stderr
        assert not out.exists()
        assert mixer_convert(*arguments, "--weights-key", "averages").exit_code == 0
        assert same_bits(files.read(out)["norm.bias"], source["norm.bias"] / 2)
        manifest = json.loads(manifest_path(out).read_text())
        assert manifest["source"]["weights_key"] == manifest["weights_key"] == "averages"

    def test_what_was_chosen_goes_with_the_weights(self, mixer_convert: Run, two: Path, tmp_path: Path) -> None:
        once, back = tmp_path / "once.safetensors", tmp_path / "back.pdparams"
        mixer_convert("--checkpoint", two, "--dst", "timm", "--out", once, "--weights-key", "averages")
        assert mixer_convert("--checkpoint", once, "--out", back).exit_code == 0
        assert json.loads(manifest_path(back).read_text())["weights_key"] == "averages"

    def test_the_manifest_knows_the_source_s_set(self, mixer_convert: Run, two: Path, tmp_path: Path) -> None:
        out = tmp_path / "out.pdparams"
        mixer_convert("--checkpoint", two, "--out", out, "--weights-key", "averages")
        result = mixer_convert("verify", two, "--manifest", manifest_path(out))
        assert result.exit_code == 0, result.output
        assert mixer_convert("verify", out, "--manifest", manifest_path(out)).exit_code == 0

    def test_inspect(self, mixer_convert: Run, two: Path) -> None:
        assert mixer_convert("inspect", two).exit_code == 2
        data = json.loads(mixer_convert("inspect", two, "--weights-key", "model", "--json", "-").stdout)
        assert data["weights_key"] == "model"

    def test_verify(self, mixer_convert: Run, two: Path) -> None:
        assert mixer_convert("verify", two, two).exit_code == 2
        same = mixer_convert("verify", two, two, "--weights-key", "model", "--weights-key-b", "model")
        assert same.exit_code == 0, same.output
        other = mixer_convert("verify", two, two, "--weights-key", "model", "--weights-key-b", "averages")
        assert other.exit_code == 1

    def test_align(self, mixer_align: Run, two: Path, tmp_path: Path) -> None:
        assert mixer_align("--checkpoint", two).exit_code == 2
        out = tmp_path / "result.json"
        result = mixer_align("--checkpoint", two, "--weights-key", "model", "--candidate", two, "--json", out)
        assert result.exit_code == 2
        assert "averages (54 tensors)" in result.stderr
        chosen = ("--checkpoint", two, "--weights-key", "model", "--candidate", two, "--candidate-key")
        assert mixer_align(*chosen, "averages").exit_code == 1
        passed = mixer_align(*chosen, "model", "--json", out)
        assert passed.exit_code == 0
        assert "aligned: two.pdparams (model)" in passed.stdout
        weights = json.loads(out.read_text())["settings"]["weights"]
        assert (weights["weights_key"], weights["candidate_key"]) == ("model", "model")

    def test_wrong_tensors_beside_the_right_ones(
        self, mixer_convert: Run, mixer_align: Run, tmp_path: Path, checkpoint: Path, paddle_weights: StateDict
    ) -> None:
        """`set_state_dict(paddle.load(FILE))` takes what lies beside, and not a word of the nest."""
        import paddle

        from convert.mixer.paddle_mixer import MlpMixer

        path = dump(tmp_path / "x.pdparams", {"model": paddle_weights, **halved(paddle_weights)})
        for run, arguments in (
            (mixer_convert, ("--checkpoint", path, "--out", tmp_path / "o.pdparams")),
            (mixer_convert, ("verify", path, checkpoint)),
            (mixer_align, ("--checkpoint", checkpoint, "--candidate", path)),
        ):
            result = run(*arguments)
            assert result.exit_code == 2, result.output
            assert "beside them (54 tensors)" in result.stderr
        state_dict = from_file(checkpoint).state_dict
        from convert.mixer.shapes import infer_config

        model = MlpMixer(infer_config({key: array.shape for key, array in state_dict.items()}, "x"))
        model.set_state_dict(paddle.load(str(path)))
        assert np.array_equal(model.norm.bias.numpy(), paddle_weights["norm.bias"] / 2), "the danger is gone"

    @pytest.mark.parametrize("change", ["a prefix", "a counter"])
    def test_a_candidate_is_judged_as_paddle_loads_it(
        self, mixer_align: Run, tmp_path: Path, checkpoint: Path, paddle_weights: StateDict, change: str
    ) -> None:
        """`set_state_dict` strips no prefix, and gives what it has no place for back."""
        changed = {"a prefix": {f"module.{key}": array for key, array in paddle_weights.items()}}
        changed["a counter"] = {**paddle_weights, "n_averaged": np.array(5)}
        result = mixer_align("--checkpoint", checkpoint, "--candidate", dump(tmp_path / "x.pdparams", changed[change]))
        assert result.exit_code == 1
        assert "structure   FAILED" in result.stdout
        assert "is in the candidate only" in result.stdout or "is missing from the candidate" in result.stdout

    def test_a_key_for_a_candidate_that_there_is_not(self, mixer_align: Run, checkpoint: Path) -> None:
        assert mixer_align("--checkpoint", checkpoint, "--candidate-key", "model").exit_code == 2

    def test_what_paddle_would_execute_is_no_candidate_and_not_verified(
        self, mixer_convert: Run, mixer_align: Run, tmp_path: Path, checkpoint: Path, paddle_weights: StateDict
    ) -> None:
        path = dump(tmp_path / "x.pdparams", {"model": paddle_weights, "where": tmp_path})
        assert mixer_convert("--checkpoint", path, "--out", tmp_path / "o.pdparams").exit_code == 0
        for run, arguments in (
            (mixer_convert, ("verify", path, checkpoint)),
            (mixer_align, ("--checkpoint", checkpoint, "--candidate", path)),
        ):
            result = run(*arguments)
            assert result.exit_code == 3, result.output
            assert "paddle.load would execute pathlib.PosixPath of it" in result.stderr


def test_the_options_are_refused_where_they_would_be_ignored(mixer_convert: Run) -> None:
    for option in (["--weights-key", "model"], ["--ema"]):
        result = mixer_convert("--variant", "s32", "--init", "random", *option)
        assert result.exit_code == 2
        assert "go with --checkpoint" in result.stderr
