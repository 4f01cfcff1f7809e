"""Small configs, seeded weights, and the commands as a user runs them."""

from __future__ import annotations

import os

os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # with parallel workers, spinning costs several times as much
WORKERS = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
THREADS = {name: str(max(1, (os.cpu_count() or 1) // WORKERS)) for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS")}
SHARED_OUT = [name for name in THREADS if WORKERS > 1 and name not in os.environ]
"""What is set here alone, because workers share the processors: a fifth less processor time on two of them."""
os.environ.update({name: THREADS[name] for name in SHARED_OUT})

from align.probes.heap import keep_freed_memory
from align.probes.knobs import compute_quickly

compute_quickly()  # before NumPy is imported
keep_freed_memory()

import contextlib
import gc
import hashlib
import shutil
import subprocess
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result
from forked import Forker
from warm import Warm

from convert.arrays import StateDict
from convert.mixer.init import init_state_dict
from convert.mixer.variants import MixerConfig

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"
Run = Callable[..., Result]
REVISION = "0123456789abcdef0123456789abcdef01234567"
RESOLVE = "/timm/mixer_b16_224.goog_in21k/resolve/main/model.safetensors"


with contextlib.suppress(ImportError):  # most tests need no hypothesis
    from hypothesis import HealthCheck, settings

    # How long an example takes says how busy the machine is.
    settings.register_profile("busy", deadline=None, print_blob=True, suppress_health_check=[HealthCheck.too_slow])
    settings.load_profile("busy")


@pytest.fixture(scope="session")
def frameworks() -> None:
    """Import torch, timm and Paddle once, without the warnings that their imports give."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import paddle  # noqa: F401
        import timm  # noqa: F401
        import torch  # noqa: F401
    gc.freeze()  # a million objects that stay: to look through them again and again takes a fifteenth of the time


@pytest.fixture(scope="module")
def one_thread(frameworks: None) -> Iterator[None]:
    """torch on one thread: its backward pass on toy models otherwise does little but wait for the second."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def config() -> MixerConfig:
    """All sizes differ, so that every swap or transposition changes a shape."""
    return MixerConfig(
        image_size=20, patch_size=5, num_blocks=4, hidden_dim=10, tokens_mlp_dim=6, channels_mlp_dim=14, num_classes=7
    )


@pytest.fixture(scope="session")
def square_config() -> MixerConfig:
    """64 tokens and tokens_mlp_dim 64: token-mixing weights that are square, so that no shape tells their layout."""
    return MixerConfig(
        image_size=32, patch_size=4, num_blocks=4, hidden_dim=24, tokens_mlp_dim=64, channels_mlp_dim=96, num_classes=10
    )


@pytest.fixture(scope="session")
def source(config: MixerConfig) -> StateDict:
    return init_state_dict(config, 0)


@pytest.fixture(scope="session")
def square_source(square_config: MixerConfig) -> StateDict:
    return init_state_dict(square_config, 0)


@pytest.fixture
def checkpoint(tmp_path: Path, source: StateDict) -> Path:
    """A .safetensors of the small config, written by the safetensors library."""
    return save_safetensors(tmp_path / "timm.safetensors", source)


@pytest.fixture
def mixer_convert() -> Run:
    from convert.commands.cli import main

    return lambda *arguments: CliRunner().invoke(main, [str(a) for a in arguments])


@pytest.fixture(scope="module")
def forker() -> Iterator[Forker]:
    with Forker() as forker:
        yield forker


@pytest.fixture(scope="session")
def warm() -> Iterator[Warm]:
    """Commands of a shell that have the frameworks loaded already."""
    with Warm() as warm:
        yield warm


@pytest.fixture
def mixer_align(frameworks: None) -> Run:
    from align.commands.cli import main

    return lambda *arguments: CliRunner().invoke(main, [str(a) for a in arguments])


@dataclass
class Hub:
    """What the server serves, what it was asked for, and how it misbehaves, to requests of the methods in `to`.

    stated: The SHA-256 that it states (None: the right one). headers: In place of the usual ones; None leaves one out.
    cdn: Whether it redirects to another host name. silent: It accepts, and never answers. drip: Seconds after each byte
    of the headers. cut_after, stall_after: The byte after which it hangs up, or sends no more. pace: Bytes, and the
    seconds after them.
    """

    file: Path
    endpoint: str = ""
    path: str = RESOLVE
    stated: str | None = None
    status: int = 200
    headers: dict[str, str | None] = field(default_factory=dict)
    to: tuple[str, ...] = ("HEAD", "GET")
    cdn: bool = False
    silent: bool = False
    drip: float = 0
    cut_after: int | None = None
    stall_after: int | None = None
    pace: tuple[int, float] | None = None
    requests: list[str] = field(default_factory=list)
    closing: threading.Event = field(default_factory=threading.Event)

    def usual_headers(self) -> dict[str, str | None]:
        size = str(self.file.stat().st_size)
        sha256 = self.stated or hashlib.sha256(self.file.read_bytes()).hexdigest()
        return {
            "Content-Length": size,
            "ETag": '"of the storage behind"',
            "X-Linked-Etag": f'"{sha256}"',
            "X-Linked-Size": size,
            "X-Repo-Commit": REVISION,
        }


class HubHandler(BaseHTTPRequestHandler):
    """Answers as a `Hub` says."""

    hub: Hub

    def do_HEAD(self) -> None:
        self.answer()

    def do_GET(self) -> None:
        with contextlib.suppress(OSError):
            if self.answer():
                self.send_body()

    def answer(self) -> bool:
        """Send status and headers, and return whether a body belongs to them."""
        hub = self.hub
        hub.requests.append(f"{self.command} {self.path}")
        misbehaves = self.command in hub.to
        if misbehaves and hub.silent:
            hub.closing.wait()
        if misbehaves and hub.drip:
            self.drip()
        if self.path == "/cdn":
            status, headers = 200, {"Content-Length": str(hub.file.stat().st_size), "ETag": '"cdn"'}
        elif self.path != hub.path:
            self.send_error(404)
            return False
        else:
            status, headers = hub.status if misbehaves else 200, hub.usual_headers()
            headers |= hub.headers if misbehaves else {}
        if hub.cdn and self.path == hub.path:
            port = hub.endpoint.rpartition(":")[2]
            status, headers = 302, {**headers, "Location": f"http://localhost:{port}/cdn", "Content-Length": "0"}
        self.send_response(status)
        for name, value in headers.items():
            if value is not None:
                self.send_header(name, value)
        self.end_headers()
        return status == 200

    def drip(self) -> None:
        self.wfile.write(b"HTTP/1.1 200 OK\r\nX-Slow: ")
        while not self.hub.closing.wait(self.hub.drip):
            self.wfile.write(b"x")

    def send_body(self) -> None:
        hub = self.hub
        content = hub.file.read_bytes()[: hub.cut_after]
        size, wait = hub.pace or (len(content), 0)
        if hub.stall_after is not None:
            size, wait = hub.stall_after, 3600
        for start in range(0, len(content), size or 1):
            self.wfile.write(content[start : start + size])
            if wait and hub.closing.wait(wait):
                return

    def log_message(self, *_: object) -> None: ...


@contextlib.contextmanager
def serving(file: Path) -> Iterator[Hub]:
    """Serve a file until the end of the `with`."""
    hub = Hub(file=file)
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (HubHandler,), {"hub": hub}))
    hub.endpoint = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    yield hub
    hub.closing.set()
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[Hub]:
    with serving(tmp_path / "served.safetensors") as hub:
        yield hub


@pytest.fixture(scope="session")
def trained() -> Path:
    """The small Mixer that timm trained on CIFAR-10."""
    return shared("mixer_cifar10_timm.safetensors")


@pytest.fixture(scope="session")
def test_images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An archive of 10,000 CIFAR-10 test images that went through JPEG."""
    folder = tmp_path_factory.mktemp("cifar10")
    command = [sys.executable, shared("make_cifar10.py"), folder, "--split", "test"]
    subprocess.run(command, check=True, capture_output=True)
    return folder / "cifar-10-python.tar.gz"


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """A headless Chromium that logs what it says and what it asks the network for."""
    paths = [shutil.which("chromium") or shutil.which("google-chrome"), shutil.which("chromedriver")]
    if None in paths:
        pytest.skip("needs chromium and chromedriver (apt-get install chromium chromium-driver), which are not here")
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = str(paths[0])
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(str(paths[1])))
    yield driver
    driver.quit()


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory, frameworks: None, square_source: StateDict) -> Path:
    """A folder with weights, an archive, and the bundle of their audit."""
    from bundles import COUNT, audit_of
    from cifar_files import python_files, write_archive

    from convert.commands.cli import main

    folder = tmp_path_factory.mktemp("audit")
    source, out = save_safetensors(folder / "small.safetensors", square_source), folder / "small.pdparams"
    assert CliRunner().invoke(main, ["--checkpoint", str(source), "--out", str(out)]).exit_code == 0
    write_archive(folder / "tiny.tar.gz", python_files(COUNT))
    (folder / "curve.png").write_bytes(b"a curve")
    result = audit_of(folder, "--attach", folder / "curve.png")
    assert result.exit_code == 1, result.output
    assert "not comparable" in result.stdout
    return folder


@pytest.fixture
def bundle(made: Path, tmp_path: Path) -> Path:
    """A copy of the bundle in another folder, to alter."""
    from bundles import copy_of

    return copy_of(made / "bundle", tmp_path)


def shared(name: str) -> Path:
    """Return a file of the data folder beside the project, or skip the test, saying so."""
    path = SHARED / name
    if not path.exists():
        pytest.skip(f"needs {name} from the shared data folder, which is not here")
    return path


def save_safetensors(path: Path, state_dict: StateDict) -> Path:
    """Write with the safetensors library, whose NumPy writer needs contiguous arrays."""
    from safetensors.numpy import save_file

    save_file({key: np.asarray(array, order="C") for key, array in state_dict.items()}, path)
    return path


SECONDS = {
    "test_align_backward.py::TestRightPort::test_s32": 10,
    "test_align_gates.py": 50,
    "test_align_html.py": 40,
    "test_align_memory.py::test_l32": 35,
    "test_align_memory.py::test_resnet50": 30,
    "test_align_propose.py": 40,
    "test_align_right_ports.py": 40,
    "test_align_selftest.py::test_faults_are_caught_and_placed_in_other_families": 25,
    "test_align_selftest.py::test_every_fault": 45,
    "test_convert_hub.py": 30,
    "test_convert_layouts.py": 60,
    "test_docs_api.py": 15,
    "test_docs_port.py": 35,
    "test_kernels.py": 35,
    "test_packaging.py": 40,
    "test_readme.py::test_every_block_runs[README": 30,
    "test_readme.py": 70,
    "test_reports_audit.py": 35,
    "test_reports_evaluate.py": 25,
    "test_reports_finetune.py": 80,
    "test_reports_rehearse.py": 110,
    "test_versions_lowest.py": 40,
    "test_versions_upgrade.py": 15,
}
"""About how long slow tests take: those of a file together, because they share fixtures, or such a test by itself."""
OTHERWISE = 5.0


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let each worker begin with its share of the slow tests, the longest first, so that all end at about one time.

    `--dist worksteal` gives each worker a stretch of the list, as long as the others', and lets it take what others
    have left when it is done.
    """
    slow: dict[str, tuple[float, list[pytest.Item]]] = {}
    for item in items:
        if "slow" in item.keywords:
            test = f"{item.path.name}::{item.nodeid.partition('::')[2]}"
            known = next((known for known in SECONDS if test.startswith(known)), item.path.name)
            seconds, group = slow.get(name := test if "::" in known else known, (0.0, []))
            slow[name] = SECONDS.get(known, seconds + OTHERWISE), [*group, item]
    quick = [item for item in items if "slow" not in item.keywords]
    shares: list[tuple[float, list[pytest.Item]]] = [(0.0, [])] * WORKERS
    for seconds, group in sorted(slow.values(), key=lambda found: -found[0]):
        shares.sort(key=lambda share: share[0])
        shares[0] = shares[0][0] + seconds, shares[0][1] + group
    total, items[:] = len(items), []
    for number, (_, share) in enumerate(shares):
        size = max((total - len(items)) // (WORKERS - number) - len(share), 0)
        items += [*share, *quick[:size]]
        quick = quick[size:]
    items += quick
    gc.freeze()  # tests and modules stay, too


@pytest.fixture
def toy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A checkpoint of a family that is installed as any package is: by what lies beside it on the path."""
    from toy_family import SMALL, TOY

    from convert import families

    installed = tmp_path / "site" / "toy-1.dist-info"
    installed.mkdir(parents=True)
    (installed / "METADATA").write_text("Metadata-Version: 2.1\nName: toy\nVersion: 1\n")
    (installed / "entry_points.txt").write_text(f"[{families.GROUP}]\ntoy = toy_family:TOY\n")
    monkeypatch.syspath_prepend(installed.parent)
    families.installed.cache_clear()
    yield save_safetensors(tmp_path / "toy.safetensors", TOY.draw(SMALL, 0))
    families.installed.cache_clear()
