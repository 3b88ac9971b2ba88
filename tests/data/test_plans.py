"""Query plans: frequent queries find their rows by an index and read few others, however large the tables are."""

import re
from contextlib import contextmanager
from datetime import timedelta

import pytest
from django.conf import settings
from django.contrib.auth import get_user_model
from django.core.management import call_command
from django.db import connection
from django.db.backends.utils import CursorWrapper
from django.test.utils import CaptureQueriesContext, override_settings
from django.urls import reverse
from django.utils import timezone

from notifications import api, streams
from notifications.contrib import webhooks
from notifications.contrib.deliveries.models import Delivery, PushSubscription
from notifications.contrib.webhooks.models import WebhookAttempt
from notifications.extension import Upkeep, Where
from notifications.inbox import read_numbered_position, read_timeline
from notifications.jobs import cancel, retry
from notifications.jobs.claiming import unserved
from notifications.models import Job, Notification, Wait, uuid7
from notifications.streams import changes
from notifications.testing import run_jobs
from tests.contrib.webhooks.endpoints.receiver import Receiver
from tests.data.plans import ROWS_PER_USER, STREAMS, can_scan, explain, scans_of
from tests.data.rows import job, unnumbered
from tests.jobs import tasks, wait_tasks
from tests.support.claims import claim_rows
from tests.support.duties import run_duty
from tests.support.push_service import browser_keys, public_key_of, vapid_key
from tests.support.waiting import wait_until

pytestmark = pytest.mark.database_law

HEAD = 2 * ROWS_PER_USER
PUSH_KEY = vapid_key()


@contextmanager
def captured_statements():
    """Yield a list that gets the statements of all threads of this process, with their parameters in them."""
    captured, execute = [], CursorWrapper._execute_with_wrappers

    def execute_and_capture(cursor, sql, params, many, executor):
        result = execute(cursor, sql, params, many, executor)
        if not many:
            last = cursor.db.ops.last_executed_query(cursor.cursor, sql, params)
            captured.append(
                last % () if last == sql and params is not None else last
            )  # no parameters, but %%
        return result

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(CursorWrapper, "_execute_with_wrappers", execute_and_capture)
        yield captured


class Reader:
    """A user of large tables who is signed in, and what requests need."""

    def __init__(self, key, client_of, receiver):
        self.key, self.receiver = key, receiver
        self.row = get_user_model().objects.create(pk=key, username=f"user{key}", email="ada@users.example")
        self.client = client_of(self.row, raise_request_exception=True)

    def get(self, name, *args, **query):
        response = self.client.get(reverse(f"notifications:{name}", args=args), query)
        assert response.status_code == 200, response.content
        return response

    def send(self, name, **body):
        """Send JSON to the API."""
        response = self.client.post(reverse(f"notifications:{name}"), body, content_type="application/json")
        assert response.status_code == 200, response.content
        return response

    def submit(self, name, *args, **form):
        """Submit a form of a page, and return where it leads."""
        response = self.client.post(reverse(f"notifications:{name}", args=args), form)
        assert response.status_code == 303, response.content
        return response.url

    def ids(self):
        rows = Notification.objects.filter(user=self.key)
        return list(map(str, rows.values_list("pk", flat=True)[:3]))


def get(name, **query):
    return lambda reader: reader.get(name, **query)


def send(name, **body):
    return lambda reader: reader.send(name, **body)


def number_a_few(reader):
    unnumbered(reader.key, 3, key="k2")
    streams.number([reader.key])


def number_many_users(reader):
    for other_user in range(1, 21):
        unnumbered(other_user, 2, key="k2")
    streams.number(range(1, 201))


def number_pending(reader):
    unnumbered(reader.key, 3)
    run_duty("number pending changes")


def catch_up(reader):
    reader.get("api-sync", epoch=read_numbered_position(reader.key).epoch, seq=HEAD - 10)


def catch_up_by_200_rows(reader):
    unnumbered(reader.key, 1)
    streams.number([reader.key])
    reader.get("api-sync", epoch=read_numbered_position(reader.key).epoch, seq=0)


def take_snapshot_with_active_jobs(reader):
    for _ in range(3):
        job(reader.key)
    assert len(reader.get("api-sync").json()["jobs"]) == 3


def run_jobs_of_a_user(reader):
    for _ in range(3):
        tasks.add.using(owner=reader.row).enqueue(1, 2)
    assert run_jobs() == 3


def take_jobs_from_lost_workers(reader):
    for _ in range(3):
        job(reader.key)
    assert len(claim_rows(uuid7(), 2)) == 2
    run_duty("take jobs from lost workers", may_reap=lambda: True)


def run_limited_jobs(reader):
    for _ in range(3):
        job(reader.key, concurrency_key="a")
        job(reader.key, concurrency_key="b")
    while claim_rows(uuid7(), 2):
        pass


def cancel_and_retry(reader):
    ids = [job(reader.key).pk for _ in range(3)]
    claim_rows(uuid7(), 1)
    cancel(ids)
    retry(ids)


def enqueue_with_key(reader):
    for _ in range(2):
        for owner in (reader.key, None):
            job(owner, idempotency_key="key", idempotency_hash="hash")


def warn_of_unserved_jobs(reader):
    job(reader.key)
    unserved.warn_of_unserved_jobs()


def with_engine():
    options = {"engine": "tests.contrib.engines.idle_engine"}
    return override_settings(TASKS={"default": {**settings.TASKS["default"], "OPTIONS": options}})


def wake_engines(reader):
    for executor in ("sync", "async"):
        job(reader.key, executor=executor)
    job(reader.key, executor="sync", run_after=timezone.now())
    with with_engine():
        run_duty("wake engines for waiting jobs")


def warn_of_unserved_jobs_of_engines(reader):
    """Of a backend whose engine has no process."""
    job(reader.key, executor="sync")
    with with_engine():
        unserved.warn_of_unserved_jobs()


def deliver(reader):
    id = Notification.objects.filter(user=reader.key, raised__gt=50).values_list("pk", flat=True)[0]
    Notification.objects.filter(pk=id).update(read_at=None)
    for channel in ("email", "push"):
        Delivery.objects.create(notification=id, user_id=reader.key, channel=channel, due_at=timezone.now())
    for channel in ("email", "push"):
        run_duty(f"enqueue deliveries by {channel}")
    rows = Delivery.objects.filter(notification=id)
    wait_until(lambda: not rows.exclude(state="queued").exists(), what="jobs of deliveries")
    run_duty("fail abandoned deliveries")


def send_webhooks(reader):
    endpoint = webhooks.create(reader.receiver.url("/hook"), owner=reader.key)
    reader.receiver.answers[:] = [204, 500, 410]
    for _ in range(3):
        api.notify(reader.row, "Hello")
        run_jobs()
    assert set(WebhookAttempt.objects.filter(endpoint=endpoint.id).values_list("status", flat=True)) == {
        204,
        410,
        500,
    }
    webhooks.delete(endpoint.id)


def explain_calls(reader):
    """Of a notification of which a program was told."""
    endpoint = webhooks.create("https://hooks.example/", owner=reader.key)
    (id,) = api.notify(reader.row, "Hello")
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


def wait(reader):
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
    ids = [wait_tasks.fail_after_pause.using(owner=reader.row).enqueue().id for _ in range(3)]
    run_jobs()
    jobs = Job.objects.filter(pk__in=ids)
    assert jobs.filter(state="waiting").count() == 3
    cancel(ids[:1])
    retry(ids[:1])
    Wait.objects.filter(job__in=ids).update(due_at=now)
    run_duty("end waits that are due")
    assert jobs.filter(state="queued").count() == 3
    run_duty("queue jobs that wait for nothing")


def use_devices(reader):
    _, keys = browser_keys()
    device = PushSubscription.objects.get(user=reader.key)
    subscription = {"keys": keys, "key": public_key_of(PUSH_KEY)}
    reader.send("push-subscribe", endpoint=device.endpoint, **subscription)
    changed = "https://push.example/changed"
    reader.send("push-subscribe", endpoint=changed, replaces=device.endpoint, **subscription)
    [device] = [row["row"] for row in reader.get("devices").context["devices"]]
    assert device.endpoint == changed
    reader.submit("device-remove", device.id)
    assert not PushSubscription.objects.filter(user=reader.key).exists()


def unarchive(reader):
    reader.send("api-notifications-archive", up_to=90, ids=reader.ids())
    reader.send("api-notifications-unarchive", up_to=90)


def mark_all_of_a_category(reader):
    Notification.objects.filter(user=reader.key, raised__lt=50).update(category="c")
    reader.submit("inbox-mark-filter", all="read", up_to=90, query="category=c")


def undo(reader):
    url = reader.submit("inbox-mark", all="archive", up_to=90)
    reader.submit("inbox-undo", changed=re.search("changed=([^&]+)", url)[1])


#: What a search of the inbox page selects.
SEARCH = {"level": "info", "q": "note other"}

OPERATIONS = {
    "waiting": wait,  # first: it fills a table that others read
    "numbering": number_a_few,
    "numbering many": number_many_users,
    "numbering pending": number_pending,
    "numbering none": lambda reader: run_duty("number pending changes"),
    "marking as read": send("api-notifications-read", up_to=90),
    "marking some as read": lambda reader: reader.send("api-notifications-read", up_to=90, ids=reader.ids()),
    "catch-up": catch_up,
    "long catch-up": catch_up_by_200_rows,
    # Those of many clients are read at once.
    "catch-up of many": lambda reader: changes.read_missed({key: [HEAD - 2] for key in range(1, 201)}),
    "snapshot": take_snapshot_with_active_jobs,
    "unnumbered users": lambda reader: streams.number_if_needed([reader.key]),
    "a page of the inbox": get("inbox", after=60),
    "the last page of the inbox": get("inbox", after=4),
    "a page of the archive": get("api-notifications", archived=1),
    "a page of the unread": get("api-notifications", unread=1, category=""),
    "a page of newer ones": get("inbox", before=60),
    "a search": get("inbox", **SEARCH),
    "a search of newer ones": get("inbox", before=20, **SEARCH),
    "the page of the archive": get("inbox", view="done"),
    "marking those of a category as read": send("api-notifications-read", up_to=90, category=""),
    "marking those of a level as unread": send("api-notifications-unread", up_to=90, level="info"),
    "marking all of a category": mark_all_of_a_category,
    "undoing": undo,
    "marking none as unread": send("api-notifications-unread", up_to=90),
    "marking as seen": send("api-notifications-seen", up_to=90),
    "archiving": send("api-notifications-archive", up_to=90),
    "unarchiving": unarchive,
    "running jobs": run_jobs_of_a_user,
    "lost workers": take_jobs_from_lost_workers,
    "deleting a user": lambda reader: reader.row.delete(),
    "limited jobs": run_limited_jobs,
    "cancelling and retrying": cancel_and_retry,
    "unserved jobs": warn_of_unserved_jobs,
    "unserved jobs of engines": warn_of_unserved_jobs_of_engines,
    "idempotency keys": enqueue_with_key,
    "waking engines": wake_engines,
    "enqueueing deliveries": deliver,
    "sending webhooks": send_webhooks,
    "explaining calls": explain_calls,
    "devices": use_devices,
}


@pytest.fixture
def receiver(settings):
    """A server on loopback, which may be called."""
    receiver = Receiver()
    settings.NOTIFICATIONS = {**settings.NOTIFICATIONS, "OUTBOUND_ALLOW": [receiver.address]}
    yield receiver
    receiver.close()


def test_no_query_scans(large_tables, settings, client_of, receiver):
    """Each statement of frequent operations on a large table uses an index."""
    push = {"private_key": PUSH_KEY, "subject": "mailto:a@site.example"}
    settings.NOTIFICATIONS = {**settings.NOTIFICATIONS, "WEBHOOKS": True, "WEB_PUSH": push}
    scanning = {}
    for key, (name, operation) in enumerate(OPERATIONS.items(), start=500):
        reader = Reader(key, client_of, receiver)
        with captured_statements() as captured:
            operation(reader)
        Job.objects.filter(seq=0).delete()  # no other operation runs them
        statements = [sql for part in captured if part for sql in part.split("; ")]
        explained = dict.fromkeys(sql for sql in statements if can_scan(sql))
        assert explained, f"{name} has executed no query."
        scanning |= {f"{name}: {sql[:700]}": scans for sql in explained if (scans := scans_of(explain(sql)))}
    assert not scanning, "\n\n".join(f"{sql}\n    {plan}" for sql, plan in scanning.items())


@pytest.mark.tables("stream")
def test_deleted_users_are_searched_in_chunks(large_tables):
    """Deleted users are searched in chunks of streams, by the index of their key."""
    with CaptureQueriesContext(connection) as queries:
        call_command("notifications", "prune", "--dry-run")
    statements = [query["sql"] for query in queries.captured_queries]
    first, *later = [sql for sql in statements if 'FROM "notifications_stream"' in sql]
    assert "LIMIT" in first
    assert len(later) == STREAMS // 500
    assert [sql for sql in later if scans_of(explain(sql)) or "LIMIT" not in sql] == []
    assert len([sql for sql in statements if 'FROM "auth_user"' in sql]) == STREAMS // 500


@pytest.mark.nightly
@pytest.mark.parametrize(
    "model",
    [
        pytest.param(Notification, marks=pytest.mark.tables("notification", "stream", "deliveries_delivery")),
        pytest.param(
            Job,
            marks=pytest.mark.tables(
                *("job", "jobtag", "stream", "attempt", "wait", "steps_step", "steps_unfinishedstep"),
                *("output_outputchunk", "webhooks_jobcallback", "webhooks_webhookattempt"),
            ),
        ),
    ],
    ids=lambda model: model.__name__,
)
def test_pruning_does_not_sort(large_tables, model):
    """Pruning selects the oldest rows by an index, without sorting all old ones while it holds SQLite's lock."""
    if model is Notification:
        with connection.cursor() as cursor:
            cursor.execute("UPDATE notifications_notification SET archived_at = created_at")
            cursor.execute("ANALYZE")
    process = Upkeep(Where.WORKER, seconds=0)
    [duty] = [duty for duty in process.duties if duty.name == "prune old rows"]
    count = model.objects.count()
    with CaptureQueriesContext(connection) as queries:
        while model.objects.count() == count:
            assert process.run(duty)  # there is more to do
    count -= model.objects.count()
    parts = [sql for query in queries.captured_queries for sql in query["sql"].split("; ")]
    empty = {Notification: '"notifications_job"', Job: '"notifications_notification"'}[model]
    statements = [sql for sql in parts if can_scan(sql) and empty not in sql and "COUNT(*)" not in sql]
    assert [scans for sql in statements if (scans := scans_of(explain(sql)))] == []
    old = f'FROM "{model._meta.db_table}"'
    (selection,) = [sql for sql in statements if f"LIMIT {count}" in sql and old in sql]
    assert not re.search("TEMP B-TREE|Sort", explain(selection)), explain(selection)


@pytest.mark.tables("notification", "job")
def test_scan_is_detected(filled_tables):
    """scans_of() detects a query without an index: otherwise test_no_query_scans proves nothing."""
    for tail in ("WHERE title = 'x'", "WHERE title = 'x' ORDER BY id"):
        for table in ("notifications_notification", "notifications_job"):
            assert scans_of(explain(f"SELECT id FROM {table} {tail}")), (table, tail)
