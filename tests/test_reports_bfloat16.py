"""bfloat16 is refused where the processor has none, is never called so when it is not, and is never comparable."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from cifar_files import python_files, write_archive
from click.testing import CliRunner
from conftest import Run, save_safetensors

from convert.arrays import StateDict
from convert.errors import UsageProblem
from convert.mixer.mapping import convert_state_dict
from convert.mixer.variants import MixerConfig
from reports.data import cifar10
from reports.score import bfloat16, engines

CPUINFO = Path("/proc/cpuinfo")
PASSES = (
    "add_shadow_output_after_dead_parameter_pass",
    "fc_onednn_enable_pass",
    "onednn_placement_pass",
    "cpu_bfloat16_placement_pass",
    "cpu_bfloat16_pass",
    "cpu_bfloat16_type_placement_pass",
    "cpu_special_ops_bf16_pass",
    "cpu_bf16_quantize_squash_pass",
)
"""Paddle's own on the way to bfloat16, in its order (kPirMkldnnPasses and kPirMkldnnBf16Passes, paddle_pass_builder.cc,
the first without the fusions a Mixer can do without)."""
PRODUCTS = 1 + 4 * 4 + 1
"""Matrix products of the small Mixer: its patches' embedding, four in each of four blocks, its head."""


@pytest.fixture
def arguments(frameworks: None, tmp_path: Path, square_source: StateDict) -> list[Any]:
    weights = save_safetensors(tmp_path / "small.safetensors", square_source)
    data = write_archive(tmp_path / "tiny.tar.gz", python_files(30))
    return ["evaluate", "--weights", weights, "--data", data]


@pytest.fixture
def mixer_report(frameworks: None) -> Run:
    from reports.commands.cli import main

    return lambda *arguments: CliRunner().invoke(main, [str(a) for a in arguments])


@pytest.fixture
def converted(square_config: MixerConfig, square_source: StateDict) -> StateDict:
    return convert_state_dict(square_source, square_config).state_dict


@pytest.fixture
def has_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bfloat16, "has_bfloat16", lambda: True)


@pytest.fixture
def lacks_it(frameworks: None) -> None:
    if bfloat16.has_bfloat16():
        pytest.skip("this processor has bfloat16")


@pytest.fixture
def weights_rounded(has_it: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """A predictor that keeps of each weight what bfloat16 holds, on any processor."""
    real = engines.inference

    def rounded(config: MixerConfig, state_dict: StateDict, precision: str) -> engines.Engine:
        cut = {key: (tensor.view(np.uint32) & 0xFFFF0000).view(np.float32) for key, tensor in state_dict.items()}
        return real(config, cut if precision == "bfloat16" else state_dict)

    monkeypatch.setattr("reports.score.evaluate.inference", rounded)


def test_the_processor_is_known(frameworks: None) -> None:
    """Paddle's answer is the kernel's."""
    flags = [line for line in CPUINFO.read_text().splitlines() if line.startswith("flags")] if CPUINFO.exists() else []
    if not flags:
        pytest.skip("no flags in /proc/cpuinfo")
    assert bfloat16.has_bfloat16() == ("avx512_bf16" in flags[0].split())


def test_a_processor_without_it_is_refused_before_an_image_is_read(
    mixer_report: Run, arguments: list[Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(bfloat16, "has_bfloat16", lambda: False)
    result = mixer_report(*arguments[:-1], tmp_path / "none", "--precision", "bfloat16")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "neither avx512_bf16 nor amx_bf16" in result.stderr
    assert result.stderr.endswith("Pass --precision float32.\n")
    assert mixer_report(*arguments[:-1], tmp_path / "none").exit_code == 4, "which is what comes after"


@pytest.mark.parametrize("options", [["--engine", "eager"], ["--device", "gpu"]])
def test_only_the_predictor_has_it(
    mixer_report: Run, arguments: list[Any], has_it: None, options: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("reports.score.devices.check_device", lambda _: None)  # as if there were a GPU
    result = mixer_report(*arguments, *options, "--precision", "bfloat16")
    assert result.exit_code == 2
    assert "only --engine inference has it, not eager" in result.stderr


def test_float32_is_never_called_bfloat16(
    mixer_report: Run, arguments: list[Any], lacks_it: None, has_it: None, tmp_path: Path
) -> None:
    """Where the processor is taken for one that has it, Paddle falls back to float32 and does not say so."""
    result = mixer_report(*arguments, "--precision", "bfloat16", "--json", tmp_path / "r.json")
    assert (result.exit_code, result.stdout, (tmp_path / "r.json").exists()) == (1, "", False)
    assert f"computes {PRODUCTS} of {PRODUCTS} matrix products in float32" in result.stderr


def force(monkeypatch: pytest.MonkeyPatch, passes: Sequence[str] = PASSES) -> None:
    """Let Paddle's passes run whatever the processor is, which its own switch does not do."""
    from paddle.inference import Config

    def enable(settings: Any) -> None:
        settings.enable_custom_passes(list(passes), True)

    monkeypatch.setattr(Config, "enable_onednn_bfloat16", enable)


@pytest.mark.parametrize(("passes", "left"), [(PASSES, 0), (PASSES[:3], PRODUCTS)])
def test_paddle_s_passes_take_every_matrix_product_of_a_mixer_to_bfloat16(
    frameworks: None,
    monkeypatch: pytest.MonkeyPatch,
    square_config: MixerConfig,
    converted: StateDict,
    passes: Sequence[str],
    left: int,
) -> None:
    """What of it stayed in float32 is counted in the program that the predictor runs."""
    seen: list[str] = []

    def spy(folder: Path) -> None:
        seen.extend(products(folder / bfloat16.OPTIMIZED))

    products: Callable[[Path], list[str]] = bfloat16._products
    monkeypatch.setattr(engines, "check_program", spy)
    force(monkeypatch, passes)
    engines.inference(square_config, converted, "bfloat16")
    assert (len(seen), seen.count("float32"), seen.count("bfloat16")) == (PRODUCTS, left, PRODUCTS - left)


def test_a_program_that_is_not_there_proves_nothing(tmp_path: Path) -> None:
    with pytest.raises(bfloat16.NotInBfloat16, match="does not tell which program"):
        bfloat16.check_program(tmp_path)


def test_a_processor_without_kernels_fails_in_a_sentence(
    mixer_report: Run, arguments: list[Any], lacks_it: None, has_it: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    force(monkeypatch)
    result = mixer_report(*arguments, "--precision", "bfloat16")
    assert result.exit_code == 1
    assert "oneDNN fails at it (std::exception); ONEDNN_MAX_CPU_ISA can be why" in result.stderr


def test_a_count_in_bfloat16_is_labelled_and_not_comparable(
    mixer_report: Run, arguments: list[Any], weights_rounded: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Where float32 gets a verdict, bfloat16 gets none; it differs from float32, and its speed is in the result."""
    weights, target = arguments[2], tmp_path / "r.json"
    monkeypatch.setattr("reports.score.weights.SIZES", ())
    monkeypatch.setattr("reports.score.verdict.TEST_IMAGES", 30)
    judged = [*arguments, "--variant", "b16_in21k", "--accept-preprocessing", "--json", target]
    assert mixer_report(*judged).exit_code == 1
    monkeypatch.setitem(cifar10.ARCHIVE_SHA256, "python", json.loads(target.read_text())["data"]["sha256"])
    found = {}
    for precision in ("float32", "bfloat16"):
        result = mixer_report(*judged, "--precision", precision)
        assert result.exit_code == 1, weights
        found[precision] = json.loads(target.read_text())
    assert found["float32"]["verdict"] == "below"
    assert found["bfloat16"]["verdict"] == "not comparable"
    assert [reason.partition(" (")[0] for reason in found["bfloat16"]["finding"]["reasons"]] == ["other precision"]
    engine = found["bfloat16"]["engine"]
    assert engine["precision"] == "bfloat16"
    assert engine["images_per_second"] > 0
    assert 1e-5 < engine["first_batch"]["max_abs_diff"] < engine["first_batch"]["bound"]
    assert f"engine         inference in bfloat16, {engine['threads']} threads" in result.stdout
    assert result.stdout.splitlines()[-1].startswith("not comparable: other precision (bfloat16;")


def test_float32_is_the_default(mixer_report: Run, arguments: list[Any], tmp_path: Path) -> None:
    outcomes = []
    for options in ([], ["--precision", "float32"]):
        result = mixer_report(*arguments, *options, "--json", tmp_path / "r.json")
        found = json.loads((tmp_path / "r.json").read_text())
        speed = found["engine"].pop("images_per_second")
        outcomes.append((found, result.stdout.replace(f"{speed:.1f} images/s", "")))
    assert outcomes[0] == outcomes[1]
    assert list(outcomes[0][0]["engine"]) == ["name", "precision", "threads", "batch_size", "processes", "first_batch"]
    assert outcomes[0][0]["engine"]["precision"] == "float32"


@pytest.mark.parametrize(
    ("off", "error"),
    [
        (0.0, bfloat16.NotInBfloat16),
        (9e-6, bfloat16.NotInBfloat16),
        (2e-5, None),
        (0.049, None),
        (0.051, engines.EngineDisagrees),
        (np.nan, engines.EngineDisagrees),
    ],
)
def test_the_first_batch_lies_where_bfloat16_puts_it(off: float, error: type[Exception] | None) -> None:
    expected = np.linspace(-1, 1, 20, dtype=np.float64).reshape(2, 10)
    if error is None:
        assert engines.agreement(expected + off, expected, "bfloat16") == (pytest.approx(off), 0.05)
        return
    with pytest.raises(error, match=r"--precision bfloat16: .*Pass --precision float32"):
        engines.agreement(expected + off, expected, "bfloat16")


def test_an_audit_is_in_float32(mixer_report: Run) -> None:
    from reports.audit.assemble import audit

    result = mixer_report("audit", "--precision", "bfloat16")
    assert (result.exit_code, "No such option" in result.stderr) == (2, True)
    settings = SimpleNamespace(precision="bfloat16")
    audited: Any = SimpleNamespace(source=None, weights=None, settings=settings)
    with pytest.raises(UsageProblem, match="An audit is in float32, not in bfloat16"):
        audit(audited)


def test_with_bfloat16_it_runs(mixer_report: Run, arguments: list[Any], tmp_path: Path) -> None:
    """Nothing is replaced here: on a processor that has it, Paddle computes in bfloat16 from end to end."""
    if not bfloat16.has_bfloat16():
        pytest.skip("this processor has no bfloat16")
    if hidden := {"ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA"} & os.environ.keys():
        pytest.skip(f"{hidden.pop()} may hide this processor's bfloat16 from oneDNN")
    result = mixer_report(*arguments, "--precision", "bfloat16", "--json", tmp_path / "r.json")
    assert (tmp_path / "r.json").exists(), result.output
    assert json.loads((tmp_path / "r.json").read_text())["engine"]["precision"] == "bfloat16"


def test_what_float32_counts_stands_beside(
    mixer_report: Run, arguments: list[Any], weights_rounded: None, tmp_path: Path
) -> None:
    """The two precisions, run one by one, give the counts that one run beside the other gives."""
    rows = {}
    for precision in ("float32", "bfloat16"):
        out = tmp_path / f"{precision}.npz"
        mixer_report(*arguments, "--precision", precision, "--predictions", out)
        rows[precision] = dict(np.load(out))
    guessed = {precision: table["predictions"] for precision, table in rows.items()}
    right = {precision: guessed[precision] == rows["float32"]["labels"] for precision in rows}
    page, target = tmp_path / "page.html", tmp_path / "r.json"
    asked = [*arguments, "--precision", "bfloat16", "--against-float32", "--json", target, "--html", page]
    result = mixer_report(*asked)
    report = json.loads(target.read_text())
    found = report["in_float32"]
    assert report["against"] is None
    assert found["correct"] == right["float32"].sum()
    assert report["accuracy"]["correct"] == right["bfloat16"].sum()
    assert found["disagreements"] == (guessed["float32"] != guessed["bfloat16"]).sum()
    assert found["only_there"] == (right["float32"] & ~right["bfloat16"]).sum()
    assert found["max_logit_diff"] > 1e-5, "they are not the same numbers"
    said = f"{found['correct']} of 30 = {found['percent']:.2f} %: {found['disagreements']} disagreements"
    assert f"in float32     {said}" in result.stdout
    assert said in page.read_text()


def test_disagreements_with_float32_are_counted(
    mixer_report: Run, arguments: list[Any], has_it: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A predictor that answers one class too many in bfloat16 disagrees everywhere."""
    real = engines.inference

    def shifted(config: MixerConfig, state_dict: StateDict, precision: str = "float32") -> engines.Engine:
        engine = real(config, state_dict)
        return engine if precision == "float32" else lambda images: np.roll(engine(images), 1, axis=1)

    monkeypatch.setattr("reports.score.evaluate.inference", shifted)
    monkeypatch.setattr("reports.score.engines.AGREEMENT_RTOL", 10)
    mixer_report(*arguments, "--precision", "bfloat16", "--against-float32", "--json", tmp_path / "r.json")
    assert json.loads((tmp_path / "r.json").read_text())["in_float32"]["disagreements"] == 30


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ([], "--against-float32 goes with --precision bfloat16"),
        (["--precision", "bfloat16", "--against", "x"], "one comparison at a time"),
    ],
)
def test_float32_beside_what_it_does_not_go_with_is_refused(
    mixer_report: Run, arguments: list[Any], has_it: None, options: list[str], said: str
) -> None:
    result = mixer_report(*arguments, "--against-float32", *options)
    assert (result.exit_code, said in result.stderr) == (2, True)
