"""The view of ``openapi.json``, which needs no user: the OpenAPI 3.1 document of the API.

The document is the file ``openapi.json`` beside this module. ``tests/http/test_openapi.py`` compares its paths, limits,
choices and version with those of the code. Only what the project chooses is filled in: where the API is mounted, and
the names of the session cookie and of the CSRF header, and channels. What apps have that are not installed is left out.
"""

from __future__ import annotations

import json
import re
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any
from urllib.parse import unquote
from uuid import UUID

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.urls import get_script_prefix, resolve, reverse
from django.views.decorators.csrf import csrf_exempt

from notifications import serializers
from notifications.extension import hooks
from notifications.http import access, api_views
from notifications.http.access import exempt_from_project
from notifications.http.negotiation import is_not_modified
from notifications.problems import Problem, exceptions_as_problems

DOCUMENT_FILE = Path(__file__).with_name("openapi.json")


@exempt_from_project
@csrf_exempt
@exceptions_as_problems
def openapi(request: HttpRequest) -> HttpResponse:
    """Return the OpenAPI document, or 304 if ``If-None-Match`` names its entity tag."""
    if request.method not in ("GET", "HEAD"):
        raise Problem(405, f"{request.method} is not allowed. Use GET.", headers={"Allow": "GET, HEAD"})
    text = serializers.encode_json(make_document(reverse("notifications:api-openapi").rpartition("/")[0]))
    etag = f'"{sha256(text.encode()).hexdigest()[:32]}"'
    if is_not_modified(etag, request):
        response = HttpResponse(status=304)
    else:
        response = HttpResponse(text, content_type="application/json")
    response["ETag"] = etag
    response["Cache-Control"] = "no-cache"
    return response


def make_document(server: str) -> dict[str, Any]:
    """Return the document of this project. ``server`` is the path at which the API is mounted."""
    document = _read_file(tuple(hooks.channels))
    schemes = document["components"]["securitySchemes"]
    description = f"Required for POST: {access.csrf_token_source()}."
    schemes = {
        "session": schemes["session"] | {"name": settings.SESSION_COOKIE_NAME},
        "csrf": schemes["csrf"] | {"name": access.csrf_header_name(), "description": description},
    }
    components = document["components"] | {"securitySchemes": schemes}
    paths = {path: item for path, item in document["paths"].items() if _is_installed(server, path)}
    return document | {"servers": [{"url": server}], "paths": paths, "components": components}


def _is_installed(server: str, path: str) -> bool:
    """Return whether the app of this path is installed: the core answers 404 for all others below the API."""
    prefix = f"/{server.removeprefix(get_script_prefix())}"
    return resolve(unquote(prefix) + re.sub(r"{\w+}", str(UUID(int=0)), path)).func is not api_views.not_found


@cache
def _read_file(channels: tuple[str, ...]) -> dict[str, Any]:
    """Return the document for these channels of extensions. The apps of a test may have others than those before."""
    document: dict[str, Any] = json.loads(DOCUMENT_FILE.read_text(encoding="utf-8"))
    schemas = document["components"]["schemas"]
    choices = schemas["Preferences"]["properties"]["categories"]["items"]["properties"]["channels"]
    changes = schemas["ChannelChoices"]["properties"]
    for channel in ("bell", *channels):
        has_digests = hooks.find_channel(channel).has_digests
        offered = choices["additionalProperties"]["enum"] if has_digests else ["on", "off"]
        changes[channel] = {"type": ["string", "null"], "enum": [*offered, None]}
    return document
