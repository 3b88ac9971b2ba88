"""The names of the browsers of users."""

from __future__ import annotations

from django.utils.translation import gettext

from notifications import validators

#: What User-Agent contains, the specific ones first: most browsers name others too.
BROWSERS = (
    ("Edge", ("Edg/", "EdgA/", "EdgiOS/")),
    ("Opera", ("OPR/", "OPT/")),
    ("Samsung Internet", ("SamsungBrowser/",)),
    ("Firefox", ("Firefox/", "FxiOS/")),
    ("Chrome", ("Chrome/", "CriOS/", "Chromium/")),
    ("Safari", ("Safari/",)),
)
SYSTEMS = (
    ("Android", ("Android",)),
    ("iPhone", ("iPhone",)),
    ("iPad", ("iPad",)),
    ("Windows", ("Windows",)),
    ("ChromeOS", ("CrOS",)),
    ("macOS", ("Macintosh", "Mac OS X")),
    ("Linux", ("Linux", "X11")),
)


def describe_browser(user_agent: str) -> str:
    """Return a name for the browser of a request, like "Firefox on Linux"."""
    agent = user_agent[: validators.MAX_HEADER_BYTES]
    browser, system = (
        next((name for name, parts in names if any(part in agent for part in parts)), "")
        for names in (BROWSERS, SYSTEMS)
    )
    if browser and system:
        return gettext("%(browser)s on %(system)s") % {"browser": browser, "system": system}
    return browser or system or gettext("Unknown browser")
