"""The cases of a vision MLP: timm's model, or the Flax one, against our Paddle model or a porter's own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

from align.core.case import Case, Model, Settings
from align.core.inputs import seeded_images
from align.core.point import Point
from align.core.weights import as_float32, in_float32
from align.mixer import models, witness
from align.mixer.points import LOGITS, layer_of_parameter, points_of, taps_of
from align.pairing.pairing import Pairing, paired
from align.probes import flax_probe, paddle_probe, torch_probe
from convert.arrays import StateDict
from convert.errors import BadInput, NoHead
from convert.mixer.mapping import convert_state_dict
from convert.mixer.shapes import HEAD, infer_config
from convert.mixer.variants import MixerConfig, Variant
from convert.rules import RuleSet

if TYPE_CHECKING:
    from paddle.nn import Layer

Reference = Literal["timm", "flax"]
FLAX = Pairing(
    modules={
        "blocks.{i}": "MixerBlock_{i}",
        "blocks.{i}.norm1": "MixerBlock_{i}.LayerNorm_0",
        "blocks.{i}.norm2": "MixerBlock_{i}.LayerNorm_1",
        **{
            f"blocks.{{i}}.mlp_{axis}{timms}": f"MixerBlock_{{i}}.{flaxs}{dense}"
            for axis, flaxs in (("tokens", "token_mixing"), ("channels", "channel_mixing"))
            for timms, dense in (("", ""), (".fc1", ".Dense_0"), (".fc2", ".Dense_1"))
        },
        "norm": "pre_head_layer_norm",
        "stem": "no module: its convolution puts out an image",
    }
)
"""The pairing with Google's module names, which its .npz files use in their parameters' names."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Subject:
    """What is to be compared: timm's weights, the model they belong to, and the candidate.

    source is in timm's layout, checked and finite. The reference is timm's model, or our Flax one, which is the
    function that Google's figures were measured on. candidate: The candidate's weights in Paddle's layout; None: the
    source, converted. model: A porter's own Paddle model; None: ours.
    """

    source: StateDict
    config: MixerConfig
    name: str
    variant: Variant | None = None
    reference: Reference = "timm"
    candidate: StateDict | None = None
    model: OwnModel | None = None
    provenance: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class OwnModel:
    """A porter's own Paddle model, the pairing of its names, and what a report calls it.

    weights: What it will hold, by its own names; None: the source's, converted. own_weights: Whether it keeps those
    that it already has.
    """

    layer: Layer
    pairing: Pairing = field(default_factory=Pairing)
    target: str | None = None
    weights: StateDict | None = None
    own_weights: bool = False


def case_of(subject: Subject, settings: Settings | None = None) -> Case:
    """Return the case that compares a subject's reference and candidate.

    Args:
        subject: Weights and models.
        settings: What the batch is drawn by; None: the defaults.

    Raises:
        BadInput: A pairing does not fit the models.
    """
    settings, config = settings or Settings(), subject.config
    shape = (settings.batch, config.in_chans, config.image_size, config.image_size)
    converted = convert_state_dict(subject.source, config)
    weights = subject.candidate if subject.candidate is not None else converted.state_dict
    case = Case(
        name=subject.name,
        family="mixer",
        config=config,
        reference=_reference(subject),
        candidate=Model(
            state_dict=weights, build=partial(models.build_paddle, config, in_float32(weights)), probe=paddle_probe
        ),
        rules=RuleSet(tuple(converted.renames)),
        points=_referenced(points_of(config, settings.batch), subject),
        headline=LOGITS,
        classes=config.num_classes,
        sample="blocks.0",
        inputs=seeded_images(shape, settings.input_seed, settings.inputs),
        witness=partial(witness.forward, config),
        witness_layer=partial(witness.layer, config),
        places={name: layer_of_parameter(name) for name in subject.source},
        wanted=settings,
        settings={"reference": subject.reference, "config": asdict(config), "weights": dict(subject.provenance)},
    )
    return case if subject.model is None else _with_own(case, config, subject.model)


def case_of_models(
    timm_model: Any, layer: Layer, pairing: Pairing | None = None, settings: Settings | None = None
) -> Case:
    """Return the case of two models in memory; both are unchanged afterwards.

    Args:
        timm_model: A vision MLP of timm's mlp_mixer module, float32.
        layer: Any Paddle layer that computes the same, float32.
        pairing: The pairing of the layer's names, if they are not timm's.
        settings: What the batch is drawn by; None: the defaults.

    Raises:
        BadInput: One of them is not such a model, or `import torch` does not give PyTorch.
    """
    torch_probe.check(timm_model)
    torch_probe.check_values(timm_model)
    paddle_probe.check(layer)
    source, name = torch_probe.parameters(timm_model), type(timm_model).__name__
    config = infer_config({key: array.shape for key, array in source.items()}, name)
    if not config.num_classes:
        raise NoHead(name, {*HEAD} - source.keys())
    config = replace(config, gelu=models.gelu_of(timm_model), layer_norm_eps=models.epsilon_of(timm_model))
    model = OwnModel(layer=layer, pairing=pairing or Pairing(), own_weights=True)
    case = case_of(Subject(source=source, config=config, name=name, model=model), settings)
    build = lambda: torch_probe.copied(timm_model).eval()  # noqa: E731
    return replace(case, reference=replace(case.reference, build=build, lend=partial(torch_probe.lent, timm_model)))


def _reference(subject: Subject) -> Model:
    source, config = subject.source, subject.config
    if subject.reference == "flax":
        return Model(state_dict=source, build=partial(models.build_flax, config, source), probe=flax_probe)
    build = partial(models.build_timm, config, subject.variant, in_float32(source))
    return Model(state_dict=source, build=build, probe=torch_probe)


def _referenced(points: tuple[Point, ...], subject: Subject) -> tuple[Point, ...]:
    """Return the points, each with where the reference shows it."""
    if subject.reference == "timm":
        return points
    google = convert_state_dict(subject.source, subject.config, dst="google").state_dict
    modules = flax_probe.paths_of(google)
    found = paired(((point, taps_of(subject.config, point.name)) for point in points), FLAX, modules)
    return tuple(replace(point, reference=place.candidate) for point, place in zip(points, found.points, strict=True))


def _with_own(case: Case, config: MixerConfig, model: OwnModel) -> Case:
    """Return the case with a porter's own model as the candidate."""
    layer, pairing = model.layer, model.pairing
    rules, held = pairing.rules(case.rules), paddle_probe.parameters(layer)
    modules = paddle_probe.modules(layer)
    known = {name for parameter in case.reference.state_dict for name in (parameter, parameter.rpartition(".")[0])}
    known |= {point.reference.module for point in case.points}
    if (why := pairing.why_left_out(case.headline)) is not None:
        raise BadInput(f"{pairing.place}: [left-out] {case.headline}: {why}: but it is what is compared. Take it out.")
    pairing.check(known, [point.name for point in case.points], [*held, *modules])
    _check_names(model, [rule.target for rule in rules], held)
    found = paired(((point, taps_of(config, point.name)) for point in case.points), pairing, modules)
    accepted = pairing.not_covered_among(held)
    ours = type(layer).__module__ == "convert.mixer.paddle_mixer"
    reference = replace(case.reference, state_dict=in_float32(case.reference.state_dict))
    expected = rules.apply(reference.state_dict)
    own = paddle_probe.buffers(layer) - expected.keys()
    weights = held if model.own_weights else model.weights if model.weights is not None else expected
    judged = {key: array for key, array in weights.items() if key in expected or not (key in own or key in accepted)}
    return replace(
        case,
        reference=reference,
        candidate=Model(
            state_dict={key: as_float32(array) for key, array in judged.items()},
            build=partial(paddle_probe.copied, layer, None if model.own_weights else judged),
            probe=paddle_probe,
            lend=partial(paddle_probe.lent, layer, None if model.own_weights else judged),
        ),
        rules=rules,
        points=tuple(replace(point, optional=not ours and point.name != case.headline) for point in found.points),
        left_out=found.left_out,
        not_covered=accepted,
        accepted=pairing.accepted_among(point.name for point in found.points),
        settings={**case.settings, "candidate_model": model.target, "own_buffers": sorted(own)},
    )


def _check_names(model: OwnModel, expected: list[str], held: StateDict) -> None:
    """Check that the model has more than half of the expected names.

    Raises:
        BadInput: It does not, so a comparison would say nothing.
    """
    count = sum(name in held for name in expected)
    if 2 * count <= len(expected):
        missing = next((name for name in expected if name not in held), "")
        some = ", ".join(list(held)[:3])
        raise BadInput(
            f"{model.target or type(model.layer).__name__}: it has {count} of the {len(expected)} parameters expected "
            f"by {model.pairing.place}, not {missing}; its own are called {some}, …. Say by --pairing FILE.toml what "
            "it calls them."
        )
