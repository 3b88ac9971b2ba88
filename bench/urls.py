"""The site, a view that asks for a job that does nothing and says when, and one that says how the server is set up."""

import time

from django.http import HttpRequest, JsonResponse
from django.urls import include, path
from django.views.decorators.csrf import csrf_exempt

from bench import telling
from bench.tasks import nothing


@csrf_exempt
def ask(request: HttpRequest) -> JsonResponse:
    asked_at = time.time()
    result = nothing.using(owner=request.user).enqueue(0)
    return JsonResponse({"id": result.id, "asked_at": asked_at})


urlpatterns = [
    path("ask/", ask),
    path("setup/", telling.setup),
    path("", include("asyncsite.urls")),
]
