"""One result as a notebook shows it, and as the notebook's HTML export keeps it: no script, no network.

The page's style rules are nested in one rule for the fragment, so that they apply to nothing else in the notebook.
The colours follow the notebook's own theme if it states one, else the colour scheme that the viewer prefers.
"""

from __future__ import annotations

import re
import secrets

from markupsafe import Markup

from align.core.result import AlignmentResult
from align.render.data import as_data
from align.render.html import render, style_text

SCOPE = "mixer-align-result"
LIGHT = ('[data-jp-theme-light="true"]', ".vscode-light")
DARK = ('[data-jp-theme-light="false"]', ".vscode-dark", ".vscode-high-contrast:not(.vscode-high-contrast-light)")
"""Selectors, by theme, for the body of JupyterLab, of nbconvert's pages and of VS Code's outputs."""

ROOT_PX = 16
RESET = (
    "& tr, & code { background: none; color: inherit; } & table { table-layout: auto; margin: 0; color: var(--ink); }"
)
"""Rules that undo what notebooks set for these elements and the page's style does not."""


def fragment(result: AlignmentResult) -> str:
    """Return the verdict, the gates and the chart of the layers as an HTML fragment; every text is escaped."""
    style = Markup(scoped(style_text()))  # noqa: S704  # our own file, without markup
    prefix = f"mixer-align-{secrets.token_hex(4)}-"
    text = render("notebook.html.j2", as_data(result), style=style, scope=SCOPE, prefix=prefix)
    return text.encode(errors="backslashreplace").decode()


def scoped(style: str) -> str:
    """Return a page's style confined to the fragment, overriding the notebook's own rules for the same elements.

    The rules for printing the page are left out: how a notebook is printed is its own matter.
    """
    style = style.partition("@page")[0]
    light, dark = (block.strip() for block in re.findall(r":root \{(.*?)\}", style, flags=re.DOTALL))
    rules = re.sub(r"^body(?= \{)", "&", style.partition("* {")[2], flags=re.MULTILINE)
    # in px, as a notebook's rem may be of any size
    rules = re.sub(r"([\d.]+)rem\b", lambda size: f"{ROOT_PX * float(size[1]):g}px", rules)
    return (
        f".{SCOPE} {{ {light} }}\n@media (prefers-color-scheme: dark) {{ .{SCOPE} {{ {dark} }} }}\n"
        f"{', '.join(f'{theme} .{SCOPE}' for theme in LIGHT)} {{ {light} }}\n"
        f"{', '.join(f'{theme} .{SCOPE}' for theme in DARK)} {{ {dark} }}\n"
        f"{f'.{SCOPE}' * 3} {{\n{RESET}\n* {{{rules}}}\n"
    )
