"""How many functions of the app are called on ways that each notification takes: a measure that no machine changes."""

import contextlib
import gc
import sys

import pytest
from django.db import connection

from notifications.api import notify
from notifications.models import Job
from tests.jobs import tasks
from tests.support.outcomes import succeeded

pytestmark = pytest.mark.django_db(transaction=True)

#: Comprehensions, which are functions before Python 3.12 only.
INLINED = ("<listcomp>", "<dictcomp>", "<setcomp>")

ELSEWHERE = ("contrib/", "extension/", "realtime/", "db/deadlines.py", "db/supervised.py")


@contextlib.contextmanager
def counted_calls():
    """Yield a list to which each called function of the app is added, and each generator that is continued.

    Nothing is collected meanwhile: what other tests have left may have generators of the app, which are then closed.
    """
    calls = []

    def note(frame, event, argument):
        code = frame.f_code
        if event == "call" and "/notifications/" in code.co_filename and code.co_name not in INLINED:
            calls.append(f"{code.co_filename.rpartition('/notifications/')[2]} {code.co_name}")

    before = sys.getprofile()
    gc.disable()
    sys.setprofile(note)
    try:
        yield calls
    finally:
        sys.setprofile(before)
        gc.enable()


def test_the_notification_of_an_end_checks_nothing_again(user):
    """The texts of a job were checked when it was enqueued."""
    tasks.noop.using(owner=user).enqueue()
    job = Job.objects.get()
    for _ in range(2):  # the second time with what is cached
        with counted_calls() as calls:
            succeeded(job)
    assert not [call for call in calls if call.startswith("validators.py")]
    assert len(calls) <= 15, "\n".join(calls)


def test_notify_calls_few_functions(user):
    """Beside the optional apps, whose hooks it calls, and what other tests leave in a process.

    These are listeners of the doorbell, and a limit for waiting for PostgreSQL, which is installed for one thread and
    called for all.
    """
    for _ in range(3):
        with counted_calls() as calls:
            notify(user, "Export 7 is ready", body="12,400 rows", url="/exports/7/")
    calls = [call for call in calls if not call.startswith(ELSEWHERE)]
    assert len(calls) <= (120 if connection.vendor == "sqlite" else 132), "\n".join(calls)
