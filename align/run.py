"""Build both sides, probe them and the witness on one batch, and judge."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from types import ModuleType
from typing import Any

from align.core.compare import LOGITS_ATOL
from align.core.inputs import Kind, images_sha256, seeded_images
from align.core.judgement import judge, with_section
from align.core.lockstep import Kept, lanes
from align.core.result import AlignmentResult, Finding, LayerRow, Reference, Section
from align.core.weights import in_float32, structure_findings, weight_findings
from align.gates.determinism import NOT_RUN, Repetition
from align.gates.forward import Measurement, Sides
from align.learning import paddle_steps
from align.learning.gates import Task, gradients_section, not_run, steps_section
from align.learning.recipes import RECIPES
from align.learning.training import BuildOptimizer
from align.mixer import witness
from align.mixer.points import layers_of
from align.probes import flax_probe, paddle_probe, torch_probe
from align.probes.environment import environment
from convert.arrays import Array, StateDict
from convert.errors import NoHead, UsageProblem
from convert.mixer.mapping import convert_state_dict
from convert.mixer.shapes import HEAD, infer_config
from convert.mixer.variants import MixerConfig, Variant

PROBES: dict[Reference, ModuleType] = {"timm": torch_probe, "flax": flax_probe}
Progress = Callable[[str], None]
BuildCandidate = Callable[[MixerConfig, StateDict], Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What a gatekeeper may set: images per batch, seed and kind of the images, the bound on float32 logits.

    backward adds the gate of the gradients; train_steps, if not 0, that of so many optimizer steps.
    """

    batch: int = 2
    input_seed: int = 0
    inputs: Kind = "normal"
    atol: float = LOGITS_ATOL
    backward: bool = False
    train_steps: int = 0


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Subject:
    """What is to be compared: timm's weights, the model they belong to, and the candidate's weights.

    source is in timm's layout, checked and finite; candidate in Paddle's, by default the source converted. The
    reference is timm's model, or our Flax one, which is the function that Google's figures were measured on.
    """

    source: StateDict
    config: MixerConfig
    name: str
    variant: Variant | None = None
    reference: Reference = "timm"
    candidate: StateDict | None = None
    provenance: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Builders:
    """How the two models and Paddle's optimizers come to be."""

    reference: Callable[[Subject], Any]
    candidate: BuildCandidate
    optimizer: BuildOptimizer = paddle_steps.optimizer


@dataclass(frozen=True, slots=True, kw_only=True)
class Observation:
    """What was seen, before judgement; weights is None where they could not be compared."""

    structure: Sequence[Finding] = ()
    weights: Sequence[Finding] | None = None
    layers: tuple[LayerRow, ...] = ()
    determinism: Section = NOT_RUN


def align(
    subject: Subject,
    settings: Settings | None = None,
    *,
    build_reference: Callable[[Subject], Any] | None = None,
    build_candidate: BuildCandidate | None = None,
    build_optimizer: BuildOptimizer | None = None,
    progress: Progress = lambda _: None,
) -> AlignmentResult:
    """Return how the reference and the Paddle model compare on one seeded batch.

    Args:
        subject: The weights of both sides.
        settings: Batch, seed and bound.
        build_reference: Builds the reference; by default timm's model or the Flax one, as the subject says.
        build_candidate: Builds the Paddle model from a config and a float32 state dict in Paddle's layout;
            `paddle_probe.build` by default.
        build_optimizer: Gives the Paddle model its optimizer; `paddle_steps.optimizer` by default.
        progress: Is told what is about to run.

    Raises:
        BadInput: `import torch` does not give PyTorch, or the reference is no module of it.
        UsageProblem: Gradients of a reference that has none here.
    """
    settings = settings or Settings()
    _check(subject, settings)
    images = seeded_images(subject.config, settings.batch, settings.input_seed, settings.inputs)
    build = Builders(
        reference=build_reference or reference_model,
        candidate=build_candidate or paddle_probe.build,
        optimizer=build_optimizer or paddle_steps.optimizer,
    )
    result = _forward(subject, settings, images, build, progress)
    sound = result.verdict in ("aligned", "rounding")
    for section in _training_sections(subject, settings, build, images, sound, progress):
        result = with_section(result, section)
    return result


def align_models(timm_model: Any, paddle_model: Any, settings: Settings | None = None) -> AlignmentResult:
    """Return how two models in memory compare; they are copied, so neither is changed.

    Args:
        timm_model: A vision MLP of timm's mlp_mixer module, float32.
        paddle_model: A convert.mixer.paddle_mixer.MlpMixer, float32.
        settings: Batch, seed and bound.

    Raises:
        BadInput: timm_model is no vision MLP that we know, or `import torch` does not give PyTorch.
    """
    torch_probe.check_genuine(timm_model)
    source, name = torch_probe.parameters(timm_model), type(timm_model).__name__
    config = infer_config({key: array.shape for key, array in source.items()}, name)
    if not config.num_classes:
        raise NoHead(name, {*HEAD} - source.keys())
    config = replace(config, gelu=torch_probe.gelu_of(timm_model), layer_norm_eps=torch_probe.epsilon_of(timm_model))
    subject = Subject(source=source, config=config, name=name, candidate=paddle_probe.parameters(paddle_model))
    return align(
        subject,
        settings,
        build_reference=lambda _: copy.deepcopy(timm_model).eval(),
        build_candidate=lambda *_: paddle_probe.copy_of(paddle_model),
    )


def _check(subject: Subject, settings: Settings) -> None:
    if subject.reference == "flax" and (settings.backward or settings.train_steps):
        raise UsageProblem(
            "--reference flax: gradients and training are compared with timm only. Pass --reference timm, or leave out "
            "--backward and --train-steps."
        )
    if subject.reference == "timm":
        torch_probe.check_genuine()


def _forward(
    subject: Subject, settings: Settings, images: Array, build: Builders, progress: Progress
) -> AlignmentResult:
    """Return the result of the forward's gates and of determinism."""
    seen = _observe(subject, images, settings.atol, build, progress)
    gates, verdict, first_divergence = judge(seen.structure, seen.weights, seen.layers, reference=subject.reference)
    result = AlignmentResult(
        variant=subject.name,
        gates=gates,
        layers=seen.layers,
        verdict=verdict,
        first_divergence=first_divergence,
        input_sha256=images_sha256(images),
        settings=_settings(subject, settings),
        environment=environment(),
    )
    return with_section(result, seen.determinism)


def _settings(subject: Subject, settings: Settings) -> dict[str, Any]:
    weights = dict(subject.provenance or {})
    recipes = [asdict(recipe) for recipe in RECIPES] if settings.train_steps else []
    return {
        **asdict(settings),
        "reference": subject.reference,
        "config": asdict(subject.config),
        "weights": weights,
        "recipes": recipes,
    }


def _training_sections(
    subject: Subject, settings: Settings, build: Builders, images: Array, sound: bool, progress: Progress
) -> Iterator[Section]:
    """Yield the gates of training that were asked for; models of their own, so that nothing of the forward is left."""
    if not sound:
        yield from not_run(wants_backward=settings.backward, train_steps=settings.train_steps)
        return
    expected = convert_state_dict(subject.source, subject.config).state_dict
    converted = in_float32(expected if subject.candidate is None else subject.candidate)
    task = Task(
        config=subject.config,
        source=in_float32(subject.source),
        converted=converted,
        build_reference=lambda: build.reference(subject),
        build_candidate=lambda: build.candidate(subject.config, converted),
        build_optimizer=build.optimizer,
    )
    seed = settings.input_seed
    if settings.backward:
        yield gradients_section(task, images, seed=seed, progress=progress)
    if settings.train_steps:
        yield steps_section(task, steps=settings.train_steps, batch=len(images), seed=seed, progress=progress)


def _observe(subject: Subject, images: Array, atol: float, build: Builders, progress: Progress) -> Observation:
    """Return what is wrong with structure and weights and, where the structure lets them be compared, the layers."""
    expected = convert_state_dict(subject.source, subject.config).state_dict
    candidate = expected if subject.candidate is None else subject.candidate
    structure = structure_findings(expected, candidate)
    if structure:
        return Observation(structure=structure)
    progress("building the reference")
    reference = build.reference(subject)
    if subject.reference == "timm":
        torch_probe.check_genuine(reference)
    progress("building the Paddle model")
    paddle_model = build.candidate(subject.config, in_float32(candidate))
    weights = weight_findings(expected, candidate, paddle_probe.parameters(paddle_model))
    with lanes() as each:
        sides = Sides(reference=reference, candidate=paddle_model, probe=PROBES[subject.reference], lanes=each)
        return replace(_measure(subject, sides, images, atol, progress), weights=weights)


def reference_model(subject: Subject) -> Any:
    """Return the reference with the subject's weights: timm's model or our Flax one, float32."""
    source = in_float32(subject.source)
    if subject.reference == "flax":
        return flax_probe.build(subject.config, convert_state_dict(source, subject.config, dst="google").state_dict)
    return torch_probe.build(subject.config, subject.variant, source)


def _measure(subject: Subject, sides: Sides, images: Array, atol: float, progress: Progress) -> Observation:
    """Return the points at fault, or else the figures of all: float32 first, then the same models in float64."""
    points = layers_of(subject.config, len(images))
    float32 = Measurement(points, "float32", atol)
    truth = Kept(lambda: witness.forward(subject.config, subject.source, images), points)
    with Repetition(sides, images, points, subject.reference) as repetition:
        in32 = float32.run(sides, images, truth.first(), progress, repetition.observe)
        determinism = repetition.section()
    sides.cast("float64")
    float64 = Measurement(points, "float64", atol)
    in64 = float64.run(sides, images.astype("float64"), truth.again(), progress)
    findings = _unique([*float32.findings, *float64.findings])
    if findings:
        return Observation(structure=findings, determinism=determinism)
    layers = tuple(LayerRow(name=p.name, float64=in64[p.name], float32=in32[p.name]) for p in points)
    return Observation(layers=layers, determinism=determinism)


def _unique(findings: Sequence[Finding]) -> list[Finding]:
    return list({finding.layer: finding for finding in findings}.values())
