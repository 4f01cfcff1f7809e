"""bfloat16 in Paddle's predictor: where it is available, how to ask for it, and whether Paddle really computes in it.

Asked for bfloat16 on a processor without AVX-512, paddlepaddle 3.3.1 computes in float32, bit for bit as if nothing had
been asked; on AVX-512 without AVX512_BF16 it simulates. Only a line in its log says so (`EnableMkldnnBfloat16`,
paddle/fluid/inference/api/analysis_config.cc), and `inference.Config` offers no way to read it back. So the processor
is checked before, and the program that the predictor made from the model after.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from align.probes.knobs import importing_frameworks
from convert.errors import MixerConvertError, UsageProblem
from convert.files import strict_json
from reports.score.records import Precision

OPTIMIZED = "_optimized.json"
"""Name of the file to which Paddle writes the program it made, beside its parameters."""
PRODUCTS = frozenset({"fc", "matmul", "fused_matmul", "conv2d", "fused_conv2d"})
"""Operators of a Mixer that are matrix products: the patches' embedding, the MLPs and the head."""
AGREEMENT_RTOL = 0.05
"""Bound on how far the logits may lie from eager's float32, per unit of the largest logit.

About ten times what torch 2.14.1 measures in bfloat16 (`model.bfloat16()`, images drawn from a seed): 0.0057 on seeded
weights of 4 blocks, 0.0056 on b16, 0.0025 on l16, and 0.0052 on the trained Mixer of 6 blocks.
"""
INSTEAD = "Pass --precision float32."


class NotInBfloat16(MixerConvertError):
    """Paddle was asked for bfloat16 and computes something else (exit 1): a failed gate."""

    exit_code = 1

    def __init__(self, found: str) -> None:
        super().__init__(f"--precision bfloat16: Paddle was asked for it, but {found}. {INSTEAD}")


def check_precision(precision: Precision, engine: str) -> None:
    """Check that an engine can compute in a precision on this machine.

    Raises:
        UsageProblem: bfloat16 was asked of an engine other than the predictor, or of a processor that lacks it.
    """
    if precision == "float32":
        return
    if engine != "inference":
        raise UsageProblem(f"--precision bfloat16: only --engine inference has it, not {engine}. {INSTEAD}")
    if not has_bfloat16():
        raise UsageProblem(
            "--precision bfloat16: this processor has no bfloat16 instructions (neither avx512_bf16 nor amx_bf16), and "
            f"Paddle would compute in float32, or simulate it, all the same. {INSTEAD}"
        )


def has_bfloat16() -> bool:
    """Return whether the processor multiplies in bfloat16, according to Paddle.

    Paddle looks for avx512_bf16, which a processor with amx_bf16 has too (oneDNN, dnnl_types.h: the bits of
    dnnl_cpu_isa_avx512_core_amx, 0xfef, hold those of dnnl_cpu_isa_avx512_core_bf16, 0xe7).
    """
    with importing_frameworks():
        import paddle
    return bool(paddle.base.core.supports_bfloat16_fast_performance())


def ask_for_bfloat16(settings: Any, folder: Path) -> None:
    """Set a predictor's settings, with oneDNN enabled, to bfloat16 and to write the program it runs to a folder."""
    asked = "enable_onednn_bfloat16" if hasattr(settings, "enable_onednn_bfloat16") else "enable_mkldnn_bfloat16"
    getattr(settings, asked)()
    settings.enable_save_optim_model(True)
    settings.set_optim_cache_dir(str(folder))


def check_program(folder: Path) -> None:
    """Check that every matrix product of the program that a predictor runs is in bfloat16.

    Raises:
        NotInBfloat16: One is not, or the program was not written.
    """
    products = _products(folder / OPTIMIZED)
    if not products:
        raise NotInBfloat16("does not tell which program it runs")
    if others := [precision for precision in products if precision != "bfloat16"]:
        raise NotInBfloat16(f"computes {len(others)} of {len(products)} matrix products in {others[0]}")


def _products(path: Path) -> list[str]:
    """Return the precision of each matrix product in one of Paddle's programs (PIR as JSON, version 4)."""
    if not path.is_file():
        return []
    (block,) = strict_json.parse(path.read_bytes())["program"]["regions"][0]["blocks"]
    return [
        {attribute["N"]: attribute["AT"].get("D") for attribute in operator["A"]}.get("mkldnn_data_type", "float32")
        for operator in block["ops"]
        if operator["#"].partition(".")[2] in PRODUCTS
    ]


@contextlib.contextmanager
def saying_what_fails(precision: Precision) -> Iterator[None]:
    """Run the body; if oneDNN has no kernel, for example because ONEDNN_MAX_CPU_ISA hides it, say so in a sentence.

    Raises:
        NotInBfloat16: Paddle's predictor failed in bfloat16.
    """
    try:
        yield
    except RuntimeError as error:
        if precision == "float32":
            raise
        raise NotInBfloat16(f"oneDNN fails at it ({error}); ONEDNN_MAX_CPU_ISA can be why") from error
