"""Statements that wait for rows take them in the order that the architecture page states."""

import re
from collections import defaultdict
from uuid import UUID

import pytest
from django.core.management import call_command
from django.db import connection
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.signals import connection_created
from django.urls import reverse

from notifications import testing, times
from notifications.api import batch, notify
from notifications.extension import Check, Extension, Topic
from notifications.jobs import cancel, retry
from notifications.models import AnnouncedState, PendingMark, Stream
from notifications.testing import run_jobs
from tests.contrib.questions import question_tasks
from tests.docs.pages import DOCS
from tests.jobs import tasks
from tests.support.duties import run_duty
from tests.support.extensions import install

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("on_postgresql")]

JSON = "application/json"
TABLES = {
    "schedules": "schedule",
    "job rows by id": "job",
    "limits by key": "rates_limit",
    "queues with limits by key": "limitedqueue",
    "pending marks": "pendingmark",
    "announced states": "announcedstate",
    "notification rows by id": "notification",
    "deliveries by id": "deliveries_delivery",
    "throttles by user": "deliveries_throttle",
    "streams": "stream",
}
#: A part of a statement that takes rows of a table, from the name of the table on.
TAKING = re.compile(
    r'(?:\b(?:INSERT INTO|UPDATE|DELETE FROM)|\bFROM(?=[^;]* FOR (?:NO KEY )?UPDATE)) "?notifications_(\w+)"?([^;]*)',
    re.I,
)


def documented_order():
    page = (DOCS / "explanation/architecture.md").read_text()
    return [TABLES[name] for name in re.search(r"\*\*Lock order: (.*?)\.\*\*", page)[1].split(", ")]


def locks_of(statement):
    """Return the tables of which a statement takes rows, in order, and whether it waits for rows of others."""
    found = []
    for part in TAKING.finditer(re.sub(r"\s+", " ", statement)):
        is_insert = part[0].upper().startswith("INSERT") and "DO UPDATE" not in part[2]
        found.append((part[1].lower(), not is_insert and "SKIP LOCKED" not in part[2]))
    return found


@pytest.fixture
def transactions(monkeypatch):
    """The locking statements of all connections from now on, a list for each transaction."""
    recorded = []
    current = defaultdict(list)

    def record(execute, sql, params, many, context):
        db = context["connection"]
        statements = [part for part in str(sql).split("; ") if locks_of(part)]
        if db.in_atomic_block:
            current[db].extend(statements)
        else:
            recorded.extend([statement] for statement in statements)
        return execute(sql, params, many, context)

    set_autocommit = BaseDatabaseWrapper.set_autocommit

    def at_boundary(db, autocommit, *args, **kwargs):
        set_autocommit(db, autocommit, *args, **kwargs)
        if statements := current.pop(db, None):
            recorded.append(statements)

    def wrap(connection, **kwargs):
        connection.execute_wrappers.append(record)

    monkeypatch.setattr(BaseDatabaseWrapper, "set_autocommit", at_boundary)
    connection_created.connect(wrap)
    with connection.execute_wrapper(record):
        yield recorded
    connection_created.disconnect(wrap)


def find_violations(recorded, order):
    """Return the statements that wait for rows of a table before which rows of a later one were taken."""
    found = []
    for statements in recorded:
        taken = []
        for statement in statements:
            for table, waits in locks_of(statement):
                if table in order:
                    later = [other for other in taken if order.index(other) > order.index(table)]
                    # An UPDATE is of rows that the transaction has taken before; a SELECT takes further ones.
                    is_repeated = table in taken and "FOR NO KEY UPDATE" not in statement
                    if waits and later and not is_repeated:
                        found.append((later, statement))
                    taken.append(table)
    return found


class ScheduleCheck(Check, Extension):
    """A problem, and the extension that has it."""

    name, label, id = "notifications.testing", "shop", "poll"
    state, readers = "", ()

    def checks(self):
        return [self]

    def topics(self, announced):
        return [
            Topic(
                key="schedule:poll",
                state=self.state,
                read_readers=lambda: self.readers,
                describe=lambda before: {"title": "The schedule"},
            )
        ]


def test_transactions_lock_in_the_documented_order(
    transactions, make_user, other_user, client_of, settings, monkeypatch
):
    """Each change of jobs and notifications once; the record must contain all tables of the order."""
    user = make_user("ada", email="ada@users.example")
    client = client_of(user)
    failing = tasks.fail.using(owner=user).enqueue()
    with batch(title="Two", owner=user):
        tasks.noop.enqueue()
        tasks.noop.enqueue()
    cancel([UUID(tasks.noop.using(owner=other_user).enqueue().id)])
    asking = question_tasks.ask_sync.using(owner=user).enqueue(to=[other_user.pk])
    run_jobs()
    cancel([UUID(asking.id)])  # closes the question of the other user
    retry([UUID(failing.id)])
    run_jobs()
    for _ in range(2):
        notify([user, other_user], "Twice", key="k")
    head = Stream.objects.get(pk=user.pk).head
    PendingMark.objects.create(user=user, verb="read", moment=times.now(), after=0, up_to=head)
    run_duty("mark notifications as read")
    assert (
        client.post(reverse("notifications:api-notifications-seen"), {"up_to": head}, JSON).status_code == 200
    )
    archived = {"up_to": head, "all": "archive"}
    assert client.post(reverse("notifications:inbox-mark"), archived).status_code == 303
    check = ScheduleCheck(ScheduleCheck.name, testing)
    check.readers = [user.pk]
    install(monkeypatch, check)
    for state in ("failed", "missed", ""):  # the row is inserted, changed and deleted
        check.state = state
        run_duty("announce problems")
        assert [row.state for row in AnnouncedState.objects.all()] == [state] * bool(state)
    settings.NOTIFICATIONS = {**settings.NOTIFICATIONS, "DELIVERY": {"*": [{"email": 0}]}}
    notify(user, "By e-mail")
    run_duty("enqueue deliveries by email")
    run_jobs()
    call_command("notifications", "prune", days=0)
    order = documented_order()
    tables = {table for group in transactions for statement in group for table, _ in locks_of(statement)}
    assert tables >= {*order} - {"schedule", "rates_limit", "limitedqueue"}
    assert find_violations(transactions, order) == []
    assert find_unordered(transactions) == []


def find_unordered(recorded):
    """Return the statements that wait for rows in no order."""
    locks = {
        statement for statements in recorded for statement in statements if "FOR NO KEY UPDATE" in statement
    }
    return [lock for lock in locks if "SKIP LOCKED" not in lock and "ORDER BY" not in lock]


def test_a_transaction_in_another_order_is_found():
    """Of two tables, of which the later is taken first; rows that are skipped are not waited for."""
    stream = (
        "INSERT INTO notifications_stream (user_id) VALUES (1) ON CONFLICT (user_id) DO UPDATE SET head = 0"
    )
    update = "UPDATE notifications_notification SET seq = 1 WHERE id = 1"
    lock = "SELECT id FROM notifications_notification ORDER BY id FOR NO KEY UPDATE"
    order = documented_order()
    assert find_violations([[stream, update]], order) == [(["stream"], update)]
    assert find_violations([[stream, lock]], order) == [(["stream"], lock)]
    assert find_violations([[lock, stream, lock]], order) == [(["stream"], lock)]
    assert find_violations([[lock, stream, update], [stream, lock + " SKIP LOCKED", update]], order) == []
