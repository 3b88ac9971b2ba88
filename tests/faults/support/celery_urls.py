"""The site's URLs, and a view that enqueues a job for the user "demo"."""

from django.contrib.auth import get_user_model
from django.http import HttpResponse
from django.urls import path
from django.views.decorators.csrf import csrf_exempt

from tests.faults.support import celery_tasks
from tests.faults.support.engine_urls import urlpatterns as engine_urlpatterns


@csrf_exempt
def enqueue(request):
    owner = get_user_model().objects.get(username="demo")
    return HttpResponse(celery_tasks.run_async.using(owner=owner).enqueue(0).id)


urlpatterns = [*engine_urlpatterns, path("enqueue/", enqueue)]
