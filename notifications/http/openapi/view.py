"""``GET openapi.json``, for everybody: it says nothing of anybody."""

from __future__ import annotations

from hashlib import sha256

from django.http import HttpRequest, HttpResponse
from django.urls import reverse
from django.views.decorators.csrf import csrf_exempt

from notifications import serializers
from notifications.http.openapi.document import document
from notifications.http.requests import exempt_from_host, is_known
from notifications.problems import Problem, answers_problems


@exempt_from_host
@csrf_exempt
@answers_problems
def openapi(request: HttpRequest) -> HttpResponse:
    """Answer the OpenAPI document of the API as it is mounted here; 304 if it is known."""
    if request.method not in ("GET", "HEAD"):
        raise Problem(405, f"{request.method} is not allowed here. Use GET.", headers={"Allow": "GET, HEAD"})
    text = serializers.encode(document(reverse("notifications:api-openapi").rpartition("/")[0]))
    etag = f'"{sha256(text.encode()).hexdigest()[:32]}"'
    known = is_known(etag, request)
    response = HttpResponse(status=304) if known else HttpResponse(text, content_type="application/json")
    response["ETag"] = etag
    response["Cache-Control"] = "no-cache"
    return response
