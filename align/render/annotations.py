"""One result as GitHub annotations: workflow commands that a runner picks out of a step's log."""

from __future__ import annotations

from align.render.data import Data, failing_layer


def workflow_commands(data: Data, name: str = "") -> list[str]:
    """Return a line per annotation: an error where the port fails, a warning for rounding, none when it is aligned.

    Args:
        data: The result.
        name: What distinguishes it from other results of the same command.

    Source: https://docs.github.com/actions/reference/workflows-and-actions/workflow-commands; the escapes are those of
    actions/toolkit, packages/core/src/command.ts, escapeData and escapeProperty.
    """
    if data["verdict"] == "aligned":
        return []
    level = "warning" if data["verdict"] == "rounding" else "error"
    where = failing_layer(data)
    return [_command(level, name, f"{data['verdict']}{f' at {where}' if where else ''}", data["sentence"])]


def error_command(name: str, sentence: str) -> str:
    """Return the annotation of an alignment that ended in an error."""
    return _command("error", name, "no verdict", sentence)


def _command(level: str, name: str, title: str, message: str) -> str:
    title = ": ".join(filter(None, ("mixer-align", name, title)))
    return f"::{level} title={_property(title)}::{_message(message)}"


def _message(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _message(text).replace(":", "%3A").replace(",", "%2C")
