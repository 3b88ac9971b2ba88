"""Function, class and async views that enqueue a job, and views that fail or delete the user."""

from django.db import transaction
from django.http import HttpResponse
from django.shortcuts import render
from django.template import engines
from django.views import View

from notifications.api import aaccepted, accepted
from tests.hosts.everything.models import Export
from tests.hosts.everything.tasks import export, export_at_once


def start(request):
    """A page with the bell."""
    return render(request, "start.html")


# Django refuses ATOMIC_REQUESTS around an async view.
@transaction.non_atomic_requests("default")
@transaction.non_atomic_requests("app")
async def start_async(request):
    """The same as an async view, where the user is not loaded."""
    return render(request, "start.html")


def render_template(request):
    """The template that a test has sent."""
    return HttpResponse(engines["django"].from_string(request.GET["template"]).render({}, request))


def empty_view(request):
    return HttpResponse(status=204)


def export_function(request, year):
    """Return a function that enqueues the export of a year and creates a row beside the job."""

    def enqueue():
        Export.objects.create(owner_id=request.user.pk, year=year)
        return export.using(title=f"Export {year}").enqueue(year)

    return enqueue


def function_view(request, year):
    return accepted(request, export_function(request, year))


class ClassView(View):
    def post(self, request, year):
        return accepted(request, export_function(request, year))


@transaction.non_atomic_requests("default")
@transaction.non_atomic_requests("app")
async def async_view(request, year):
    await request.auser()
    return await aaccepted(request, lambda: export_at_once.enqueue(year))


def late_failing_view(request, year):
    """Enqueue a job, then fail."""
    accepted(request, export_function(request, year))
    raise ZeroDivisionError


@transaction.non_atomic_requests("default")
@transaction.non_atomic_requests("app")
def failing_view(request, year):
    """Fail while enqueueing, without a transaction of the request."""

    def enqueue():
        export_function(request, year)()
        raise ZeroDivisionError

    return accepted(request, enqueue)


def delete_view(request):
    request.user.delete()
    return render(request, "start.html")


@transaction.non_atomic_requests("default")
@transaction.non_atomic_requests("app")
def rolled_back_delete_view(request):
    """Delete the user in a transaction that is rolled back."""
    with transaction.atomic():
        request.user.delete()
        transaction.set_rollback(True)
    return HttpResponse(status=204)
