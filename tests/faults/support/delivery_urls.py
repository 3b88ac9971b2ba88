"""The site's URLs, and a view in which a project notifies its users."""

import json

from django.db import transaction
from django.http import HttpResponse
from django.urls import path
from django.views.decorators.csrf import csrf_exempt

from asyncsite.urls import urlpatterns as site_urlpatterns
from notifications.api import notify


@csrf_exempt
def notify_users(request):
    """Create notifications, of which each is the arguments of a call, in one transaction."""
    with transaction.atomic():
        for fields in json.loads(request.body):
            notify(fields.pop("users"), fields.pop("title"), **fields)
    return HttpResponse("created")


urlpatterns = [*site_urlpatterns, path("notify-users/", notify_users)]
