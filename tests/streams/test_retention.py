"""What is old and done with goes; whoever has not seen it is told to start anew."""

from datetime import timedelta

import pytest
from django.contrib.auth import get_user_model
from django.core.management import CommandError, call_command
from django.db.models import Manager
from django.utils import timezone

from notifications.api import batch, join
from notifications.ids import uuid7
from notifications.jobs.policies import DEFAULT_POLICY
from notifications.jobs.transitions import finishing, outcomes
from notifications.management.commands.prune import Command
from notifications.models import Attempt, Job, Notification, Stream
from notifications.streams import changes, inbox, purging, retention
from notifications.testing import run_jobs
from tests.jobs import tasks
from tests.support.claims import claim_rows

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.database_law]


def age(model, days, **which):
    """Make rows look as if they were archived, or finished, days ago."""
    field = "archived_at" if model is Notification else "finished_at"
    model.objects.filter(**which).update(**{field: timezone.now() - timedelta(days=days)})


def test_only_archived_notifications_past_retention_go(user):
    """Unread, read, and freshly archived ones stay, however old."""
    for title in ("old", "fresh", "read", "unread"):
        inbox.create_notifications(user, title)
    Notification.objects.filter(title="read").update(read_at=timezone.now() - timedelta(days=99))
    age(Notification, 31, title="old")
    age(Notification, 29, title="fresh")

    assert retention.prune(timezone.now() - timedelta(days=30)) == 1

    assert set(Notification.objects.values_list("title", flat=True)) == {"fresh", "read", "unread"}


def test_the_floor_is_the_greatest_seq_that_went(user):
    """A cursor below it starts anew; one at it is followed."""
    for title in ("one", "two", "three"):
        inbox.create_notifications(user, title)
    age(Notification, 31, title__in=["one", "two"])

    retention.prune(timezone.now() - timedelta(days=30))

    assert Stream.objects.get(user=user).floor == 2
    found = changes.read_missed({user.pk: [1, 2]})
    assert found[user.pk, 1].reset
    assert [row.title for row in found[user.pk, 2].rows] == ["three"]


def test_finished_jobs_go_with_their_attempts(user):
    """Active ones stay; jobs of nobody go too."""
    tasks.add.using(owner=user).enqueue(1, 2)
    tasks.add.enqueue(1, 2)
    tasks.fail.using(owner=user).enqueue()
    run_jobs()
    waiting = tasks.add.using(owner=user).enqueue(3, 4)
    age(Job, 31, finished_at__isnull=False)

    assert retention.prune(timezone.now() - timedelta(days=30)) == 3

    assert [str(id) for id in Job.objects.values_list("id", flat=True)] == [waiting.id]
    assert not Attempt.objects.exists()
    assert Stream.objects.get(user=user).floor > 0


def test_jobs_of_a_batch_go_after_it(user):
    """It counts them when it ends, also when it is tried again."""
    with batch(owner=user) as b:
        for number in range(3):
            tasks.add.enqueue(number, 1)
    for job in claim_rows(uuid7(), 2):
        finishing.finish_jobs([outcomes.succeeded(job, DEFAULT_POLICY, 1)])
    age(Job, 31, state="succeeded")
    before = timezone.now() - timedelta(days=30)

    assert retention.prune(before) == 0
    run_jobs()
    assert join(b) == {"succeeded": 3, "failed": 0, "cancelled": 0}
    age(Job, 31)
    Job.objects.filter(id=b.id).update(finished_at=timezone.now())
    assert retention.prune(before) == 0
    age(Job, 31)
    assert retention.prune(before) == 4


def test_a_key_is_kept_for_its_time(user):
    """Whatever the retention: the same again is the same job."""
    first = tasks.add.using(owner=user, key="k").enqueue(1, 2)
    run_jobs()
    assert retention.prune(timezone.now()) == 0
    assert tasks.add.using(owner=user, key="k").enqueue(1, 2).id == first.id
    Job.objects.update(idempotency_expires_at=timezone.now())
    assert retention.prune(timezone.now()) == 1


def test_what_waits_for_its_number_stays(user):
    """Its change has not been seen by anybody yet."""
    inbox.create_notifications(user, "changed")
    age(Notification, 31)
    Notification.objects.update(seq=None)

    assert retention.prune(timezone.now()) == 0
    assert Notification.objects.exists()


def test_more_than_a_chunk_goes(user):
    """Chunk after chunk, until nothing is left."""
    for number in range(retention.MAX_ROWS_PER_TRANSACTION * 2 + 5):
        inbox.create_notifications(user, str(number))
    age(Notification, 31)

    assert retention.prune(timezone.now()) == retention.MAX_ROWS_PER_TRANSACTION * 2 + 5


def test_the_command_says_what_it_did(user, capsys):
    """``--days`` replaces the retention of the settings."""
    inbox.create_notifications(user, "old")
    age(Notification, 2)
    call_command(Command())
    call_command(Command(), days=1)
    assert capsys.readouterr().out == "0 rows deleted.\n1 row deleted.\n"
    with pytest.raises(CommandError, match="0 or more"):
        call_command(Command(), days=-1)


def test_what_is_restored_meanwhile_stays(user, monkeypatch):
    """A row is asked again whether it is old, when it is locked."""
    inbox.create_notifications(user, "old")
    age(Notification, 31)
    lock = retention._lock

    def restored_first(old, ids):
        if old.model is Notification and ids:
            Notification.objects.update(archived_at=None)
        return lock(old, ids)

    monkeypatch.setattr(retention, "_lock", restored_first)
    assert retention.prune(timezone.now()) == 0
    assert Notification.objects.exists()


def test_users_that_do_not_exist_any_more(user, monkeypatch):
    """Whatever a killed process, or a job that notified later, left of them."""
    monkeypatch.setattr(purging, "MAX_STREAMS_PER_CHUNK", 2)
    people = [get_user_model().objects.create_user(f"u{number}") for number in range(5)]
    for person in people:
        inbox.create_notifications(person, "note")
    tasks.add.using(owner=people[0]).enqueue(1, 2)
    gone = [people[0].pk, people[3].pk, people[4].pk]
    get_user_model()._base_manager.filter(pk__in=gone)._raw_delete("default")

    assert retention.prune(timezone.now() - timedelta(days=30)) == 4

    kept = {people[1].pk, people[2].pk}
    assert set(Stream.objects.values_list("user_id", flat=True)) == kept
    assert set(Notification.objects.values_list("user_id", flat=True)) == kept
    assert not Job.objects.exists()


def test_users_that_a_manager_hides_are_there(user, monkeypatch):
    """A host may hide whom it closed."""

    class Hidden(Manager):
        def get_queryset(self):
            return super().get_queryset().none()

    hidden = Hidden()
    hidden.model = get_user_model()
    for name in ("default_manager", "base_manager"):
        monkeypatch.setattr(get_user_model()._meta, name, hidden)
    inbox.create_notifications(user.pk, "note")
    assert not any(purging.find_deleted_users())
    assert Notification.objects.exists()


def test_users_of_another_database(user, monkeypatch):
    """Nobody can tell from here who exists."""
    inbox.create_notifications(user, "note")
    monkeypatch.setattr(purging.router, "db_for_write", lambda model: "elsewhere")
    monkeypatch.setattr(purging, "database", lambda: "default")
    get_user_model().objects.all()._raw_delete("default")
    assert not any(purging.find_deleted_users())
    assert Notification.objects.exists()
