"""Statistics from predictions, the verdict that follows, the published table, and the per-image file."""

from __future__ import annotations

import dataclasses
import math
import tomllib
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest

from convert.arrays import Array
from convert.errors import BadInput, IOProblem, OutputRefused, Unreadable, UsageProblem
from convert.mixer.variants import IMAGENET_MEAN, get_variant
from reports.data.cifar10 import Origin
from reports.data.preprocess import Preprocessing, _resized, imagenet, of_variant
from reports.score import published
from reports.score.accuracy import Accuracy, accuracy_of, comparison_of, predictions_of
from reports.score.predictions import check_target, read_predictions, write_predictions
from reports.score.published import figure_by_id, figure_of, parse, published_figures
from reports.score.verdict import AuditFinding, judge, limits_of

PADDLE = tuple(int(part) for part in version("paddlepaddle").split(".")[:3])
TOML = (Path(published.__file__).parent / "published.toml").read_text(encoding="utf-8")


def logits_with(labels: Array, predicted: Array, margin: float = 2.0) -> Array:
    logits = np.zeros((len(labels), 10), np.float32)
    logits[np.arange(len(labels)), predicted] = margin
    return logits


def measured(correct: int, total: int = 10_000) -> Accuracy:
    labels = np.zeros(total, np.int64)
    predicted = np.where(np.arange(total) < correct, 0, 1)
    return accuracy_of(predictions_of(logits_with(labels, predicted), labels), 10)


class TestStatistics:
    def test_the_published_intervals(self) -> None:
        """Wilson's score interval by its formula, z = 1.959964; 96.72 % of 10,000 gives 96.35 to 97.05."""
        for correct, low, high in ((9672, 96.35, 97.05), (9682, 96.46, 97.15)):
            accuracy = measured(correct)
            p, n, z = correct / 10_000, 10_000, 1.959964
            centre, half = p + z * z / (2 * n), z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
            expected = [100 * (centre + sign * half) / (1 + z * z / n) for sign in (-1, 1)]
            np.testing.assert_allclose(accuracy.wilson, expected, rtol=1e-7)
            assert [round(bound, 2) for bound in accuracy.wilson] == [low, high]

    def test_clopper_and_pearson_at_the_ends(self) -> None:
        """With no success the upper bound is 1 - (0.025)^(1/n), by its definition."""
        low, high = measured(0, 20).clopper_pearson
        assert (low, high) == (0.0, pytest.approx(100 * (1 - 0.025 ** (1 / 20))))

    def test_loss_margin_and_confusion_by_hand(self) -> None:
        logits = np.zeros((3, 10), np.float32)
        logits[0, [4, 7]], logits[1, 2], logits[2, 9] = (3.0, 1.0), 1000.0, -5.0
        labels = np.array([7, 2, 0])
        found = predictions_of(logits, labels)
        assert found.predictions.tolist() == [4, 2, 0]
        assert found.margins.tolist() == [2.0, 1000.0, 0.0]
        expected = [math.log(math.exp(3) + math.e + 8) - 1, 0.0, math.log(9 + math.exp(-5))]
        np.testing.assert_allclose(found.losses, expected, rtol=1e-12, atol=1e-300)
        accuracy = accuracy_of(found, 10)
        assert (accuracy.correct, accuracy.total) == (2, 3)
        assert accuracy.confusion[7][4] == 1
        assert sum(map(sum, accuracy.confusion)) == 3

    @pytest.mark.parametrize("value", [np.nan, np.inf])
    def test_logits_that_are_not_finite(self, value: float) -> None:
        logits = np.zeros((4, 10), np.float32)
        logits[2, 3] = value
        labels = np.zeros(4, np.int64)
        with pytest.raises(BadInput, match="1 of 4 images"):
            predictions_of(logits, labels)
        with pytest.raises(BadInput, match="the model compared with"):
            predictions_of(np.zeros((4, 10)), labels, logits)

    def test_no_images(self) -> None:
        with pytest.raises(BadInput, match="no images"):
            accuracy_of(predictions_of(np.zeros((0, 10)), np.zeros(0, np.int64)), 10)

    def test_mcnemar_by_hand(self) -> None:
        """Nine images that one model alone is right on, one for the other: p = 2 · (1 + 10) / 2^10."""
        labels = np.zeros(20, np.int64)
        here, there = np.zeros(20, np.int64), np.zeros(20, np.int64)
        there[:9], here[9], here[10], there[10] = 1, 1, 3, 4
        found = comparison_of(predictions_of(logits_with(labels, here), labels, logits_with(labels, there, 2.5)))
        assert found is not None
        assert (found.disagreements, found.only_here, found.only_there) == (11, 9, 1)
        assert found.mcnemar_p == pytest.approx(2 * 11 / 2**10)
        assert found.max_logit_diff == 2.5

    def test_equal_models_do_not_disagree(self) -> None:
        labels = np.arange(10)
        logits = logits_with(labels, labels)
        found = comparison_of(predictions_of(logits, labels, logits))
        assert found is not None
        assert (found.disagreements, found.mcnemar_p, found.max_logit_diff) == (0, 1.0, 0.0)


ORIGIN = Origin(
    name="cifar-10-python.tar.gz",
    split="test",
    version="python",
    sha256="0",
    files={},
    images_sha256="0",
    canonical=True,
)


def verdict(
    correct: int,
    total: int = 10_000,
    origin: Origin = ORIGIN,
    upstream: str | None = "b16_in21k",
    figure: str | None = "google_b16_in21k",
    preprocessing: Preprocessing | None = None,
    accept: bool = False,
) -> AuditFinding:
    row = figure_by_id(figure) if figure else None
    images = preprocessing or (row.preprocessing if row else imagenet(224, "x"))
    return judge(
        measured(correct, total),
        row,
        upstream=upstream,
        origin=origin,
        preprocessing=images,
        accept_preprocessing=accept,
    )


class TestVerdict:
    @pytest.mark.parametrize(
        ("correct", "expected"),
        [(9682, "consistent with"), (9672, "consistent with"), (9640, "below"), (9720, "above"), (1000, "below")],
    )
    def test_the_place_of_the_published_figure(self, correct: int, expected: str) -> None:
        finding = verdict(correct)
        assert finding.verdict == expected
        assert finding.passed is (expected != "below")
        assert finding.sentence.startswith(
            f"{expected} the published 96.82 % (google_b16_in21k): {correct / 100:.2f} %"
        )
        assert "reproduces" not in finding.sentence

    @pytest.mark.parametrize(
        ("reason", "changed"),
        [
            ("other archive", {"origin": dataclasses.replace(ORIGIN, canonical=False)}),
            ("other images", {"origin": dataclasses.replace(ORIGIN, split="train")}),
            ("other count", {"correct": 968, "total": 1000}),
            ("unknown weights", {"upstream": None}),
            ("other weights", {"upstream": "b16_in1k"}),
            ("no published figure", {"upstream": "s32", "figure": None}),
            ("other preprocessing", {"preprocessing": of_variant(get_variant("b16_in21k"), 224)}),
            ("other preprocessing", {"preprocessing": imagenet(224, "x")}),
        ],
    )
    def test_not_comparable(self, reason: str, changed: dict[str, object]) -> None:
        finding = verdict(**{"correct": 9682, **changed})  # type: ignore[arg-type]
        assert finding.verdict == "not comparable"
        assert not finding.passed
        assert len(finding.reasons) == 1
        assert finding.reasons[0].startswith(reason)
        assert finding.sentence.startswith(f"not comparable: {reason}")

    def test_another_preprocessing_if_asked_for(self) -> None:
        assert verdict(9682, preprocessing=imagenet(224, "x"), accept=True).verdict == "consistent with"

    def test_what_it_cannot_tell(self) -> None:
        """The two published figures lie in each other's interval."""
        assert verdict(9672).verdict == "consistent with"
        assert verdict(9682, upstream="b16_in1k", figure="google_b16_in1k").verdict == "consistent with"
        text = limits_of(figure_by_id("google_b16_in21k"))
        assert "96.72 and 96.82 are not distinguishable" in text
        assert "9,728 of 10,000" in text
        assert "9,728" not in limits_of(figure_by_id("paddle_b16_in21k"))


class TestPublished:
    def test_the_figures(self) -> None:
        """The issue of record: Google's README and the Paddle logs."""
        found = {(figure.upstream, figure.percent, figure.counted) for figure in published_figures()}
        google = {("b16_in1k", 96.72), ("b16_in21k", 96.82), ("l16_in1k", 96.59), ("l16_in21k", 98.34)}
        paddle = {("b16_miil_in1k", 97.45), ("b16_in21k", 97.17)}
        assert found == {(*row, 9728) for row in google} | {(*row, 10_000) for row in paddle}

    def test_a_row_is_judged_by_its_authors_figure(self) -> None:
        figure = figure_of("b16_in21k")
        assert figure is not None
        assert figure.id == "google_b16_in21k"
        assert figure_of("s32") is None
        with pytest.raises(UsageProblem, match="Known: google_b16_in1k"):
            figure_by_id("google")

    def test_every_row_has_all_fields(self) -> None:
        """Each field of each row, taken away or made invalid, is refused by name."""
        rows = tomllib.loads(TOML)["figure"]
        assert len(rows) == len(published_figures()) == 6
        for row in rows:
            for name in row:
                lines = [f"{key} = {_toml(value)}" for key, value in row.items() if key != name]
                with pytest.raises(BadInput, match=f"lacks {name}"):
                    parse("[[figure]]\n" + "\n".join(lines))
                with pytest.raises(BadInput, match=f"{name} = .* is not valid"):
                    parse("[[figure]]\n" + "\n".join([*lines, f"{name} = {'-1' if name != 'id' else '7'}"]))

    @pytest.mark.parametrize(
        ("text", "sentence"),
        [
            (TOML + "\n[[figure]", "no TOML"),
            ("", r"no \[\[figure\]\]"),
            (TOML + TOML[TOML.index("[[figure]]") :], "an id stands twice"),
            (TOML + '\nextra = "x"', "unknown extra"),
            (TOML.replace("percent = 96.72", "percent = nan"), "percent = nan"),
            (TOML.replace('upstream = "b16_in1k"', 'upstream = "s32"'), "upstream = 's32'"),
            (TOML.replace("counted = 9728", "counted = 10001"), "counted = 10001"),
        ],
    )
    def test_a_bad_table(self, text: str, sentence: str) -> None:
        with pytest.raises(BadInput, match=sentence):
            parse(text)


def _toml(value: object) -> str:
    return f"'''{value}'''" if isinstance(value, str) else str(value)


class TestPreprocessing:
    IMAGES = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), dtype=np.uint8)

    @pytest.mark.parametrize("size", [224, 32, 20])
    @pytest.mark.parametrize("variant", ["b16_in21k", "b16_miil_in1k", "resmlp_12"])
    def test_bit_equal_to_paddle_s_and_torchvision_s(self, frameworks: None, size: int, variant: str) -> None:
        import paddle.vision.transforms as paddle_transforms
        import torchvision.transforms as torch_transforms
        from PIL import Image

        preprocessing = of_variant(get_variant(variant), size)
        mean, std, method = list(preprocessing.mean), list(preprocessing.std), preprocessing.interpolation
        mode = torch_transforms.InterpolationMode(method)
        sides = [
            (paddle_transforms, paddle_transforms.Resize((size, size), method)),
            (torch_transforms, torch_transforms.Resize((size, size), mode)),
        ]
        found = preprocessing.apply(self.IMAGES)
        assert found.dtype == np.float32
        for transforms, resize in sides:
            chain = transforms.Compose([resize, transforms.ToTensor(), transforms.Normalize(mean, std)])
            expected = np.stack([chain(Image.fromarray(image)).numpy() for image in self.IMAGES])
            if transforms is paddle_transforms and PADDLE < (3, 3, 1):
                assert (found != expected).any()
                np.testing.assert_allclose(found, expected, rtol=0, atol=2e-6)
                scaled = _resized(self.IMAGES, size, method).astype(np.float32) * (np.float32(1) / np.float32(255))
                normalised = (scaled - np.array(mean, np.float32)) / np.array(std, np.float32)
                found_by_them = np.ascontiguousarray(normalised.transpose(0, 3, 1, 2))
                np.testing.assert_array_equal(found_by_them.view(np.uint32), expected.view(np.uint32))
            else:
                np.testing.assert_array_equal(found.view(np.uint32), expected.view(np.uint32))

    def test_the_interpolation_matters_only_where_it_acts(self) -> None:
        bilinear = imagenet(32, "x")
        bicubic = dataclasses.replace(bilinear, interpolation="bicubic", reason="y")
        assert bilinear.same_as(bicubic, 32)
        assert not bilinear.same_as(bicubic, 64)
        assert not bilinear.same_as(dataclasses.replace(bilinear, mean=(0.5, *IMAGENET_MEAN[1:])), 32)


class TestPredictionsFile:
    LABELS = np.arange(30) % 10
    LOGITS = np.random.default_rng(0).standard_normal((30, 10)).astype(np.float32)

    @pytest.mark.parametrize("name", ["p.npz", "p.csv"])
    @pytest.mark.parametrize("compared", [False, True])
    def test_it_holds_everything_bit_for_bit(self, tmp_path: Path, name: str, compared: bool) -> None:
        written = predictions_of(self.LOGITS, self.LABELS, self.LOGITS * 2 if compared else None)
        write_predictions(tmp_path / name, written)
        read = read_predictions(tmp_path / name)
        assert accuracy_of(read, 10) == accuracy_of(written, 10)
        assert comparison_of(read) == comparison_of(written)
        first = (tmp_path / name).read_bytes()
        write_predictions(tmp_path / name, written)
        assert (tmp_path / name).read_bytes() == first

    def test_damage_is_seen(self, tmp_path: Path) -> None:
        path = tmp_path / "p.csv"
        write_predictions(path, predictions_of(self.LOGITS, self.LABELS))
        lines = path.read_text().splitlines()
        for text in ("", "\n".join(lines[:3] + lines[4:]), "\n".join(["index,labels", "0,1"]), "\n".join(lines)[:-30]):
            path.write_text(text)
            with pytest.raises(Unreadable):
                read_predictions(path)
        npz = tmp_path / "p.npz"
        write_predictions(npz, predictions_of(self.LOGITS, self.LABELS))
        npz.write_bytes(npz.read_bytes()[:-50])
        with pytest.raises(Unreadable):
            read_predictions(npz)
        with pytest.raises(IOProblem):
            read_predictions(tmp_path / "none.npz")

    def test_the_target_is_checked_first(self, tmp_path: Path) -> None:
        with pytest.raises(UsageProblem, match="npz or"):
            check_target(tmp_path / "p.txt", force=False)
        (tmp_path / "p.csv").touch()
        with pytest.raises(OutputRefused, match="it exists"):
            check_target(tmp_path / "p.csv", force=False)
        check_target(tmp_path / "p.csv", force=True)
