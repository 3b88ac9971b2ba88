"""Functions that stand for a site's own code, for tests/support/driver.py. Import it after django.setup()."""

import uuid
from importlib import import_module
from io import StringIO

from django.conf import settings
from django.contrib.auth import BACKEND_SESSION_KEY, HASH_SESSION_KEY, SESSION_KEY, get_user_model
from django.contrib.auth.signals import user_logged_out
from django.core.management import call_command
from django.db import transaction

from notifications.api import notify
from notifications.jobs.transitions import running
from notifications.models import Epoch, Job
from notifications.streams import marking
from notifications.streams.marking_seen import mark_seen as mark_seen
from tests.data.rows import job
from tests.support.claims import claim_rows
from tests.support.outcomes import failed, record, release, succeeded

SessionStore = import_module(settings.SESSION_ENGINE).SessionStore
User = get_user_model()
WORKER_ID = uuid.uuid4()


def create_users(count, sessions=1):
    """Create users and return [{"user": key, "sessions": [key, …]}, …]."""
    existing = User.objects.count()
    users = User.objects.bulk_create([User(username=f"user{existing + index}") for index in range(count)])
    return [{"user": user.pk, "sessions": [sign_in(user) for _ in range(sessions)]} for user in users]


def sign_in(user):
    session = SessionStore()
    session[SESSION_KEY], session[BACKEND_SESSION_KEY] = str(user.pk), settings.AUTHENTICATION_BACKENDS[0]
    session[HASH_SESSION_KEY] = user.get_session_auth_hash()
    session.save()
    return session.session_key


def sign_out(user, session):
    """Delete the session and send the signal, as a sign-out view does."""
    SessionStore(session).delete()
    user_logged_out.send(User, request=None, user=User.objects.get(pk=user))


def notify_user(user, title="Hello", count=1, **fields):
    """Create `count` notifications in one transaction and return their ids."""
    with transaction.atomic():
        return [str(notify(user, title, **fields)[0]) for _ in range(count)]


def mark_notifications(user, verb, up_to, ids=None):
    marking.mark(user, verb, up_to, None if ids is None else [uuid.UUID(id) for id in ids])


def enqueue_job(user, title="Work"):
    """Create a queued job in its own queue and return its id."""
    return str(job(user, title=title, queue_name=uuid.uuid4().hex[:20]).pk)


def claim_job(id):
    (claimed,) = claim_rows(WORKER_ID, 1, queues=[Job.objects.get(pk=id).queue_name])
    assert str(claimed.pk) == id


def store_progress(id, current, total=None, message=""):
    row = Job.objects.get(pk=id)
    row.progress_current, row.progress_total, row.progress_message = current, total, message
    running.store_progress([row])


def finish_job(id, value=None):
    record(succeeded(Job.objects.get(pk=id), value))


def fail_job(id):
    record(failed(Job.objects.get(pk=id)))


def release_job(id):
    release(Job.objects.get(pk=id))


def prune():
    """Delete all archived notifications and finished jobs."""
    call_command("notifications", "prune", days=0, stdout=StringIO())


def begin_epoch():
    """Begin a new epoch, as after restoring a backup."""
    Epoch.objects.all().delete()
