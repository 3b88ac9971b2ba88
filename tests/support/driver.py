"""Does what a site's own code does, in a process of its own, one JSON line at a time.

driver = Driver(site); driver.call("notify", user=1, title="Hello")      # in the tests
python -m tests.support.driver                                           # what it starts
"""

import json
import subprocess
import sys
import threading
import traceback
from contextlib import contextmanager

from tests.support.site import ROOT


class Driver:
    """A process with a site's settings. `call()` a function of DEEDS in it; its error is one here."""

    def __init__(self, site, module="tests.support.driver"):
        self.lock = threading.Lock()
        self.popen = subprocess.Popen(
            [sys.executable, "-m", module],
            env=site.env(),
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def call(self, deed, **told):
        with self.lock:
            self.popen.stdin.write(json.dumps([deed, told]) + "\n")
            self.popen.stdin.flush()
            answer = json.loads(self.popen.stdout.readline() or '{"error": "The driver has ended."}')
        assert "error" not in answer, f"{deed} {told}\n{answer['error']}"
        return answer["value"]

    def stop(self):
        self.popen.stdin.close()
        self.popen.wait(20)
        self.popen.stdout.close()


@contextmanager
def driver(site, module="tests.support.driver"):
    """A driver for the length of a block."""
    started = Driver(site, module)
    try:
        yield started
    finally:
        started.stop()


def people(count, sessions=1):
    """New users: [{"user": key, "sessions": [key, …]}, …]."""
    found = User.objects.count()
    made = User.objects.bulk_create([User(username=f"person{found + nth}") for nth in range(count)])
    return [{"user": user.pk, "sessions": [sign_in(user) for _ in range(sessions)]} for user in made]


def sign_in(user):
    session = SessionStore()
    session[SESSION_KEY], session[BACKEND_SESSION_KEY] = str(user.pk), settings.AUTHENTICATION_BACKENDS[0]
    session[HASH_SESSION_KEY] = user.get_session_auth_hash()
    session.save()
    return session.session_key


def sign_out(user, session):
    """As a sign-out view does: the session ends, and the signal is sent."""
    SessionStore(session).delete()
    user_logged_out.send(User, request=None, user=User.objects.get(pk=user))


def tell(user, title="Hello", count=1, **fields):
    """Notify a user so often, in one transaction."""
    with transaction.atomic():
        return [str(notify(user, title, **fields)[0]) for _ in range(count)]


def mark(user, verb, up_to, ids=None):
    inbox.mark(user, verb, up_to, None if ids is None else [uuid.UUID(id) for id in ids])


def job(user, title="Work"):
    """A queued job, in a queue of its own."""
    row = Job(
        user_id=user,
        task_path="tests.tasks.work",
        title=title,
        backend="default",
        queue_name=uuid.uuid4().hex[:20],
    )
    states.enqueue(row)
    return str(row.pk)


def start(id):
    (claimed,) = states.claim(WORKER, 1, queues=[Job.objects.get(pk=id).queue_name])
    assert str(claimed.pk) == id


def progress(id, current, total=None, message=""):
    row = Job.objects.get(pk=id)
    row.progress_current, row.progress_total, row.progress_message = current, total, message
    states.report([row])


def finish(id, value=None):
    states.finish([outcomes.succeeded(Job.objects.get(pk=id), DEFAULT, value)])


def fail(id):
    states.finish([outcomes.failed(Job.objects.get(pk=id), DEFAULT, ValueError("broken"))])


def give_back(id):
    states.release([Job.objects.get(pk=id)])


def prune():
    """Delete all that is archived or finished."""
    return retention.prune(timezone.now() + timedelta(seconds=1))


def begin_epoch():
    """As after a restored backup."""
    return streams.begin_epoch()


DEEDS = (
    *(people, sign_out, tell, mark, prune, begin_epoch),
    *(job, start, progress, finish, fail, give_back),
)


def serve(deeds):
    """Do what the lines of standard input say."""
    known = {deed.__name__: deed for deed in deeds}
    for line in sys.stdin:
        deed, told = json.loads(line)
        try:
            answer = {"value": known[deed](**told)}
        except Exception:
            answer = {"error": traceback.format_exc()}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    import django

    django.setup()

    import uuid
    from datetime import timedelta
    from importlib import import_module

    from django.conf import settings
    from django.contrib.auth import BACKEND_SESSION_KEY, HASH_SESSION_KEY, SESSION_KEY, get_user_model
    from django.contrib.auth.signals import user_logged_out
    from django.db import transaction
    from django.utils import timezone

    from notifications import inbox, retention, streams
    from notifications.api import notify
    from notifications.jobs import outcomes, states
    from notifications.jobs.policies import DEFAULT
    from notifications.models import Job

    SessionStore = import_module(settings.SESSION_ENGINE).SessionStore
    User = get_user_model()
    WORKER = uuid.uuid4()
    serve(DEEDS)
