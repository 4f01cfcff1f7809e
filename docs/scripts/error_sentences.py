"""Every place in the code that makes an error, with its sentence as it is written there."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("convert", "align", "reports")
BASE = "MixerConvertError"
USAGE = {"click.UsageError": 2, "click.BadParameter": 2}
"""The errors of the command line's own library, with their exit codes."""
WITHIN = ("Refused", "Damaged", "Malformed", "NotOfItsForm")
"""Reasons that whoever catches them puts into a sentence of exit code 3, behind the file's name."""
ROOTS = (BASE, *WITHIN)
INIT = "super().__init__"


@dataclass(frozen=True, kw_only=True)
class Kind:
    """A class of errors: where it comes from, its exit code, and the sentence that it builds from its parameters."""

    name: str
    doc: str
    exit_code: int
    parameters: tuple[str, ...] = ()
    defaults: Mapping[str, ast.expr] = field(default_factory=dict)
    sentence: ast.expr | None = None


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One place that makes an error."""

    kind: Kind
    module: str
    about: str
    sentence: str


def trees(root: Path = ROOT) -> dict[str, ast.Module]:
    """Return the parsed modules of the packages by path."""
    paths = sorted(path for package in PACKAGES for path in (root / package).rglob("*.py"))
    return {path.relative_to(root).as_posix(): ast.parse(path.read_text(encoding="utf-8")) for path in paths}


def kinds(modules: Mapping[str, ast.Module]) -> dict[str, Kind]:
    """Return the classes of errors by name: those of `MixerConvertError`, however far, click's, and the reasons."""
    classes = [node for tree in modules.values() for node in ast.walk(tree) if isinstance(node, ast.ClassDef)]
    found = {name: Kind(name=name, doc="", exit_code=code) for name, code in USAGE.items()}
    known = {BASE: 3}
    while fresh := [one for one in classes if one.name not in found and (one.name in ROOTS or _parent(one) in known)]:
        for one in fresh:
            known[one.name] = _exit_code(one, known.get(_parent(one), 3))
            found[one.name] = _kind(one, known[one.name])
    return found


def _parent(one: ast.ClassDef) -> str:
    return next((ast.unparse(base) for base in one.bases), "")


def _exit_code(one: ast.ClassDef, inherited: int) -> int:
    for node in one.body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "exit_code":
            return int(ast.literal_eval(node.value))
    return inherited


def _kind(one: ast.ClassDef, code: int) -> Kind:
    doc = (ast.get_docstring(one) or "").partition("\n")[0]
    start = next((node for node in one.body if isinstance(node, ast.FunctionDef) and node.name == "__init__"), None)
    if start is None:
        return Kind(name=one.name, doc=doc, exit_code=code)
    arguments = [argument.arg for argument in start.args.args[1:]]
    defaults = dict(zip(reversed(arguments), reversed(start.args.defaults), strict=False))
    calls = [node for node in ast.walk(start) if isinstance(node, ast.Call) and ast.unparse(node.func) == INIT]
    said = calls[0].args[0] if calls and calls[0].args else None
    return Kind(name=one.name, doc=doc, exit_code=code, parameters=tuple(arguments), defaults=defaults, sentence=said)


def entries(modules: Mapping[str, ast.Module]) -> list[Entry]:
    """Return every place that makes an error, in the order of the files."""
    known, written = kinds(modules), {path: constants(path, modules) for path in modules}
    return [
        Entry(kind=known[name], module=path, about=_about(tree), sentence=_said(call, known[name], written[path]))
        for path, tree in modules.items()
        for call in ast.walk(tree)
        if isinstance(call, ast.Call) and (name := ast.unparse(call.func)) in known and not _inherits(call)
    ]


def constants(path: str, modules: Mapping[str, ast.Module]) -> dict[str, ast.expr]:
    """Return the texts that have a name in capitals in a module: its own, and those that it imports."""
    found: dict[str, ast.expr] = {}
    for node in modules[path].body:
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant | ast.JoinedStr | ast.BinOp):
            found |= {ast.unparse(node.targets[0]): node.value}
        if isinstance(node, ast.ImportFrom) and (other := f"{str(node.module).replace('.', '/')}.py") in modules:
            wanted = {name.name for name in node.names if name.name.isupper()}
            found |= {name: value for name, value in constants(other, modules).items() if name in wanted}
    return {name: value for name, value in found.items() if name.isupper()}


def _inherits(call: ast.Call) -> bool:
    """Return whether it takes another error's text along, which stands where that one is made."""
    return len(call.args) == 1 and ast.unparse(call.args[0]) in ("str(error)", "error")


def _about(tree: ast.Module) -> str:
    return (ast.get_docstring(tree) or "").partition("\n")[0].rstrip(".").removesuffix(". Pure")


def _said(call: ast.Call, kind: Kind, written: Mapping[str, ast.expr]) -> str:
    given = dict(zip(kind.parameters, call.args, strict=False))
    given |= {keyword.arg: keyword.value for keyword in call.keywords if keyword.arg}
    if kind.sentence is None:
        return _text(call.args[0], written, written) if call.args else kind.doc
    return _text(kind.sentence, {**kind.defaults, **given}, written)


def _text(node: ast.expr, given: Mapping[str, ast.expr], written: Mapping[str, ast.expr]) -> str:
    """Return an expression that makes text as a reader sees it, what is only known in a run as ‹name›."""
    match node:
        case ast.Constant(value=value):
            return str(value)
        case ast.JoinedStr(values=values):
            return "".join(_text(value, given, written) for value in values)
        case ast.FormattedValue(value=value):
            return _text(value, given, written)
        case ast.BinOp(left=left, op=ast.Add(), right=right):
            counted = isinstance(right, ast.Constant) and isinstance(right.value, int)
            return _text(left, given, written) + ("" if counted else _text(right, given, written))
        case ast.BoolOp(op=ast.Or(), values=[*values]):
            return _either([_text(value, given, written) for value in values])
        case ast.IfExp(body=body, orelse=orelse):
            return _either([_text(body, given, written), _text(orelse, given, written)])
        case ast.Name(id=name) if name in given:
            return _text(given[name], written, written)
        case ast.Name(id=name) | ast.Attribute(attr=name):
            return f"‹{name.strip('_')}›"
        case ast.Call() | ast.Subscript():
            return _of_call(node, given, written)
    return "‹…›"


def _of_call(node: ast.Call | ast.Subscript, given: Mapping[str, ast.expr], written: Mapping[str, ast.expr]) -> str:
    if isinstance(node, ast.Subscript):
        return _text(node.value, given, written)
    name = ast.unparse(node.func)
    if name.endswith(".rstrip") and isinstance(node.func, ast.Attribute):
        return _text(node.func.value, given, written).rstrip(".")
    if name in ("printable", "str", "repr", "len", "_either", "sorted", "tuple", "_listing", "map") and node.args:
        return _text(node.args[-1] if name == "map" else node.args[0], given, written)
    if name.endswith(".join"):
        return _text(node.args[0], given, written)
    return f"‹{name.rpartition('.')[2].strip('_')}›" if name.isidentifier() or "." in name else "‹…›"


def _either(texts: list[str]) -> str:
    shown = [text for text in dict.fromkeys(texts) if text]
    if len(shown) == 1 or all(text.startswith("‹") and text.endswith("›") for text in shown):
        return shown[0] if shown else ""
    return f"[{' | '.join(shown)}]"
