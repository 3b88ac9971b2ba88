"""Build the OpenAPI 3.1 document of the API. Limits and choices in it are those of the code."""

from __future__ import annotations

from typing import Any

from django.conf import settings

from notifications import __version__
from notifications.http import csrf
from notifications.http.openapi.components import HEADERS, PARAMETERS, RESPONSES
from notifications.http.openapi.operations import PATHS
from notifications.http.openapi.schemas import SCHEMAS

DESCRIPTION = (
    "Background jobs and notifications of the signed-in user. Those of other users are treated as nonexistent. "
    "Times are UTC. Clients and server ignore unknown keys. Keys are always present unless they are marked as optional."
)


def build_document(server: str) -> dict[str, Any]:
    """Return the document. ``server`` is the path at which the API is mounted."""
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "asyncsite-notifications",
            "version": __version__,
            "description": DESCRIPTION,
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
                    "name": csrf.header_name(),
                    "description": f"Required for POST: {csrf.token_source()}.",
                },
            },
        },
    }
