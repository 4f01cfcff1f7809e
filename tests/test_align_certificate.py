"""The certificate holds only if no prediction can change, and lists the images that it does not cover."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest
from conftest import Run, save_safetensors, shared
from hypothesis import given
from hypothesis import strategies as st

from align.mixer.pictures import reader
from align.predictions.certificate import certificate_of, predictions_of
from align.predictions.images import batches
from convert.arrays import Array, StateDict
from convert.mixer.mapping import convert_state_dict
from convert.mixer.variants import MixerConfig, get_variant

SHAPE = (3, 224, 224)
"""Of the variants' images."""


def certify(reference: list[list[float]], candidate: list[list[float]]) -> object:
    one, other = np.array(reference, np.float32), np.array(candidate, np.float32)
    return certificate_of("x", predictions_of([f"image {i}" for i in range(len(one))], one, other))


class TestStatement:
    def test_margins_beyond_twice_the_difference_are_covered(self) -> None:
        certificate = certify([[4, 1, 0], [0, 8, 1]], [[4, 2, 0], [0, 8, 1]])
        assert certificate.holds
        assert certificate.least_margin == 3
        assert certificate.max_abs_diff == 1

    def test_a_margin_of_exactly_twice_the_difference_is_not(self) -> None:
        """3 - 1 = 2 · 1: both logits may move by 1 and tie."""
        certificate = certify([[3, 1]], [[2, 1]])
        assert not certificate.holds
        assert [p.name for p in certificate.could_change] == ["image 0"]
        assert certificate.changed == ()

    def test_the_largest_difference_of_any_image_counts_for_all(self) -> None:
        certificate = certify([[1, 0], [90, 0]], [[1, 0], [90, 5]])
        assert [(p.name, p.changed) for p in certificate.could_change] == [("image 0", False)]

    def test_what_changed_is_marked(self) -> None:
        certificate = certify([[1, 0], [1, 0]], [[0, 1], [1, 0]])
        assert [p.name for p in certificate.could_change] == ["image 0", "image 1"]
        assert [p.name for p in certificate.changed] == ["image 0"]
        assert (certificate.changed[0].top1, certificate.changed[0].candidate_top1) == (0, 1)

    def test_a_tie_could_change_even_if_both_sides_are_equal(self) -> None:
        certificate = certify([[2, 2, 0], [5, 1, 0]], [[2, 2, 0], [5, 1, 0]])
        assert [(p.name, p.margin) for p in certificate.could_change] == [("image 0", 0)]

    @pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
    @pytest.mark.parametrize("sides", ["reference", "candidate", "both"])
    def test_what_is_not_finite_fails_and_does_not_hide_the_others(self, value: float, sides: str) -> None:
        good, bad = [[9, 0, 1], [9, 0, 1]], [[9, value, 1], [9, 0, 1]]
        certificate = certify(good if sides == "candidate" else bad, good if sides == "reference" else bad)
        assert not certificate.holds
        assert [p.name for p in certificate.changed] == ["image 0"]
        assert [p.name for p in certificate.could_change] == ["image 0"]
        assert not np.isfinite(certificate.max_abs_diff)

    def test_no_images_prove_nothing(self) -> None:
        assert not certificate_of("x", []).holds

    def test_logits_of_other_shapes_are_an_error(self) -> None:
        with pytest.raises(ValueError, match="at least 2 classes"):
            predictions_of(["a"], np.zeros((1, 3), np.float32), np.zeros((1, 4), np.float32))
        with pytest.raises(ValueError, match="at least 2 classes"):
            predictions_of(["a"], np.zeros((1, 1), np.float32), np.zeros((1, 1), np.float32))

    @given(
        st.lists(st.lists(st.integers(-4, 4), min_size=3, max_size=3), min_size=1, max_size=4),
        st.lists(st.integers(-2, 2), min_size=12, max_size=12),
    )
    def test_whatever_changed_could_change(self, logits: list[list[float]], moves: list[int]) -> None:
        """The bound is a theorem; small whole numbers make ties and exact equality frequent."""
        moved = (np.array(logits) + np.reshape(moves, (4, 3))[: len(logits)]).tolist()
        certificate = certify(logits, moved)
        assert set(certificate.changed) <= set(certificate.could_change)
        assert certificate.holds == (not certificate.could_change)


@pytest.fixture
def model(tmp_path: Path, square_source: StateDict) -> Path:
    return save_safetensors(tmp_path / "x.safetensors", square_source)


@pytest.fixture
def images(tmp_path: Path) -> Path:
    path = tmp_path / "images.npy"
    np.save(path, np.random.default_rng(0).standard_normal((5, 3, 32, 32), dtype=np.float32))
    return path


def candidate(tmp_path: Path, config: MixerConfig, source: StateDict, change: dict[str, Array]) -> Path:
    converted = convert_state_dict(source, config).state_dict
    return save_safetensors(tmp_path / "y.safetensors", dict(converted) | change)


class TestCommand:
    def test_a_right_port_is_certified(self, mixer_align: Run, model: Path, images: Path) -> None:
        result = mixer_align("predictions", "--checkpoint", model, images, "--batch-size", "2", "--json", "-")
        assert result.exit_code == 0, result.output
        data = json.loads(result.stdout)
        assert data["schema"] == "mixer-align/predictions/1"
        assert data["certified"] is True
        assert [image["name"] for image in data["images"]] == [f"{images}[{i}]" for i in range(5)]
        assert data["least_margin"] > 2 * data["max_abs_diff"] > 0
        last = result.stderr.splitlines()[-1]
        assert last.startswith("certified: x.safetensors: no prediction of 5 images can change: smallest top-1 margin ")

    def test_a_large_head_difference_lists_the_images(
        self,
        mixer_align: Run,
        tmp_path: Path,
        model: Path,
        images: Path,
        square_config: MixerConfig,
        square_source: StateDict,
    ) -> None:
        """Class 3 is raised by 100: every image could change, and every one that was not of class 3 did."""
        bias = square_source["head.bias"].copy()
        bias[3] += 100
        faulty = candidate(tmp_path, square_config, square_source, {"head.bias": bias})
        result = mixer_align("predictions", "--checkpoint", model, "--candidate", faulty, images, "--json", "-")
        assert result.exit_code == 1, result.output
        data = json.loads(result.stdout)
        assert data["could_change"] == 5
        assert [image["candidate_top1"] for image in data["images"]] == [3] * 5
        assert [image["changed"] for image in data["images"]] == [image["top1"] != 3 for image in data["images"]]
        assert data["changed"] > 0
        assert "not certified: x.safetensors: 5 of 5 predictions could change" in result.stderr

    def test_nan_logits_fail_with_valid_json(
        self,
        mixer_align: Run,
        tmp_path: Path,
        model: Path,
        images: Path,
        square_config: MixerConfig,
        square_source: StateDict,
    ) -> None:
        faulty = candidate(tmp_path, square_config, square_source, {"head.bias": np.full(10, np.nan, np.float32)})
        result = mixer_align("predictions", "--checkpoint", model, "--candidate", faulty, images, "--json", "-")
        assert result.exit_code == 1
        data = json.loads(result.stdout, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))
        assert data["max_abs_diff"] == "nan"
        assert "not finite" in result.stderr

    def test_equal_classes_tie(self, mixer_align: Run, tmp_path: Path, square_source: StateDict, images: Path) -> None:
        tied = {"head.weight": np.zeros((10, 24), np.float32), "head.bias": np.zeros(10, np.float32)}
        result = mixer_align(
            "predictions",
            "--checkpoint",
            save_safetensors(tmp_path / "t.safetensors", dict(square_source) | tied),
            images,
        )
        assert result.exit_code == 1
        assert "5 of 5 predictions could change and 0 did" in result.stdout

    @pytest.mark.parametrize(
        ("array", "says"),
        [
            (np.zeros((2, 3, 16, 16), np.float32), "float32 (2, 3, 16, 16), not float32 (images, 3, 32, 32)"),
            (np.zeros((2, 32, 32, 3), np.float32), "float32 (2, 32, 32, 3)"),
            (np.zeros((2, 3, 32, 32)), "float64"),
            (np.zeros((0, 3, 32, 32), np.float32), "float32 (0, 3, 32, 32)"),
            (np.zeros((3, 32, 32), np.float32), "float32 (3, 32, 32)"),
            (np.full((1, 3, 32, 32), np.nan, np.float32), "bad.npy[0] holds a value that is not finite"),
            (np.array([{}]), "no NumPy array"),
        ],
    )
    def test_other_arrays_exit_3_and_name_the_file(
        self, mixer_align: Run, tmp_path: Path, model: Path, array: Array, says: str
    ) -> None:
        np.save(tmp_path / "bad.npy", array, allow_pickle=True)
        result = mixer_align("predictions", "--checkpoint", model, tmp_path / "bad.npy")
        assert result.exit_code == 3, result.output
        assert "bad.npy: " in result.stderr
        assert says in result.stderr

    def test_archives_are_read_member_by_member(self, mixer_align: Run, tmp_path: Path, model: Path) -> None:
        pixels = np.random.default_rng(0).standard_normal((2, 3, 32, 32), dtype=np.float32)
        np.savez(tmp_path / "good.npz", a=pixels, b=pixels[:1])
        result = mixer_align("predictions", "--checkpoint", model, tmp_path / "good.npz", "--json", "-")
        names = [Path(image["name"]).name for image in json.loads(result.stdout)["images"]]
        assert names == ["good.npz:a[0]", "good.npz:a[1]", "good.npz:b[0]"]
        np.savez(tmp_path / "bad.npz", images=pixels, labels=np.zeros(2))
        result = mixer_align("predictions", "--checkpoint", model, tmp_path / "bad.npz")
        assert result.exit_code == 3
        assert "bad.npz: labels is float64 (2,)" in result.stderr

    @pytest.mark.parametrize("name", ["bad.npy", "bad.npz"])
    def test_damaged_and_missing_arrays(self, mixer_align: Run, tmp_path: Path, model: Path, name: str) -> None:
        assert mixer_align("predictions", "--checkpoint", model, tmp_path / name).exit_code == 4
        (tmp_path / name).write_bytes(b"\x93NUMPY")
        result = mixer_align("predictions", "--checkpoint", model, tmp_path / name)
        assert result.exit_code == 3
        assert name in result.stderr

    def test_usage(self, mixer_align: Run, tmp_path: Path, model: Path) -> None:
        assert mixer_align("predictions", "--checkpoint", model).exit_code == 2
        result = mixer_align("predictions", "--checkpoint", model, tmp_path / "x.png")
        assert result.exit_code == 2
        assert "Pass --variant, or arrays" in result.stderr

    def test_a_candidate_of_another_structure_exits_3(
        self,
        mixer_align: Run,
        tmp_path: Path,
        model: Path,
        images: Path,
        square_config: MixerConfig,
        square_source: StateDict,
    ) -> None:
        other = candidate(tmp_path, square_config, square_source, {"extra": np.zeros(1, np.float32)})
        result = mixer_align("predictions", "--checkpoint", model, "--candidate", other, images)
        assert result.exit_code == 3
        assert "extra: is in the candidate only" in result.stderr


class TestPictures:
    @pytest.fixture
    def picture(self, tmp_path: Path) -> Path:
        from PIL import Image

        ramp = np.linspace(0, 255, 320 * 400 * 3).reshape(320, 400, 3).astype(np.uint8)
        Image.fromarray(ramp).save(tmp_path / "ramp.png")
        return tmp_path / "ramp.png"

    @pytest.mark.parametrize("name", ["b16_in21k", "b16_miil_in21k", "resmlp_12"])
    def test_they_are_preprocessed_as_the_variant_says(self, frameworks: None, picture: Path, name: str) -> None:
        """Done again by hand: the short side to 224 / 0.875 = 256, the central 224 × 224, then mean and std."""
        from PIL import Image

        variant = get_variant(name)
        method = Image.Resampling.BICUBIC if variant.interpolation == "bicubic" else Image.Resampling.BILINEAR
        resized = np.asarray(Image.open(picture).resize((320, 256), method))[16:240, 48:272]
        expected = (resized / 255 - np.array(variant.mean)) / np.array(variant.std)
        [[image]] = batches([picture], SHAPE, reader(variant), 4)
        assert image.pixels.dtype == np.float32
        assert image.pixels == pytest.approx(expected.transpose(2, 0, 1), abs=1e-5)

    @pytest.mark.parametrize("mode", ["L", "RGBA", "P"])
    def test_other_modes_become_rgb(self, frameworks: None, tmp_path: Path, mode: str) -> None:
        from PIL import Image

        Image.new(mode, (300, 300)).save(tmp_path / "x.png")
        [[image]] = batches([tmp_path / "x.png"], SHAPE, reader(get_variant("s32")), 1)
        assert image.pixels.shape == SHAPE

    def test_damaged_and_missing_pictures(self, mixer_align: Run, picture: Path, tmp_path: Path) -> None:
        arguments = ("predictions", "--variant", "s32")
        assert mixer_align(*arguments, tmp_path / "none.png").exit_code == 4
        cut = tmp_path / "cut.png"
        cut.write_bytes(picture.read_bytes()[:500])
        result = mixer_align(*arguments, cut)
        assert result.exit_code == 3
        assert "cut.png: it is no picture that can be read" in result.stderr

    def test_pictures_and_arrays_mix(self, mixer_align: Run, picture: Path, tmp_path: Path) -> None:
        array = np.random.default_rng(0).standard_normal((1, 3, 224, 224), dtype=np.float32)
        np.save(tmp_path / "x.npy", array)
        result = mixer_align("predictions", "--variant", "s32", picture, tmp_path / "x.npy", "--json", "-")
        assert result.exit_code == 0, result.output
        assert [Path(image["name"]).name for image in json.loads(result.stdout)["images"]] == ["ramp.png", "x.npy[0]"]


def test_the_trained_mixer_predicts_the_same(mixer_align: Run, trained: Path, tmp_path: Path) -> None:
    from PIL import Image

    packed = np.load(shared("cifar10/test_jpeg.npz"))
    blob, offsets = packed["jpeg"].tobytes(), packed["offsets"]
    jpegs = [io.BytesIO(blob[offsets[i] : offsets[i + 1]]) for i in range(200)]
    pixels = np.stack([np.asarray(Image.open(jpeg).convert("RGB")) for jpeg in jpegs]).astype(np.float32) / 255
    mean, std = np.float32([0.485, 0.456, 0.406]), np.float32([0.229, 0.224, 0.225])
    np.save(tmp_path / "cifar.npy", np.ascontiguousarray(((pixels - mean) / std).transpose(0, 3, 1, 2)))
    arguments = ("predictions", "--checkpoint", trained, tmp_path / "cifar.npy", "--batch-size", "100")
    result = mixer_align(*arguments, "--json", "-")
    assert result.exit_code == 0, result.output
    data = json.loads(result.stdout)
    right = sum(image["top1"] == label for image, label in zip(data["images"], packed["labels"][:200], strict=True))
    assert 0.45 < right / 200 < 0.75
