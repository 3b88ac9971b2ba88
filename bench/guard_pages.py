"""The weight of a page: what ``bench.guard`` compares of the pages and their files."""

from __future__ import annotations

import gzip
import re

#: An element and the scripts that the page loads if it has one.
LAZY_SCRIPTS = re.compile(r"""["'](?!modules\b)(\w+)["']: \{[^{}]*\}""")
STATIC_FILE = re.compile(r"""["'](/static/(notifications/[^"'?]+\.(?:js|css)))""")


def weigh(path: str) -> int:
    """Return the bytes of a page of a signed-in user, with the scripts and style sheets of the app that it loads.

    Each is compressed by itself, as a server sends it.
    """
    from django.contrib.auth import get_user_model
    from django.contrib.staticfiles import finders
    from django.test import Client

    client = Client(headers={"host": "127.0.0.1"})
    client.force_login(get_user_model().objects.earliest("pk"))
    response = client.get(path)
    assert response.status_code == 200, response
    text = response.text
    loaded = LAZY_SCRIPTS.sub(lambda found: found[0] if f"<notifications-{found[1]}" in text else "", text)
    files = [finders.find(name) for name in sorted({name for _, name in STATIC_FILE.findall(loaded)})]
    assert files, "The page names no file."
    bodies = [response.content]
    for file in files:
        with open(file, "rb") as body:
            bodies.append(body.read())
    return sum(len(gzip.compress(body, 9)) for body in bodies)
