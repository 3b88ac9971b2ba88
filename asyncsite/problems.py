"""Errors for programs: application/problem+json (RFC 9457)."""

import json
from http import HTTPStatus

from django.http import JsonResponse

ACCEPT_LENGTH = 2048  # characters; a longer list of types takes long to read, and says nothing that is needed


def problem(status, detail, *, errors=(), headers=None):
    """An error answer. ``errors`` are objects that name a field, a line where there is one, and what is wrong."""
    content = {"type": "about:blank", "title": HTTPStatus(status).phrase, "status": status, "detail": detail}
    if errors:
        content["errors"] = list(errors)
    response = JsonResponse(content, status=status, content_type="application/problem+json", headers=headers)
    response["Cache-Control"] = "no-store"
    return response


def wants_json(request):
    """Whether the answer is for a program: it sent JSON, or would rather have JSON than a page.

    Who has no preference gets a page when reading and JSON when posting, which is what ``accepted`` answers too.
    """
    kinds = ["text/html", "application/json"]
    try:
        if len(request.headers.get("Accept", "")) > ACCEPT_LENGTH:
            raise ValueError("Accept is too long to be read.")
        preferred = request.get_preferred_type(kinds if request.method in ("GET", "HEAD") else kinds[::-1])
    except ValueError:  # an Accept that is no list of types
        preferred = kinds[-1]
    return sends_json(request) or preferred == "application/json"


def sends_json(request):
    return request.content_type == "application/json"


def detail_of(response):
    """What a problem says, for people."""
    return json.loads(response.content)["detail"]
