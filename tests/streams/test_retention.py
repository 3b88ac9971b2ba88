"""Retention: old archived notifications and finished jobs are deleted, and cursors below the floor get a reset."""

from datetime import timedelta

import pytest
from django.contrib.auth import get_user_model
from django.core.management import CommandError, call_command
from django.db import connection
from django.utils import timezone

from notifications.api import batch, join, notify
from notifications.jobs.transitions import recording
from notifications.management.commands.notifications import Command
from notifications.models import Attempt, Job, Notification, SeenMark, Stream, uuid7
from notifications.streams import changes, retention
from notifications.testing import run_jobs
from tests.jobs import tasks
from tests.support.claims import claim_rows
from tests.support.duties import run_duty
from tests.support.outcomes import succeeded

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.database_law]
#: The core's, which the site replaces.
PruneCommand = Command.subcommands["prune"]


def age(model, days, **filters):
    """Set the time at which rows were archived or finished to ``days`` ago."""
    field = "archived_at" if model is Notification else "finished_at"
    model.objects.filter(**filters).update(**{field: timezone.now() - timedelta(days=days)})


def test_only_notifications_archived_before_the_limit_are_deleted(user):
    """Only notifications archived before the limit are deleted; unread, read and recently archived ones are kept."""
    for title in ("old", "fresh", "read", "unread"):
        notify(user, title)
    Notification.objects.filter(title="read").update(read_at=timezone.now() - timedelta(days=99))
    age(Notification, 31, title="old")
    age(Notification, 29, title="fresh")

    assert retention.prune(timezone.now() - timedelta(days=30)) == 1

    assert set(Notification.objects.values_list("title", flat=True)) == {"fresh", "read", "unread"}


def test_what_is_snoozed_is_kept(user):
    """It was archived long ago, and will be in the inbox again."""
    notify(user, "later")
    age(Notification, 31)
    Notification.objects.update(snoozed_until=timezone.now() + timedelta(days=1))
    assert retention.prune(timezone.now() - timedelta(days=30)) == 0


def test_floor_is_the_greatest_deleted_seq(user):
    """The floor is the greatest deleted seq: a cursor below it gets a reset, one at it the changes after it."""
    for title in ("one", "two", "three"):
        notify(user, title)
    age(Notification, 31, title__in=["one", "two"])

    retention.prune(timezone.now() - timedelta(days=30))

    assert Stream.objects.get(user=user).floor == 2
    found = changes.read_missed({user.pk: [1, 2]})
    assert found[user.pk, 1].reset
    assert [row.title for row in found[user.pk, 2].rows] == ["three"]


def test_finished_jobs_are_deleted_with_their_attempts(user):
    """Finished jobs are deleted with their attempts, also those without an owner; active jobs are kept."""
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


def test_jobs_of_a_batch_are_kept_until_it_is_deleted(user):
    """Jobs of a batch are not deleted before the batch, which counts them when it ends."""
    with batch(owner=user) as b:
        for number in range(3):
            tasks.add.enqueue(number, 1)
    for job in claim_rows(uuid7(), 2):
        recording.finish_jobs([succeeded(job, 1)])
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


def test_job_is_kept_until_its_idempotency_key_expires(user):
    """A job is kept until its idempotency key expires, whatever the retention is."""
    first = tasks.add.using(owner=user, key="k").enqueue(1, 2)
    run_jobs()
    assert retention.prune(timezone.now()) == 0
    assert tasks.add.using(owner=user, key="k").enqueue(1, 2).id == first.id
    Job.objects.update(idempotency_expires_at=timezone.now())
    assert retention.prune(timezone.now()) == 1


def test_unnumbered_rows_are_kept(user):
    """A row without a seq is kept, because no client has received its change."""
    notify(user, "changed")
    age(Notification, 31)
    Notification.objects.update(seq=None)

    assert retention.prune(timezone.now()) == 0
    assert Notification.objects.exists()


def test_rows_are_deleted_in_chunks(user):
    """More rows than one chunk are deleted in several chunks."""
    for number in range(retention.MAX_ROWS_PER_TRANSACTION * 2 + 5):
        notify(user, str(number))
    age(Notification, 31)

    assert retention.prune(timezone.now()) == retention.MAX_ROWS_PER_TRANSACTION * 2 + 5


def test_command_prints_the_number_of_deleted_rows(user, capsys):
    """The command prints the number of deleted rows; ``--days`` overrides the retention of the settings."""
    notify(user, "old")
    age(Notification, 2)
    call_command(PruneCommand())
    call_command(PruneCommand(), days=1)
    assert capsys.readouterr().out == "0 rows deleted.\n1 row deleted.\n"
    with pytest.raises(CommandError, match="0 or more"):
        call_command(PruneCommand(), days=-1)


def test_a_host_whose_clock_is_fast_deletes_nothing_early(user, jobs_clock):
    """The retention is counted by the clock of the database, by the command and by the duty."""
    notify(user, "a day old")
    age(Notification, 31)
    jobs_clock.advance(-timedelta(days=30))
    call_command(PruneCommand())
    run_duty("prune old rows")
    assert Notification.objects.exists()
    jobs_clock.reset()
    run_duty("prune old rows")
    assert not Notification.objects.exists()


def test_a_dry_run_counts_what_would_be_deleted(user, capsys):
    """And deletes nothing. Jobs of a batch that stays are not counted."""
    for title in ("old", "older"):
        notify(user, title)
    age(Notification, 31)
    for days in (1, 31):
        SeenMark.objects.create(user=user, up_to=1, at=timezone.now() - timedelta(days=days))
    batches = []
    for _ in range(2):
        with batch(owner=user) as b:
            tasks.noop.enqueue()
        batches.append(b.id)
    kept, old = batches
    run_jobs()
    age(Job, 31)
    Job.objects.filter(id=kept).update(finished_at=timezone.now())
    rows = Job.objects.count() + Notification.objects.count()
    call_command(PruneCommand(), dry_run=True)
    counts = [int(line.split()[0]) for line in capsys.readouterr().out.splitlines()]
    counts_of_core = counts[:2], [count for count in counts[2:] if count]  # what apps add is between
    assert Job.objects.count() + Notification.objects.count() == rows
    assert counts_of_core == ([2, 2], [1])
    call_command(PruneCommand())
    assert capsys.readouterr().out == f"{sum(counts)} rows deleted.\n"
    assert SeenMark.objects.count() == 1
    assert Job.objects.filter(batch=kept).exists() and not Job.objects.filter(id=old).exists()


def test_row_unarchived_during_pruning_is_kept(user):
    """A row that is unarchived before it is locked is kept, because its age is checked again."""
    notify(user, "old")
    age(Notification, 31)
    reads = []

    def unarchive_after_the_first_read(execute, sql, *args):
        if (
            sql.startswith("SELECT")
            and "archived_at" in sql
            and reads.append(sql) is None
            and len(reads) == 2
        ):
            Notification.objects.update(archived_at=None)
        return execute(sql, *args)

    with connection.execute_wrapper(unarchive_after_the_first_read):
        assert retention.prune(timezone.now()) == 0
    assert len(reads) > 1
    assert Notification.objects.exists()


def test_rows_of_deleted_users_are_deleted(make_user, set_bounds):
    """Rows of deleted users, which a killed process or a later notification left, are deleted."""
    set_bounds(rows=2)
    users = [make_user(f"u{number}") for number in range(5)]
    for owner in users:
        notify(owner, "note")
    tasks.add.using(owner=users[0]).enqueue(1, 2)
    deleted = [users[0].pk, users[3].pk, users[4].pk]
    get_user_model()._base_manager.filter(pk__in=deleted)._raw_delete("default")

    assert retention.prune(timezone.now() - timedelta(days=30)) == 4

    kept = {users[1].pk, users[2].pk}
    assert set(Stream.objects.values_list("user_id", flat=True)) == kept
    assert set(Notification.objects.values_list("user_id", flat=True)) == kept
    assert not Job.objects.exists()
