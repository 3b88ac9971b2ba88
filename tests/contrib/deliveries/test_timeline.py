"""Why a user was told, or was not: in the terminal and in the admin."""

import json
import re
from datetime import UTC, datetime, timedelta
from io import StringIO
from threading import Thread

import pytest
from django.core import mail
from django.core.management import CommandError, call_command
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from notifications.api import notify
from notifications.contrib.deliveries.models import Delivery
from notifications.inbox import read_timeline
from notifications.models import Job, Notification, SeenMark, Stream
from notifications.streams import marking, marking_seen, snoozing
from notifications.testing import run_jobs, run_until_idle
from tests.contrib.deliveries.conftest import send_due, use_mail_backend
from tests.contrib.deliveries.test_rules import mute
from tests.support.duties import enqueue_deliveries, run_duty
from tests.support.network import free_port
from tests.support.statements import preceded
from tests.support.threads import run_in_threads
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.nightly_on_postgres]


def texts(id):
    return [event.text for event in read_timeline(Notification.objects.get(id=id))]


def explain(*arguments):
    out = StringIO()
    call_command("notifications", "explain", *map(str, arguments), stdout=out, stderr=out)
    return out.getvalue()


def test_states_of_a_delivery(notified, user):
    delivery = notified()
    id = delivery.notification
    assert texts(id) == ["Created.", "E-mail: due, if it is still open then."]
    Delivery.objects.update(state="queued", job=id)
    assert texts(id)[1] == f"E-mail: is to be sent by job {id}."
    Delivery.objects.update(state="failed", error="SMTPDataError: 550")
    assert texts(id)[1] == "E-mail: failed. SMTPDataError: 550"
    Delivery.objects.update(state="pending")
    send_due()
    assert texts(id)[1] == "E-mail: sent to ada@users.example."


def test_snoozed(user):
    [id] = notify(user, "Later")
    until = datetime(2100, 1, 4, 7, tzinfo=UTC)
    row = Notification.objects.get()
    snoozing.snooze(user.pk, [id], row.raised, timezone.now() + timedelta(days=1))
    Notification.objects.update(snoozed_until=until)
    assert texts(id) == ["Created.", "Snoozed until Jan 4, 2100, 07:00 UTC"]


def end_snooze():
    Notification.objects.update(snoozed_until=timezone.now())
    run_duty("raise snoozed notifications")


def skip_as_archived(user, row):
    snoozing.snooze(user.pk, [row.pk], row.raised, timezone.now() + timedelta(hours=1))
    send_due()


def skip_as_seen(user, row):
    marking_seen.mark_seen(user.pk, row.raised)
    send_due()
    snoozing.snooze(user.pk, [row.pk], row.raised, timezone.now() + timedelta(hours=1))


def skip_as_read(user, row):
    marking.mark(user.pk, "read", row.raised)
    send_due()
    snoozing.snooze(user.pk, [row.pk], row.raised, timezone.now() + timedelta(hours=1))


@pytest.mark.database_law
@pytest.mark.parametrize("skip", [skip_as_archived, skip_as_seen, skip_as_read])
def test_one_that_comes_back_is_sent(notified, user, skip):
    """Its delay is counted from the return; until then it is not sent, and afterwards once."""
    delivery = notified()
    row = Notification.objects.get()
    skip(user, row)
    assert Delivery.objects.get().state == "skipped" and not mail.outbox
    explained = read_timeline(Notification.objects.get(), for_user=True)
    assert texts_of_attempts(explained) == ["E-mail: will be sent later, unless you see or read this before."]
    end_snooze()
    delivery.refresh_from_db()
    returned = Notification.objects.get()
    assert (delivery.state, delivery.reason, delivery.ended_at) == ("pending", "", None)
    assert delivery.due_at == returned.returned_at + timedelta(seconds=600)
    for _ in range(2):
        send_due()
    assert len(mail.outbox) == 1
    assert returned.created_at == row.created_at
    assert texts(row.pk)[0] == "Created."
    assert texts(row.pk)[-3:] == [
        "Snoozed.",
        "Moved to the inbox again, at the end of the snooze.",
        "E-mail: sent to ada@users.example.",
    ]


def test_one_that_was_sent_is_not_sent_again_when_it_comes_back(notified, user):
    notified()
    send_due()
    skip_as_archived(user, Notification.objects.get())
    end_snooze()
    send_due()
    assert len(mail.outbox) == 1 and Delivery.objects.get().state == "sent"


def test_one_that_may_have_been_sent_is_not_sent_again_when_it_comes_back(notified, user):
    """Its server may have had the message before the attempt was interrupted."""
    notified()
    skip_as_archived(user, Notification.objects.get())
    Delivery.objects.update(attempted_at=timezone.now())
    end_snooze()
    send_due()
    assert not mail.outbox and Delivery.objects.get().state == "skipped"


def test_one_that_is_raised_while_its_email_is_decided_is_sent(notified, user):
    """The process that raises it waits for that decision, which was made from the row as it was before."""
    if connection.vendor == "sqlite":
        pytest.skip("has one writer")
    notified()
    row = Notification.objects.get()
    snoozing.snooze(user.pk, [row.pk], row.raised, timezone.now() + timedelta(hours=1))
    Delivery.objects.update(due_at=timezone.now())
    raising = Thread(target=run_in_threads, args=[end_snooze])

    def raise_meanwhile():
        raising.start()
        wait_until(is_waiting_for_a_lock, what="the process that raises it")

    with preceded("UPDATE .notifications_deliveries_delivery", raise_meanwhile):
        enqueue_deliveries()
    raising.join()
    assert Delivery.objects.get().state == "pending"


def is_waiting_for_a_lock():
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1 FROM pg_locks WHERE NOT granted")
        return cursor.fetchone() is not None


@pytest.mark.parametrize("hours", [1, 3])
def test_an_email_that_is_due_after_a_snooze(notified, user, hours):
    """The notification is then in the inbox again, as new."""
    delivery = notified()
    row = Notification.objects.get()
    marking_seen.mark_seen(user.pk, row.raised)
    snoozing.snooze(user.pk, [row.pk], row.raised, timezone.now() + timedelta(hours=hours))
    Delivery.objects.update(due_at=timezone.now() + timedelta(hours=2))
    events = read_timeline(Notification.objects.get(), for_user=True)
    assert texts_of_attempts(events) == ["E-mail: will be sent later, unless you see or read this before."]
    end_snooze()
    send_due()
    assert Delivery.objects.get(pk=delivery.pk).state == "sent"


def texts_of_attempts(events):
    """Return the texts without those of the notification itself."""
    return [event.text for event in events if event.text.startswith("E-mail: ")]


@pytest.mark.parametrize("is_interrupted", [True, False])
def test_seen_after_an_attempt(notified, user, mailbox, is_interrupted):
    """What a killed worker may have sent is not called unsent; what the server has refused is."""
    delivery = notified()
    mailbox.answer = lambda number: None if is_interrupted and number == 1 else "451 Later"
    send_due()
    Job.objects.update(run_after=timezone.now(), due_at=timezone.now())
    run_jobs()
    assert (len(mailbox.messages), mailbox.tries) == (is_interrupted, 2)
    marking_seen.mark_seen(user.pk, Notification.objects.get().raised)
    run_until_idle()
    sent = [
        "E-mail: may have been sent to ada@users.example. The attempt was interrupted.",
        "E-mail: not sent again. The notification had been seen.",
    ]
    expected = sent if is_interrupted else ["E-mail: not sent. The notification had been seen."]
    answers = [
        "E-mail: attempt 1 failed. The mail server closed the connection without an answer.",
        "E-mail: attempt 2 failed. 451 Later",
    ]
    if not is_interrupted:
        answers[0] = "E-mail: attempt 1 failed. 451 Later"
    found = texts_of_attempts(read_timeline(Notification.objects.get()))
    assert sorted(found) == sorted([*answers, *expected])
    assert (expected[0] in explain(delivery.notification)) and expected[-1] in explain(delivery.notification)
    assert texts_of_attempts(read_timeline(Notification.objects.get(), for_user=True)) == expected


def test_each_attempt_with_the_answer_of_the_server(notified, mailbox):
    """In words, also the last one; its user reads no answers."""
    delivery = notified()
    answers = ["451 4.7.1 Try again later", "421 Busy", "552 5.2.3 Message too large"]
    mailbox.answer = lambda number: answers[number - 1]
    send_due()
    run_until_idle()
    # The clock of the attempts is ahead of that of their delivery here.
    assert sorted(texts(delivery.notification)) == [
        "Created.",
        *(f"E-mail: attempt {number} failed. {answer}" for number, answer in enumerate(answers[:2], 1)),
        "E-mail: failed. 552 5.2.3 Message too large",
    ]
    assert "E-mail: attempt 2 failed. 421 Busy\n" in explain(delivery.notification)
    found = read_timeline(Notification.objects.get(), for_user=True)
    assert texts_of_attempts(found) == ["E-mail: could not be sent."]


def test_an_attempt_without_an_answer(notified, mailbox, settings):
    """Says so in words."""
    delivery = notified()
    use_mail_backend(settings, "smtp", host="127.0.0.1", port=free_port())
    send_due()
    assert "E-mail: attempt 1 failed. Connection refused" in texts(delivery.notification)


def test_what_happened_on_the_page(notified, user):
    delivery = notified()
    row = Notification.objects.get(id=delivery.notification)
    marking_seen.mark_seen(user.pk, row.raised)
    send_due()
    assert texts(row.id) == [
        "Created.",
        "Shown in the bell or the inbox.",
        "E-mail: not sent. The notification had been seen.",
    ]
    SeenMark.objects.all().delete()
    assert read_timeline(row)[-1][:2] == (None, "Shown in the bell or the inbox.")
    Notification.objects.update(read_at=timezone.now(), archived_at=timezone.now())
    assert "Read." in texts(row.id)
    assert "Moved to Done, or replaced by a newer one with the same key." in texts(row.id)


def test_when_and_where_it_was_shown(notified, client_of, user):
    """By the first request that marked it as seen, not by later ones, nor by those for older notifications."""
    rows = [Notification.objects.get(id=notified().notification) for _ in range(3)]
    client = client_of(user)
    agents = {"Firefox on Linux": "Mozilla/5.0 (X11; Linux x86_64; rv:150.0) Gecko/20100101 Firefox/150.0"}
    for up_to, agent in (
        (rows[0].raised, ""),
        (rows[1].raised, agents["Firefox on Linux"]),
        (rows[2].raised, "curl"),
    ):
        before = timezone.now()
        client.post(
            "/notifications/api/notifications/seen/",
            {"up_to": up_to},
            content_type="application/json",
            headers={"user-agent": agent},
        )
    client.post("/notifications/mark/", {"up_to": up_to, "seen": up_to, "verb": "read"})
    events = [
        event
        for row in rows
        for event in read_timeline(row)
        if event.text.startswith("Shown in the bell or the inbox")
    ]
    browsers = ["Unknown browser", "Firefox on Linux", "Unknown browser"]
    assert [event.text for event in events] == [
        f"Shown in the bell or the inbox: {name}." for name in browsers
    ]
    assert events[1].at < before <= events[2].at <= timezone.now()


SEEN = "/notifications/api/notifications/seen/"


def mark_seen(client, up_to, receipts):
    headers = {"user-agent": "Mozilla/5.0 (X11; Linux x86_64; rv:150.0) Gecko/20100101 Firefox/150.0"}
    body = {"up_to": up_to, "receipts": receipts}
    return client.post(SEEN, body, content_type="application/json", headers=headers)


def test_when_it_was_pushed(notified, client_of, user):
    """By the first request that marks it as seen: how long ago the page has received it, and shown it in a toast."""
    rows = [Notification.objects.get(id=notified().notification) for _ in range(3)]
    for row in rows:
        Notification.objects.filter(pk=row.pk).update(created_at=timezone.now() - timedelta(seconds=60))
    client = client_of(user)
    first, second = (row.raised for row in rows[:2])
    receipts = [
        {"raised": first, "received_ago_ms": 59_000, "toast_ago_ms": 58_500},
        {"raised": second, "received_ago_ms": 90_000},
    ]
    assert mark_seen(client, second, receipts).status_code == 200
    pushed = [
        {"raised": first, "received_ago_ms": 1},
        {"raised": rows[2].raised, "received_ago_ms": 20, "toast_ago_ms": None},
    ]
    assert mark_seen(client, rows[2].raised, pushed).status_code == 200
    shown = "Shown in the bell or the inbox: Firefox on Linux."
    found = [
        [event.text for event in read_timeline(Notification.objects.get(pk=row.pk), for_user=True)]
        for row in rows
    ]
    (received, toast) = (int(re.search(r"(\d+) ms", text)[1]) for text in found[0][:2])
    assert 1_000 <= received < 15_000 and toast == received + 500
    assert found[0][:3] == [
        f"Pushed to Firefox on Linux after {received} ms.",
        f"Shown as a toast after {toast} ms.",
        shown,
    ]
    # A clock of a server that is behind makes no negative time.
    assert "Pushed to Firefox on Linux after 0 ms." in found[1] and shown in found[1]
    assert len([text for text in found[2] if text.startswith(("Pushed", "Shown as"))]) == 1
    assert [len(json.loads(mark.receipts)) for mark in SeenMark.objects.order_by("up_to")] == [2, 1]


def test_clocks_that_were_set(notified, client_of, user):
    """What says a wrong time is not stored, and does not keep the list from being marked."""
    row = Notification.objects.get(id=notified().notification)
    year = 400 * 86_400_000
    receipts = [
        {"raised": row.raised, "received_ago_ms": 5, "toast_ago_ms": 9},
        {"raised": row.raised + 1, "received_ago_ms": 5},
        {"raised": row.raised, "received_ago_ms": 2**53 - 1},
        {"raised": row.raised, "received_ago_ms": 1, "toast_ago_ms": year},
    ]
    assert mark_seen(client_of(user), row.raised, receipts).status_code == 200
    ((raised, received, toast),) = json.loads(SeenMark.objects.get().receipts)
    assert raised == row.raised and received == toast


def test_receipts_are_no_write_of_their_own(notified, client_of, user):
    row = Notification.objects.get(id=notified().notification)
    client = client_of(user)
    mark_seen(client, 0, [])
    counts = []
    for receipts in (None, [{"raised": row.raised, "received_ago_ms": 5}]):
        Stream.objects.update(seen=0)
        with CaptureQueriesContext(connection) as queries:
            assert mark_seen(client, row.raised, receipts).status_code == 200
        counts.append([query["sql"].split()[0] for query in queries.captured_queries])
    assert counts[0] == counts[1]


@pytest.mark.parametrize(
    ("receipts", "problem"),
    [
        ({}, "receipts must be a list of at most 50 objects."),
        ([{"raised": 1, "received_ago_ms": 1}] * 51, "receipts must be a list of at most 50 objects."),
        ([1], "receipts[0] must be an object with: raised, received_ago_ms, toast_ago_ms."),
        ([{"raised": 1, "received_ago_ms": 1, "at": 1}], "receipts[0] must be an object with: raised"),
        ([{"raised": "1", "received_ago_ms": 1}], "receipts[0].raised must be an integer from 0 to 9"),
        ([{"raised": 1}], "receipts[0].received_ago_ms must be an integer from 0 to 9"),
        ([{"raised": 1, "received_ago_ms": -1}], "receipts[0].received_ago_ms must be an integer"),
        ([{"raised": 1, "received_ago_ms": 10**30}], "receipts[0].received_ago_ms must be an integer"),
        ([{"raised": 1, "received_ago_ms": True}], "receipts[0].received_ago_ms must be an integer"),
        (
            [{"raised": 1, "received_ago_ms": 5, "toast_ago_ms": -6}],
            "receipts[0].toast_ago_ms must be an integer",
        ),
    ],
)
def test_wrong_receipts(notified, client_of, user, receipts, problem):
    """They are refused as a whole: nothing is marked."""
    notified()
    response = mark_seen(client_of(user), 1, receipts)
    assert response.status_code == 422 and problem in response.json()["detail"]
    assert not SeenMark.objects.exists()


def test_muted(user, by_email):
    mute(user, "export")
    (id,) = notify(user, "note", category="export")
    assert texts(id)[1] == "Recorded as read, because its category is muted."


def test_command(notified, settings):
    settings.TIME_ZONE = "UTC"
    delivery = notified("The export is ready")
    Notification.objects.update(created_at=datetime(2026, 5, 1, 12, 0, tzinfo=UTC))
    Delivery.objects.update(
        state="sent", address="a@b.example", ended_at=datetime(2026, 5, 1, 12, 10, tzinfo=UTC)
    )
    assert explain(delivery.notification) == (
        f"{delivery.notification} The export is ready\n"
        "  2026-05-01 12:00:00  Created.\n"
        "  2026-05-01 12:10:00  E-mail: sent to a@b.example.\n"
    )


def test_command_for_a_user(notified, other_user, make_user):
    """Those of the last day, the newest last."""
    old, first, second = notified("old"), notified("first"), notified("second")
    notify(other_user, "of another")
    make_user("eve")
    Notification.objects.filter(id=old.notification).update(created_at=timezone.now() - timedelta(days=2))
    lines = [line for line in explain("--user", "ada").splitlines() if not line.startswith(" ")]
    assert lines == [f"{first.notification} first", f"{second.notification} second"]
    assert "old" in explain("--user", "ada", "--since", "3d")
    assert lines == [
        line for line in explain("--user", "ada", "--since", "1d").splitlines() if line[0] != " "
    ]
    assert "has got no notification" in explain("--user", "eve", "--since", "30m")


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        ([], "Name one notification by its id, or a user"),
        (["x"], "'x' is not an id"),
        (["00000000-0000-0000-0000-000000000001"], "There is no notification"),
        (["00000000-0000-0000-0000-000000000001", "--user", "ada"], "Name one notification"),
        (["--user", "nobody"], "There is no user 'nobody'"),
        (
            ["--user", "ada", "--since", "0d"],
            "--since is 0d. It must be a number and a unit: 1d, 12h or 30m.",
        ),
        (["--user", "ada", "--since", "1"], "--since is 1."),
        (["--user", "ada", "--since", "99999d"], "--since is 99999d."),
    ],
)
def test_wrong_arguments(user, arguments, problem):
    with pytest.raises(CommandError, match=problem):
        explain(*arguments)


def test_admin(notified, admin_client):
    delivery = notified()
    send_due()
    page = admin_client.get(
        f"/admin/notifications/notification/{delivery.notification}/change/"
    ).content.decode()
    assert "E-mail: sent to ada@users.example." in page
