"""A trace of any two models passes the right one without torch, names the layer of each fault, and is safe to read."""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result
from conftest import Run, save_safetensors
from test_align_trace import blocked, rewrite

from align.core import drawn, inputs
from align.core.case import Settings
from align.core.drawn import Distribution, DrawnTensor
from align.core.inputs import Input
from align.trace import trace_file, twins
from align.trace.gate import check, record
from align.trace.twins import case_of_twins_trace
from align.twins.case import Twins, case_of_twins
from convert.arrays import StateDict

pytestmark = pytest.mark.usefixtures("frameworks")

REFERENCE = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self, gated=False):
        super().__init__()
        self.conv1, self.bn1, self.act = nn.Conv2d(3, 5, 3, padding=1), nn.BatchNorm2d(5), nn.ReLU()
        self.gate = nn.Hardsigmoid() if gated else nn.Tanh()
        self.conv2, self.bn2 = nn.Conv2d(5, 7, 3, stride=2, padding=1), nn.BatchNorm2d(7)
        self.fc = nn.Linear(7, 4)
        self.scale = nn.Parameter(torch.ones(7))
        self.register_buffer("index", torch.tensor([3, 1, 0, 6, 5, 2, 4]))

    def forward(self, x):
        x = self.gate(self.act(self.bn1(self.conv1(x))))
        x = self.act(self.bn2(self.conv2(x))).mean((2, 3))
        return self.fc(x[:, self.index] * self.scale)
"""
CANDIDATE = """
import paddle
from paddle import nn

class Training(nn.BatchNorm2D):
    def forward(self, x):
        held = self._mean, self._variance, self.weight, self.bias
        return nn.functional.batch_norm(x, *held, training=True, epsilon=self._epsilon)

class Exact(nn.Layer):
    def forward(self, x):
        return paddle.clip(x / 6 + 0.5, 0, 1)

class Net(nn.Layer):
    def __init__(self, gated=False, fault="", index=(0,) * 7):
        super().__init__()
        norm = Training if fault == "training" else nn.BatchNorm2D
        self.conv1, self.bn1 = nn.Conv2D(3, 5, 3, padding=1), norm(5)
        self.act = nn.LeakyReLU(1e-6) if fault == "activation" else nn.ReLU()
        self.gate = Exact() if fault == "exact" else nn.Hardsigmoid() if gated else nn.Tanh()
        self.conv2 = nn.Conv2D(5, 7, 3, stride=1 if fault == "stride" else 2, padding=1)
        self.bn2 = nn.BatchNorm2D(7, epsilon=1.1e-5 if fault == "epsilon" else 1e-5)
        self.fc = nn.Linear(7, 4)
        self.scale = self.create_parameter([7])
        self.register_buffer("index", paddle.to_tensor(list(index), dtype="int64"))
        if fault == "surplus":
            self.more = nn.Linear(7, 2)

    def forward(self, x):
        x = self.gate(self.act(self.bn1(self.conv1(x))))
        x = self.act(self.bn2(self.conv2(x))).mean((2, 3))
        return self.fc(paddle.index_select(x, self.index, axis=1) * self.scale)
"""
INDEX = [3, 1, 0, 6, 5, 2, 4]
GATED = '[accepted]\n"gate" = {{ bound = {}, reason = "the slope of Paddle is 0.1666667" }}\n'


class Models:
    """Where both models are, and the commands on them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.targets = [folder / "torch_net.py", folder / "paddle_net.py"]
        for path, text in zip(self.targets, (REFERENCE, CANDIDATE), strict=True):
            path.write_text(text)

    def record(self, out: Path, *options: object, arguments: dict[str, Any] | None = None, fault: str = "") -> Result:
        there, here = json.dumps(arguments or {}), json.dumps({**(arguments or {}), "fault": fault})
        models = (f"--reference-model={self.targets[0]}:Net", f"--candidate-model={self.targets[1]}:Net")
        given = (*models, "--reference-args", there, "--candidate-args", here, "--input-shape", "3,10,10")
        return invoked("record", *given, "--out", out, *options)

    def check(self, trace: Path, *options: object, **arguments: Any) -> Result:
        return invoked("check", "--trace", trace, *self.named(**arguments), *options)

    def named(self, **arguments: Any) -> tuple[str, ...]:
        return f"--candidate-model={self.targets[1]}:Net", "--candidate-args", json.dumps(arguments)


def invoked(*arguments: object) -> Result:
    from align.commands.cli import main

    return CliRunner().invoke(main, [str(one) for one in arguments])


@pytest.fixture(scope="module")
def models(frameworks: None, tmp_path_factory: pytest.TempPathFactory) -> Models:
    return Models(tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="module")
def recorded(models: Models) -> Path:
    result = models.record(models.folder / "trace.json")
    assert result.exit_code == 0, result.output
    assert result.stdout.endswith(", no witness.\n")
    return models.folder / "trace.json"


@pytest.fixture
def path(tmp_path: Path, recorded: Path) -> Path:
    (tmp_path / "trace.json").write_bytes(recorded.read_bytes())
    return tmp_path / "trace.json"


@pytest.fixture(scope="module")
def weights(models: Models, recorded: Path) -> StateDict:
    """What the candidate is to hold, from the reference and not from the trace."""
    from align.commands.target import model_of
    from align.pairing.drawing import draw

    model = model_of(f"{models.targets[0]}:Net", None, "--reference-model")
    source = draw(model, Input(shape=(3, 10, 10)).draw(2, 0, "normal"), 0)
    renamed = {"running_mean": "_mean", "running_var": "_variance"}
    held = {}
    for key, array in source.items():
        layer, _, name = key.rpartition(".")
        held[f"{layer}.{renamed.get(name, name)}".removeprefix(".")] = array.T if key == "fc.weight" else array
    return {key: np.ascontiguousarray(array) for key, array in held.items() if "num_batches" not in key}


def verdict(result: Result) -> str:
    return result.stdout.splitlines()[-1]


class TestRightPort:
    def test_it_is_aligned(self, models: Models, path: Path) -> None:
        result = models.check(path)
        assert result.exit_code == 0, result.output
        assert verdict(result).startswith("aligned: Net: output lies ")
        assert "from what was recorded in float64 (no witness) and " in verdict(result)

    def test_json_says_that_there_was_no_witness(self, models: Models, path: Path) -> None:
        data = json.loads(models.check(path, "--json", "-").stdout)
        assert (data["verdict"], data["witness"], data["headline"], data["accepted"]) == (
            "aligned",
            False,
            "output",
            {},
        )
        points = ["conv1", "bn1", "act", "gate", "conv2", "bn2", "act:1", "fc", "output"]
        assert [point["name"] for point in data["points"]] == points
        assert all(point["float64"]["bound"] < 1e-11 for point in data["points"])

    def test_it_needs_no_torch(self, models: Models, path: Path) -> None:
        run = blocked(["check", "--trace", str(path), *models.named()], "torch", "timm", "torchvision")
        assert run.returncode == 0, run.stderr
        assert run.stdout.splitlines()[-1].startswith("aligned: ")

    def test_the_blocker_blocks(self, models: Models, tmp_path: Path) -> None:
        pair = [f"--reference-model={models.targets[0]}:Net", f"--candidate-model={models.targets[1]}:Net"]
        out = ["--out", str(tmp_path / "t.json"), "--input-shape", "3,10,10"]
        run = blocked(["record", *pair, *out], "torch")
        assert run.returncode != 0
        assert "torch is blocked" in run.stderr

    def test_a_file_is_judged(self, models: Models, path: Path, tmp_path: Path, weights: StateDict) -> None:
        candidate = save_safetensors(tmp_path / "c.safetensors", dict(weights))
        result = models.check(path, "--candidate", candidate)
        assert result.exit_code == 0, result.output

    def test_the_bytes_are_the_same_twice(self, models: Models, path: Path, tmp_path: Path) -> None:
        assert models.record(tmp_path / "again.json").exit_code == 0
        assert (tmp_path / "again.json").read_bytes() == path.read_bytes()

    def test_the_model_is_as_it_was(self, models: Models, path: Path) -> None:
        from align.commands.target import model_of

        model = model_of(f"{models.targets[1]}:Net", None, "--candidate-model")
        model.eval()
        before = {key: tensor.numpy() for key, tensor in model.state_dict().items()}
        trace = trace_file.read(path)
        assert check(trace, case_of_twins_trace(trace, model)).verdict == "aligned"
        after = {key: tensor.numpy() for key, tensor in model.state_dict().items()}
        assert before.keys() == after.keys()
        assert all(before[key].dtype == after[key].dtype and (before[key] == after[key]).all() for key in before)


class TestFaults:
    @pytest.mark.parametrize(
        ("fault", "says"),
        [
            ("epsilon", "bn2: float64 projections "),
            ("training", "bn1: float64 projections "),
            ("stride", "conv2: Paddle shows conv2 float32 (2, 7, 10, 10), not float32 (2, 7, 5, 5)"),
            ("activation", "act: float64 projections "),
        ],
    )
    def test_another_model_is_told_and_the_layer_named(self, models: Models, path: Path, fault: str, says: str) -> None:
        result = models.check(path, fault=fault)
        assert result.exit_code == 1, result.output
        assert verdict(result).startswith(f"diverged: Net: {says}")

    @pytest.mark.parametrize(("key", "layer"), [("fc.weight", "fc"), ("bn1._variance", "bn1"), ("scale", "output")])
    def test_the_lowest_bit_of_a_weight(
        self, models: Models, path: Path, tmp_path: Path, weights: StateDict, key: str, layer: str
    ) -> None:
        faulty = dict(weights) | {key: weights[key].copy()}
        faulty[key].view(np.uint32).flat[1] ^= 1
        result = models.check(path, "--candidate", save_safetensors(tmp_path / "c.safetensors", faulty))
        assert result.exit_code == 1
        assert f"{key}: its bits are not the recorded ones" in result.stdout
        assert verdict(result).startswith(f"diverged: Net: {'fc' if key == 'scale' else layer}: ")

    def test_another_network_is_a_sentence(self, models: Models, path: Path) -> None:
        result = models.check(path, fault="surplus")
        assert result.exit_code == 1
        assert verdict(result) == "diverged: Net: more: more.bias: is in the candidate only"

    def test_another_network_with_the_right_file(
        self, models: Models, path: Path, tmp_path: Path, weights: StateDict
    ) -> None:
        candidate = save_safetensors(tmp_path / "c.safetensors", dict(weights))
        result = models.check(path, "--candidate", candidate, fault="surplus")
        assert verdict(result) == "diverged: Net: more: more.bias: is in the candidate only"

    def test_inputs_drawn_otherwise_exit_5(self, models: Models, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        draw = inputs.DRAW["normal"]
        monkeypatch.setitem(inputs.DRAW, "normal", lambda *arguments: draw(*arguments) * np.float32(2))
        result = models.check(path)
        assert result.exit_code == 5
        assert "the images drawn are not those that were recorded" in result.stderr

    def test_weights_drawn_otherwise_exit_5(self, models: Models, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(drawn.LAWS, "normal", lambda rng, shape, std: rng.standard_normal(shape))
        result = models.check(path)
        assert result.exit_code == 5
        assert "the weights drawn are not those that were recorded" in result.stderr


class TestUsage:
    @pytest.mark.parametrize(
        ("options", "says"),
        [
            ([], "Name it with --candidate-model."),
            (["--candidate-args", "{}"], "--candidate-args goes with --candidate-model."),
            (["--candidate-key", "model"], "--candidate-key goes with --candidate."),
        ],
    )
    def test_the_user_says_which_model_it_is(self, path: Path, options: list[str], says: str) -> None:
        result = invoked("check", "--trace", path, *options)
        assert result.exit_code == 2
        assert says in result.stderr

    def test_a_familys_trace_has_a_model(self, models: Models, tmp_path: Path, square_source: StateDict) -> None:
        checkpoint, out = save_safetensors(tmp_path / "x.safetensors", square_source), tmp_path / "family.json"
        assert invoked("record", "--checkpoint", checkpoint, "--out", out).exit_code == 0
        result = models.check(out)
        assert result.exit_code == 2
        assert "the trace is of the mixer family, which has a model of its own" in result.stderr

    @pytest.mark.parametrize("option", ["--candidate-model", "--candidate-args", "--pairing"])
    def test_record_of_a_family_takes_no_model(self, tmp_path: Path, option: str) -> None:
        (tmp_path / "p.toml").write_text("")
        result = invoked("record", "--out", tmp_path / "t.json", option, tmp_path / "p.toml")
        assert result.exit_code == 2
        assert f"{option} goes with --reference-model here." in result.stderr

    def test_what_is_not_paired_is_not_recorded(self, models: Models, tmp_path: Path) -> None:
        result = models.record(tmp_path / "t.json", fault="surplus")
        assert result.exit_code == 1
        assert "more.weight: nothing of the reference's goes with it; a pairing file says" in result.stderr

    def test_weights_of_a_file_are_wanted_again(
        self, models: Models, tmp_path: Path, weights: StateDict, path: Path
    ) -> None:
        import torch

        back = {"_mean": "running_mean", "_variance": "running_var"}
        source = {}
        for key, array in weights.items():
            layer, _, name = key.rpartition(".")
            source[f"{layer}.{back.get(name, name)}".removeprefix(".")] = array.T if key == "fc.weight" else array
        torch.save({key: torch.tensor(array.copy()) for key, array in source.items()}, tmp_path / "x.pth")
        assert models.record(tmp_path / "t.json", "--checkpoint", tmp_path / "x.pth").exit_code == 0
        result = models.check(tmp_path / "t.json")
        assert result.exit_code == 2
        assert "was recorded with x.pth (SHA-256 " in result.stderr
        candidate = save_safetensors(tmp_path / "c.safetensors", dict(weights))
        assert models.check(tmp_path / "t.json", "--candidate", candidate).exit_code == 0


class TestWhatIsNotDrawn:
    def test_its_values_are_kept(self, path: Path) -> None:
        origin = trace_file.read(path).twins.tensors["index"]
        assert origin.drawn is None
        assert np.frombuffer(origin.values, "<i8").tolist() == INDEX

    def test_what_is_too_large_is_the_models_own_or_refused(
        self, models: Models, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(twins, "MOST_VALUES", 7 * 8 - 1)
        assert models.record(tmp_path / "t.json").exit_code == 0
        assert models.check(tmp_path / "t.json", index=INDEX).exit_code == 0
        result = models.check(tmp_path / "t.json")
        assert result.exit_code == 2
        assert "index is not drawn, the trace does not hold its values, and the model has others." in result.stderr


class TestLeftOut:
    def test_points_and_tensors_that_have_no_twin(self, models: Models, tmp_path: Path) -> None:
        text = (
            '[left-out]\n"gate" = "it is functional"\n[not-covered]\n"more.weight" = "spare"\n"more.bias" = "spare"\n'
        )
        (tmp_path / "p.toml").write_text('schema = "mixer-align/pairing/1"\n' + text)
        result = models.record(tmp_path / "t.json", "--pairing", tmp_path / "p.toml", fault="surplus")
        assert result.exit_code == 0, result.output
        assert trace_file.read(tmp_path / "t.json").twins.passed_over == {"more.weight": "spare", "more.bias": "spare"}
        result = models.check(tmp_path / "t.json", fault="surplus")
        assert result.exit_code == 0, result.output
        assert "8 points, all finite; left out, it is functional: gate" in result.stdout
        assert models.check(tmp_path / "t.json").exit_code == 0


class TestAccepted:
    def record(self, models: Models, folder: Path, bound: str, fault: str = "") -> tuple[Path, Result]:
        (folder / "pairing.toml").write_text('schema = "mixer-align/pairing/1"\n' + GATED.format(bound))
        result = models.record(
            folder / "t.json", "--pairing", folder / "pairing.toml", arguments={"gated": True}, fault=fault
        )
        return folder / "t.json", result

    def test_it_travels_and_nothing_behind_inherits_it(self, models: Models, tmp_path: Path) -> None:
        trace, result = self.record(models, tmp_path, "1e-6")
        assert result.exit_code == 0, result.output
        result = models.check(trace, "--json", "-", gated=True)
        data = json.loads(result.stdout)
        assert result.exit_code == 0, result.output
        assert data["accepted"]["gate"]["reason"] == "the slope of Paddle is 0.1666667"
        by_name = {point["name"]: point["float64"] for point in data["points"]}
        assert 1e-10 < by_name["gate"]["distance"] <= by_name["gate"]["bound"] == 1e-6
        assert max(figures["distance"] for name, figures in by_name.items() if name != "gate") < 1e-14
        assert "(no witness, 1 accepted difference)" in result.stderr.splitlines()[-1]

    def test_what_lies_behind_is_judged(self, models: Models, tmp_path: Path) -> None:
        trace, _ = self.record(models, tmp_path, "1e-6")
        assert verdict(models.check(trace, gated=True, fault="epsilon")).startswith("diverged: Net: bn2: ")

    def test_without_it_the_gate_is_over(self, models: Models, tmp_path: Path) -> None:
        assert models.record(tmp_path / "t.json", arguments={"gated": True}).exit_code == 0
        assert verdict(models.check(tmp_path / "t.json", gated=True)).startswith("diverged: Net: gate: float64 ")

    def test_one_that_is_gone_is_told(self, models: Models, tmp_path: Path) -> None:
        trace, _ = self.record(models, tmp_path, "1e-6")
        result = models.check(trace, gated=True, fault="exact")
        assert result.exit_code == 1
        assert verdict(result).startswith("diverged: Net: gate: its difference is accepted, and there is none beyond")
        assert "structure   FAILED   gate: its difference is accepted" in result.stdout

    def test_one_that_is_larger_is_not_recorded(self, models: Models, tmp_path: Path) -> None:
        _, result = self.record(models, tmp_path, "1e-12")
        assert result.exit_code == 1
        assert "gate: torch and Paddle lie " in result.stderr
        assert "1.0e-12 is accepted" in result.stderr

    def test_one_that_is_not_there_is_not_recorded(self, models: Models, tmp_path: Path) -> None:
        _, result = self.record(models, tmp_path, "1e-6", fault="exact")
        assert result.exit_code == 1
        assert "gate: its difference is accepted, and there is none beyond rounding" in result.stderr


def _tensor(data: dict[str, Any], name: str) -> dict[str, Any]:
    found: dict[str, Any] = next(row for row in data["weights"] if row["name"] == name)
    return found


def _twice(data: dict[str, Any], table: str) -> None:
    data[table].append(dict(data[table][0]))


HOSTILE: list[tuple[Callable[[dict[str, Any]], object], str]] = [
    (lambda d: d.pop("twins"), "has no twins"),
    (lambda d: d["twins"].update(witness="NumPy"), "witness is NumPy, not none"),
    (lambda d: d["twins"].update(headline="fc.x"), "headline is fc.x"),
    (lambda d: d["twins"].update(inputs=[]), "a list that holds something"),
    (lambda d: d["twins"]["inputs"][0].update(shape=[1 << 30, 1 << 9]), "more than 67108864 elements"),
    (lambda d: d["twins"]["inputs"][0].update(shape=[3, 0]), "not a shape"),
    (lambda d: d["twins"]["inputs"][0].update(dtype="object"), "dtype is object"),
    (lambda d: d["twins"]["inputs"][0].update(dtype="int64"), "which whole numbers need"),
    (lambda d: d["twins"]["inputs"][0].update(dtype="int64", between=[0.2, 0.7]), "which is no range"),
    (lambda d: d["twins"]["inputs"][0].update(between=[-1e300, 1e300]), "which is no range"),
    (lambda d: _twice(d["twins"], "inputs"), "needs a name of its own"),
    (lambda d: d["twins"].update(left_out={"a": 1}), "not a printable text"),
    (lambda d: d["twins"].update(passed_over={"a\x1b[2J": "x"}), "not a printable text"),
    (lambda d: d["twins"].update(accepted=[{"points": ["x"], "bound": 1, "reason": "r"}]), "points of the trace"),
    (lambda d: d["twins"].update(accepted=[{"points": [[]], "bound": 1, "reason": "r"}]), "points of the trace"),
    (lambda d: d["twins"].update(accepted=[{"points": ["fc"], "bound": -1, "reason": "r"}]), "points of the trace"),
    (lambda d: d.update(weights=[]), "a list that holds something"),
    (lambda d: _twice(d, "weights"), "a tensor or a point twice"),
    (lambda d: _twice(d, "points"), "a tensor or a point twice"),
    (lambda d: _tensor(d, "conv1.bias").update(source="bn1.bias"), "name a source twice"),
    (lambda d: _tensor(d, "conv1.bias").update(transform="eval"), "transform is eval"),
    (lambda d: _tensor(d, "conv1.bias").update(transform="transpose"), "which does not lead to [5]"),
    (lambda d: _tensor(d, "conv1.bias").update(dtype="object"), "dtype is object"),
    (lambda d: _tensor(d, "conv1.bias").update(shape="5"), "not a shape"),
    (lambda d: _tensor(d, "conv1.bias").update(point="nowhere"), "point is nowhere"),
    (lambda d: _tensor(d, "index").update(values="?"), "are no base64"),
    (lambda d: _tensor(d, "index").update(values="A" * (90 << 10)), "more than 65536 bytes of values"),
    (lambda d: _tensor(d, "fc.bias")["drawn"].update(law="exec"), "law is exec"),
    (lambda d: _tensor(d, "fc.bias")["drawn"].update(numbers=[1, 2]), "not a list of 1"),
    (lambda d: _tensor(d, "fc.bias")["drawn"].update(numbers=[1e200]), "which normal does not take"),
    (lambda d: _tensor(d, "fc.weight")["drawn"].update(numbers=[2]), "which fan-in does not take"),
    (lambda d: _tensor(d, "bn1.weight")["drawn"].update(numbers=[2, 1]), "which uniform does not take"),
    (lambda d: _tensor(d, "fc.bias")["drawn"].update(exponent=5000), "not a whole number from -126 to 126"),
    (lambda d: _tensor(d, "fc.bias")["drawn"].update(padding=4), "not a whole number from 0 to 3"),
    (lambda d: d["source"].update(kind="file"), "said of weights that are from a file"),
    (lambda d: d["points"][0]["candidate"].update(where="weights"), "where is weights"),
    (lambda d: d["points"][0]["candidate"].update(call=-1), "call is -1"),
    (lambda d: d["points"][0]["candidate"].update(item=[]), "item is []"),
    (lambda d: d["points"][0].update(float64_noise="0"), "not finite"),
    (lambda d: d["points"][-1].update(shape=[2, 400]), "not a list of 256"),
    (lambda d: d.update(reference="jax"), "reference is jax"),
]


class TestFile:
    def test_a_changed_number_exits_5(self, models: Models, path: Path) -> None:
        path.write_text(path.read_text().replace('"exponent": 0', '"exponent": 1', 1))
        assert models.check(path).exit_code == 5

    @pytest.mark.parametrize(("edit", "says"), HOSTILE, ids=range(len(HOSTILE)))
    def test_a_field_that_cannot_be_exits_3(self, models: Models, path: Path, edit: Any, says: str) -> None:
        rewrite(path, edit)
        result = models.check(path)
        assert result.exit_code == 3, result.output
        assert result.stderr.startswith(f"Error: {path}: the trace")
        assert says in result.stderr

    @pytest.mark.parametrize(
        ("edit", "says"),
        [
            (lambda d: _tensor(d, "fc.bias").update(shape=[1 << 39]), "fc.bias: the candidate has float32 (4,)"),
            (lambda d: _tensor(d, "conv1.weight").update(shape=[1 << 16] * 4), "conv1.weight: the candidate has"),
            (lambda d: d["points"][0].update(shape=[1 << 16] * 4), "Paddle shows conv1 float32 (2, 5, 10, 10), not"),
            (lambda d: d["points"][0]["candidate"].update(module="os.system"), "Paddle never shows conv1"),
            (lambda d: d["points"][0]["candidate"].update(item="__class__"), "conv1: Paddle: its forward fails with "),
        ],
        ids=range(5),
    )
    def test_what_is_not_the_models_is_told_before_anything_is_made(
        self, models: Models, path: Path, edit: Any, says: str
    ) -> None:
        rewrite(path, edit)
        result = models.check(path)
        assert result.exit_code == 1, result.output
        assert says in verdict(result)

    def test_values_of_another_length_are_not_taken(self, models: Models, path: Path) -> None:
        rewrite(path, lambda data: _tensor(data, "index").update(values="AAAA"))
        result = models.check(path)
        assert result.exit_code == 2
        assert "index is not drawn" in result.stderr


class TestDrawnTensor:
    @pytest.mark.parametrize(
        ("law", "numbers", "by_hand"),
        [
            ("uniform", (0.5, 1.5), lambda rng: rng.uniform(0.5, 1.5, (6, 4, 3))),
            ("normal", (0.1,), lambda rng: np.float32(0.1) * rng.standard_normal((6, 4, 3), np.float32)),
            ("fan-in", (1,), lambda rng: rng.standard_normal((6, 4, 3), np.float32) * np.float32(12**-0.5)),
            ("fan-in", (0,), lambda rng: rng.standard_normal((6, 4, 3), np.float32) * np.float32(18**-0.5)),
        ],
    )
    def test_it_is_what_its_name_and_law_say(self, law: Any, numbers: tuple[float, ...], by_hand: Any) -> None:
        tensor = DrawnTensor(
            name="a.weight",
            seed=3,
            shape=(6, 4, 3),
            distribution=Distribution(law=law, numbers=numbers),
            padding=2,
            exponent=-5,
        )
        expected = by_hand(np.random.default_rng([3, zlib.crc32(b"a.weight")])).astype(np.float32)
        expected[2] = 0
        assert tensor.draw().dtype == np.float32
        assert (tensor.draw() == expected / 32).all()
        assert (tensor.times(0).draw() == expected).all()


def test_tied_weights_padding_and_several_inputs(tmp_path: Path) -> None:
    """Each tensor is drawn again as the reference holds it, whatever its names; inputs are passed by theirs."""
    import paddle
    import torch

    class Reference(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.words, self.head = torch.nn.Embedding(11, 6, padding_idx=0), torch.nn.Linear(6, 11)
            self.other = torch.nn.Embedding(11, 6, padding_idx=0)
            self.other.weight = self.words.weight

        def forward(self, words: Any, mask: Any) -> Any:
            return {"scores": self.head((self.words(words) + 2 * self.other(words)) * mask[..., None])}

    class Candidate(paddle.nn.Layer):
        def __init__(self) -> None:
            super().__init__()
            self.words, self.head = paddle.nn.Embedding(11, 6, padding_idx=0), paddle.nn.Linear(6, 11)
            self.other = paddle.nn.Embedding(11, 6, padding_idx=0)

        def forward(self, words: Any, mask: Any) -> Any:
            return {"scores": self.head((self.words(words) + 2 * self.other(words)) * mask[..., None])}

    given = (Input(name="words", shape=(8,), dtype="int64", between=(0, 11)), Input(name="mask", shape=(8,)))
    settings = Settings(batch=3, input_seed=5)
    trace = record(
        case_of_twins(Twins(reference=Reference(), candidate=Candidate().eval(), inputs=given, seed=7), settings),
        settings,
    )
    tensors = trace.twins.tensors
    assert [one.drawn.name for one in tensors.values()] == ["other.weight", "head.weight", "head.bias", "other.weight"]
    with (tmp_path / "t.json").open("wb") as stream:
        trace_file.write(stream, trace)
    assert trace_file.read(tmp_path / "t.json") == trace
    result = check(trace, case_of_twins_trace(trace, Candidate().eval()))
    assert result.verdict == "aligned", result.gates


@pytest.mark.slow
def test_resnet18(mixer_align: Run, tmp_path: Path) -> None:
    out, model = tmp_path / "resnet18.json", "--candidate-model=paddle.vision.models:resnet18"
    pair = ("--reference-model", "torchvision.models:resnet18", model, "--input-shape", "3,64,64")
    result = mixer_align("record", *pair, "--out", out)
    assert result.exit_code == 0, result.output
    assert out.stat().st_size < 100_000
    run = blocked(["check", "--trace", str(out), model], "torch", "timm", "torchvision")
    assert run.returncode == 0, run.stderr
    assert run.stdout.splitlines()[-1].startswith("aligned: resnet18: output lies ")
    result = mixer_align("check", "--trace", out, "--candidate-model=paddle.vision.models:resnet34")
    assert result.exit_code == 1
    assert result.stdout.splitlines()[-1].startswith("diverged: resnet18: layer1.2.")
