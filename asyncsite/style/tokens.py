"""Tokens of the design: the custom properties that the style sheets declare."""

import re
from dataclasses import dataclass, replace
from pathlib import Path

from django.contrib.staticfiles import finders

#: A declaration with a line of its own, and the comment after it.
DECLARATION = re.compile(r"^\s*--([\w-]+): (.+?);(?: /\* (.+?) \*/)?$", re.M)


@dataclass(frozen=True, kw_only=True)
class Token:
    """A custom property, without its ``--``. ``value`` is a length, or a color as ``#light / #dark``."""

    name: str
    value: str
    use: str = ""

    @property
    def is_color(self) -> bool:
        return "#" in self.value or self.value.startswith(("color-mix", "currentColor"))


def read_tokens():
    """Return lists of tokens: ``colors``, ``spaces``, ``radii`` and ``sizes`` of the site, ``app`` and ``derived``."""
    root = read_sheet("asyncsite/site.css").partition(":root {")[2].partition("}")[0]
    tokens = read_declarations(root)
    # A project sets the app's ``--name: var(--notifications-name, value);``. The others follow from these.
    app = read_declarations(read_sheet("notifications/tokens.css"))
    is_set = [token.value.startswith(f"var(--notifications-{token.name}, ") for token in app]
    return {
        "colors": [token for token in tokens if token.is_color],
        "spaces": [token for token in tokens if token.name.startswith("space-")],
        "radii": [token for token in tokens if token.name.startswith("radius")],
        "sizes": [token for token in tokens if token.value.endswith("rem")],
        "app": [
            replace(token, value=describe(token.value.partition(", ")[2][:-1]))
            for token, own in zip(app, is_set, strict=True)
            if own
        ],
        "derived": [token for token, own in zip(app, is_set, strict=True) if not own],
    }


def read_declarations(css):
    """Return a token for each custom property of a style sheet that has a line of its own."""
    return [Token(name=name, value=describe(value), use=use) for name, value, use in DECLARATION.findall(css)]


def read_sheet(name):
    return Path(finders.find(name)).read_text()


def describe(value):
    """Return ``#fff / #000`` for ``light-dark(#fff, #000)``, and other values as they are."""
    match = re.fullmatch(r"light-dark\((#\w+), (#\w+)\)", value)
    return " / ".join(match.groups()) if match else value
