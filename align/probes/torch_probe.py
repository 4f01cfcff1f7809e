"""The reference side: timm's own model, observed by hooks and never altered."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from threading import get_ident
from typing import TYPE_CHECKING, Any

import numpy as np

from align.probes.knobs import importing_frameworks
from convert.arrays import Array, StateDict
from convert.errors import BadInput
from convert.mixer.variants import TIMM_LAYER_NORM_EPS, Gelu, MixerConfig, Variant

if TYPE_CHECKING:
    from torch import nn

Tap = Callable[[str, Array], object]
READ_BEFORE = {"token_mixing": "norm2", "gated": "fc2", "pooled": "head"}
"""Points that no module outputs: they are read as the input of the module that follows."""


def build(config: MixerConfig, variant: Variant | None, state_dict: StateDict) -> nn.Module:
    """Return timm's model with these weights, in evaluation mode.

    A known variant is built by timm's own name, so that what is compared is what timm's users get.

    Args:
        config: Sizes, epsilon and GELU.
        variant: The variant, if it has a name.
        state_dict: timm's layout, float32 or float64, which fixes the model's dtype.
    """
    with importing_frameworks():
        import timm
        import torch
        from timm.models.mlp_mixer import MlpMixer
    with torch.device("meta"):
        if variant is not None and variant.config == config:
            model = timm.create_model(variant.timm_id, pretrained=False)
        else:
            model = MlpMixer(**_arguments(config))
    model.load_state_dict({key: torch.from_numpy(array.copy()) for key, array in state_dict.items()}, assign=True)
    return model.eval()


def cast(model: nn.Module, dtype: str) -> None:
    """Cast the model's parameters in place, and round each LayerNorm's epsilon to float32.

    In float32 torch rounds it itself; without this, float64 would be another function than the model that is used.
    """
    import torch

    model.to(dtype=getattr(torch, dtype))
    for module in model.modules():
        if isinstance(module, torch.nn.LayerNorm):
            module.eps = float(np.float32(module.eps))


def parameters(model: nn.Module) -> StateDict:
    """Return what the model holds, in timm's layout."""
    return {key: np.array(tensor.numpy()) for key, tensor in model.state_dict().items()}


def gelu_of(model: nn.Module) -> Gelu:
    """Return the form of GELU that the model uses; erf when it uses none."""
    import torch

    forms = {module.approximate for module in model.modules() if isinstance(module, torch.nn.GELU)}
    forms |= {"tanh" for module in model.modules() if type(module).__name__ == "GELUTanh"}  # timm's own class
    return "tanh" if forms == {"tanh"} else "erf"


def epsilon_of(model: nn.Module) -> float:
    """Return the epsilon of the model's final LayerNorm; timm's default where there is none."""
    return float(getattr(model.get_submodule("norm"), "eps", TIMM_LAYER_NORM_EPS))


def forward(model: nn.Module, images: Array, names: Iterable[str], tap: Tap) -> None:
    """Run the model on images (batch, in_chans, image_size, image_size) and show each named point to the tap.

    A point whose module the model does not have is not shown; the structure gate reports it.
    """
    import torch

    thread = get_ident()

    def show(name: str, value: Any) -> None:
        if get_ident() == thread:  # hooks sit on the model: its forward in another thread fires them too
            tap(name, np.array(value.numpy()))

    modules = dict(model.named_modules())
    handles = [handle for name in names for handle in _hooks(modules, name, show)]
    try:
        with torch.inference_mode():
            show("logits", model(torch.from_numpy(images.copy())))
    finally:
        for handle in handles:
            handle.remove()


@contextlib.contextmanager
def one_thread() -> Iterator[int]:
    """Compute on a single thread for a while, and say how many there are otherwise."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield threads
    finally:
        torch.set_num_threads(threads)


def check_genuine(model: object = None) -> None:
    """Check that `import torch` gives PyTorch, and that the model, where there is one, is a module of it.

    `paddle.compat.enable_torch_proxy` makes `import torch` return Paddle, which would then be compared with itself.

    Raises:
        BadInput: It does not, or it is not.
    """
    with importing_frameworks():
        import torch

    home = getattr(getattr(torch.nn, "Module", None), "__module__", "")
    if home != "torch.nn.modules.module":
        raise BadInput(
            f"torch: `import torch` gives {torch.__file__}, which is not PyTorch, so Paddle would be compared with "
            "itself. Call paddle.compat.disable_torch_proxy() first."
        )
    if model is not None and not isinstance(model, torch.nn.Module):
        kind = f"{type(model).__module__}.{type(model).__name__}"
        raise BadInput(f"{kind}: the reference is no module of PyTorch. Pass timm's model.")


def _hooks(modules: dict[str, nn.Module], name: str, show: Callable[[str, Any], None]) -> list[Any]:
    parent, _, last = name.rpartition(".")
    follower = READ_BEFORE.get(last)
    if follower is not None:
        module = modules.get(f"{parent}.{follower}" if parent else follower)
        return [module.register_forward_pre_hook(partial(_before, show, name))] if module is not None else []
    module = modules.get(name)
    return [module.register_forward_hook(partial(_after, show, name))] if module is not None else []


def _before(show: Callable[[str, Any], None], name: str, _module: object, inputs: tuple[Any, ...]) -> None:
    show(name, inputs[0])


def _after(show: Callable[[str, Any], None], name: str, _module: object, _inputs: object, output: Any) -> None:
    show(name, output)


def _arguments(config: MixerConfig) -> dict[str, Any]:
    """Return MlpMixer's arguments; it truncates ratio × hidden_dim, hence the half that is added."""
    import torch
    from timm.models import mlp_mixer

    gelu = partial(torch.nn.GELU, approximate="tanh" if config.gelu == "tanh" else "none")
    tokens_ratio, channels_ratio = (
        (dim + 0.5) / config.hidden_dim for dim in (config.tokens_mlp_dim, config.channels_mlp_dim)
    )
    norm = partial(torch.nn.LayerNorm, eps=config.layer_norm_eps)
    family: dict[str, dict[str, Any]] = {
        "mixer": {"mlp_ratio": (tokens_ratio, channels_ratio), "norm_layer": norm},
        "gmixer": {
            "mlp_ratio": (tokens_ratio, channels_ratio),
            "norm_layer": norm,
            "mlp_layer": mlp_mixer.GluMlp,
            "act_layer": torch.nn.SiLU,
        },
        "resmlp": {
            "mlp_ratio": channels_ratio,
            "block_layer": mlp_mixer.ResBlock,
            "norm_layer": mlp_mixer.Affine,
        },
        "gmlp": {
            "mlp_ratio": channels_ratio,
            "norm_layer": norm,
            "block_layer": mlp_mixer.SpatialGatingBlock,
            "mlp_layer": mlp_mixer.GatedMlp,
        },
    }
    return {
        "img_size": config.image_size,
        "patch_size": config.patch_size,
        "in_chans": config.in_chans,
        "num_blocks": config.num_blocks,
        "embed_dim": config.hidden_dim,
        "num_classes": config.num_classes,
        "act_layer": gelu,
        **family[config.family],
    }
