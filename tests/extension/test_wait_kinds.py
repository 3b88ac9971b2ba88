"""Extensions: kinds of waits."""

import json
import re
import threading
from datetime import timedelta

import pytest
from django.db import connection, transaction
from django.utils import timezone

from notifications import testing, times
from notifications.api import end_wait
from notifications.extension import Extension, WaitKind, hooks
from notifications.jobs import cancel
from notifications.models import Job, Notification, OwedCall, Wait, uuid7
from notifications.serializers import serialize_job
from notifications.streams import build_notification
from notifications.streams.snoozing import snooze
from notifications.testing import run_jobs
from tests.data.conftest import scalar
from tests.jobs import tasks
from tests.support import extensions
from tests.support.duties import run_duty
from tests.support.extensions import set_wait_kind
from tests.support.shown_jobs import show_job
from tests.support.threads import run_in_threads
from tests.support.waiting import wait_until

pytestmark = pytest.mark.nightly_on_old_django


class CountingKind(WaitKind):
    """Counts the waits of pauses, whose kind it takes over, and notifies of each."""

    kind = "pause"
    ends_by_time = "due"

    def __init__(self):
        self.opened_waits, self.ended_waits = [], []
        self.is_shown, self.reminders = False, 0

    def opened(self, waits, jobs):
        self.opened_waits += waits
        return [build_notification(jobs[wait.job].user_id, "It pauses.") for wait in waits]

    def ended(self, waits):
        assert connection.in_atomic_block
        self.ended_waits += [wait.how for wait in waits]
        rows = Notification.objects.filter(title="It pauses.")
        rows.update(read_at=times.now(), seq=None)
        return set(rows.values_list("user_id", flat=True))

    def is_shown_to(self, wait, user):
        return self.is_shown

    def page(self, job, id):
        return f"/naps/{job}/{id}/"

    def answer_path(self, job, id):
        return f"/api/naps/{id}/"

    def remind(self):
        assert not connection.in_atomic_block
        self.reminders += 1


@pytest.fixture
def install_kind(monkeypatch):
    """install_kind(name, kind) has waits of this name be of this kind."""

    def install(name, kind):
        set_wait_kind(monkeypatch, name, kind)
        return kind

    return install


@pytest.mark.parametrize("how", ["due", "cancelled"])
def test_a_kind_of_wait(user, recorder, how, install_kind):
    """Its notifications are like others, are numbered, and are closed with the wait."""
    kind = install_kind("pause", CountingKind())
    job = Job.objects.get(id=tasks.nap.using(owner=user).enqueue().id)
    run_jobs()
    assert len(kind.opened_waits) == 1
    assert recorder.names() == ["on_attempts", "before_created", "on_created", "on_ends", "last"]
    row = Notification.objects.get()
    assert row.seq == row.raised == 1
    job.refresh_from_db()
    assert (job.state, job.waiting) == ("waiting", None)
    if how == "cancelled":
        cancel([job.id])
    else:
        Wait.objects.update(due_at=times.now())
        run_duty("end waits that are due")
    assert kind.ended_waits == [how]
    row.refresh_from_db()
    assert row.read_at and row.seq > row.raised


class SigningKind(WaitKind):
    """Notifies the owner of each wait, with a button; it takes over the kind of pauses."""

    kind, ends_by_time = "pause", "due"

    def opened(self, waits, jobs):
        button = {"label": "Sign", "post": "/sign/"}
        return [
            build_notification(
                jobs[wait.job].user_id, "Sign it.", actions=[button], icon="comment", wait=wait
            )
            for wait in waits
        ]


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("how", ["signed", "due", "cancelled", "left"])
def test_notifications_are_closed_with_their_waits(user, install_kind, how):
    """Without code of the kind: they are read, without buttons, and the same is sent to browsers."""
    install_kind("pause", SigningKind())
    ids = [tasks.nap.using(owner=user).enqueue().id for _ in range(2)]
    run_jobs()
    assert all(row.job for row in Notification.objects.all())
    other, row = (Notification.objects.get(job=id) for id in reversed(ids))
    assert json.loads(row.data)["actions"] and not row.read_at
    [wait] = Wait.objects.filter(job=ids[0])
    if how == "signed":
        end_wait(SigningKind, ids[0], wait.name, how="signed")
    elif how == "due":
        Wait.objects.filter(id=wait.id).update(due_at=times.now())
        run_duty("end waits that are due")
    elif how == "cancelled":
        cancel([ids[0]])
    else:  # its extension was not installed meanwhile
        Wait.objects.filter(id=wait.id).update(kind="fax")
        cancel([ids[0]])
        Wait.objects.filter(id=wait.id).update(kind="pause")
        run_duty("cancel waits of ended jobs")
    wait.refresh_from_db()
    assert wait.how == (how if how != "left" else "cancelled")
    row.refresh_from_db()
    assert (json.loads(row.data), row.read_at) == ({"icon": "comment"}, wait.ended_at)
    assert row.seq > row.raised
    other.refresh_from_db()
    assert json.loads(other.data)["actions"] and not other.read_at


@pytest.mark.django_db(transaction=True)
def test_a_damaged_notification_of_a_wait_that_ends(user, install_kind):
    """It is read, and keeps no job waiting."""
    install_kind("pause", SigningKind())
    id = tasks.nap.using(owner=user).enqueue().id
    run_jobs()
    Notification.objects.update(data="{")
    end_wait(SigningKind, id, Wait.objects.get().name, how="signed")
    assert Notification.objects.get().read_at and Wait.objects.get().ended_at


@pytest.mark.django_db(transaction=True)
def test_a_snoozed_notification_of_a_wait_that_has_ended(user, install_kind):
    """It does not return, to ask for what was done."""
    install_kind("pause", SigningKind())
    id = tasks.nap.using(owner=user).enqueue().id
    run_jobs()
    row = Notification.objects.get()
    snooze(user.pk, [row.id], row.raised, times.now() + timedelta(hours=1))
    end_wait(SigningKind, id, Wait.objects.get().name, how="signed")
    Notification.objects.exclude(snoozed_until=None).update(snoozed_until=times.now())
    run_duty("raise snoozed notifications")
    row.refresh_from_db()
    assert row.archived_at and row.read_at and not row.snoozed_until


def test_a_kind_of_wait_that_users_end(user, recorder, monkeypatch, install_kind):
    """The item of its job has its links, and jobs that run inline remind of it."""
    kind = install_kind("pause", CountingKind())
    kind.is_shown = True
    job = Job.objects.get(id=tasks.nap.using(owner=user).enqueue().id)
    run_jobs()
    assert kind.reminders == 0
    Wait.objects.update(remind_at=times.now())
    run_jobs()
    assert kind.reminders == 1
    job.refresh_from_db()
    wait = Wait.objects.get()
    links = {"answer": f"/api/naps/{wait.id}/", "page": f"/naps/{job.id}/{wait.id}/"}
    assert serialize_job(job)["waiting"]["links"] == links
    monkeypatch.delitem(hooks.wait_kinds, "pause")  # its extension is not installed any more
    links = {"answer": None, "page": f"/notifications/jobs/{job.id}/"}
    assert serialize_job(job)["waiting"]["links"] == links


def test_a_wait_of_an_app_that_is_not_installed_any_more(user, recorder, install_kind):
    """It is not ended: by its time, nor with its job, which can be cancelled. It is when the app is back."""
    job = tasks.nap.using(owner=user).enqueue().id
    run_jobs()
    Wait.objects.update(kind="fax", due_at=times.now())
    run_duty("end waits that are due")
    cancel([job])
    run_duty("cancel waits of ended jobs")
    assert (Job.objects.get().state, Wait.objects.get().how) == ("cancelled", "")
    kind = install_kind("fax", CountingKind())
    run_duty("cancel waits of ended jobs")
    assert kind.ended_waits == [Wait.objects.get().how] == ["cancelled"]


@pytest.mark.parametrize(
    ("kind", "user", "message"),
    [
        ("nap", None, "kind is 'nap'. Pass its class, a subclass of WaitKind."),
        (CountingKind, 7, "user is 7. Pass the user, such as request.user."),
    ],
)
def test_what_ends_a_wait_with_the_wrong_types(kind, user, message, install_kind):
    """A key, which `notify()` takes, is no user."""
    install_kind("pause", CountingKind())
    with pytest.raises(TypeError, match=re.escape(message)):
        end_wait(kind, uuid7(), "nap", how="woken", user=user)


def test_a_kind_of_another_package_has_a_long_name_and_a_label(user, install_kind):
    """The core's table names no kind: the label is that of the kind, and the name without it."""
    kind = "approval-of-the-purchasing-department"
    job = tasks.noop.using(owner=user).enqueue()
    Job.objects.filter(id=job.id).update(started_at=timezone.now())
    Wait.objects.create(job=job.id, name="approve", kind=kind, attempt=1, created_at=timezone.now())

    def read_result():
        [step] = show_job(job.id)["steps"]
        return step["result"]

    assert read_result() == kind
    install_kind(kind, type("Approval", (WaitKind,), {"kind": kind, "label": "Approval"})())
    assert read_result() == "Approval"


class WarningKind(SigningKind):
    """Has another notification, which it closes itself."""

    def opened(self, waits, jobs):
        others = [build_notification(jobs[wait.job].user_id, "It is not signed.") for wait in waits]
        return [*others, *super().opened(waits, jobs)]

    def notification_ids(self, wait):
        return Notification.objects.filter(title="It is not signed.").values_list("id", flat=True)

    def ended(self, waits):
        rows = Notification.objects.filter(title="It is not signed.")
        rows.update(read_at=times.now(), seq=None)
        return set(rows.values_list("user_id", flat=True))


@pytest.mark.database_law
@pytest.mark.django_db(transaction=True)
def test_notifications_are_locked_in_one_order(user, install_kind):
    """Those of the kind and that of the core: who marks both as read holds the first, and waits for the second."""
    if connection.vendor == "sqlite":
        pytest.skip("SQLite locks no rows.")
    install_kind("pause", WarningKind())
    id = tasks.nap.using(owner=user).enqueue().id
    run_jobs()
    first, second = Notification.objects.order_by("id").values_list("id", flat=True)
    is_locked = threading.Event()

    def mark():
        with transaction.atomic():
            Notification.objects.select_for_update().get(id=first)
            is_locked.set()
            wait_until(lambda: scalar("SELECT count(*) FROM pg_locks WHERE NOT granted"), what="the other")
            Notification.objects.select_for_update(nowait=True).get(id=second)

    def end():
        assert is_locked.wait(20)
        cancel([id])

    run_in_threads(mark, end)
    assert Notification.objects.exclude(read_at=None).count() == 2


class FailingKind(WaitKind):
    kind = "fax"

    def ended(self, waits):
        raise RuntimeError("Out of order.")


class Broken(Extension):
    name, label = "notifications.testing", "broken"
    wait_kinds = (FailingKind(),)


@pytest.mark.django_db(transaction=True)
def test_a_kind_that_fails_keeps_no_other_waiting(user, monkeypatch):
    """Neither those of the same job. Its hook is called later."""
    extensions.install(monkeypatch, Broken("notifications.testing", testing))
    nap, broken = (tasks.nap.using(owner=user).enqueue().id for _ in range(2))
    run_jobs()
    now = times.now()
    Wait.objects.filter(job=nap).update(due_at=now)
    fields = {"job": broken, "kind": "fax", "attempt": 1, "created_at": now}
    for number in range(2):
        Wait.objects.create(name=f"fax {number}", due_at=now - timedelta(hours=1), **fields)
    run_duty("end waits that are due")
    assert not Wait.objects.filter(due_at__lte=now, ended_at=None).exists()
    fax = set(Wait.objects.filter(kind="fax").values_list("id", flat=True))
    owed = OwedCall.objects.filter(extension="broken", hook="ended")
    assert set(owed.values_list("subject", flat=True)) == fax
