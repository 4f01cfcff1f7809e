"""Signatures by SSH keys, made and checked by the machine's ssh-keygen, which alone reads the private key.

Sources: ssh-keygen(1), `-Y`, and PROTOCOL.sshsig of OpenSSH (https://github.com/openssh/openssh-portable).
"""

from __future__ import annotations

import base64
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

from convert.errors import BadInput, IOProblem, UsageProblem, printable

NAMESPACE = "mixer-report"
"""Namespace of a bundle's signatures: one made for another purpose (`git`, `file`) does not count."""
SECONDS = 120
"""Seconds to wait for the user to touch a key on a token, or to let the agent sign."""
BEGIN, END = "-----BEGIN SSH SIGNATURE-----\n", "-----END SSH SIGNATURE-----\n"
GOOD = re.compile(rf'Good "{NAMESPACE}" signature with \S+ key (SHA256:[A-Za-z0-9+/]{{43}})\n')


def sign(key: Path, message: bytes) -> bytes:
    """Return the signature of a message, as the bytes of an SSHSIG.

    Args:
        key: A private key's file, or the public one of a key that is in the SSH agent.
        message: What to sign.

    Raises:
        IOProblem: There is no such file, or nobody touched the token or answered the agent's question.
        BadInput: It is not a key that can sign.
        UsageProblem: It has a passphrase and is not in the agent, or there is no ssh-keygen.
    """
    if not (key.is_file() and os.access(key, os.R_OK)):
        raise IOProblem(f"{key}: there is no file that can be read. Pass an SSH key, private or public.")
    with tempfile.TemporaryDirectory(prefix="mixer-report-") as folder:
        path = Path(folder) / "message"
        path.write_bytes(message)
        run = _run("sign", "-f", str(key), "-n", NAMESPACE, str(path))
        if run.returncode != 0:
            raise _no_signature(key, run.stderr)
        return _bare(path.with_name("message.sig").read_text())


def signer_of(message: bytes, signature: bytes) -> str:
    """Return the fingerprint of the key that signed a message, after checking the signature.

    Raises:
        ValueError: The signature is wrong, or was made for another purpose.
    """
    with tempfile.TemporaryDirectory(prefix="mixer-report-") as folder:
        path = _armored(Path(folder), signature)
        run = _run("check-novalidate", "-n", NAMESPACE, "-s", str(path), message=message)
    found = GOOD.fullmatch(run.stdout)
    if run.returncode != 0 or not found:
        raise ValueError(_reason(run.stderr))
    return found[1]


def identity_of(message: bytes, signature: bytes, allowed: Sequence[str]) -> str:
    """Return the name that a list of allowed signers gives the signer of a message.

    Args:
        message: What was signed.
        signature: As `sign` returns it.
        allowed: The lines of a file of allowed signers, see ssh-keygen(1).

    Raises:
        ValueError: It allows no signer with this signature; the text is ssh-keygen's reason.
    """
    with tempfile.TemporaryDirectory(prefix="mixer-report-") as folder:
        path = _armored(Path(folder), signature)
        name, reason = _identity(message, path, allowed)
        if name is None and reason.startswith("line "):  # ssh-keygen looks no further than the first line with the key
            alone = (_identity(message, path, [line])[0] for line in allowed)
            name = next((found for found in alone if found is not None), None)
    if name is None:
        raise ValueError(reason)
    return name


def _identity(message: bytes, signature: Path, allowed: Sequence[str]) -> tuple[str | None, str]:
    """Return the signer's name, or None and the reason."""
    signers = signature.with_name("signers")
    signers.write_text("".join(f"{line}\n" for line in allowed), encoding="utf-8")
    found = _run("find-principals", "-f", str(signers), "-s", str(signature))
    reason = found.stderr
    for name in found.stdout.splitlines() if found.returncode == 0 else ():
        arguments = ("-f", str(signers), "-I", name, "-n", NAMESPACE, "-s", str(signature))
        run = _run("verify", *arguments, message=message)
        if run.returncode == 0 and not name.startswith("!"):
            return printable(name), ""
        reason = run.stderr
    return None, _reason(reason.replace(f"{signers}:", "line "))


def _run(operation: str, *arguments: str, message: bytes = b"") -> subprocess.CompletedProcess[str]:
    """Run ssh-keygen without a terminal on which it could ask for a passphrase."""
    program = shutil.which("ssh-keygen")
    if program is None:
        raise UsageProblem("ssh-keygen is not installed, which makes and checks signatures. Install OpenSSH's client.")
    try:
        run = subprocess.run(  # noqa: S603  # a list of arguments, no shell
            [program, "-Y", operation, *arguments],
            input=message,
            capture_output=True,
            env={**os.environ, "LC_ALL": "C", "SSH_ASKPASS_REQUIRE": "never"},
            start_new_session=True,
            timeout=SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise IOProblem(f"ssh-keygen gave no answer in {SECONDS} s. Does a token or the agent wait for you?") from error
    said = (stream.decode(errors="replace") for stream in (run.stdout, run.stderr))
    return subprocess.CompletedProcess(run.args, run.returncode, *said)


def _no_signature(key: Path, said: str) -> BadInput | UsageProblem:
    if "incorrect passphrase" in said:
        return UsageProblem(f"{key}: it has a passphrase, which is not asked for here. Run: ssh-add {key}")
    if "are too open" in said:
        return BadInput(f"{key}: others may read this private key, so ssh-keygen does not. Run: chmod 600 {key}")
    reason = "there is no public key in it or beside it" if "load public key" in said else _reason(said)
    return BadInput(
        f"{key}: ssh-keygen cannot sign with it ({reason}). Pass a private SSH key, or the public one of a key "
        "that is in the agent (ssh-add -L lists them)."
    )


def _reason(said: str) -> str:
    first, *_ = said.strip().split("\n")
    return printable(first.strip()).rstrip(".") or "it gave no reason"


def _bare(armored: str) -> bytes:
    return base64.b64decode(armored.removeprefix(BEGIN).removesuffix(END))


def _armored(folder: Path, signature: bytes) -> Path:
    path = folder / "signature"
    path.write_text(f"{BEGIN}{base64.encodebytes(signature).decode()}{END}")
    return path
