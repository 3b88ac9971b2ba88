"""Query plans: frequent queries find their rows by an index and read few others, however large the tables are."""

import re
from datetime import timedelta

import pytest
from django.apps import apps
from django.conf import settings
from django.contrib.auth import get_user_model
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext, override_settings
from django.utils import timezone

from notifications import api, streams
from notifications.contrib import webhooks
from notifications.contrib.deliveries import devices, outages, sending
from notifications.contrib.deliveries.models import Delivery
from notifications.contrib.engines import wakeups
from notifications.contrib.operations.running import count_waiting
from notifications.contrib.questions import reminders
from notifications.contrib.webhooks import sending as webhook_sending
from notifications.contrib.webhooks.models import WebhookAttempt
from notifications.inbox import lists, read_timeline
from notifications.jobs import Outcome, cancel, retry
from notifications.jobs.claiming import backlog, candidates
from notifications.jobs.claiming.sources import Source
from notifications.jobs.transitions import claims, reaping, recording, upgrading, waiting
from notifications.models import Job, Notification, Wait, Worker, uuid7
from notifications.streams import changes, listing, marking, marking_all, positions, purging, retention
from notifications.streams.marking_seen import mark_seen
from tests.data.plans import ROWS_PER_USER, STREAMS, can_scan, explain, scans_of
from tests.data.rows import job, unnumbered
from tests.support.claims import claim_rows
from tests.support.outcomes import succeeded
from tests.support.push_service import browser_keys

pytestmark = pytest.mark.database_law


def number_a_few(user):
    unnumbered(user, 3, key="k2")
    streams.number([user])


def number_many_users(user):
    for other_user in range(1, 21):
        unnumbered(other_user, 2, key="k2")
    streams.number(range(1, 201))


def number_pending(user):
    unnumbered(user, 3)
    streams.number_pending()


def run_a_job(user):
    for _ in range(3):
        job(user)
    candidates.claimable_queues()
    jobs = claim_rows(uuid7(), 2)
    claims.store_progress(jobs)
    recording.record_outcomes([succeeded(row) for row in jobs])


def run_limited_jobs(user):
    for _ in range(3):
        job(user, concurrency_key="a")
        job(user, concurrency_key="b")
    while claim_rows(uuid7(), 2):
        pass


def cancel_and_retry(user):
    ids = [job(user).pk for _ in range(3)]
    (running,) = claim_rows(uuid7(), 1)
    cancel(ids)
    claims.cancellations_requested(running.worker)
    retry(ids)


def enqueue_with_key(user):
    for _ in range(2):
        for owner in (user, None):
            job(owner, idempotency_key="key", idempotency_hash="hash")


def reap_no_jobs(user):
    job(user)
    now = timezone.now()
    alive = Worker.objects.create(
        host="h", process="p", started_at=now, lease_until=now + timedelta(minutes=3), concurrency=1
    )
    claim_rows(alive.pk, 1)
    claims.read_claims(alive.pk)
    assert reaping.reap_jobs([uuid7()]) == 0


def read_active_jobs(user):
    for _ in range(3):
        job(user)
    changes.read_active_jobs(changes.read_missed({user: [None]})[user, None].versions)
    positions.read_active_sums([user])


def warn_of_unserved_jobs(user):
    job(user)
    Worker.objects.all().delete()
    backlog.warn_of_unserved_jobs()


def wake_engines(user):
    """For jobs of an engine, of which one runs, and for old ones."""
    for executor in ("woken_sync", "woken_async", "sync"):
        job(user, executor=executor)
    job(user, executor="woken_sync", run_after=timezone.now())
    options = {
        "default": {**settings.TASKS["default"], "OPTIONS": {"engine": "tests.contrib.engines.idle_engine"}}
    }
    with override_settings(TASKS=options):
        claims.claim_jobs(uuid7(), 1, source=Source(backends=("default",), queues=("default",)))
        wakeups.wake_for_waiting_jobs(timezone.now())
    job(user, executor="dispatched")
    upgrading.turn_old_executors()


def warn_of_unserved_jobs_of_engines(user):
    """Of a backend whose engine has no process."""
    for executor in ("woken_sync", "sync"):
        job(user, executor=executor)
    options = {
        "default": {**settings.TASKS["default"], "OPTIONS": {"engine": "tests.contrib.engines.idle_engine"}}
    }
    with override_settings(TASKS=options):
        backlog.warn_of_unserved_jobs()


def deliver(user):
    id = Notification.objects.filter(user=user, raised__gt=50).values_list("pk", flat=True)[0]
    Notification.objects.filter(pk=id).update(read_at=None)
    get_user_model().objects.update_or_create(pk=user, defaults={"email": "ada@users.example"})
    for channel in ("email", "push"):
        Delivery.objects.create(notification=id, user_id=user, channel=channel, due_at=timezone.now())
    outages.add_timeout("push")
    sending.enqueue_due()
    assert dict(Delivery.objects.filter(notification=id).values_list("channel", "state")) == {
        "email": "queued",
        "push": "queued",
    }
    outages.end(outages.read("push"))
    sending.fail_orphaned()


def send_webhook(user):
    endpoint = webhooks.create("https://hooks.example/", owner=user)
    api.notify(user, "Hello")
    for status in (204, 500, 410):
        attempt = WebhookAttempt(
            endpoint=endpoint.id,
            job=uuid7(),
            event="job.failed",
            started_at=timezone.now(),
            milliseconds=1,
            status=status,
        )
        webhook_sending._record(attempt, webhook_sending.EndpointResponse(status, "", 0.0, ""), is_last=True)
    webhooks.delete(endpoint.id)


def explain_calls(user):
    """Of a notification of which a program was told."""
    endpoint = webhooks.create("https://hooks.example/", owner=user)
    (id,) = api.notify(user, "Hello")
    sent = Job.objects.get(event_source=id)
    attempt = WebhookAttempt(
        endpoint=endpoint.id,
        job=sent.pk,
        event="notification.created",
        started_at=timezone.now(),
        milliseconds=1,
    )
    attempt.save()
    assert "no answer" in str(read_timeline(Notification.objects.get(pk=id)))
    webhooks.delete(endpoint.id)


def wait(user):
    """Beside many waits that have ended, or are not due."""
    now = timezone.now()
    Wait.objects.bulk_create(
        Wait(
            job=uuid7(),
            name="nap",
            kind="pause",
            attempt=1,
            created_at=now,
            is_awaited=True,
            due_at=now + timedelta(days=1),
            ended_at=now if number % 2 else None,
        )
        for number in range(4_000)
    )
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE notifications_wait")
    for _ in range(3):
        job(user)
    jobs = claim_rows(uuid7(), 3)
    waits = [Wait(job=row.pk, name="nap", kind="pause", attempt=1) for row in jobs]
    for row in waits:
        row.lasts = timedelta(0)
    recording.finish_jobs(
        [Outcome(job=row, state="waiting", waits=[w]) for row, w in zip(jobs, waits, strict=True)]
    )
    cancel([jobs[0].pk])
    retry([jobs[0].pk])
    waiting.end_due_waits()
    assert Job.objects.filter(pk__in=[row.pk for row in jobs], state="queued").count() == 3
    waiting.queue_jobs_without_wait()
    waiting.queue_jobs_without_wait(uuid7())
    reminders.update_addressees()
    reminders.update_addressees((timezone.now(), uuid7()))
    count_waiting()


def use_devices(user):
    _, keys = browser_keys()
    (device,) = devices.of_user(user)
    devices.register(user, device.endpoint, **keys, name="Firefox", language="")
    changed = "https://push.example/changed"
    devices.register(user, changed, **keys, name="Firefox", language="", replaces=device.endpoint)
    (device,) = devices.of_user(user)
    assert devices.remove(user, device.id)


def unarchive(user):
    marking.mark(user, "archive", 90, some_ids(user))
    marking.mark(user, "unarchive", 90)


#: What a search of the inbox page selects.
SEARCH = listing.Filters(categories=("",), level="info", words=("note", "other"))


def undo(user):
    marked = marking_all.mark_all(user, "archive", 90)
    marking_all.undo_mark(user, "archive", marked.moment, marked.after, 90)


OPERATIONS = {
    "waiting": wait,  # first: it fills a table that others read
    "numbering": number_a_few,
    "numbering many": number_many_users,
    "numbering pending": number_pending,
    "numbering none": lambda user: streams.number_pending(),
    "marking as read": lambda user: marking.mark(user, "read", 90),
    "marking some as read": lambda user: marking.mark(user, "read", 90, some_ids(user)),
    "catch-up": lambda user: changes.read_missed({user: [2 * ROWS_PER_USER - 10]}),
    "long catch-up": lambda user: changes.read_missed({user: [-10]}),
    "catch-up of many": lambda user: changes.read_missed(
        {key: [2 * ROWS_PER_USER - 2] for key in range(1, 201)}
    ),
    "snapshot": lambda user: changes.read_snapshots({user: 2 * ROWS_PER_USER})[user],
    "snapshots": lambda user: changes.read_snapshots({user: 2 * ROWS_PER_USER, user + 1: 2 * ROWS_PER_USER}),
    "unnumbered users": lambda user: positions.find_unnumbered_users([user]),
    "a page of the inbox": lambda user: lists.read_inbox_page(user, 2 * ROWS_PER_USER, 60),
    "the last page of the inbox": lambda user: lists.read_inbox_page(user, 2 * ROWS_PER_USER, 4),
    "a page of the archive": lambda user: listing.read_page(
        user, 50, below=2 * ROWS_PER_USER + 1, filters=listing.Filters(archived=True)
    ),
    "a page of the unread": lambda user: listing.read_page(
        user, 50, below=2 * ROWS_PER_USER + 1, filters=listing.Filters(read=False, categories=("",))
    ),
    "a page of newer ones": lambda user: lists.read_inbox_page(user, 2 * ROWS_PER_USER, before=60),
    "a search": lambda user: lists.read_inbox_page(user, 2 * ROWS_PER_USER, filters=SEARCH),
    "a search of newer ones": lambda user: lists.read_inbox_page(
        user, 2 * ROWS_PER_USER, before=20, filters=SEARCH
    ),
    "the views of the inbox": lambda user: lists.read_state(user, listing.Filters()),
    "the views of the archive": lambda user: lists.read_state(user, listing.Filters(archived=True)),
    "marking those of a category as read": lambda user: marking.mark(user, "read", 90, category=""),
    "marking those of a level as unread": lambda user: marking.mark(user, "unread", 90, level="info"),
    "marking all of a category": lambda user: marking_all.mark_all(user, "read", 90, categories=("",)),
    "undoing": undo,
    "marking none as unread": lambda user: marking.mark(user, "unread", 90),
    "marking as seen": lambda user: mark_seen(user, 90),
    "archiving": lambda user: marking.mark(user, "archive", 90),
    "unarchiving": unarchive,
    "running a job": run_a_job,
    "reaping no jobs": reap_no_jobs,
    "purging": lambda user: purging.purge([user]),
    "active jobs": read_active_jobs,
    "limited jobs": run_limited_jobs,
    "cancelling and retrying": cancel_and_retry,
    "unserved jobs": warn_of_unserved_jobs,
    "unserved jobs of engines": warn_of_unserved_jobs_of_engines,
    "idempotency keys": enqueue_with_key,
    "waking engines": wake_engines,
    "enqueueing deliveries": deliver,
    "sending a webhook": send_webhook,
    "explaining calls": explain_calls,
    "devices": use_devices,
}


def some_ids(user):
    return list(Notification.objects.filter(user=user).values_list("pk", flat=True)[:3])


def test_no_query_scans(large_tables, monkeypatch, settings):
    """Each statement of frequent operations on a large table uses an index."""
    settings.NOTIFICATIONS = {**settings.NOTIFICATIONS, "WEBHOOKS": True}
    monkeypatch.setattr(positions.Position, "follows", lambda self, cursor: True)
    scanning = {}
    for user, (name, operation) in enumerate(OPERATIONS.items(), start=500):
        with CaptureQueriesContext(connection) as queries:
            operation(user)
        statements = [sql for query in queries.captured_queries for sql in query["sql"].split("; ")]
        explained = dict.fromkeys(sql for sql in statements if can_scan(sql))
        assert explained, f"{name} has executed no query."
        scanning |= {f"{name}: {sql[:700]}": scans for sql in explained if (scans := scans_of(explain(sql)))}
    assert not scanning, "\n\n".join(f"{sql}\n    {plan}" for sql, plan in scanning.items())


@pytest.mark.tables("stream")
def test_deleted_users_are_searched_in_chunks(large_tables):
    """Deleted users are searched in chunks of streams, by the index of their key."""
    with CaptureQueriesContext(connection) as queries:
        assert len([user for chunk in purging.find_deleted_users() for user in chunk]) == STREAMS
    first, *later = [
        query["sql"] for query in queries.captured_queries if "notifications_stream" in query["sql"]
    ]
    assert "LIMIT" in first
    assert len(later) == STREAMS // 500
    assert [sql for sql in later if scans_of(explain(sql)) or "LIMIT" not in sql] == []


def test_pruning_does_not_sort(large_tables):
    """Pruning selects the oldest rows by an index, without sorting all old ones while it holds SQLite's lock."""
    with connection.cursor() as cursor:
        cursor.execute("UPDATE notifications_notification SET archived_at = created_at")
        cursor.execute("ANALYZE")
    for pruned in (retention.JOBS, retention.NOTIFICATIONS):
        with transaction.atomic(), CaptureQueriesContext(connection) as queries:
            assert retention._prune_chunk(pruned, timezone.now()) == retention.MAX_ROWS_PER_TRANSACTION
        statements = [query["sql"] for query in queries.captured_queries if can_scan(query["sql"])]
        assert [scans for sql in statements if (scans := scans_of(explain(sql)))] == []
        old = f'FROM "{apps.get_model(pruned.model)._meta.db_table}"'
        limit = f"LIMIT {retention.MAX_ROWS_PER_TRANSACTION}"
        (selection,) = [sql for sql in statements if limit in sql and old in sql]
        assert not re.search("TEMP B-TREE|Sort", explain(selection)), explain(selection)


@pytest.mark.tables("notification", "job")
def test_scan_is_detected(filled_tables):
    """scans_of() detects a query without an index: otherwise test_no_query_scans proves nothing."""
    for tail in ("WHERE title = 'x'", "WHERE title = 'x' ORDER BY id"):
        for table in ("notifications_notification", "notifications_job"):
            assert scans_of(explain(f"SELECT id FROM {table} {tail}")), (table, tail)
