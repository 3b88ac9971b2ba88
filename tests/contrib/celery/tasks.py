"""Tasks of Celery that the tests observe. A task that is to be held waits for a file."""

import os
import signal
import threading
import time
from pathlib import Path

from celery import chain, shared_task
from celery.exceptions import Ignore, Reject
from django.contrib.auth import get_user_model

from notifications.api import notify, progress
from notifications.contrib.celery import observed


def held(path):
    """Wait until the file exists, after saying by another one that the task runs."""
    Path(f"{path}.started").write_text(str(os.getpid()))
    while not Path(path).exists():
        time.sleep(0.02)


@shared_task
@observed(title="Add {a} and {b}", url="/sums/{a}/")
def add(a, b):
    return a + b


@observed(title="Export {year}", owner="user_id")
@shared_task
def export(user_id, year):
    return {"rows": 12, "year": year}


@shared_task
@observed(title="Fails", owner=lambda user_id, *args: user_id)
def fail(user_id, words="broken"):
    raise ValueError(words)


@shared_task(bind=True, max_retries=2)
@observed(title="Retried", owner="user_id")
def retried(self, user_id, failures, countdown=0):
    if self.request.retries < failures:
        raise self.retry(exc=OSError("not yet"), countdown=countdown)
    return self.request.retries


@shared_task(autoretry_for=(OSError,), max_retries=1, retry_backoff=False, default_retry_delay=0)
@observed(title="Retried by itself", owner="user_id")
def autoretried(user_id):
    raise OSError("never")


@shared_task
@observed(title="Held", owner="user_id")
def hold(user_id, path):
    held(path)
    return "released"


@shared_task
@observed(title="Soon", owner="user_id", start_within=3)
def soon(user_id):
    return None


@shared_task
@observed(title="Publishes another task", owner="user_id")
def publish_export(user_id, year):
    export.delay(user_id, year)


@shared_task(acks_late=True, reject_on_worker_lost=True)
@observed(title="Held, late", owner="user_id")
def hold_late(user_id, path):
    held(path)
    return "released"


@shared_task
@observed(title="Kills itself", owner="user_id")
def kill_itself(user_id):
    os.kill(os.getpid(), signal.SIGKILL)


@shared_task
@observed(title="Killed {number}", url="/numbers/{number}/")
def kill_at_once(number):
    os.kill(os.getpid(), signal.SIGKILL)


@shared_task
@observed(title="Exits", owner="user_id")
def exit_process(user_id):
    raise SystemExit(3)


@shared_task(time_limit=1)
@observed(title="Hard limit", owner="user_id")
def exceed_hard_limit(user_id):
    time.sleep(60)


@shared_task(soft_time_limit=1)
@observed(title="Soft limit", owner="user_id")
def exceed_soft_limit(user_id):
    time.sleep(60)


@shared_task
@observed(title="Reports", owner="user_id")
def report(user_id, path):
    progress(3, 10, "third")
    held(path)
    progress(10, 10, "all")
    user = get_user_model().objects.get(pk=user_id)
    notify(user, "From inside")


@shared_task
@observed(title="Parent", owner="user_id")
def enqueue_child(user_id):
    add.delay(20, 22)


@shared_task
@observed(title="Not storable", owner="user_id")
def return_huge(user_id):
    return "x" * (2 * 1024 * 1024)


@shared_task
@observed(title="Ignores", owner="user_id")
def ignore(user_id):
    raise Ignore


@shared_task(bind=True)
@observed(title="Replaced", owner="user_id")
def replace_itself(self, user_id):
    raise self.replace(export.s(user_id, 1999))


@shared_task(bind=True)
@observed(title="Replaced by a chain", owner="user_id")
def replace_itself_by_a_chain(self, user_id):
    raise self.replace(chain(add_slowly.si(1, 1), add_slowly.si(2, 2)))


@shared_task
def add_slowly(a, b):
    time.sleep(1)
    return a + b


@shared_task(acks_late=True)
@observed(title="Rejected", owner="user_id")
def reject(user_id, requeue=False):
    raise Reject("no", requeue=requeue)


@shared_task
@observed(title="Rejected early", owner="user_id")
def reject_early(user_id):
    raise Reject("no", requeue=True)


@shared_task
@observed(title="Silent", owner="user_id", notify=False)
def silent(user_id):
    return None


@shared_task
@observed(title="Collect")
def collect(numbers):
    return sum(numbers) if isinstance(numbers, list) else numbers


@shared_task
def plain(a):
    return a


@shared_task
def configured(user_id, year):
    return year


@shared_task
@observed(title="Slow", owner="user_id")
def slow(user_id):
    time.sleep(0.3)


@shared_task
@observed(title="Sleeps", owner="user_id")
def sleep(user_id, seconds):
    time.sleep(seconds)


@shared_task(acks_late=True, reject_on_worker_lost=True)
@observed(title="Slow, late", owner="user_id")
def slow_late(user_id):
    time.sleep(0.3)


@shared_task
@observed(title="Its process dies", owner="user_id")
def die_after_return(user_id, seconds):
    """The process is killed some milliseconds after the task has returned."""
    threading.Timer(seconds, os.kill, (os.getpid(), signal.SIGKILL)).start()
