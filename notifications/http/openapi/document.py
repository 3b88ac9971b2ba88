"""The API as an OpenAPI 3.1 document: what it says of limits and choices is taken from the code."""

from __future__ import annotations

from typing import Any

from django.conf import settings

from notifications import __version__
from notifications.http import csrf
from notifications.http.openapi.operations import PATHS
from notifications.http.openapi.parts import HEADERS, PARAMETERS, RESPONSES
from notifications.http.openapi.schemas import SCHEMAS

ABOUT = (
    "Background jobs and notifications of whoever is signed in. "
    "Somebody else's are answered like those that do not exist. Times are UTC. "
    "Keys that are not known are ignored, on both sides; all that are named here are there unless they are optional."
)


def document(server: str) -> dict[str, Any]:
    """Return the document. ``server`` is the path below which its paths are."""
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "asyncsite-notifications",
            "version": __version__,
            "description": ABOUT,
            "license": {"name": "MIT", "identifier": "MIT"},
        },
        "servers": [{"url": server}],
        "security": [{"session": []}],
        "paths": PATHS,
        "components": {
            "schemas": SCHEMAS,
            "parameters": PARAMETERS,
            "headers": {name: header for name, (_, header) in HEADERS.items()},
            "responses": RESPONSES,
            "securitySchemes": {
                "session": {"type": "apiKey", "in": "cookie", "name": settings.SESSION_COOKIE_NAME},
                "csrf": {
                    "type": "apiKey",
                    "in": "header",
                    "name": csrf.header(),
                    "description": f"Of requests that change something: {csrf.source()}.",
                },
            },
        },
    }
