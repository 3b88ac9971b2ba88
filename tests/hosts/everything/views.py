"""Views of every kind that ask for something slow."""

from django.db import transaction
from django.http import HttpResponse
from django.shortcuts import render
from django.views import View

from notifications.api import aaccepted, accepted
from tests.hosts.everything.models import Export
from tests.hosts.everything.tasks import export, export_at_once


def start(request):
    """A page with the bell."""
    return render(request, "start.html")


# Django refuses ATOMIC_REQUESTS around an async view.
@transaction.non_atomic_requests("default")
@transaction.non_atomic_requests("elsewhere")
async def start_async(request):
    """The same, for a user whom nobody has looked at."""
    return render(request, "start.html")


def nothing(request):
    return HttpResponse(status=204)


def ask(request, year):
    """Return what asks for the export of a year, with a row beside the job."""

    def run():
        Export.objects.create(owner_id=request.user.pk, year=year)
        return export.using(title=f"Export {year}").enqueue(year)

    return run


def as_function(request, year):
    return accepted(request, ask(request, year))


class AsClass(View):
    def post(self, request, year):
        return accepted(request, ask(request, year))


@transaction.non_atomic_requests("default")
@transaction.non_atomic_requests("elsewhere")
async def as_async(request, year):
    await request.auser()
    return await aaccepted(request, lambda: export_at_once.enqueue(year))


def that_fails_then(request, year):
    """Asks, and then does not get to the end."""
    accepted(request, ask(request, year))
    raise ZeroDivisionError


@transaction.non_atomic_requests("default")
@transaction.non_atomic_requests("elsewhere")
def with_an_ask_that_fails(request, year):
    """Without a transaction of the request's own."""

    def run():
        ask(request, year)()
        raise ZeroDivisionError

    return accepted(request, run)


def delete_me(request):
    request.user.delete()
    return render(request, "start.html")


@transaction.non_atomic_requests("default")
@transaction.non_atomic_requests("elsewhere")
def delete_me_in_vain(request):
    """A transaction of the people's database alone, which is rolled back."""
    with transaction.atomic():
        request.user.delete()
        transaction.set_rollback(True)
    return HttpResponse(status=204)
