"""The Statement and its signature in a Dead Simple Signing Envelope, which is written in one way only. Pure.

Source: https://github.com/secure-systems-lab/dsse, protocol.md and envelope.md, version 1.0.0.
"""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass

from convert.files import strict_json
from reports.audit.bundle import as_json
from reports.audit.names import STATEMENT

PAYLOAD_TYPE = "application/vnd.in-toto+json"
ROOM = 2**16
"""Most bytes of an envelope besides its payload. A signature by an RSA key of 16,384 bits takes about 6,000."""


@dataclass(frozen=True, slots=True)
class Signature:
    """A signature's bytes, and the name of the key that it is said to be made with."""

    key_id: str
    content: bytes


def pae(payload: bytes, payload_type: str = PAYLOAD_TYPE) -> bytes:
    """Return the bytes to sign: the type and the payload, each preceded by its length (protocol.md, PAE)."""
    kind = payload_type.encode()
    return b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(payload), payload)


def enveloped(payload: bytes, signature: Signature) -> bytes:
    """Return the content of the file of an envelope."""
    signatures = [{"keyid": signature.key_id, "sig": _base64(signature.content)}]
    return as_json({"payloadType": PAYLOAD_TYPE, "payload": _base64(payload), "signatures": signatures})


def signature_in(envelope: bytes, payload: bytes) -> Signature:
    """Return the signature in an envelope that is, byte for byte, what `enveloped` returns for this payload.

    Raises:
        ValueError: It is not; the text says why.
    """
    if len(envelope) > len(_base64(payload)) + ROOM:
        raise ValueError(f"it has {len(envelope):,} bytes, more than an envelope of {STATEMENT} can have")
    found = strict_json.parse(envelope)
    try:
        kind, said, signatures = found["payloadType"], found["payload"], found["signatures"]
        parts = [(one["keyid"], base64.b64decode(one["sig"], validate=True)) for one in signatures]
    except (KeyError, TypeError, AttributeError, binascii.Error) as error:
        raise ValueError(f"it is no DSSE envelope ({type(error).__name__}: {error})") from error
    if kind != PAYLOAD_TYPE:
        raise ValueError(f"its payload is said to be {kind!r}, not {PAYLOAD_TYPE}")
    if said != _base64(payload):
        raise ValueError(f"what it signs is not {STATEMENT}")
    if len(parts) != 1:
        raise ValueError(f"it holds {len(parts)} signatures, not one")
    signature = Signature(*parts[0])
    if envelope != enveloped(payload, signature):
        raise ValueError("it is not written as we write it")
    return signature


def _base64(content: bytes) -> str:
    return base64.b64encode(content).decode()
