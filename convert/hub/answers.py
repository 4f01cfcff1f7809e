"""The hub's responses: which of them lead to the file, and the error sentence for each of the others.

They are of `httpx` or `httpx2`, whichever the installed huggingface_hub uses; what is used of them is the same.
"""

from __future__ import annotations

import re
import socket
import ssl
from typing import Any
from urllib.parse import urlsplit

from convert.errors import BadInput, IntegrityProblem, Unavailable, printable
from convert.identity import NamedVariant

HUB_FILENAME = "model.safetensors"
SHA256 = re.compile(r"[0-9a-f]{64}")
ETAG = re.compile(r'(W/)?"?(?P<tag>[0-9A-Za-z][0-9A-Za-z _.+=:-]{0,127})"?')
COMMIT = re.compile(r"[0-9a-f]{40}([0-9a-f]{24})?")
NAMING = {"ETag": ETAG, "X-Linked-Etag": ETAG, "X-Repo-Commit": COMMIT}
"""Headers from which huggingface_hub makes the names of files and folders in its cache, and the form of each.

Source: https://huggingface.co/docs/huggingface_hub/guides/manage-cache
"""
XET_HASH = "X-Xet-Hash"
"""Header that makes the client fetch a file through another library, past every check and limit of ours.

Without it the client takes the file from where the hub redirects to, as clients without that library do.
"""
RESET = re.compile(r"\bt\s*=\s*(\d{1,6})\b")
"""Pattern of the seconds until requests are accepted again. Source: draft-ietf-httpapi-ratelimit-headers."""
RETRY_AFTER = re.compile(r"(?P<seconds>\d{1,6})|(?P<date>[A-Za-z]{3}, [0-9A-Za-z :]{1,30})")
TOO_MANY, SERVER_FAULT = 429, 500
NOT_FOUND = {"RepoNotFound": "repository", "RevisionNotFound": "revision", "EntryNotFound": "file"}
"""What is missing, by X-Error-Code. Source: huggingface_hub, utils/_http.py, hf_raise_for_status."""


def unavailable(variant: NamedVariant, reason: str, advice: str = "") -> Unavailable:
    """Return the error that says why a variant's weights could not be fetched."""
    return Unavailable(variant.repo_id, HUB_FILENAME, reason, variant.name, advice)


def judge(response: Any, variant: NamedVariant) -> None:
    """Check that a response, or a redirect, leads to the file, before anything is done with it.

    Raises:
        IntegrityProblem: It states a name that no file or folder of the cache can have.
        Unavailable: It is a refusal, or redirects to another scheme.
        BadInput: It is a web page.
    """
    for name, form in NAMING.items():
        value = response.headers.get(name)
        if value is not None and not form.fullmatch(value):
            raise IntegrityProblem(
                f"{variant.repo_id}: the hub's {name} header names no file: {printable(value[:60])}. "
                "Nothing was fetched. Check HF_ENDPOINT, or pass --checkpoint FILE."
            )
    response.headers.pop(XET_HASH, None)
    _refuse_other_schemes(response, variant)
    if response.status_code >= 400:
        raise unavailable(variant, *_refusal(response, variant))
    if response.is_success and "html" in response.headers.get("Content-Type", "").lower():
        raise BadInput(
            f"{variant.repo_id}: what came for {HUB_FILENAME} is an HTML page. "
            "Is there a sign-in page before the network, or is HF_ENDPOINT wrong?"
        )


def stated_tag(response: Any) -> str | None:
    """Return the ETag by which a response of the hub itself names the file's content; a large file's is its SHA-256."""
    tag = response.headers.get("X-Linked-Etag") or response.headers.get("ETag")
    found = ETAG.fullmatch(tag) if tag and "X-Repo-Commit" in response.headers else None
    return found["tag"] if found else None


def no_connection(error: BaseException, host: str) -> tuple[str, str]:
    """Return why there was no connection, or no complete response, and what to do."""
    cause = _cause(error)
    if isinstance(cause, ssl.SSLCertVerificationError):
        reason = f"the certificate of {host} is not accepted: {printable(cause.verify_message)}"
        return reason, "Check the clock, and whether a proxy stands between: SSL_CERT_FILE names whom to trust."
    if isinstance(cause, ssl.SSLError):
        return f"no secure connection to {host}: {printable(str(cause))}", "Check HF_ENDPOINT and the proxy."
    if isinstance(cause, socket.gaierror):
        return f"no network: the name {host} is not known", ""
    if isinstance(cause, ConnectionRefusedError):
        return f"no network: {host} refused the connection", ""
    if isinstance(cause, OSError) and cause.strerror:
        return f"no network: {host}: {cause.strerror}", ""
    return f"{host} broke off or gave no answer in HTTP", "Check HF_ENDPOINT, or try again later."


def timed_out(error: BaseException) -> bool:
    """Return whether the client gave up waiting."""
    return isinstance(_cause(error), TimeoutError) or type(error).__name__.endswith("Timeout")


def _cause(error: BaseException) -> BaseException:
    while error.__cause__ is not None:
        error = error.__cause__
    return error


def _refuse_other_schemes(response: Any, variant: NamedVariant) -> None:
    location, scheme = response.headers.get("Location"), response.request.url.scheme
    if location is None:
        return
    try:
        target = urlsplit(location).scheme
    except ValueError:
        target = "nowhere"
    if target not in ("", scheme):
        reason = f"the hub redirects from {scheme} to {printable(target[:20])}, which is not followed"
        raise unavailable(variant, reason, "Check HF_ENDPOINT.")


def _refusal(response: Any, variant: NamedVariant) -> tuple[str, str]:
    status, code = response.status_code, response.headers.get("X-Error-Code")
    answered = f"the hub answered {status}"
    if code == "GatedRepo" or status == 403:
        page = f"https://huggingface.co/{variant.repo_id}"
        return f"{answered}: no access", f"Accept the terms at {page} and set HF_TOKEN to a token of that account."
    if status == 401:
        if "authorization" in response.request.headers:
            return f"{answered}: it does not accept the token", "Set HF_TOKEN to a valid token, or log out."
        return f"{answered}: without a token it shows nothing of that name", "Set HF_TOKEN to a token that may read it."
    if status == 404:
        return f"{answered}: no such {NOT_FOUND.get(code, 'repository, file or revision')}", "Check HF_ENDPOINT."
    if status == TOO_MANY:
        return f"{answered}: too many requests", _wait(response)
    if status >= SERVER_FAULT:
        return f"{answered}: it has a fault", "Try again later."
    return answered, "Check HF_ENDPOINT and the proxy."


def _wait(response: Any) -> str:
    again = RETRY_AFTER.fullmatch(response.headers.get("Retry-After", "").strip())
    if again and again["date"]:
        return f"Wait until {again['date']} and run again."
    reset = RESET.search(response.headers.get("RateLimit", ""))
    seconds = again["seconds"] if again else reset[1] if reset else None
    return f"Wait {seconds} s and run again." if seconds else "Wait some minutes and run again."
