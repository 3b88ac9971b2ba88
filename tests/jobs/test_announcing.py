"""Each reader is notified once of each difference between what they were last notified of and what is true now."""

import json
import threading

import pytest
from django.contrib.auth import get_user_model
from django.contrib.auth.models import Group, Permission
from django.db import connection
from django.utils import timezone, translation

from notifications import validators
from notifications.api import requester
from notifications.contrib import webhooks
from notifications.contrib.deliveries.models import Delivery
from notifications.contrib.operations.alerts import evaluation, texts
from notifications.extension import Finding, Topic
from notifications.jobs import announcing
from notifications.jobs.announcing import Announcer
from notifications.models import AnnouncedState, Job, Notification
from notifications.signals import notification_recorded
from tests.jobs import tasks
from tests.support.threads import run_in_threads

pytestmark = [
    pytest.mark.usefixtures("over_at_once"),
    pytest.mark.django_db(transaction=True),
    pytest.mark.nightly_on_old_django,
]

FACTS = {"count": 2, "is_capped": False, "reasons": {"in_turn": 2}, "age": 400, "limit": 300}
WAITING = "wait", Finding("mail", FACTS)
TITLE = "Jobs wait too long: mail"


@pytest.fixture
def operators(make_user):
    """Three users who receive alerts."""
    group = Group.objects.create(name="Operators")
    group.permissions.add(Permission.objects.get(codename="receive_alerts"))
    users = [make_user(name) for name in ("eve", "fay", "gil")]
    group.user_set.set(users)
    return users


def record(*findings):
    evaluation.record_findings(findings, timezone.now())


def titles(user):
    return list(Notification.objects.filter(user=user).order_by("id").values_list("title", flat=True))


def test_recording_an_alert_notifies_nobody(operators, connect_receiver):
    """It is called where nothing may wait for code of the project."""
    called = []
    connect_receiver(notification_recorded, lambda **kwargs: called.append(kwargs))
    record(WAITING)
    assert not called and not Notification.objects.exists()


def test_processes_at_the_same_time(operators):
    """Each reader is notified once."""
    record(WAITING)
    run_in_threads(*[Announcer().run_round] * 6)
    record()
    run_in_threads(*[Announcer().run_round] * 6)
    for user in operators:
        assert titles(user) == [TITLE, f"Over: {TITLE}"]
    assert not AnnouncedState.objects.exists()


def test_by_email_and_webhook(operators, settings):
    """An alert and its end go the ways that the category ``alert`` has, and to the webhook of an operator."""
    settings.NOTIFICATIONS = {
        **settings.NOTIFICATIONS,
        "DELIVERY": {"alert": [{"email": 0}]},
        "SITE_URL": "https://example.com",
        "WEBHOOKS": True,
    }
    type(operators[0]).objects.update(email="ada@users.example")
    url = "https://pager.example/hooks/"
    webhooks.create(url, events=["notification.created"], owner=operators[0])
    rounds = Announcer()
    record(WAITING)
    rounds.run_round()
    assert Delivery.objects.filter(channel="email").count() == len(operators)
    record()
    rounds.run_round()
    sent = [
        json.loads(job.args or "[]")
        for job in Job.objects.filter(task_path="notifications.contrib.webhooks.sending.send").order_by("id")
    ]
    found = [
        (event["type"], event["notification"]["title"], event["notification"]["category"]) for [event] in sent
    ]
    assert found == [
        ("notification.created", TITLE, "alert"),
        ("notification.created", f"Over: {TITLE}", "alert"),
    ]


def test_alert_that_is_over_before_it_is_announced(operators):
    """Nobody is notified."""
    record(WAITING)
    record()
    Announcer().run_round()
    assert not Notification.objects.exists()


def test_end_beside_an_alert_of_a_similar_name(operators):
    """The queue "mail-bulk" is not taken for "mail"."""
    record(WAITING)
    rounds = Announcer()
    rounds.run_round()
    record(("wait", Finding("mail-bulk", FACTS)))
    rounds.run_round()
    assert set(titles(operators[0])) == {TITLE, f"Over: {TITLE}", f"{TITLE}-bulk"}


def test_end_of_an_alert_with_a_long_name(operators):
    """Its key is cut."""
    name = "m" * validators.MAX_KEY_LENGTH
    record(("wait", Finding(name, FACTS)))
    rounds = Announcer()
    rounds.run_round()
    record()
    rounds.run_round()
    title, over = titles(operators[0])
    assert title.startswith("Jobs wait too long: mmm") and over.startswith(f"Over: {title[:-10]}")


def test_alert_that_begins_anew_before_its_end_is_announced(operators):
    """Readers know that it is open."""
    announcer = Announcer()
    for conditions in ([WAITING], [], [WAITING]):
        record(*conditions)
        if conditions:
            announcer.run_round()
    assert titles(operators[0]) == [TITLE]


@pytest.mark.parametrize("error", [ValueError, ConnectionRefusedError])
def test_reader_who_fails_delays_no_other_topic(operators, monkeypatch, caplog, error):
    """What could not be announced is tried again. An OSError of the project's code does not stop the round either."""
    record(WAITING, ("no_worker", Finding(facts={"age": 61, "reasons": {"no_worker": 1}})))
    describe = announcing.building.build_notification
    fails = True

    def build(user, title, **fields):
        if fails and title == TITLE:
            raise error("once")
        return describe(user, title, **fields)

    monkeypatch.setattr(announcing.building, "build_notification", build)
    rounds = Announcer()
    rounds.run_round()
    assert titles(operators[0]) == ["No worker"]
    assert "Could not announce, which is tried again: alert:wait:mail" in caplog.text
    fails = False
    rounds.run_round()
    assert titles(operators[2]) == ["No worker", TITLE]


def test_readers_change(operators, make_user, set_bounds):
    """Another one is notified of an open alert, and one who is no reader any more is not notified of its end."""
    set_bounds(known=0)
    record(WAITING)
    rounds = Announcer()
    rounds.run_round()
    group = Group.objects.get()
    late = make_user("hal")
    group.user_set.set([late, *operators[1:]])
    rounds.run_round()
    assert titles(late) == [TITLE]
    record()
    rounds.run_round()
    assert titles(operators[0]) == [TITLE]
    assert titles(late) == [TITLE, f"Over: {TITLE}"]


def test_nothing_is_read_twice_while_nothing_changes(operators, django_assert_num_queries):
    """One round reads what was announced, the open alerts, and the schedules with a problem."""
    record(WAITING)
    rounds = Announcer()
    rounds.run_round(), rounds.run_round()
    with django_assert_num_queries(3):
        rounds.run_round()


def test_language_of_the_reader(operators, settings):
    """That in which they read, else that of their jobs, else LANGUAGE_CODE; never that of the announcing process."""
    settings.NOTIFICATIONS = {**settings.NOTIFICATIONS, "USER_LANGUAGE": "last_name"}
    get_user_model().objects.filter(pk=operators[2].pk).update(last_name="es")
    settings.LANGUAGE_CODE = "fr"
    for operator in (operators[0], operators[2]):
        with translation.override("de"), requester(operator):
            tasks.noop.enqueue()
    with translation.override("es"):
        record(WAITING)
        Announcer().run_round()
    german, unknown, spanish = (Notification.objects.get(user=user) for user in operators)
    with translation.override("de"):
        title, body = str(texts.open_alerts()[0]), texts.open_alerts()[0].detail
    assert (german.title, german.body) == (title, body) and title != TITLE
    with translation.override("fr"):
        assert unknown.title == str(texts.open_alerts()[0])
    with translation.override("es"):
        assert spanish.title == str(texts.open_alerts()[0]) != unknown.title
    record()
    with translation.override("fr"):
        Announcer().run_round()
    with translation.override("de"):
        over = translation.gettext("Over: %(alert)s") % {"alert": title}
    assert titles(operators[0]) == [title, over]


def test_rows_of_deleted_users_are_deleted(operators):
    """As all others of theirs."""
    record(WAITING)
    Announcer().run_round()
    key = operators[0].pk
    operators[0].delete()
    assert not AnnouncedState.objects.filter(user=key).exists()


def test_slow_receivers_hold_no_transaction(operators, connect_receiver):
    """Each is called after the commit of its reader's notification, before that of the next one."""
    commits = []

    def count(**kwargs):
        assert not connection.in_atomic_block
        commits.append(Notification.objects.count())

    connect_receiver(notification_recorded, count)
    record(WAITING)
    Announcer().run_round()
    assert commits == [1, 2, 3]


def test_readers_that_are_looked_up_for_ever_silence_no_other_topic(operators, db):
    """The topic is left out by the rounds beside the one that stands in it, until that returns."""
    is_found, is_asked = threading.Event(), threading.Event()

    def look_up():
        is_asked.set()
        assert is_found.wait(60)
        return [operators[0].pk]

    def make(key, read_readers):
        return Topic(key=key, state="open", read_readers=read_readers, describe=lambda before: {"title": key})

    topics = [make("first", look_up), make("second", lambda: [operators[0].pk])]
    round = threading.Thread(target=run_and_close, args=[lambda: announcing.announce(topics)])
    round.start()
    try:
        assert is_asked.wait(60)
        assert announcing.announce(topics)
        assert titles(operators[0]) == ["second"]
    finally:
        is_found.set()
        round.join()
    assert sorted(titles(operators[0])) == ["first", "second"]


def run_and_close(function):
    try:
        function()
    finally:
        connection.close()
