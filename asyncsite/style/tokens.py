"""Tokens of the design: the custom properties that the style sheets declare."""

import re
from dataclasses import dataclass
from pathlib import Path

from django.contrib.staticfiles import finders

#: ``--name: value;`` at the root of the site's style sheet.
SITE_TOKEN = re.compile(r"--([\w-]+): ([^;]+);")
#: ``--name: var(--notifications-name, value);`` in the app's: a project may set the property.
APP_TOKEN = re.compile(r"--([\w-]+): var\(--notifications-\1, ([^;]+)\);")


@dataclass(frozen=True, kw_only=True)
class Token:
    """A custom property, without its ``--``. ``value`` is a length, or a color as ``#light / #dark``."""

    name: str
    value: str


def read_tokens():
    """Return lists of tokens: ``colors``, ``spaces``, ``radii`` and ``sizes`` of the site, and ``app_colors``."""
    root = re.search(r":root \{(.*?)\}", read_sheet("asyncsite/site.css"), re.S)[1]
    tokens = [Token(name=name, value=describe(value)) for name, value in SITE_TOKEN.findall(root)]
    app = APP_TOKEN.findall(read_sheet("notifications/notifications.css"))
    return {
        "colors": [token for token in tokens if "#" in token.value],
        "spaces": [token for token in tokens if token.name.startswith("space-")],
        "radii": [token for token in tokens if token.name.startswith("radius")],
        "sizes": [token for token in tokens if token.value.endswith("rem")],
        "app_colors": [Token(name=name, value=describe(value)) for name, value in app],
    }


def read_sheet(name):
    return Path(finders.find(name)).read_text()


def describe(value):
    """Return ``#fff / #000`` for ``light-dark(#fff, #000)``, and other values as they are."""
    match = re.fullmatch(r"light-dark\((#\w+), (#\w+)\)", value)
    return " / ".join(match.groups()) if match else value
