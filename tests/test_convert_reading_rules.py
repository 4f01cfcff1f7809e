"""The lint rule by which everything is read through convert.files: it catches each other way, and it is followed."""

from __future__ import annotations

import ast
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("convert", "align", "reports")
EXEMPT = {"convert/files/strict_json.py"}
"""The one place that parses JSON."""
WAYS = {
    "paddle.load": "import paddle\n\npaddle.load('x')\n",
    "paddle.load, inside": "def f() -> object:\n    import paddle\n\n    return paddle.load('x')\n",
    "paddle's load by name": "def f() -> object:\n    from paddle import load\n\n    return load('x')\n",
    "pickle.load": "import pickle\n\npickle.load(open('x', 'rb'))\n",
    "pickle.loads": "import pickle\n\npickle.loads(b'')\n",
    "pickle.Unpickler": "from pickle import Unpickler\n\nUnpickler(open('x', 'rb'))\n",
    "_pickle": "import _pickle\n\n_pickle.loads(b'')\n",
    "torch.load": "def f() -> object:\n    import torch\n\n    return torch.load('x')\n",
    "torch.load, weights only": "import torch\n\ntorch.load('x', weights_only=True)\n",
    "torch.jit.load": "def f() -> object:\n    import torch\n\n    return torch.jit.load('x')\n",
    "numpy.load": "import numpy as np\n\nnp.load('x')\n",
    "numpy.load with pickles": "import numpy as np\n\nnp.load('x', allow_pickle=True)\n",
    "joblib": "import joblib\n\njoblib.load('x')\n",
    "marshal": "import marshal\n\nmarshal.loads(b'')\n",
    "shelve": "import shelve\n\nshelve.open('x')\n",
    "dill": "import dill\n\ndill.loads(b'')\n",
    "cloudpickle": "import cloudpickle\n\ncloudpickle.loads(b'')\n",
    "json.loads": "import json\n\njson.loads('1')\n",
}


def ruff(*arguments: str, source: str | None = None) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "ruff", "check", "--no-cache", "--quiet", "--output-format", "concise", *arguments]
    return subprocess.run(command, input=source, capture_output=True, text=True, check=False, cwd=ROOT)


def test_the_rule_catches_every_other_way_to_read(tmp_path: Path) -> None:
    paths = {f"{package}/{i}.py": source for package in PACKAGES for i, source in enumerate(WAYS.values())}
    for name, source in paths.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(source)
    found = ruff("--select", "TID251", "--config", "pyproject.toml", str(tmp_path))
    assert found.returncode == 1, found.stderr
    assert {name for name in paths if f"{name}:" in found.stdout} == set(paths), "a way that is not caught"


def test_the_rule_lets_the_readers_be_used() -> None:
    source = "from pathlib import Path\n\nfrom convert import files\n\nfiles.read(Path('x'))\n"
    assert ruff("--select", "TID251", "--stdin-filename", "align/made_up.py", "-", source=source).returncode == 0


def test_the_rule_is_followed_without_exceptions_in_the_code() -> None:
    found = ruff("--select", "TID251", "--ignore-noqa", *PACKAGES)
    assert found.returncode == 0, found.stdout + found.stderr


def test_the_rule_is_part_of_what_is_checked() -> None:
    lint = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["ruff"]["lint"]
    assert "TID" in lint["select"]
    assert "TID251" not in lint["ignore"]
    exempt = {name for name, rules in lint["per-file-ignores"].items() if "TID251" in rules}
    assert exempt == {"tests/*", "benchmarks/*", *EXEMPT}


def test_no_call_allows_pickles() -> None:
    """Beside the rule: no keyword turns unpickling on, in whatever function."""
    paths = [path for package in PACKAGES for path in (ROOT / package).rglob("*.py")]
    assert len(paths) > 100
    for path in paths:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.keyword) and node.arg == "allow_pickle":
                assert isinstance(node.value, ast.Constant), path
                assert node.value.value is False, path
