"""Errors for programs: application/problem+json (RFC 9457)."""

import json
from http import HTTPStatus

from django.http import JsonResponse

#: Characters of an Accept header that are parsed. Parsing takes long for a longer one.
MAX_ACCEPT_LENGTH = 2048


def problem_response(status, detail, *, errors=(), headers=None):
    """Return an error response. Each of ``errors`` is an object with a field, maybe a line, and a detail."""
    content = {"type": "about:blank", "title": HTTPStatus(status).phrase, "status": status, "detail": detail}
    if errors:
        content["errors"] = list(errors)
    response = JsonResponse(content, status=status, content_type="application/problem+json", headers=headers)
    response["Cache-Control"] = "no-store"
    return response


def wants_json(request):
    """Return whether the client sent JSON or prefers it to HTML.

    A client without a preference gets HTML for GET and JSON for POST, as ``accepted`` answers it.
    """
    types = ["text/html", "application/json"]
    try:
        if len(request.headers.get("Accept", "")) > MAX_ACCEPT_LENGTH:
            raise ValueError("Accept is too long.")
        preferred = request.get_preferred_type(types if request.method in ("GET", "HEAD") else types[::-1])
    except ValueError:  # Accept is not a list of media types.
        preferred = types[-1]
    return sends_json(request) or preferred == "application/json"


def sends_json(request):
    return request.content_type == "application/json"


def read_detail(response):
    """Return the detail of a problem response."""
    return json.loads(response.content)["detail"]
