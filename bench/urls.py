"""The site, and one view that asks for a job that does nothing and says when."""

import time

from asgiref.sync import async_to_sync
from channels.layers import get_channel_layer
from django.http import HttpRequest, JsonResponse
from django.urls import include, path
from django.views.decorators.csrf import csrf_exempt

from bench.tasks import nothing
from notifications.api import notify


@csrf_exempt
def ask(request: HttpRequest) -> JsonResponse:
    asked_at = time.time()
    result = nothing.using(owner=request.user).enqueue(0)
    return JsonResponse({"id": result.id, "asked_at": asked_at})


@csrf_exempt
def tell(request: HttpRequest, way: str) -> JsonResponse:
    """Tell one user, or several, the same thing; ``at`` goes along, so that a client knows how long it took."""
    at = str(time.time())
    for user in request.GET["users"].split(","):
        if way == "ours":
            notify(int(user), at, body="12,400 rows", url="/exports/7/")
        else:
            # As much to encode as the frame of a notification.
            item = {"title": at, "body": "12,400 rows", "url": "/exports/7/", "filler": "x" * 300}
            group = f"user-{user}"
            async_to_sync(get_channel_layer().group_send)(group, {"type": "note", "item": item})
    return JsonResponse({})


urlpatterns = [path("ask/", ask), path("tell/<str:way>/", tell), path("", include("asyncsite.urls"))]
