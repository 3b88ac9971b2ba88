"""Views that ask for jobs, as a project would write them: each makes a row of its own beside the job."""

from uuid import uuid4

from django.contrib.auth import get_user_model
from django.contrib.auth.models import Group
from django.db import transaction
from django.http import HttpResponse
from django.urls import include, path
from django.views.decorators.csrf import csrf_exempt

from notifications.api import aaccepted, accepted, batch, task
from notifications.compat import task_backends
from notifications.models import Job


@task
def double(number=21):
    return number * 2


def ask():
    Group.objects.create(name=f"beside the job {uuid4()}")
    return double.using(title="Double it").enqueue()


@csrf_exempt
def plain(request):
    return accepted(request, ask)


@csrf_exempt
@transaction.non_atomic_requests
async def from_async(request):
    return await aaccepted(request, ask)


def with_csrf(request):
    return accepted(request, ask)


@csrf_exempt
def with_files(request):
    """Reads its file before it asks, and again while it does."""
    file = request.FILES["file"]
    before = file.read(3)

    def ask_with_file():
        rest = file.read()
        Group.objects.create(name=f"{before.decode()}|{rest[:100].decode()}|{len(rest)}")
        return double.enqueue()

    return accepted(request, ask_with_file)


@csrf_exempt
def that_closes_its_file(request):
    request.FILES["file"].close()
    return accepted(request, ask)


@csrf_exempt
def with_own_key(request):
    def ask_with_own_key():
        Group.objects.create(name=str(uuid4()))
        return double.using(key="own").enqueue()

    return accepted(request, ask_with_own_key)


@csrf_exempt
def the_same_job(request):
    """Asks once, and then for what is there."""
    there = Job.objects.first()
    return accepted(
        request, lambda: task_backends["default"].get_result(there.pk) if there else double.enqueue()
    )


@csrf_exempt
def for_bob(request):
    def ask_for_bob():
        Group.objects.create(name=str(uuid4()))
        return double.using(owner=get_user_model().objects.get(username="bob")).enqueue()

    return accepted(request, ask_for_bob)


@csrf_exempt
def as_a_batch(request):
    def ask_for_many():
        with batch(title="Two") as both:
            double.enqueue(1)
            double.enqueue(2)
        return both.result

    return accepted(request, ask_for_many)


@csrf_exempt
def many(request):
    def ask_for_many():
        results = [double.enqueue() for _ in range(5)]
        return results[0]

    return accepted(request, ask_for_many)


@csrf_exempt
def that_is_refused(request):
    return HttpResponse(status=422)


@csrf_exempt
def that_fails(request):
    def ask_and_fail():
        ask()
        raise ZeroDivisionError

    return accepted(request, ask_and_fail)


@csrf_exempt
def that_has_read_it(request):
    """Read as a stream: its bytes are gone."""
    request.read()
    return accepted(request, ask)


urlpatterns = [
    path("plain/", plain),
    path("async/", from_async),
    path("csrf/", with_csrf),
    path("files/", with_files),
    path("closed/", that_closes_its_file),
    path("own-key/", with_own_key),
    path("same/", the_same_job),
    path("bob/", for_bob),
    path("batch/", as_a_batch),
    path("many/", many),
    path("refused/", that_is_refused),
    path("fails/", that_fails),
    path("read/", that_has_read_it),
    path("", include("asyncsite.urls")),
]
