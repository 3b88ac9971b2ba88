"""Views for test_acceptance.py: each calls accepted() in one of the ways that projects do."""

from functools import partial

from django.contrib.auth import get_user_model
from django.contrib.auth.models import Group
from django.db import connection
from django.http import HttpResponse
from django.urls import include, path
from django.views.decorators.csrf import csrf_exempt

from notifications.api import aaccepted, accepted, requester, task
from tests.support.core_alone import host_urls


@task
def double(number):
    return number * 2


@task
def enqueue_child(number):
    double.enqueue(number)


def enqueue_double():
    Group.objects.create(name="made beside the job")
    return double.using(title="Double it").enqueue(21)


@csrf_exempt
def sync_view(request):
    return accepted(request, enqueue_double)


class CallableView:
    def __call__(self, request):
        return sync_view(request)


@csrf_exempt
async def async_view(request):
    return await aaccepted(request, enqueue_double)


@csrf_exempt
def url_view(request):
    return accepted(request, lambda: double.using(url="/groups/7/").enqueue(21))


@csrf_exempt
def other_owner_view(request):
    owner = get_user_model().objects.get(username="bob")
    return accepted(request, lambda: double.using(owner=owner).enqueue(21))


@csrf_exempt
def requester_view(request):
    with requester(get_user_model().objects.get(username="bob")):
        return accepted(request, enqueue_double)


@csrf_exempt
def key_view(request):
    return accepted(request, lambda: double.using(key=request.GET["key"]).enqueue(request.GET["number"]))


@csrf_exempt
def failing_view(request):
    def enqueue_and_fail():
        enqueue_double()
        raise ZeroDivisionError

    return accepted(request, enqueue_and_fail)


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


urlpatterns = [
    path("plain/", sync_view),
    path("async/", async_view),
    path("page/", url_view),
    path("other/", other_owner_view),
    path("requester/", requester_view),
    path("key/", key_view),
    path("fails/", failing_view),
    path("fails-later/", late_failing_view),
    path("forgets/", no_result_view),
    path("transaction/", transaction_view),
    path("partial/", partial(sync_view)),
    path("instance/", CallableView()),
    path("", include(host_urls())),
]
