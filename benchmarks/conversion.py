"""Print the time and peak memory of conversions, relative to copying the file and to the common way of porting.

Every command is measured as a whole process, in turn with the others; the inputs are made in a temporary folder.

Usage: conversion.py [RUNS] [FOLDER ON THE DISK TO MEASURE]
"""

import statistics
import sys
import tempfile
from pathlib import Path

import timing

RUNS = int(sys.argv[1]) if len(sys.argv) > 1 else 7
FOLDER = sys.argv[2] if len(sys.argv) > 2 else None
VARIANTS = ("b16_in21k", "l16_in21k")
PEAKS = {"b16_in21k": "≤ 160"}
SIZES = ("s32", "b32", "b16_in1k", "l32", "l16_in1k")
CONVERT = [sys.executable, "-m", "convert.commands.cli"]
COPY = ["sh", "-c", 'cp "$1" "$2" && sync "$2"', "sh"]
SAVE_PTH = "import sys, torch; from safetensors.torch import load_file; torch.save(load_file(sys.argv[1]), sys.argv[2])"
RESNET50 = ("--reference-model", "torchvision.models:resnet50", "--candidate-model", "paddle.vision.models:resnet50")
PROPOSE = [sys.executable, "-m", "align.commands.cli", "propose", *RESNET50, "--input-shape", "3,64,64"]
SAVE_RESNET50 = "import sys, torch, torchvision; torch.save(torchvision.models.resnet50().state_dict(), sys.argv[1])"
SAVE_TINY = """
import sys
from pathlib import Path
from convert import files
from convert.mixer.init import init_state_dict
from convert.mixer.variants import MixerConfig
config = MixerConfig(
    image_size=16, patch_size=4, num_blocks=1, hidden_dim=8, tokens_mlp_dim=4, channels_mlp_dim=16, num_classes=5
)
path = Path(sys.argv[1])
with path.open("wb") as stream:
    files.write(path, stream, init_state_dict(config, 0))
"""


def conversion(source: Path) -> tuple[list[str], Path]:
    """Return the command that converts a file, and its output."""
    output = source.with_suffix(".pdparams")
    return [*CONVERT, "--checkpoint", str(source), "--out", str(output), "--force"], output


def downloaded(path: Path, variant: str) -> Path:
    """Return a source file as a download leaves it: with no manifest beside it, which would have to fit this file."""
    source = timing.seeded_weights(path, variant)
    path.with_name(f"{path.name}.manifest.json").unlink()
    return source


def ratios_of(folder: Path, variant: str) -> list[timing.Ratio]:
    """Return the ratios of one variant."""
    source = downloaded(folder / f"{variant}.safetensors", variant)
    pth, common, copy = source.with_suffix(".pth"), folder / "common.pdparams", folder / "copy.safetensors"
    timing.measured([sys.executable, "-c", SAVE_PTH, str(source), str(pth)])
    ours, copied, usual = timing.in_turn(
        {
            "mixer-convert": conversion(source),
            "cp and fsync": ([*COPY, str(source), str(copy)], copy),
            "the common way": ([sys.executable, str(timing.HERE / "common_way.py"), str(pth), str(common)], common),
        },
        RUNS,
    ).values()
    seconds = [[run.seconds for run in runs] for runs in (ours, copied, usual)]
    peaks = [[run.peak for run in runs] for runs in (ours, usual)]
    what = f"{variant}, {source.stat().st_size / 1e6:.0f} MB"
    source.unlink()
    pth.unlink()
    return [
        timing.Ratio(what=f"{what}: conversion / (cp + fsync)", target="≤ 3", values=timing.over(*seconds[:2])),
        timing.Ratio(what=f"{what}: common way / conversion, time", target="≥ 4", values=timing.over(*seconds[2::-2])),
        timing.Ratio(what=f"{what}: common way / conversion, peak", target="≥ 8", values=timing.over(*peaks[::-1])),
        timing.Ratio(what=f"{what}: peak of the conversion, MB", target=PEAKS.get(variant, ""), values=peaks[0]),
        timing.Ratio(what=f"{what}: conversion, s", target="", values=seconds[0]),
        timing.Ratio(what=f"{what}: cp + fsync, s", target="", values=seconds[1]),
    ]


def paired_ratios(folder: Path) -> list[timing.Ratio]:
    """Return the ratios of a ResNet-50, converted by the pairing file proposed for it."""
    source, pairing, copy = folder / "resnet50.pth", folder / "resnet50.toml", folder / "copy.pth"
    bare = folder / "bare.pdparams"
    timing.measured([sys.executable, "-c", SAVE_RESNET50, str(source)])
    timing.measured([*PROPOSE, "--out", str(pairing)])
    convert, output = conversion(source)
    ours, copied, least = timing.in_turn(
        {
            "mixer-convert": ([*convert, "--pairing", str(pairing)], output),
            "cp and fsync": ([*COPY, str(source), str(copy)], copy),
            "bare": ([sys.executable, str(timing.HERE / "bare_conversion.py"), str(source), str(bare)], bare),
        },
        RUNS,
    ).values()
    seconds = [[run.seconds for run in runs] for runs in (ours, copied, least)]
    what = f"resnet50 by a pairing, {source.stat().st_size / 1e6:.0f} MB"
    return [
        timing.Ratio(what=f"{what}: conversion / (cp + fsync)", target="≤ 4", values=timing.over(*seconds[:2])),
        timing.Ratio(what=f"{what}: bare script / (cp + fsync)", target="", values=timing.over(*seconds[2:0:-1])),
        timing.Ratio(what=f"{what}: peak of the conversion, MB", target="≤ 160", values=[run.peak for run in ours]),
        timing.Ratio(what=f"{what}: conversion, s", target="", values=seconds[0]),
    ]


def costs(folder: Path) -> list[timing.Ratio]:
    """Return start-up (the command on a Mixer of a few kilobytes) and, by file size, the ns a byte costs beyond it."""
    tiny = folder / "tiny.safetensors"
    timing.measured([sys.executable, "-c", SAVE_TINY, str(tiny)])
    sources = {name: downloaded(folder / f"{name}.safetensors", name) for name in SIZES}
    found = timing.in_turn({name: conversion(path) for name, path in ({"start-up": tiny} | sources).items()}, RUNS)
    start_up = [run.seconds for run in found.pop("start-up")]
    ratios = [timing.Ratio(what="start-up of a conversion, s", target="", values=start_up)]
    for name, path in sources.items():
        size, begun = path.stat().st_size, statistics.median(start_up)
        values = [1e9 * (run.seconds - begun) / size for run in found[name]]
        what = f"{name}, {size / 1e6:.0f} MB: ns a byte beyond start-up"
        ratios.append(timing.Ratio(what=what, target="", values=values))
    return ratios


with tempfile.TemporaryDirectory(dir=FOLDER) as name:
    ratios = [ratio for variant in VARIANTS for ratio in ratios_of(Path(name), variant)]
    ratios += paired_ratios(Path(name))
    ratios += costs(Path(name))
timing.report(ratios)
