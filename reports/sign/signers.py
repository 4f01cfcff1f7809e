"""The signers that a user trusts: a file of allowed signers, or of public keys."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from convert.errors import BadInput, IOProblem

LIMIT = 2**20
"""Most bytes of a file of signers. A key has a few hundred."""
KEY = r"(?:sk-)?(?:ssh|ecdsa)-[a-z0-9@.-]{1,64}[ \t]+AAAA[A-Za-z0-9+/]+={0,2}(?=\s|$)"
PUBLIC = re.compile(KEY)
ALLOWED = re.compile(rf"\S+[ \t].*?{KEY}")
ANYBODY = "*"
"""Identity that we give a bare public key, since its comment proves nobody's name."""


@dataclass(frozen=True, slots=True)
class Signers:
    """Trusted signers, as lines in the form that ssh-keygen takes, and the file that they are from."""

    path: Path
    allowed: tuple[str, ...]


def read_signers(path: Path) -> Signers:
    """Return the signers in a file of allowed signers (see ssh-keygen(1)) or of public keys, one per line.

    Raises:
        IOProblem: There is no such file.
        BadInput: A line is neither, there is no key, or the file is too large or holds a private key.
    """
    if not path.exists() or path.is_dir():
        raise IOProblem(f"{path}: there is no such file of signers. Pass a public key, or a file of allowed signers.")
    with path.open("rb") as stream:
        content = stream.read(LIMIT + 1)
    if len(content) > LIMIT or b"PRIVATE KEY-----" in content:
        what = "a private key, which is nobody else's to hold" if len(content) <= LIMIT else "far too large"
        raise BadInput(f"{path}: it is {what}. Pass the public key, or a file of allowed signers.")
    lines = content.decode("utf-8", errors="replace").split("\n")  # as ssh-keygen does; comments may hold other breaks
    allowed = tuple(_allowed(path, number, line.strip()) for number, line in enumerate(lines, 1))
    if not any(allowed):
        raise BadInput(f"{path}: it holds no key. Pass a public key, or a file of allowed signers.")
    return Signers(path, allowed)


def _allowed(path: Path, number: int, line: str) -> str:
    if not line or line.startswith("#"):
        return ""
    if public := PUBLIC.match(line):
        return f"{ANYBODY} {public[0]}"
    if not ALLOWED.match(line):
        raise BadInput(f"{path}: line {number} is no public key and no allowed signer. Mend it; see ssh-keygen(1).")
    return line
