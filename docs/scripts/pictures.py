"""Draw the pictures of the documentation: `python docs/scripts/pictures.py [architecture] [charts] [audit]`."""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from html import escape
from pathlib import Path
from typing import Any

from align.render.chart import LANE, Chart, Column, chart
from convert.files import strict_json

ROOT = Path(__file__).resolve().parents[2]
OUT = ROOT / "docs" / "pictures"
WRONG = "docs/scripts/wrong_port.py:build"
WIDTH, LEFT, TOP, TALL = 960, 60, 40, 1000
SANS = "system-ui, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"
MONO = "ui-monospace, Menlo, Consolas, 'DejaVu Sans Mono', monospace"


def colours() -> dict[str, dict[str, str]]:
    """Return the colours of the reports' own pages, light and dark."""
    css = (ROOT / "align" / "render" / "templates" / "report.css").read_text(encoding="utf-8")
    roots = re.findall(r":root \{(.*?)\}", css, flags=re.DOTALL)
    light, dark = (dict(re.findall(r"--([\w-]+): (#\w+)", root)) for root in roots[:2])
    return {"light": light, "dark": light | dark}


def svg(width: float, height: float, body: Iterator[str], title: str, colour: dict[str, str]) -> str:
    """Return a whole picture on the page's colour."""
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {height:g}" role="img">'
    ground = f'<rect width="100%" height="100%" fill="{colour["page"]}"/>'
    return "\n".join([head, f"<title>{escape(title)}</title>", ground, *body, "</svg>", ""])


def text(x: float, y: float, said: str, fill: str, *, size: int = 13, anchor: str = "start", font: str = SANS) -> str:
    """Return a line of text; a bold one where the size is that of a heading."""
    weight = ' font-weight="600"' if size > 14 else ""
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" fill="{fill}" font-family="{font}" font-size="{size}"{weight} '
        f'text-anchor="{anchor}">{escape(said)}</text>'
    )


BOXES = {
    "source": (
        20,
        120,
        190,
        130,
        "Checkpoint",
        ("timm, Google, Facebook,", ".safetensors .pth .npz", "read, never executed"),
    ),
    "convert": (270, 120, 190, 130, "convert", ("a table of key rules,", "every tensor hashed,", "there and back")),
    "reference": (540, 30, 190, 70, "PyTorch", ("the reference",)),
    "witness": (540, 150, 190, 70, "NumPy, float64", ("the witness",)),
    "candidate": (540, 270, 190, 70, "Paddle", ("the candidate",)),
    "align": (790, 120, 150, 130, "align", ("every layer,", "a bound for each,", "one verdict")),
    "reports": (790, 300, 150, 70, "reports", ("accuracy, audits",)),
}
ARROWS = (
    ("source", "convert"), ("convert", "reference"), ("convert", "witness"), ("convert", "candidate"),
    ("reference", "align"), ("witness", "align"), ("candidate", "align"), ("align", "reports"),
)  # fmt: skip


def architecture(colour: dict[str, str]) -> str:
    """Return the drawing of what goes through what."""
    return svg(WIDTH, 390, _architecture(colour), "From a checkpoint to a verdict", colour)


def _architecture(colour: dict[str, str]) -> Iterator[str]:
    yield (
        f'<defs><marker id="tip" viewBox="0 0 8 8" refX="8" refY="4" markerWidth="8" markerHeight="8" orient="auto">'
        f'<path d="M0 0L8 4L0 8Z" fill="{colour["quiet"]}"/></marker></defs>'
    )
    for start, end in ARROWS:
        (x0, y0), (x1, y1) = _ends(start, end)
        line = f'x1="{x0}" y1="{y0}" x2="{x1}" y2="{y1}" stroke="{colour["quiet"]}" stroke-width="1.5"'
        yield f'<line {line} marker-end="url(#tip)"/>'
    for name, (x, y, width, height, title, lines) in BOXES.items():
        ours = name in ("convert", "align", "reports")
        edge = colour["link"] if ours else colour["rule"]
        box = f'x="{x}" y="{y}" width="{width}" height="{height}" rx="8" fill="{colour["lane"]}"'
        yield f'<rect {box} stroke="{edge}" stroke-width="{2 if ours else 1}"/>'
        middle = x + width / 2
        yield text(middle, y + 30, title, colour["ink"], size=17, anchor="middle", font=MONO if ours else SANS)
        for at, line in enumerate(lines):
            yield text(middle, y + 54 + 20 * at, line, colour["quiet"], anchor="middle")


def _ends(start: str, end: str) -> tuple[tuple[float, float], tuple[float, float]]:
    x, y, width, height = BOXES[start][:4]
    to_x, to_y, to_width, to_height = BOXES[end][:4]
    if to_x == x:
        return (x + width / 2, y + height), (to_x + to_width / 2, to_y - 2)
    return (x + width, y + height / 2), (to_x - 2, to_y + to_height / 2)


def layers(data: dict[str, Any], colour: dict[str, str]) -> str:
    """Return the chart of a result's layers, as the report's page has it."""
    drawn = chart(data)
    cut = drawn.lanes[0].y - TOP - 30
    return svg(WIDTH, drawn.height - cut, _layers(drawn, data, cut, colour), data["sentence"], colour)


def _layers(drawn: Chart, data: dict[str, Any], cut: float, colour: dict[str, str]) -> Iterator[str]:
    right = data["verdict"] == "aligned"
    yield text(LEFT, 24, re.split(r"; | in \d", data["sentence"])[0], colour["good" if right else "bad"], size=14)
    plot = WIDTH - LEFT - 20
    for lane in drawn.lanes:
        y = lane.y - cut
        yield f'<rect x="{LEFT}" y="{y:g}" width="{plot}" height="{LANE}" fill="{colour["lane"]}"/>'
        yield text(LEFT, y - 7, lane.name, colour["ink"], size=12)
        for at, label in lane.ticks:
            yield text(LEFT - 6, at - cut + 4, label, colour["quiet"], size=10, anchor="end", font=MONO)
            line = f'x1="{LEFT}" x2="{LEFT + plot}" y1="{at - cut:.1f}" y2="{at - cut:.1f}"'
            yield f'<line {line} stroke="{colour["rule"]}" stroke-width=".5"/>'
    for x, number in drawn.blocks:
        yield text(LEFT + plot * x / 100, drawn.height - cut - 6, f"block {number}", colour["quiet"], size=10)
    for column in drawn.columns:
        yield from _column(column, drawn, cut, plot, colour)


def _column(column: Column, drawn: Chart, cut: float, plot: float, colour: dict[str, str]) -> Iterator[str]:
    x, width = LEFT + plot * column.x / 100, plot * drawn.width / 100
    for bar in column.bars:
        box = f'x="{x + 0.5:.1f}" y="{bar.y - cut:.1f}" width="{width - 1:.1f}" height="{bar.height:.1f}"'
        yield f'<rect {box} fill="{colour[bar.heat]}"/>'
        if bar.bound_y is not None:
            line = f'x1="{x:.1f}" x2="{x + width:.1f}" y1="{bar.bound_y - cut:.1f}" y2="{bar.bound_y - cut:.1f}"'
            yield f'<line {line} stroke="{colour["ink"]}" stroke-width="1"/>'
    if column.marked:
        middle, y = x + width / 2, drawn.lanes[0].y - cut
        yield f'<path d="M{middle - 6:.1f} {y - 12:.1f}h12l-6 9Z" fill="{colour["over"]}"/>'
        yield text(middle - 10, y - 7, f"{column.name} ", colour["over"], size=12, anchor="end", font=MONO)


def aligned(*options: str) -> dict[str, Any]:
    """Return the result of the gate on s32 with seeded weights."""
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "result.json"
        program = Path(sys.executable).parent / "mixer-align"
        command = [str(program), "--variant", "s32", *options, "--json", str(target)]
        subprocess.run(command, cwd=ROOT, check=False, capture_output=True)
        data: dict[str, Any] = strict_json.parse(target.read_bytes())
    return data


def photograph(page: Path, name: str) -> None:
    """Write what a browser shows of the top of a page, light and dark."""
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    for option in ("--headless=new", "--no-sandbox", "--hide-scrollbars", f"--window-size={WIDTH},{TALL}"):
        options.add_argument(option)
    with webdriver.Chrome(options=options) as browser:
        for scheme in ("light", "dark"):
            features = [{"name": "prefers-color-scheme", "value": scheme}]
            browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
            size = {"width": WIDTH, "height": TALL, "deviceScaleFactor": 1, "mobile": False}
            browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
            browser.get(page.as_uri())
            browser.save_screenshot(str(OUT / f"{name}-{scheme}.png"))


def audit() -> None:
    """Rehearse an audit on made-up weights and images, and show its page."""
    with tempfile.TemporaryDirectory() as folder:
        program = Path(sys.executable).parent / "mixer-report"
        command = [str(program), "rehearse", "--out", f"{folder}/rehearsal", "--images-per-second", "500"]
        subprocess.run(command, check=True, capture_output=True)
        photograph(Path(folder) / "rehearsal" / "bundle" / "report.html", "audit")


def main(wanted: list[str]) -> None:
    """Write the pictures that are named, or all."""
    OUT.mkdir(exist_ok=True)
    found = {}
    if not wanted or "charts" in wanted:
        found = {"right": aligned(), "wrong": aligned("--candidate-model", WRONG)}
    for name, colour in colours().items():
        if not wanted or "architecture" in wanted:
            (OUT / f"architecture-{name}.svg").write_text(architecture(colour), encoding="utf-8")
        for which, data in found.items():
            (OUT / f"chart-{which}-{name}.svg").write_text(layers(data, colour), encoding="utf-8")
    if not wanted or "audit" in wanted:
        audit()


if __name__ == "__main__":
    main(sys.argv[1:])
