"""Who signed a bundle: what is signed is its Statement, which lists the other files' digests, in an envelope."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from convert.errors import BadInput, IntegrityProblem, UsageProblem, printable
from reports.audit.bundle import ENVELOPE, SUMS, Files
from reports.audit.names import STATEMENT
from reports.audit.verify import Bundle
from reports.render.report import AuditReport
from reports.sign import ssh_keygen
from reports.sign.dsse import Signature, enveloped, pae, signature_in
from reports.sign.signers import ANYBODY, Signers, read_signers


@dataclass(frozen=True, slots=True)
class Signed:
    """The key with which a bundle is signed, if it is; trusted is None if there were no signers to compare with."""

    sentence: str
    key: str | None = None
    identity: str | None = None
    trusted: bool | None = None

    def as_data(self) -> dict[str, Any]:
        """Return it as plain data."""
        return {"signed": self.key is not None, **asdict(self)}


@dataclass(frozen=True, slots=True, eq=False)
class Verified:
    """A verified bundle, and who signed it; it is true unless somebody signed who is not trusted."""

    bundle: Bundle
    signature: Signed

    def __bool__(self) -> bool:
        """Return whether no untrusted key signed it; whether the accuracy passed is `report.passed`."""
        return self.signature.trusted is not False

    @property
    def report(self) -> AuditReport:
        """What was measured, and the verdict."""
        return self.bundle.report


def verified(path: Path, signer: Path | None = None) -> Verified:
    """Return a bundle after checking every hash, every statistic, everything that follows from them, and its signature.

    Args:
        path: The bundle's folder.
        signer: Who must have signed: a file with a public key, or with allowed signers.

    Raises:
        IOProblem, BadInput, IntegrityProblem: As in `Bundle` and `check`.
    """
    signers = read_signers(signer) if signer else None
    bundle = Bundle(path)
    return Verified(bundle, check(bundle, signers))


def check_key(key: Path) -> None:
    """Check, before the work is done, that a key can sign.

    Raises:
        IOProblem, BadInput, UsageProblem: As in `ssh_keygen.sign`.
    """
    if str(key) == "sigstore" and not key.exists():
        raise UsageProblem(
            "--sign sigstore: only SSH keys sign here. Leave it out, install Sigstore's client and sign the checksums, "
            f"which name every file: pip install sigstore && sigstore sign BUNDLE/{SUMS} --bundle BUNDLE.sigstore.json"
        )
    ssh_keygen.sign(key, pae(b""))


def signed(files: Files, key: Path) -> Files:
    """Return the files of a bundle with the envelope, signed by a key (see `ssh_keygen.sign`)."""
    payload = files[STATEMENT]
    content = ssh_keygen.sign(key, pae(payload))
    key_id = ssh_keygen.signer_of(pae(payload), content)
    return {**files, ENVELOPE: enveloped(payload, Signature(key_id, content))}


def check(bundle: Bundle, signers: Signers | None = None) -> Signed:
    """Return who signed a bundle.

    Args:
        bundle: A verified bundle.
        signers: The trusted signers.

    Raises:
        IntegrityProblem: The envelope is not that of the bundle's Statement, or its signature is wrong.
        BadInput: There are signers to compare with, and the bundle is unsigned.
        UsageProblem: There is no ssh-keygen.
    """
    if bundle.envelope is None:
        if signers is not None:
            raise BadInput(f"{bundle.path}: it is unsigned, it has no {ENVELOPE}. Get the signed one, or audit --sign.")
        return Signed(f"{bundle.path}: unsigned; who made it is not known (audit --sign KEY signs).")
    message = pae(bundle.statement)
    try:
        signature = signature_in(bundle.envelope, bundle.statement)
        key = ssh_keygen.signer_of(message, signature.content)
    except ValueError as error:
        raise _altered(bundle, str(error)) from error
    if key != signature.key_id:
        raise _altered(bundle, f"it is signed by {key}, not by the key that it names")
    if signers is None:
        return Signed(f"{bundle.path}: signed by {key} (not checked against a signer you trust; --signer does).", key)
    return _held_against(signers, bundle.path, key, message, signature.content)


def _held_against(signers: Signers, path: Path, key: str, message: bytes, signature: bytes) -> Signed:
    try:
        identity = ssh_keygen.identity_of(message, signature, signers.allowed)
    except ValueError as error:
        what = f"{path}: signed by {key}, whom {signers.path} does not allow ({error}). Ask that signer who they are."
        return Signed(what, key, trusted=False)
    if identity == ANYBODY:
        return Signed(f"{path}: signed by {key}, a key of {signers.path}.", key, trusted=True)
    return Signed(f"{path}: signed by {key}, {identity} in {signers.path}.", key, identity, trusted=True)


def _altered(bundle: Bundle, what: str) -> IntegrityProblem:
    return IntegrityProblem(f"{bundle.path}: {ENVELOPE}: {printable(what)}. Get the bundle again from its signer.")
