"""What a site's own code does to the rows, for tests/support/driver.py. Importable once Django is ready."""

import uuid
from datetime import timedelta
from importlib import import_module

from django.conf import settings
from django.contrib.auth import BACKEND_SESSION_KEY, HASH_SESSION_KEY, SESSION_KEY, get_user_model
from django.contrib.auth.signals import user_logged_out
from django.db import transaction
from django.utils import timezone

from notifications import streams
from notifications.api import notify
from notifications.jobs.policies import DEFAULT_POLICY
from notifications.jobs.transitions import outcomes, queueing, recording, running
from notifications.models import Job
from notifications.streams import inbox, retention
from tests.support.claims import claim_rows

SessionStore = import_module(settings.SESSION_ENGINE).SessionStore
User = get_user_model()
WORKER = uuid.uuid4()


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
    queueing.enqueue(row)
    return str(row.pk)


def start(id):
    (claimed,) = claim_rows(WORKER, 1, queues=[Job.objects.get(pk=id).queue_name])
    assert str(claimed.pk) == id


def progress(id, current, total=None, message=""):
    row = Job.objects.get(pk=id)
    row.progress_current, row.progress_total, row.progress_message = current, total, message
    running.store_progress([row])


def finish(id, value=None):
    recording.record_outcomes([outcomes.succeeded(Job.objects.get(pk=id), DEFAULT_POLICY, value)])


def fail(id):
    recording.record_outcomes([outcomes.failed(Job.objects.get(pk=id), DEFAULT_POLICY, ValueError("broken"))])


def give_back(id):
    queueing.release([Job.objects.get(pk=id)])


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
