"""The table of the kinds of module that hold weights, one row each. Pure."""

from __future__ import annotations

from dataclasses import replace

from align.pairing.module_type import Held, ModuleType
from convert.rules import Transform

TORCH = "https://docs.pytorch.org/docs/stable/generated/torch.nn."
PADDLE = "https://www.paddlepaddle.org.cn/documentation/docs/en/api/paddle/nn/"
DIMENSIONS = (1, 2, 3)
CELL_WEIGHTS = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")


def _source(torch: str, paddle: str) -> tuple[str, ...]:
    return (f"{TORCH}{torch}.html", f"{PADDLE}{paddle}_en.html")


def _same(*names: str, optional: bool = True) -> tuple[Held, ...]:
    """Return entries for what both sides hold under the same name and in the same layout."""
    return tuple(Held(reference=name, candidate=name, optional=optional) for name in names)


def _of_sequence(name: str) -> tuple[Held, ...]:
    """Return a recurrent layer's parameter in both directions; Paddle's cells hold the very same tensors again."""
    numbered, backwards = f"{name}_l{{i}}", f"{name}_l{{i}}_reverse"
    cells = (f"{{i}}.cell.{name}", f"{{i}}.cell_fw.{name}")
    return (
        Held(reference=numbered, candidate=numbered, also=cells),
        Held(reference=backwards, candidate=backwards, optional=True, also=(f"{{i}}.cell_bw.{name}",)),
    )


WEIGHT, BIAS = _same("weight", optional=False), _same("bias")
AFFINE = (*_same("weight"), *BIAS)
NO_COUNT = {"num_batches_tracked": "Paddle's BatchNorm counts no batches"}
STATISTICS = (
    Held(reference="running_mean", candidate="_mean"),
    Held(reference="running_var", candidate="_variance"),
)
BATCH_NORMS = ("BatchNorm1d", "BatchNorm2d", "BatchNorm3d", "SyncBatchNorm")
BATCH_NORM_LAYERS = ("BatchNorm", "BatchNorm1D", "BatchNorm2D", "BatchNorm3D", "SyncBatchNorm")
INSTANCE_NORMS = tuple(f"InstanceNorm{n}d" for n in DIMENSIONS)
INSTANCE_NORM_LAYERS = tuple(f"InstanceNorm{n}D" for n in DIMENSIONS)
SCALE_AND_BIAS = (Held(reference="weight", candidate="scale", optional=True), *BIAS)
SEPARATE = tuple(
    Held(reference=f"{one}_proj_weight", candidate=f"{one}_proj.weight", transform=Transform.TRANSPOSE) for one in "qkv"
)
ATTENTION = _source("MultiheadAttention", "MultiHeadAttention")

LSTM = ModuleType(
    name="LSTM",
    reference=("LSTM",),
    candidate=("LSTM",),
    weights=tuple(held for name in CELL_WEIGHTS for held in _of_sequence(name)),
    source=_source("LSTM", "LSTM"),
)
"""Gates in the order i, f, g, o in both frameworks."""

GRU = ModuleType(
    name="GRU",
    reference=("GRU",),
    candidate=("GRU",),
    weights=LSTM.weights,
    source=_source("GRU", "GRU"),
)
"""Gates in the order r, z, n in both frameworks; in both the reset gate multiplies the hidden weights' output."""

TYPES: tuple[ModuleType, ...] = (
    ModuleType(
        name="Linear",
        reference=("Linear",),
        candidate=("Linear",),
        weights=(Held(reference="weight", candidate="weight", transform=Transform.TRANSPOSE), *BIAS),
        scales=True,
        source=_source("Linear", "Linear"),
    ),
    *(
        ModuleType(
            name=f"Conv{n}d",
            reference=(f"Conv{n}d",),
            candidate=(f"Conv{n}D",),
            weights=(*WEIGHT, *BIAS),
            scales=True,
            source=_source(f"Conv{n}d", f"Conv{n}D"),
        )
        for n in DIMENSIONS
    ),
    *(
        ModuleType(
            name=f"ConvTranspose{n}d",
            reference=(f"ConvTranspose{n}d",),
            candidate=(f"Conv{n}DTranspose",),
            weights=(*WEIGHT, *BIAS),
            scales=True,
            source=_source(f"ConvTranspose{n}d", f"Conv{n}DTranspose"),
        )
        for n in DIMENSIONS
    ),
    ModuleType(
        name="BatchNorm",
        reference=BATCH_NORMS,
        candidate=BATCH_NORM_LAYERS,
        weights=(*AFFINE, *STATISTICS),
        dropped=NO_COUNT,
        scales=True,
        source=_source("BatchNorm2d", "BatchNorm2D"),
    ),
    ModuleType(
        name="BatchNorm without statistics",
        reference=BATCH_NORMS,
        candidate=BATCH_NORM_LAYERS,
        weights=AFFINE,
        why_not="torch's keeps no running statistics and normalises by the batch; Paddle's BatchNorm always keeps them",
        source=_source("BatchNorm2d", "BatchNorm2D"),
    ),
    ModuleType(
        name="LayerNorm",
        reference=("LayerNorm",),
        candidate=("LayerNorm",),
        weights=tuple(replace(held, axes=1) for held in AFFINE),
        scales=True,
        source=_source("LayerNorm", "LayerNorm"),
    ),
    ModuleType(
        name="LayerNorm over several axes",
        reference=("LayerNorm",),
        candidate=("LayerNorm",),
        weights=AFFINE,
        why_not="Paddle's LayerNorm over several axes holds its weights flat, and does not keep their shape",
        source=_source("LayerNorm", "LayerNorm"),
    ),
    ModuleType(
        name="GroupNorm",
        reference=("GroupNorm",),
        candidate=("GroupNorm",),
        weights=AFFINE,
        scales=True,
        source=_source("GroupNorm", "GroupNorm"),
    ),
    ModuleType(
        name="InstanceNorm",
        reference=INSTANCE_NORMS,
        candidate=INSTANCE_NORM_LAYERS,
        weights=SCALE_AND_BIAS,
        scales=True,
        source=_source("InstanceNorm2d", "InstanceNorm2D"),
    ),
    ModuleType(
        name="InstanceNorm with statistics",
        reference=INSTANCE_NORMS,
        candidate=INSTANCE_NORM_LAYERS,
        weights=(*SCALE_AND_BIAS, *STATISTICS),
        dropped=NO_COUNT,
        why_not="torch's tracks running statistics and normalises by them; Paddle's InstanceNorm keeps none",
        source=_source("InstanceNorm2d", "InstanceNorm2D"),
    ),
    ModuleType(
        name="Embedding",
        reference=("Embedding",),
        candidate=("Embedding",),
        weights=WEIGHT,
        scales=True,
        source=_source("Embedding", "Embedding"),
    ),
    ModuleType(
        name="PReLU",
        reference=("PReLU",),
        candidate=("PReLU",),
        weights=(Held(reference="weight", candidate="_weight"),),
        source=_source("PReLU", "PReLU"),
    ),
    ModuleType(
        name="MultiheadAttention",
        reference=("MultiheadAttention",),
        candidate=("MultiHeadAttention",),
        weights=SEPARATE,
        source=ATTENTION,
    ),
    ModuleType(
        name="MultiheadAttention, packed",
        reference=("MultiheadAttention",),
        candidate=("MultiHeadAttention",),
        weights=(
            *(Held(reference=held.reference, candidate=held.candidate, optional=True) for held in SEPARATE),
            *_same("in_proj_weight", "in_proj_bias", "bias_k", "bias_v"),
        ),
        why_not="torch packs what makes queries, keys and values into one tensor; Paddle has three layers for them",
        source=ATTENTION,
    ),
    LSTM,
    GRU,
    *(
        ModuleType(
            name=f"{name}, not as Paddle keeps it",
            reference=(name,),
            candidate=(name,),
            weights=tuple(
                Held(reference=f"{held}_l{{i}}{way}", candidate=f"{held}_l{{i}}{way}", optional=True)
                for held in (*CELL_WEIGHTS, "weight_hr")
                for way in ("", "_reverse")
            ),
            why_not=f"Paddle's {name} without biases, or with a projection, names its later layers' weights wrongly",
            source=("paddle/nn/layer/rnn.py, RNNBase.__init__: the zip of param_names and parameters() (3.3.1)",),
        )
        for name in ("LSTM", "GRU")
    ),
    *(
        ModuleType(
            name=name,
            reference=(name,),
            candidate=(name,),
            weights=_same(*CELL_WEIGHTS, optional=False),
            source=_source(name, name),
        )
        for name in ("LSTMCell", "GRUCell")
    ),
)
"""All kinds; where a class has several rows, the first that fits what the module holds applies."""
