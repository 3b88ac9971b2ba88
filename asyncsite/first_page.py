"""The files inside the first page of a browser: it is painted after one round trip, not after the two of a link.

Later pages link the same files. By then ``theme.js`` has stored them in the browser's cache and set a cookie with their
version: when the user turns to a link or a form, so that a page that is only read receives them once.
"""

import base64
import hashlib
import re
from functools import cache
from pathlib import Path
from urllib.parse import quote

from django.utils.safestring import mark_safe

ROOT = Path(__file__).resolve().parent.parent
COOKIE = "files"
SCRIPT = "asyncsite/theme.js"
STYLE = "asyncsite/site.css"
#: Minified and without ``@import``, which would not work inside a page.
APP_STYLE = "notifications/bundle/notifications.css"
#: Of the app's own pages.
PAGES_STYLE = "notifications/bundle/pages.css"


@cache
def read(name):
    """Return the text of a static file, as it was when the process started: the header allows exactly this one.

    Icons that it names are data URLs, because a relative URL would be one of the page.
    """
    path = ROOT / name.partition("/")[0] / "static" / name
    text = re.sub(
        r"url\((\S+?\.svg)\)",
        lambda match: (
            f'url("data:image/svg+xml,{quote((path.parent / match[1]).read_text(encoding="utf-8"))}")'
        ),
        path.read_text(encoding="utf-8"),
    )
    return mark_safe(text)  # noqa: S308


def csp_source(name):
    """Return the source of Content-Security-Policy that allows this file inside a page."""
    digest = hashlib.sha256(read(name).encode()).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"


@cache
def version():
    """Return a value that changes with the files."""
    return hashlib.sha256("".join(map(read, (SCRIPT, STYLE, APP_STYLE, PAGES_STYLE))).encode()).hexdigest()[
        :16
    ]


def is_first(request):
    """Return whether the response is a page for a browser that has not stored the files.

    A page that a script reads is none, nor is one for a browser without ``Sec-Fetch-Dest``: it links them.
    """
    return (
        request is not None
        and request.headers.get("Sec-Fetch-Dest") == "document"
        and (request.COOKIES.get(COOKIE) != version() or request.headers.get("Cache-Control") == "no-cache")
    )
