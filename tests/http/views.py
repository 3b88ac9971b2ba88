"""Views that call accepted() as projects do. Each creates a row of its own (a Group) beside the job."""

from functools import partial
from uuid import uuid4

from django.contrib.auth import get_user_model
from django.contrib.auth.models import Group
from django.db import connection, transaction
from django.http import HttpResponse
from django.urls import include, path
from django.views.decorators.csrf import csrf_exempt

from notifications.api import aaccepted, accepted, batch, requester, task
from notifications.jobs import task_backends
from notifications.models import Job
from tests.support.core_alone import host_urls


@task
def double(number=21):
    return number * 2


@task
def enqueue_child(number):
    double.enqueue(number)


def enqueue_double():
    Group.objects.create(name=f"beside the job {uuid4()}")
    return double.using(title="Double it").enqueue()


@csrf_exempt
def sync_view(request):
    return accepted(request, enqueue_double)


@csrf_exempt
@transaction.non_atomic_requests
async def async_view(request):
    return await aaccepted(request, enqueue_double)


def csrf_protected_view(request):
    return accepted(request, enqueue_double)


@csrf_exempt
def file_view(request):
    """Read a part of the file before accepted(), and the rest in the function that enqueues."""
    file = request.FILES["file"]
    first_bytes = file.read(3)

    def enqueue_with_file():
        other_bytes = file.read()
        Group.objects.create(name=f"{first_bytes.decode()}|{other_bytes[:100].decode()}|{len(other_bytes)}")
        return double.enqueue()

    return accepted(request, enqueue_with_file)


@csrf_exempt
def closed_file_view(request):
    request.FILES["file"].close()
    return accepted(request, enqueue_double)


@csrf_exempt
def own_key_view(request):
    def enqueue_with_key():
        Group.objects.create(name=str(uuid4()))
        return double.using(key="own").enqueue()

    return accepted(request, enqueue_with_key)


@csrf_exempt
def existing_job_view(request):
    """Enqueue a job, and return the existing one from then on."""
    job = Job.objects.first()
    return accepted(request, lambda: task_backends["default"].get_result(job.pk) if job else double.enqueue())


@csrf_exempt
def other_owner_view(request):
    def enqueue_for_bob():
        Group.objects.create(name=str(uuid4()))
        return double.using(owner=get_user_model().objects.get(username="bob")).enqueue()

    return accepted(request, enqueue_for_bob)


@csrf_exempt
def batch_view(request):
    def enqueue_batch():
        with batch(title="Two") as jobs:
            double.enqueue(1)
            double.enqueue(2)
        return jobs.result

    return accepted(request, enqueue_batch)


@csrf_exempt
def many_jobs_view(request):
    def enqueue_five():
        results = [double.enqueue() for _ in range(5)]
        return results[0]

    return accepted(request, enqueue_five)


class CallableView:
    def __call__(self, request):
        return sync_view(request)


@csrf_exempt
def url_view(request):
    return accepted(request, lambda: double.using(url="/groups/7/").enqueue())


@csrf_exempt
def requester_view(request):
    with requester(get_user_model().objects.get(username="bob")):
        return accepted(request, enqueue_double)


@csrf_exempt
def key_view(request):
    return accepted(request, lambda: double.using(key=request.GET["key"]).enqueue(request.GET["number"]))


@csrf_exempt
def late_failing_view(request):
    accepted(request, enqueue_double)
    raise ZeroDivisionError


@csrf_exempt
def no_result_view(request):
    return accepted(request, lambda: enqueue_double() and None)


@csrf_exempt
def transaction_view(request):
    """Return the status, and whether the view is still in a transaction."""
    response = accepted(request, enqueue_double)
    return HttpResponse(f"{response.status_code} {connection.in_atomic_block}")


@csrf_exempt
def refusing_view(request):
    return HttpResponse(status=422)


@csrf_exempt
def failing_view(request):
    def enqueue_and_fail():
        enqueue_double()
        raise ZeroDivisionError

    return accepted(request, enqueue_and_fail)


@csrf_exempt
def reading_view(request):
    """Read the body as a stream, so that its bytes are gone."""
    request.read()
    return accepted(request, enqueue_double)


urlpatterns = [
    path("plain/", sync_view),
    path("async/", async_view),
    path("csrf/", csrf_protected_view),
    path("files/", file_view),
    path("closed/", closed_file_view),
    path("own-key/", own_key_view),
    path("same/", existing_job_view),
    path("bob/", other_owner_view),
    path("batch/", batch_view),
    path("many/", many_jobs_view),
    path("refused/", refusing_view),
    path("fails/", failing_view),
    path("read/", reading_view),
    path("page/", url_view),
    path("requester/", requester_view),
    path("key/", key_view),
    path("fails-later/", late_failing_view),
    path("forgets/", no_result_view),
    path("transaction/", transaction_view),
    path("partial/", partial(sync_view)),
    path("instance/", CallableView()),
    path("", include(host_urls())),
]
