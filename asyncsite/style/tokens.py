"""Tokens of the design: the custom properties that the style sheets declare."""

import re
from dataclasses import dataclass
from pathlib import Path

from django.contrib.staticfiles import finders


@dataclass(frozen=True, kw_only=True)
class Token:
    """A custom property, without its ``--``. ``value`` is a length, or a color as ``#light / #dark``."""

    name: str
    value: str


def read_tokens():
    """Return lists of tokens: ``colors``, ``spaces``, ``radii`` and ``sizes`` of the site, and ``app_colors``."""
    root = read_sheet("asyncsite/site.css").partition(":root {")[2].partition("}")[0]
    tokens = [Token(name=name, value=describe(value)) for name, value in declarations(root)]
    # The app's are ``--name: var(--notifications-name, value);``, so that a project may set them.
    app = [
        (name, value.removeprefix(f"var(--notifications-{name}, ").removesuffix(")"))
        for name, value in declarations(read_sheet("notifications/notifications.css"))
        if value.startswith(f"var(--notifications-{name}, ")
    ]
    return {
        "colors": [token for token in tokens if "#" in token.value],
        "spaces": [token for token in tokens if token.name.startswith("space-")],
        "radii": [token for token in tokens if token.name.startswith("radius")],
        "sizes": [token for token in tokens if token.value.endswith("rem")],
        "app_colors": [Token(name=name, value=describe(value)) for name, value in app],
    }


def declarations(css):
    """Return the name, without ``--``, and the value of each custom property that has a line of its own."""
    pairs = (line.strip().partition(": ") for line in css.splitlines() if line.strip().startswith("--"))
    return [(name.removeprefix("--"), value.removesuffix(";")) for name, _, value in pairs]


def read_sheet(name):
    return Path(finders.find(name)).read_text()


def describe(value):
    """Return ``#fff / #000`` for ``light-dark(#fff, #000)``, and other values as they are."""
    match = re.fullmatch(r"light-dark\((#\w+), (#\w+)\)", value)
    return " / ".join(match.groups()) if match else value
