"""Print what small faults do to the float32 logits of b16_in21k, and what the gates say: a Markdown table."""

from dataclasses import replace

import numpy as np
import paddle

from align.mixer.case import Subject, case_of
from align.run import align
from convert.mixer.init import init_state_dict
from convert.mixer.variants import get_variant


def epsilon(model):
    """Set the epsilon of every LayerNorm to Paddle's default."""
    for layer in model.sublayers():
        if hasattr(layer, "_epsilon"):
            layer._epsilon = 1e-5


def tanh(model):
    """Switch one MLP to the tanh GELU."""
    model.blocks[6].mlp_channels.act = paddle.nn.GELU(approximate=True)


def lowest_bit(model):
    """Flip the lowest bit of one weight."""
    weight = model.blocks[6].mlp_channels.fc1.weight
    values = weight.numpy()
    values.view(np.uint32)[5, 7] ^= 1
    weight.set_value(values)


FAULTS = {
    "none": lambda model: None,
    "LayerNorm epsilon 1e-5 for 1e-6, everywhere": epsilon,
    "tanh GELU for erf, in one MLP of block 6": tanh,
    "lowest bit of one weight in block 6": lowest_bit,
}

variant = get_variant("b16_in21k")
source = init_state_dict(variant.config, 0)
case = case_of(Subject(source=source, config=variant.config, name=variant.name, variant=variant))
print("| fault | float32 logits, max abs diff | below 1e-5 | verdict | first divergence | float64, introduced there |")
print("| --- | --- | --- | --- | --- | --- |")
for name, fault in FAULTS.items():

    def build(fault=fault):
        """Build the Paddle model and plant the fault."""
        model = case.candidate.build()
        fault(model)
        return model

    result = align(replace(case, candidate=replace(case.candidate, build=build)))
    logits = result.headline.float32.inherited
    layer = result.first_divergence.layer if result.first_divergence else "logits"
    introduced = next(row for row in result.layers if row.name == layer).float64.introduced.max_abs_diff
    print(
        f"| {name} | {logits.max_abs_diff:.1e} | {'yes' if logits.max_abs_diff < 1e-5 else 'no'} | {result.verdict} "
        f"| {layer if result.first_divergence else '—'} | {introduced:.1e} |",
        flush=True,
    )
