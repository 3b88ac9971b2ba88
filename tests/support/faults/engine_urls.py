"""The site's URLs, and views of a project that writes, notifies users, and enqueues jobs."""

import json
import uuid

from django.contrib.auth import get_user_model
from django.db import transaction
from django.http import HttpResponse
from django.urls import path
from django.views.decorators.csrf import csrf_exempt

from asyncsite.urls import urlpatterns as site_urlpatterns
from notifications.api import notify
from tests.support.faults import celery_tasks

User = get_user_model()


@csrf_exempt
def write(request):
    """Read first, and then write."""
    with transaction.atomic():
        count = User.objects.count()
        User.objects.create(username=uuid.uuid4().hex)
    User.objects.filter(username="other").update(first_name=str(count))
    return HttpResponse("written")


@csrf_exempt
def notify_users(request):
    """Create notifications, of which each is the arguments of a call, in one transaction."""
    with transaction.atomic():
        for fields in json.loads(request.body):
            notify(fields.pop("users"), fields.pop("title"), **fields)
    return HttpResponse("created")


@csrf_exempt
def enqueue(request):
    owner = User.objects.get(username="demo")
    return HttpResponse(celery_tasks.run_async.using(owner=owner).enqueue(0).id)


urlpatterns = [
    *site_urlpatterns,
    path("write/", write),
    path("notify-users/", notify_users),
    path("enqueue/", enqueue),
]
