"""Tasks of Celery whose calls are jobs."""

import os
import signal
import time
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from functools import wraps
from pathlib import Path
from uuid import UUID

from celery import Task, current_task, shared_task
from celery.exceptions import Ignore
from django.db import transaction

from notifications import jobs
from notifications.api import policy
from notifications.contrib.celery import JobTask

#: What the tasks have seen, newest last.
seen = []


@shared_task(base=JobTask, bind=True, owner="user_id", title="Export {year}", url="/exports/{name}/")
def export(self, user_id, year, name="a b"):
    """Return what the request is."""
    request = self.request
    seen.append((request.id, request.retries, request.delivery_info, list(request.args), request.kwargs))
    assert current_task.name == self.name and request.hostname.startswith("celery@")
    return {"year": year}


@shared_task(base=JobTask)
def add(a, b):
    return a + b


def add_plainly(a, b):
    return a + b


@shared_task(base=JobTask)
def echo(value):
    seen.append(value)
    return value


@shared_task(base=JobTask, title="On {day}")
def on(day):
    return day


@shared_task(base=JobTask, bind=True, max_retries=2, owner="user_id")
def retry_by_hand(self, user_id, failures, **options):
    seen.append(self.request.retries)
    if self.request.retries < failures:
        raise self.retry(exc=OSError("not yet"), **{"countdown": 0, **options})
    return self.request.retries


@shared_task(base=JobTask, bind=True, max_retries=None, default_retry_delay=0)
def retry_for_ever(self, failures):
    if self.request.retries < failures:
        self.retry(throw=False)
    return self.request.retries


@shared_task(
    base=JobTask, bind=True, autoretry_for=(OSError,), max_retries=2, retry_backoff=10, retry_jitter=False
)
def autoretried(self):
    seen.append(self.request.retries)
    raise OSError("never")


@shared_task(base=JobTask, bind=True, autoretry_for=(OSError,), max_retries=5)
def retry_once(self):
    """The limit of the call wins over that of the task."""
    seen.append(self.request.retries)
    raise self.retry(exc=OSError("never"), countdown=0, max_retries=1)


@shared_task(base=JobTask, bind=True)
def retry_naive(self):
    if not self.request.retries:
        raise self.retry(eta=datetime.now(UTC).replace(tzinfo=None) + timedelta(hours=1))


@shared_task(base=JobTask, bind=True)
def retry_with(self, a):
    raise self.retry(args=(a + 1,))


@shared_task(base=JobTask, bind=True)
def replaced(self):
    raise self.replace(add.s(1, 2))


@shared_task(base=JobTask, bind=True)
def count_down(self, number):
    """Call itself directly."""
    seen.append((number, self.request.id, self.request.called_directly))
    return [number, *(self(number - 1) if number else [])]


@shared_task(base=JobTask, bind=True, default_retry_delay=0)
def retry_inside(self, is_inside=False):
    if not is_inside:
        seen.append(self.request.retries)
        return self(True)
    if not self.request.retries:
        raise self.retry()
    return "done"


@shared_task(base=JobTask, bind=True)
def reports(self):
    self.update_state(state="PROGRESS", meta={"current": 3, "total": 10, "message": "third"})
    seen.append(self.AsyncResult(self.request.id).job_id)


@shared_task(base=JobTask)
def ignore():
    raise Ignore


@shared_task(base=JobTask)
def fail(words="broken"):
    raise ValueError(words)


@shared_task(base=JobTask)
def return_object():
    return object()


@shared_task(base=JobTask, ignore_result=True)
def return_ignored():
    return 7


@shared_task(base=JobTask, acks_late=True)
def late():
    return None


@shared_task(base=JobTask, time_limit=5)
def limited():
    return None


@shared_task(base=JobTask, notify=False, redact=("iban",))
@policy(title="With policy {iban}", concurrency_key="one")
def with_policy(iban):
    return None


@shared_task(base=JobTask, owner=lambda user_id, **kwargs: user_id)
def owned_by_function(user_id, **kwargs):
    return None


@shared_task(base=JobTask, expires=90)
def expiring():
    return None


def pass_on(function):
    """Return a wrapper that takes the task itself, and one argument more."""

    @wraps(function)
    def wrapper(task, value, *args, factor=1, **kwargs):
        return function(value * factor, *args, **kwargs)

    return wrapper


@shared_task(base=JobTask, bind=True)
@transaction.atomic
@pass_on
def wrapped(value, other):
    return [value, other]


@shared_task(base=JobTask, owner="user_id", title="Save {pk}")
@transaction.atomic
def atomic(user_id, pk):
    return pk


@shared_task(base=JobTask, bind=True)
def cancellable(self):
    """Cancel itself, and see that."""
    jobs.cancel([UUID(self.request.id)])
    for _ in range(1000):
        self.raise_if_cancelled()
        time.sleep(0.02)


class Report(JobTask):
    """A task with a method run()."""

    name = "reports.build"

    def run(self, year):
        return year


@shared_task(base=Task)
def plain(a):
    return a


VALUES = [
    UUID(int=1),
    date(2026, 1, 2),
    datetime(2026, 1, 2, 3, 4, tzinfo=UTC),
    Decimal("1.10"),
    {"a": [Decimal(1)]},
    b"\xff",
]


@shared_task(base=JobTask, owner="user_id")
def hold(user_id, path):
    """Wait until the file exists, after saying by another one that the task runs."""
    Path(f"{path}.started").write_text(str(os.getpid()))
    while not Path(path).exists():
        time.sleep(0.02)
    return "released"


@shared_task(base=JobTask)
def kill_itself():
    os.kill(os.getpid(), signal.SIGKILL)
