"""Signed bundles: what each key, each --signer and each attack ends with."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import pty
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from bundles import NAMES, alter, audit_of, copy_of, load_json, mend, run, sum_up

from reports.audit.bundle import ENVELOPE, SUMS, as_json
from reports.audit.names import STATEMENT
from reports.audit.records import read_records
from reports.sign import ssh_keygen
from reports.sign.dsse import PAYLOAD_TYPE, Signature, enveloped, pae, signature_in
from reports.sign.signature import signed

pytestmark = pytest.mark.skipif(shutil.which("ssh-keygen") is None, reason="needs ssh-keygen, of OpenSSH's client")

Keys = dict[str, Path]
TYPES = {"ed25519": ("ed25519",), "ecdsa": ("ecdsa", "-b", "384"), "rsa": ("rsa", "-b", "2048")}


def generate(path: Path, *kind: str, passphrase: str = "") -> Path:
    command = ["ssh-keygen", "-q", "-t", *kind, "-N", passphrase, "-C", "someone@example.org", "-f", str(path)]
    subprocess.run(command, check=True)
    return path


def fingerprint(key: Path) -> str:
    """Return what `ssh-keygen -l` prints."""
    said = subprocess.run(["ssh-keygen", "-l", "-f", str(key)], check=True, capture_output=True, text=True).stdout
    return said.split()[1]


def public(key: Path) -> Path:
    return key.with_name(f"{key.name}.pub")


@pytest.fixture(scope="session")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Keys:
    """A key of each type, another one, and one with a passphrase."""
    folder = tmp_path_factory.mktemp("keys")
    found = {name: generate(folder / name, *kind) for name, kind in TYPES.items()}
    locked = generate(folder / "locked", "ed25519", passphrase="a secret")
    return {**found, "other": generate(folder / "other", "ed25519"), "locked": locked}


@pytest.fixture
def agent(tmp_path: Path, keys: Keys, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """An SSH agent that holds the ed25519 key; its socket is there before it listens."""
    socket = tmp_path / "agent"
    monkeypatch.setenv("SSH_AUTH_SOCK", str(socket))
    add = ["ssh-add", "-q", str(keys["ed25519"])]
    with subprocess.Popen(["ssh-agent", "-D", "-a", str(socket)], stdout=subprocess.DEVNULL) as process:
        try:
            until = time.monotonic() + 30
            while subprocess.run(add, capture_output=True, check=False).returncode:
                assert time.monotonic() < until, "ssh-agent takes no key"
                time.sleep(0.05)
            yield
        finally:
            process.terminate()


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """No agent of the person who runs the tests; and nothing of ours is left behind."""
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    yield
    assert list((tmp_path / "temporary").iterdir()) == []


def sign(bundle: Path, key: Path) -> Path:
    """Sign a bundle as an audit does, and sum it up."""
    files = {file.name: file.read_bytes() for file in bundle.iterdir() if file.name not in (SUMS, ENVELOPE)}
    (bundle / ENVELOPE).write_bytes(signed(files, key)[ENVELOPE])
    sum_up(bundle)
    return bundle


@pytest.fixture
def by_us(bundle: Path, keys: Keys) -> Path:
    """A bundle that the ed25519 key signed."""
    return sign(bundle, keys["ed25519"])


@pytest.fixture
def audited(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An audit that takes no time: its inputs are not read, and its files are those of the bundle that is there."""
    files = {name: (made / "bundle" / name).read_bytes() for name in NAMES - {SUMS}}
    audit = SimpleNamespace(data=SimpleNamespace(labels=[0]))
    monkeypatch.setattr("reports.jobs._audited", lambda **_: audit)
    report = read_records(files).report
    monkeypatch.setattr("reports.audit.assemble.audit", lambda *_, **__: (report, files))


@pytest.fixture
def no_work(monkeypatch: pytest.MonkeyPatch) -> None:
    """An audit that fails the test as soon as it begins."""
    monkeypatch.setattr("reports.jobs._audited", lambda **_: pytest.fail("it went to work"))


def path_of(monkeypatch: pytest.MonkeyPatch, folder: Path, script: str | None = None) -> None:
    """Make the folder the only one of PATH, with a script in place of ssh-keygen or without one."""
    folder.mkdir()
    if script is not None:
        (folder / "ssh-keygen").write_text(f"#!/bin/sh\n{script}\n")
        (folder / "ssh-keygen").chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:/bin:/usr/bin" if script else str(folder))


class TestEnvelope:
    def test_what_is_signed_is_encoded_as_the_specification_says(self) -> None:
        """Its test vector. Source: https://github.com/secure-systems-lab/dsse, protocol.md."""
        expected = b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"
        assert pae(b"hello world", "http://example.com/HelloWorld") == expected
        assert pae("ü".encode(), "ü") == "DSSEv1 2 ü 2 ü".encode(), "lengths are in bytes"

    def test_a_stranger_checks_it_with_ssh_keygen_alone(self, by_us: Path, keys: Keys, tmp_path: Path) -> None:
        found = load_json(by_us, ENVELOPE)
        assert base64.b64decode(found["payload"]) == (by_us / STATEMENT).read_bytes()
        assert found["payloadType"] == "application/vnd.in-toto+json"
        [one] = found["signatures"]
        assert one["keyid"] == fingerprint(keys["ed25519"])
        (tmp_path / "s").write_text(f"-----BEGIN SSH SIGNATURE-----\n{one['sig']}\n-----END SSH SIGNATURE-----\n")
        (tmp_path / "a").write_text(f"me {public(keys['ed25519']).read_text()}")
        head = f"DSSEv1 28 application/vnd.in-toto+json {(by_us / STATEMENT).stat().st_size} ".encode()
        command = ["ssh-keygen", "-Y", "verify", "-f", "a", "-I", "me", "-n", "mixer-report", "-s", "s"]
        message = head + (by_us / STATEMENT).read_bytes()
        subprocess.run(command, cwd=tmp_path, input=message, check=True, capture_output=True)

    def test_it_is_read_as_it_was_written_and_in_no_other_way(self) -> None:
        signature = Signature("SHA256:x", b"\0" * 100)
        envelope = enveloped(b"payload", signature)
        assert signature_in(envelope, b"payload") == signature
        for other in (envelope + b" ", envelope[:-1], envelope.replace(b"\n ", b"\n  "), b"", b"[]", b"\xff"):
            with pytest.raises(ValueError, match=r".+"):
                signature_in(other, b"payload")


class TestAudit:
    def audit(self, made: Path, key: Path, tmp_path: Path) -> Any:
        return audit_of(made, "--sign", key, out=str(tmp_path / "b"))

    @pytest.mark.usefixtures("audited")
    @pytest.mark.parametrize("kind", sorted(TYPES))
    def test_each_type_of_key_signs(self, made: Path, keys: Keys, tmp_path: Path, kind: str) -> None:
        result = self.audit(made, keys[kind], tmp_path)
        assert result.exit_code == 1, result.output
        result = run("verify", tmp_path / "b", "--signer", public(keys[kind]))
        assert (result.exit_code, fingerprint(keys[kind]) in result.stdout) == (0, True)

    @pytest.mark.usefixtures("audited", "agent")
    def test_the_public_key_of_one_in_the_agent_signs(self, made: Path, keys: Keys, tmp_path: Path) -> None:
        alone = shutil.copy(public(keys["ed25519"]), tmp_path / "mine.pub")
        assert self.audit(made, alone, tmp_path).exit_code == 1
        assert run("verify", tmp_path / "b", "--signer", alone).exit_code == 0

    @pytest.mark.usefixtures("audited", "agent")
    def test_a_key_with_a_passphrase_signs_from_the_agent(self, made: Path, keys: Keys, tmp_path: Path) -> None:
        asked = tmp_path / "asked"
        asked.write_text("#!/bin/sh\necho a secret\n")
        asked.chmod(0o755)
        told = {**os.environ, "SSH_ASKPASS": str(asked), "SSH_ASKPASS_REQUIRE": "force"}
        subprocess.run(["ssh-add", "-q", str(keys["locked"])], check=True, env=told)
        assert self.audit(made, keys["locked"], tmp_path).exit_code == 1
        assert run("verify", tmp_path / "b", "--signer", public(keys["locked"])).exit_code == 0

    @pytest.mark.usefixtures("audited")
    def test_the_bundle_holds_the_envelope_and_nothing_private(self, made: Path, keys: Keys, tmp_path: Path) -> None:
        self.audit(made, keys["ed25519"], tmp_path)
        bundle = tmp_path / "b"
        assert {file.name for file in bundle.iterdir()} == {*NAMES, ENVELOPE}
        digest = hashlib.sha256((bundle / ENVELOPE).read_bytes()).hexdigest()
        assert f"{digest}  {ENVELOPE}\n" in (bundle / SUMS).read_text()
        assert ENVELOPE not in (bundle / STATEMENT).read_text()
        assert (bundle / STATEMENT).read_bytes() == (made / "bundle" / STATEMENT).read_bytes()
        private = keys["ed25519"].read_text().splitlines()[1:-1]
        for file in bundle.iterdir():
            assert not any(line.encode() in file.read_bytes() for line in private[2:]), file.name

    @pytest.mark.usefixtures("no_work")
    @pytest.mark.parametrize(
        ("name", "code", "said"),
        [
            ("missing", 4, "there is no file that can be read. Pass an SSH key"),
            ("folder", 4, "there is no file that can be read. Pass an SSH key"),
            ("text", 3, "there is no public key in it or beside it"),
            ("empty", 3, "there is no public key in it or beside it"),
            ("damaged", 3, "ssh-keygen cannot sign with it"),
            ("alone.pub", 3, "No private key found for public key"),
            ("open", 3, "others may read this private key"),
            ("locked", 2, "it has a passphrase, which is not asked for here. Run: ssh-add"),
        ],
    )
    def test_what_cannot_sign_is_refused_before_the_work(
        self, made: Path, keys: Keys, tmp_path: Path, name: str, code: int, said: str
    ) -> None:
        key, ours = tmp_path / name, keys["ed25519"]
        (tmp_path / "folder").mkdir()
        (tmp_path / "text").write_text("no key\n")
        (tmp_path / "empty").write_bytes(b"")
        (tmp_path / "damaged").write_text(ours.read_text()[:200])
        (tmp_path / "damaged").chmod(0o600)
        shutil.copy(public(ours), tmp_path / "alone.pub")
        shutil.copy(ours, tmp_path / "open")
        (tmp_path / "open").chmod(0o644)
        shutil.copy(keys["locked"], tmp_path / "locked")
        result = self.audit(made, key, tmp_path)
        assert (result.exit_code, said in result.stderr, str(key) in result.stderr) == (code, True, True), result.output
        assert result.stderr.count("\n") == 1
        assert not (tmp_path / "b").exists()

    @pytest.mark.usefixtures("no_work")
    @pytest.mark.skipif(os.geteuid() == 0, reason="root reads every file")
    def test_a_key_that_cannot_be_read_is_refused_before_the_work(self, made: Path, keys: Keys, tmp_path: Path) -> None:
        key = Path(shutil.copy(keys["ed25519"], tmp_path / "mine"))
        key.chmod(0)
        result = self.audit(made, key, tmp_path)
        assert (result.exit_code, f"{key}: there is no file that can be read" in result.stderr) == (4, True)

    @pytest.mark.usefixtures("no_work")
    def test_sigstore_is_not_taken_for_a_key(
        self, made: Path, keys: Keys, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        result = self.audit(made, Path("sigstore"), tmp_path)
        assert (result.exit_code, "pip install sigstore" in result.stderr) == (2, True)
        shutil.copy(keys["ed25519"], tmp_path / "sigstore")
        with pytest.raises(BaseException, match="it went to work"):
            raise self.audit(made, Path("sigstore"), tmp_path).exception

    @pytest.mark.usefixtures("no_work")
    def test_a_passphrase_is_asked_for_by_no_window(
        self, made: Path, keys: Keys, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        asked = tmp_path / "askpass"
        asked.write_text(f"#!/bin/sh\necho x >> {tmp_path / 'asked'}\necho a secret\n")
        asked.chmod(0o755)
        monkeypatch.setenv("SSH_ASKPASS", str(asked))
        monkeypatch.setenv("DISPLAY", ":0")
        assert self.audit(made, keys["locked"], tmp_path).exit_code == 2
        assert not (tmp_path / "asked").exists()

    def test_a_passphrase_is_asked_for_by_no_terminal(self, keys: Keys) -> None:
        """It would wait there: at the start, and again when the work is done and nobody sits before it."""
        code = "import fcntl, sys, termios; from pathlib import Path; from reports.sign.signature import check_key\n"
        code += "fcntl.ioctl(0, termios.TIOCSCTTY, 0)\n"  # the terminal is the one that it is asked by
        code += "try: check_key(Path(sys.argv[1]))\nexcept Exception as error: print(type(error).__name__)"
        master, slave = pty.openpty()
        with subprocess.Popen(
            [sys.executable, "-c", code, str(keys["locked"])],
            stdin=slave,
            stdout=subprocess.PIPE,
            stderr=slave,
            start_new_session=True,
        ) as process:
            try:
                said, _ = process.communicate(timeout=60)
            finally:
                process.kill()
                os.close(master)
                os.close(slave)
        assert said == b"UsageProblem\n"

    @pytest.mark.usefixtures("audited", "agent")
    def test_an_agent_that_has_forgotten_the_key_leaves_the_audit_unsigned(
        self, made: Path, keys: Keys, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        alone = shutil.copy(public(keys["ed25519"]), tmp_path / "mine.pub")
        during = sys.modules["reports.audit.assemble"].audit

        def work(*arguments: Any, **options: Any) -> Any:
            subprocess.run(["ssh-add", "-q", "-D"], check=True)
            return during(*arguments, **options)

        monkeypatch.setattr("reports.audit.assemble.audit", work)
        result = self.audit(made, alone, tmp_path)
        said = f"{tmp_path / 'b'}: written, but unsigned. {alone}: ssh-keygen cannot sign with it (No private key found"
        assert (result.exit_code, said in result.stderr) == (3, True), result.output
        assert "unsigned" in run("verify", tmp_path / "b").stdout

    @pytest.mark.usefixtures("no_work")
    def test_a_path_is_a_path(self, made: Path, keys: Keys, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """It is neither an option of ssh-keygen nor read by a shell."""
        monkeypatch.chdir(tmp_path)
        for name in ("-Y", "a key; touch x $(touch x) 'x"):
            shutil.copy(keys["ed25519"], tmp_path / name)
            with pytest.raises(BaseException, match="it went to work"):
                raise self.audit(made, Path(name), tmp_path).exception
        assert not (tmp_path / "x").exists()

    @pytest.mark.usefixtures("no_work")
    def test_an_attached_file_cannot_pass_for_the_envelope(self, made: Path, tmp_path: Path) -> None:
        from convert.errors import UsageProblem
        from reports.audit.assemble import attach

        (tmp_path / ENVELOPE).write_text("{}")
        with pytest.raises(UsageProblem, match="cannot hold a file of this name"):
            attach([tmp_path / ENVELOPE])


class TestVerify:
    def test_unsigned(self, bundle: Path, keys: Keys, tmp_path: Path) -> None:
        result = run("verify", bundle, "--json", tmp_path / "v.json")
        assert (result.exit_code, f"{bundle}: unsigned; who made it is not known" in result.stdout) == (0, True)
        found = load_json(tmp_path, "v.json")["signature"]
        assert (found["signed"], found["key"], found["trusted"]) == (False, None, None)
        assert "unsigned" in found["sentence"]
        result = run("verify", bundle, "--signer", public(keys["ed25519"]))
        assert (result.exit_code, f"{bundle}: it is unsigned, it has no {ENVELOPE}" in result.stderr) == (3, True)

    def test_a_signature_that_was_stripped_is_missed(self, by_us: Path, keys: Keys) -> None:
        (by_us / ENVELOPE).unlink()
        assert run("verify", by_us).exit_code == 5, "the checksums name it"
        sum_up(by_us)
        result = run("verify", by_us)
        assert (result.exit_code, "unsigned" in result.stdout) == (0, True)
        assert run("verify", by_us, "--signer", public(keys["ed25519"])).exit_code == 3

    def test_signed_by_whom_was_not_asked(self, by_us: Path, keys: Keys, tmp_path: Path) -> None:
        result = run("verify", by_us, "--json", tmp_path / "v.json")
        key = fingerprint(keys["ed25519"])
        sentence = f"{by_us}: signed by {key} (not checked against a signer you trust; --signer does)."
        assert (result.exit_code, sentence in result.stdout) == (0, True)
        expected = {"signed": True, "sentence": sentence, "key": key, "identity": None, "trusted": None}
        assert load_json(tmp_path, "v.json")["signature"] == expected

    @pytest.mark.parametrize(
        ("lines", "said"),
        [
            ("{ours}", ", a key of {file}."),
            ("# GitHub's form\n\n{other}\n{ours}", ", a key of {file}."),
            ("alice@example.org,*@example.com {ours}", ", alice@example.org in {file}."),
            ("bob@example.org {other}\nalice@example.org {ours}", ", alice@example.org in {file}."),
            ('a@b.org namespaces="git,mixer-report",valid-after="20200101" {ours}', ", a@b.org in {file}."),
            ('a@b.org namespaces="git" {ours}\nc@d.org {ours}', ", c@d.org in {file}."),
            ("!mallory@b.org,* {ours}", ", a key of {file}."),
            ("jürgen@b.org {ours}\r", ", jürgen@b.org in {file}."),
        ],
    )
    def test_signed_by_a_trusted_signer(self, by_us: Path, keys: Keys, tmp_path: Path, lines: str, said: str) -> None:
        file = self.signers(tmp_path, keys, lines)
        result = run("verify", by_us, "--signer", file, "--json", tmp_path / "v.json")
        sentence = f"{by_us}: signed by {fingerprint(keys['ed25519'])}{said.format(file=file)}"
        assert (result.exit_code, sentence in result.stdout) == (0, True), result.output
        found = load_json(tmp_path, "v.json")["signature"]
        named = re.search(r", (\S+) in ", said)
        assert (found["trusted"], found["identity"]) == (True, named and named[1])

    @pytest.mark.parametrize(
        ("lines", "why"),
        [
            ("{other}", "No principal matched"),
            ("alice@example.org {other}", "No principal matched"),
            ('a@b.org namespaces="git" {ours}', "line 1: key is not permitted for use in signature namespace"),
            ('a@b.org valid-before="20200101" {ours}', "line 1: key has expired"),
            ("a@b.org cert-authority {ours}", "No principal matched"),
            ("a@b.org {other} x\u2028* {ours}", "No principal matched"),
            ("a@b.org {other} x\x0b{ours}", "No principal matched"),
        ],
    )
    def test_signed_by_somebody_else(self, by_us: Path, keys: Keys, tmp_path: Path, lines: str, why: str) -> None:
        file = self.signers(tmp_path, keys, lines)
        result = run("verify", by_us, "--signer", file, "--json", tmp_path / "v.json")
        said = f"{by_us}: signed by {fingerprint(keys['ed25519'])}, whom {file} does not allow ({why}"
        assert (result.exit_code, said in result.stdout) == (1, True), result.output
        assert load_json(tmp_path, "v.json")["signature"]["trusted"] is False

    @pytest.mark.parametrize(
        ("lines", "code", "said"),
        [
            (None, 4, "there is no such file of signers"),
            ("", 3, "it holds no key"),
            ("# nobody\n", 3, "it holds no key"),
            ("{ours}\ngarbage", 3, "line 2 is no public key and no allowed signer"),
            ("{private}", 3, "it is a private key"),
            ("x" * (2**20 + 1), 3, "it is far too large"),
        ],
    )
    def test_a_file_without_signers_is_refused(
        self, by_us: Path, keys: Keys, tmp_path: Path, lines: str | None, code: int, said: str
    ) -> None:
        file = tmp_path / "none" if lines is None else self.signers(tmp_path, keys, lines)
        result = run("verify", by_us, "--signer", file)
        assert (result.exit_code, f"{file}: {said}" in result.stderr) == (code, True), result.output
        assert result.stderr.count("\n") == 1

    def signers(self, folder: Path, keys: Keys, lines: str) -> Path:
        ours, other = public(keys["ed25519"]).read_text().strip(), public(keys["other"]).read_text().strip()
        (folder / "signers").write_text(lines.format(ours=ours, other=other, private=keys["ed25519"].read_text()))
        return folder / "signers"

    def test_a_certificate_of_a_trusted_authority(self, bundle: Path, tmp_path: Path) -> None:
        authority, key = generate(tmp_path / "authority", "ed25519"), generate(tmp_path / "key", "ed25519")
        command = ["ssh-keygen", "-q", "-s", str(authority), "-I", "x", "-n", "alice", str(public(key))]
        subprocess.run(command, check=True)
        sign(bundle, tmp_path / "key-cert.pub")
        (tmp_path / "signers").write_text(f"alice cert-authority {public(authority).read_text()}")
        result = run("verify", bundle, "--signer", tmp_path / "signers")
        assert (result.exit_code, f"{fingerprint(key)}, alice in" in result.stdout) == (0, True), result.output

    def test_the_json_does_not_replace_the_signers(self, by_us: Path, keys: Keys, tmp_path: Path) -> None:
        file = self.signers(tmp_path, keys, "{ours}")
        assert run("verify", by_us, "--signer", file, "--json", file).exit_code == 2
        assert file.read_text().startswith("ssh-ed25519")


def in_envelope(change: Callable[[dict[str, Any]], object]) -> Callable[[Path], None]:
    """Return an attack that changes the envelope's data."""

    def attack(bundle: Path) -> None:
        data = load_json(bundle, ENVELOPE)
        change(data)
        (bundle / ENVELOPE).write_bytes(as_json(data))

    return attack


def in_bytes(change: Callable[[bytes], bytes]) -> Callable[[Path], None]:
    """Return an attack that changes the envelope's bytes."""
    return lambda bundle: (bundle / ENVELOPE).write_bytes(change((bundle / ENVELOPE).read_bytes())) and None


def in_signature(change: Callable[[bytes], bytes]) -> Callable[[Path], None]:
    """Return an attack that changes the signature's bytes."""

    def changed(data: dict[str, Any]) -> None:
        [one] = data["signatures"]
        one["sig"] = base64.b64encode(change(base64.b64decode(one["sig"]))).decode()

    return in_envelope(changed)


def url_safe(data: dict[str, Any]) -> None:
    data["payload"] = base64.urlsafe_b64encode(base64.b64decode(data["payload"]) + b"\xff\xff").decode()


def twice(content: bytes) -> bytes:
    return content.replace(b'{\n "payloadType"', b'{\n "payloadType": "text/plain",\n "payloadType"', 1)


OTHER_PAYLOAD = base64.b64encode(b"{}").decode()
ATTACKS: dict[str, tuple[Callable[[Path], None], str]] = {
    "no signature": (in_envelope(lambda d: d["signatures"].clear()), "it holds 0 signatures, not one"),
    "two signatures": (in_envelope(lambda d: d["signatures"].append(d["signatures"][0])), "2 signatures, not one"),
    "another type": (in_envelope(lambda d: d.update(payloadType="text/plain")), "'text/plain', not application/vnd"),
    "another payload": (in_envelope(lambda d: d.update(payload=OTHER_PAYLOAD)), f"it signs is not {STATEMENT}"),
    "no payload": (in_envelope(lambda d: d.pop("payload")), "no DSSE envelope (KeyError: 'payload')"),
    "payload is a list": (in_envelope(lambda d: d.update(payload=[])), f"what it signs is not {STATEMENT}"),
    "url-safe base64": (in_envelope(url_safe), f"what it signs is not {STATEMENT}"),
    "loose base64": (in_envelope(lambda d: d.update(payload=d["payload"] + "\n")), "what it signs is not"),
    "huge base64": (in_envelope(lambda d: d.update(payload="A" * 2**22)), "bytes, more than an envelope of"),
    "huge signature": (in_signature(lambda s: s * 1000), "bytes, more than an envelope of"),
    "signature is no base64": (in_envelope(lambda d: d["signatures"][0].update(sig="§")), "only ASCII"),
    "signature with a space": (in_envelope(lambda d: d["signatures"][0].update(sig="AA A=")), "no DSSE envelope"),
    "signature is a number": (in_envelope(lambda d: d["signatures"][0].update(sig=1)), "no DSSE envelope (TypeError"),
    "signatures are a map": (in_envelope(lambda d: d.update(signatures={"keyid": ""})), "no DSSE envelope (TypeError"),
    "further entry": (in_envelope(lambda d: d.update(note="hello")), "it is not written as we write it"),
    "further in it": (in_envelope(lambda d: d["signatures"][0].update(cert="")), "it is not written as we write it"),
    "another name": (
        in_envelope(lambda d: d["signatures"][0].update(keyid="SHA256:x")),
        "not by the key that it names",
    ),
    "key named twice": (in_bytes(twice), "it holds 'payloadType' twice"),
    "long key named twice": (in_bytes(lambda _: b'{"%b": 1, "%b": 1}' % (b"x" * 999, b"x" * 999)), "xxx…. Get the"),
    "no JSON": (in_bytes(lambda _: b"garbage"), "Expecting value"),
    "nested deep": (in_bytes(lambda _: b"[" * 40000), "nested too deep"),
    "a list": (in_bytes(lambda _: b"[]\n"), "no DSSE envelope (TypeError"),
    "empty": (in_bytes(lambda _: b""), "Expecting value"),
    "a byte more": (in_bytes(lambda content: content + b"\n"), "it is not written as we write it"),
    "trailing data": (in_signature(lambda s: s + b"x"), "Signature contains trailing data"),
    "no signature at all": (in_signature(lambda s: b""), "Couldn't parse signature"),
    "not SSH's": (in_signature(lambda s: b"x" * 64), "invalid format"),
    "armor within": (in_signature(lambda s: b"\n-----END SSH SIGNATURE-----\n" + s), "invalid format"),
    "last bit": (in_signature(lambda s: s[:-1] + bytes([s[-1] ^ 1])), "incorrect signature"),
    "another namespace": (in_signature(lambda s: s.replace(b"mixer-report", b"mixer_report")), "namespace does not"),
}


class TestAttacks:
    """Whoever alters a bundle can mend its checksums: each of these does."""

    @pytest.mark.parametrize("name", ATTACKS)
    def test_an_envelope_that_was_altered(self, by_us: Path, keys: Keys, name: str) -> None:
        attack, said = ATTACKS[name]
        attack(by_us)
        sum_up(by_us)
        for options in ((), ("--signer", public(keys["ed25519"]))):
            result = run("verify", by_us, *options)
            assert (result.exit_code, said in result.stderr) == (5, True), result.output
            assert f"{by_us}: {ENVELOPE}: " in result.stderr
            assert result.stderr.endswith("Get the bundle again from its signer.\n")
            assert result.stderr.count("\n") == 1

    def test_a_namespace_of_another_purpose(self, bundle: Path, keys: Keys, monkeypatch: pytest.MonkeyPatch) -> None:
        """The key signed the very Statement, but as a commit of git's."""
        key = keys["ed25519"]
        with monkeypatch.context() as patch:
            patch.setattr(ssh_keygen, "NAMESPACE", "git")
            content = ssh_keygen.sign(key, pae((bundle / STATEMENT).read_bytes()))
        found = enveloped((bundle / STATEMENT).read_bytes(), Signature(fingerprint(key), content))
        (bundle / ENVELOPE).write_bytes(found)
        sum_up(bundle)
        result = run("verify", bundle, "--signer", public(key))
        assert (result.exit_code, "namespace does not match" in result.stderr) == (5, True)

    def test_the_bare_statement_was_signed(self, bundle: Path, keys: Keys) -> None:
        payload = (bundle / STATEMENT).read_bytes()
        signature = Signature(fingerprint(keys["ed25519"]), ssh_keygen.sign(keys["ed25519"], payload))
        (bundle / ENVELOPE).write_bytes(enveloped(payload, signature))
        sum_up(bundle)
        assert "incorrect signature" in run("verify", bundle).stderr

    def test_the_envelope_of_another_bundle(self, made: Path, by_us: Path, keys: Keys, tmp_path: Path) -> None:
        (tmp_path / "2").mkdir()
        other = copy_of(made / "bundle", tmp_path / "2")
        alter(other, "environment.json", lambda d: d.update(command_line=["mixer-report"]))
        sign(other, keys["ed25519"])
        assert run("verify", other, "--signer", public(keys["ed25519"])).exit_code == 0
        shutil.copy(other / ENVELOPE, by_us / ENVELOPE)
        sum_up(by_us)
        result = run("verify", by_us, "--signer", public(keys["ed25519"]))
        assert (result.exit_code, f"what it signs is not {STATEMENT}" in result.stderr) == (5, True)

    @pytest.mark.parametrize("name", ["environment.json", "curve.png", STATEMENT])
    def test_a_bundle_that_was_altered_and_made_to_fit(self, by_us: Path, keys: Keys, name: str) -> None:
        """What an unsigned bundle cannot show: everything but the signature agrees."""
        envelope = (by_us / ENVELOPE).read_bytes()
        (by_us / ENVELOPE).unlink()
        if name == "environment.json":
            alter(by_us, name, lambda d: d.update(command_line=["mixer-report"]))
        else:
            (by_us / name).write_bytes(b"another" if name == "curve.png" else (by_us / name).read_bytes())
            mend(by_us)
        assert run("verify", by_us).exit_code == 0
        (by_us / ENVELOPE).write_bytes(envelope)
        sum_up(by_us)
        unchanged = name == STATEMENT
        assert run("verify", by_us, "--signer", public(keys["ed25519"])).exit_code == (0 if unchanged else 5)

    def test_signed_again_by_the_attacker(self, by_us: Path, keys: Keys) -> None:
        (by_us / ENVELOPE).unlink()
        alter(by_us, "environment.json", lambda d: d.update(command_line=["mixer-report"]))
        sign(by_us, keys["other"])
        assert fingerprint(keys["other"]) in run("verify", by_us).stdout
        assert run("verify", by_us, "--signer", public(keys["ed25519"])).exit_code == 1

    def test_the_attackers_signature_under_our_name(self, by_us: Path, keys: Keys) -> None:
        sign(by_us, keys["other"])
        in_envelope(lambda d: d["signatures"][0].update(keyid=fingerprint(keys["ed25519"])))(by_us)
        sum_up(by_us)
        assert "not by the key that it names" in run("verify", by_us).stderr

    def test_an_envelope_that_the_report_calls_attached(self, by_us: Path, keys: Keys) -> None:
        (by_us / ENVELOPE).unlink()
        alter(by_us, "report.json", lambda report: report.update(attached=["curve.png", ENVELOPE]))
        sign(by_us, keys["ed25519"])
        assert run("verify", by_us).exit_code == 5

    def test_a_file_altered_without_its_checksum(self, by_us: Path) -> None:
        in_bytes(lambda content: content[:-2] + b" \n")(by_us)
        result = run("verify", by_us)
        assert (result.exit_code, f"{ENVELOPE} was changed" in result.stderr) == (5, True)

    def test_a_link_to_an_envelope(self, by_us: Path, tmp_path: Path) -> None:
        shutil.move(by_us / ENVELOPE, tmp_path / "elsewhere")
        (by_us / ENVELOPE).symlink_to(tmp_path / "elsewhere")
        assert run("verify", by_us).exit_code == 3


class TestMachine:
    def test_without_ssh_keygen(
        self, made: Path, by_us: Path, keys: Keys, tmp_path: Path, no_work: None, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        path_of(monkeypatch, tmp_path / "bin")
        for result in (audit_of(made, "--sign", keys["ed25519"], out="x"), run("verify", by_us)):
            assert (result.exit_code, "ssh-keygen is not installed" in result.stderr) == (2, True)
            assert "Install OpenSSH's client" in result.stderr
        (by_us / ENVELOPE).unlink()
        sum_up(by_us)
        assert run("verify", by_us).exit_code == 0, "an unsigned bundle needs none"

    def test_a_token_that_nobody_touches(
        self, made: Path, keys: Keys, tmp_path: Path, no_work: None, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        path_of(monkeypatch, tmp_path / "bin", "exec sleep 60")
        monkeypatch.setattr(ssh_keygen, "SECONDS", 1)
        result = audit_of(made, "--sign", keys["ed25519"], out="x")
        assert (result.exit_code, "gave no answer in 1 s" in result.stderr) == (4, True)

    @pytest.mark.parametrize("said", ["", 'Good "git" signature with ED25519 key SHA256:x', "Good!\nGood!"])
    def test_a_success_that_is_not_said_is_none(
        self, by_us: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: str
    ) -> None:
        path_of(monkeypatch, tmp_path / "bin", f"printf '%s\\n' '{said}'")
        assert run("verify", by_us).exit_code == 5

    def test_a_success_that_is_said_but_was_none(
        self, by_us: Path, keys: Keys, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        said = f'Good "mixer-report" signature with ED25519 key {fingerprint(keys["ed25519"])}'
        path_of(monkeypatch, tmp_path / "bin", f"printf '%s\n' '{said}'; exit $CODE")
        for code, expected in (("0", 0), ("255", 5)):
            monkeypatch.setenv("CODE", code)
            assert run("verify", by_us).exit_code == expected


@pytest.mark.slow
def test_a_whole_audit_signed(made: Path, keys: Keys, tmp_path: Path) -> None:
    result = audit_of(made, "--sign", keys["ed25519"], out=str(tmp_path / "b"))
    assert result.exit_code == 1, result.output
    assert json.loads((tmp_path / "b" / ENVELOPE).read_text())["payloadType"] == PAYLOAD_TYPE
    result = run("verify", tmp_path / "b", "--signer", public(keys["ed25519"]), "--rerun")
    assert result.exit_code == 0, result.output
