"""The pairs of models that packages bring: how each side is made, what it is given, and known differences."""

import importlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pairs import mends

from align.core.bounds import Accepted
from align.core.inputs import Input
from align.mixer import specimens
from convert.mixer.variants import get_variant

IMAGE = (3, 64, 64)
"""Input shape for networks that take any size: small, yet large enough for 32-fold strides to leave 2 by 2."""
WHOLE = (3, 224, 224)
HARDSIGMOID = {
    "Hardsigmoid": Accepted(bound=2e-7, reason="Paddle's Hardsigmoid has slope 0.1666667 in place of 1/6"),
}
CLAS = "paddleclas.ppcls.arch.backbone"
LANGUAGE = {
    "vocab_size": 97,
    "hidden_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 3,
    "intermediate_size": 40,
    "max_position_embeddings": 32,
}
TOKENS = Input(name="input_ids", shape=(12,), dtype="int64", between=(3, 97))


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """How to make a model: a callable, by its module and name, and its arguments.

    Arguments that are callables are called first, so that their result is made only in the process that runs the pair.
    """

    module: str
    name: str
    args: Sequence[Any] = ()
    options: Mapping[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"{self.module}:{self.name}({', '.join(map(repr, self._shown()))})"

    def _shown(self) -> Iterator[Any]:
        yield from (one for one in self.args if isinstance(one, str))

    def build(self) -> Any:
        """Return the model, in evaluation mode.

        Raises:
            ImportError: A package is not installed.
        """
        make = getattr(importlib.import_module(self.module), self.name)
        model = make(*(one() if callable(one) else one for one in self.args), **self.options)
        model.eval()
        return model


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """A model in PyTorch and one in Paddle that should be the same network.

    inputs: What both are given. accepted: Known differences, by the type of the reference's layer. mend: Corrects the
    candidate's known deviations. mended: What it does, in words.
    """

    name: str
    reference: Made
    candidate: Made
    inputs: tuple[Input, ...] = (Input(shape=IMAGE),)
    accepted: Mapping[str, Accepted] = field(default_factory=dict)
    mend: Callable[[Any], None] | None = None
    mended: str = ""


def _vision(name: str, shape: tuple[int, ...] = IMAGE, batch_norm: bool = False, **more: Any) -> Pair:
    """Return the pair of torchvision's and paddle.vision's models of one name."""
    made = "_bn" if batch_norm else ""
    options = {"init_weights": False} if name in ("googlenet", "inception_v3") else {}
    return Pair(
        name=f"vision/{name}{made}",
        reference=Made(module="torchvision.models", name=name + made, options={"weights": None, **options}),
        candidate=Made(module="paddle.vision.models", name=name, options={"batch_norm": True} if batch_norm else {}),
        inputs=(Input(shape=shape),),
        **more,
    )


def _clas(timm_name: str, paddle_name: str, shape: tuple[int, ...] = IMAGE, **more: Any) -> Pair:
    """Return the pair of a timm model and its twin in PaddleClas."""
    return Pair(
        name=f"clas/{timm_name}",
        reference=Made(module="timm", name="create_model", args=(timm_name,), options={"pretrained": False}),
        candidate=Made(module=CLAS, name=paddle_name),
        inputs=(Input(shape=shape),),
        **more,
    )


def _own(name: str, made: Made, config: Callable[[], Any], size: int) -> Pair:
    """Return the pair of a timm vision MLP and our own Paddle model."""
    own = Made(module="convert.mixer.paddle_mixer", name="MlpMixer", args=(config,))
    return Pair(name=f"own/{name}", reference=made, candidate=own, inputs=(Input(shape=(3, size, size)),))


def _own_pairs() -> Iterator[Pair]:
    made = Made(module="timm", name="create_model", args=("mixer_b16_224",), options={"pretrained": False})
    yield _own("mixer_b16", made, lambda: get_variant("b16_in1k").config, 224)
    for kind in ("mixer", "gmixer", "resmlp", "gmlp"):
        config = specimens.small(kind)
        timm_model = Made(module="pairs.mends", name="small_of_timm", args=(kind,))
        yield _own(f"small_{kind}", timm_model, lambda config=config: config, config.image_size)


def _language(name: str, **options: Any) -> Pair:
    """Return the pair of a small language model in transformers and in paddlenlp."""
    sides = (
        Made(module="pairs.mends", name="language_model", args=(package, name), options={**LANGUAGE, **options})
        for package in ("transformers", "paddlenlp.transformers")
    )
    reference, candidate = sides
    return Pair(name=f"language/{name.lower()}", reference=reference, candidate=candidate, inputs=(TOKENS,))


RESNETS = ("resnet18", "resnet34", "resnet50", "resnet101", "resnet152", "wide_resnet50_2", "wide_resnet101_2")
RESNEXTS = ("resnext50_32x4d", "resnext101_64x4d")
VGGS = ("vgg11", "vgg13", "vgg16", "vgg19")
SHUFFLENETS = ("shufflenet_v2_x0_5", "shufflenet_v2_x1_0", "shufflenet_v2_x1_5", "shufflenet_v2_x2_0")
DENSENETS = ("densenet121", "densenet161", "densenet169", "densenet201")
CLAS_PAIRS: Mapping[str, tuple[str, tuple[int, ...]]] = {
    "deit_tiny_patch16_224": ("DeiT_tiny_patch16_224", WHOLE),
    "vit_base_patch16_224": ("ViT_base_patch16_224", WHOLE),
    "resnet50": ("ResNet50", IMAGE),
    "pvt_v2_b0": ("PVT_V2_B0", IMAGE),
    "tf_efficientnet_b0": ("EfficientNetB0", IMAGE),
    "convnext_tiny": ("ConvNeXt_tiny", IMAGE),
    "repvgg_a0": ("RepVGG_A0", IMAGE),
    "mobilenetv3_large_100": ("MobileNetV3_large_x1_0", IMAGE),
}
SQUEEZED = (
    "ceil mode in the poolings, no padding in the first convolution, and dropout that does not scale at inference"
)

PAIRS: tuple[Pair, ...] = (
    *(_vision(name) for name in (*RESNETS, *RESNEXTS)),
    *(_vision(name, batch_norm=norm) for name in VGGS for norm in (False, True)),
    _vision("mobilenet_v2"),
    *(_vision(f"mobilenet_v3_{size}", accepted=HARDSIGMOID) for size in ("small", "large")),
    *(_vision(name) for name in (*SHUFFLENETS, *DENSENETS)),
    *(_vision(f"squeezenet{v}", mend=mends.squeezenet, mended=SQUEEZED) for v in ("1_0", "1_1")),
    _vision(
        "inception_v3",
        (3, 96, 96),
        mend=mends.inception,
        mended="BatchNorm's epsilon 1e-3, and dropout that does not scale at inference",
    ),
    _vision("googlenet", WHOLE),
    _vision("alexnet", WHOLE, mend=mends.dropout, mended="dropout that does not scale at inference"),
    *(_clas(name, *made) for name, made in CLAS_PAIRS.items()),
    _clas(
        "swin_tiny_patch4_window7_224",
        "SwinTransformer_tiny_patch4_window7_224",
        WHOLE,
        mend=mends.swin,
        mended="no shift in the last stage, whose window is the whole map",
    ),
    *_own_pairs(),
    _language("Bert", type_vocab_size=2),
    _language("Roberta", type_vocab_size=1),
)


def pair_named(name: str) -> Pair:
    """Return the pair with this name.

    Raises:
        KeyError: There is none.
    """
    return {pair.name: pair for pair in PAIRS}[name]
