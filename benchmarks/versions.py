"""Align a variant and convert its weights with several versions of Paddle, each installed in a temporary folder.

Usage: versions.py [--paddle VERSION …] [--variant NAME] [--out FILE.json [--append]]. Another Python, torch or set of
lowest versions is another environment, whose interpreter runs this with --append. Exits with 1 where a row is not
aligned, or a converted file is not the same as the first row's.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

SCHEMA = "mixer-convert/versions/1"
PADDLES = ("3.1.1", "3.2.2", "3.3.1")
SOURCE = "timm.safetensors"
DRAW = (
    "import sys; from pathlib import Path; from safetensors.numpy import save_file;"
    "from convert.mixer.init import init_state_dict; from convert.mixer.variants import get_variant;"
    "save_file(init_state_dict(get_variant(sys.argv[1]).config, 0), Path(sys.argv[2]))"
)
NAMES = "import json, sys; from convert.evidence.manifest import versions; print(json.dumps(versions(sys.argv[1:])))"
PACKAGES = ("torch", "torchvision", "timm", "paddlepaddle", "numpy")
SHA256 = "import hashlib, sys; print(hashlib.sha256(open(sys.argv[1], 'rb').read()).hexdigest())"
FAST = ("tests/test_convert_paddle_mixer.py", "tests/test_convert_files.py")


def row_of(paddle: str, variant: str, folder: Path) -> dict[str, Any]:
    """Return the results with one version of Paddle, which is installed into the folder."""
    install = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", str(folder / "paddle")]
    subprocess.run([*install, f"paddlepaddle=={paddle}"], check=True)
    path = os.pathsep.join(filter(None, (str(folder / "paddle"), os.getenv("PYTHONPATH"))))
    env = {**os.environ, "PYTHONPATH": path}

    def python(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-W", "ignore", *arguments]
        return subprocess.run(command, env=env, capture_output=True, text=True, check=False)

    started = time.monotonic()
    versions = json.loads(python("-c", NAMES, *PACKAGES).stdout)
    result, weights, out = folder / "result.json", folder / SOURCE, folder / "paddle.pdparams"
    python("-c", DRAW, variant, str(weights))
    align = python("-m", "align.commands.cli", "--variant", variant, "--json", str(result))
    convert = python("-m", "convert.commands.cli", "--checkpoint", str(weights), "--out", str(out))
    loaded = python("-c", SHA256, str(out)).stdout.strip()
    tests = python("-m", "pytest", "-q", "-p", "no:cacheprovider", "-m", "not slow", *FAST)
    found = json.loads(result.read_text()) if result.exists() else {}
    return {
        "versions": versions,
        "verdict": found.get("verdict", f"exit {align.returncode}"),
        "said": align.stdout.strip().splitlines()[-1:],
        "sha256": loaded or f"exit {convert.returncode}",
        "tests": tests.stdout.strip().splitlines()[-1:],
        "seconds": round(time.monotonic() - started, 1),
    }


def rows_of(paddles: Sequence[str], variant: str) -> Iterator[dict[str, Any]]:
    """Yield a row for each version."""
    for paddle in paddles:
        with tempfile.TemporaryDirectory(prefix="versions-") as folder:
            yield row_of(paddle, variant, Path(folder))


def main() -> None:
    """Run what is asked for, print and write the rows, and exit with 1 unless all are good."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--paddle", nargs="+", default=list(PADDLES))
    parser.add_argument("--variant", default="s32")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--append", action="store_true", help="Keep the rows of the file.")
    asked = parser.parse_args()
    rows = json.loads(asked.out.read_text())["rows"] if asked.append else []
    for row in rows_of(asked.paddle, asked.variant):
        rows.append(row)
        print(json.dumps(row), flush=True)
        if asked.out:
            data = {"schema": SCHEMA, "variant": asked.variant, "rows": rows}
            asked.out.write_text(json.dumps(data, indent=1) + "\n")
    good = all(row["verdict"] == "aligned" and row["sha256"] == rows[0]["sha256"] for row in rows)
    sys.exit(0 if good else 1)


if __name__ == "__main__":
    main()
