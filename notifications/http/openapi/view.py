"""The view of ``openapi.json``, which needs no user."""

from __future__ import annotations

from hashlib import sha256

from django.http import HttpRequest, HttpResponse
from django.urls import reverse
from django.views.decorators.csrf import csrf_exempt

from notifications import serializers
from notifications.http.decorators import exempt_from_project
from notifications.http.negotiation import is_not_modified
from notifications.http.openapi.document import build_document
from notifications.problems import Problem, exceptions_as_problems


@exempt_from_project
@csrf_exempt
@exceptions_as_problems
def openapi(request: HttpRequest) -> HttpResponse:
    """Return the OpenAPI document, or 304 if ``If-None-Match`` names its entity tag."""
    if request.method not in ("GET", "HEAD"):
        raise Problem(405, f"{request.method} is not allowed. Use GET.", headers={"Allow": "GET, HEAD"})
    text = serializers.encode(build_document(reverse("notifications:api-openapi").rpartition("/")[0]))
    etag = f'"{sha256(text.encode()).hexdigest()[:32]}"'
    if is_not_modified(etag, request):
        response = HttpResponse(status=304)
    else:
        response = HttpResponse(text, content_type="application/json")
    response["ETag"] = etag
    response["Cache-Control"] = "no-cache"
    return response
