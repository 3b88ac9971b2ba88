"""A channel of another package that raises, blocks or returns rubbish holds up no other, and loses nothing."""

import asyncio
import itertools
import threading
from datetime import timedelta

import pytest
from django.apps import apps
from django.core import mail
from django.core.exceptions import ImproperlyConfigured
from django.db import OperationalError, connection
from django.test import Client
from django.utils import timezone

from notifications import outbound
from notifications.api import notify
from notifications.contrib.deliveries import attempts
from notifications.contrib.deliveries.models import ChannelOutage, Delivery, Reader
from notifications.extension import Channel, hooks
from notifications.inbox import read_timeline
from notifications.models import Job, Notification, Wait
from notifications.testing import run_jobs, run_until_idle
from tests.contrib.deliveries.conftest import choose, send_all, send_digests, send_due
from tests.contrib.deliveries.test_resending import resend_by
from tests.support.checks import system_checks
from tests.support.duties import enqueue_deliveries, run_duty
from tests.support.extensions import load, set_channels
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.nightly_on_postgres]


class Odd(Channel):
    """A channel whose methods are replaced by tests."""

    label, preference_label = "odd", "oddly"
    sent = []

    def addresses(self, user):
        return ["somewhere"]

    async def send(self, message):
        self.sent.append(message)


#: A process keeps the channel of each path.
numbers = itertools.count()


@pytest.fixture
def odd(monkeypatch, configure):
    """odd(**methods) installs the channel, before e-mail; without any its module cannot be imported."""

    def install(path="", **methods):
        kind, own_path = (
            type("Changed", (Odd,), {"sent": [], **methods}),
            f"{__name__}.Changed{next(numbers)}",
        )
        monkeypatch.setattr(own_path, kind, raising=False)
        set_channels(monkeypatch, odd=path or own_path, email=hooks.channels["email"])
        configure([{"odd": 0}, {"email": 0}])
        return kind

    return install


def raising(error):
    def method(self, *args, **kwargs):
        raise error

    return method


def returning(value):
    return lambda self, *args, **kwargs: value


def of_odd():
    return Delivery.objects.get(channel="odd")


RUBBISH = [None, 5, "text", [None], [""], ["x" * 321], ["one", "two"]]


@pytest.mark.parametrize("method", [raising(LookupError("no table of numbers")), *map(returning, RUBBISH)])
def test_addresses(odd, user, method, caplog):
    """The job is tried again, and says what is wrong."""
    kind = odd(addresses=method)
    notify(user, "note")
    send_due()
    assert len(mail.outbox) == 1 and not kind.sent
    assert of_odd().state == "queued" and "addresses by odd" in of_odd().error
    assert Job.objects.get(id=of_odd().job).state == "queued" and of_odd().attempted_at is None
    odd()
    run_until_idle()
    assert of_odd().state == "sent" and of_odd().address == "somewhere"


def test_addresses_that_are_wrong_for_good(odd, user, admin_client):
    odd(addresses=raising(LookupError("no table of numbers")))
    notify(user, "note")
    send_due()
    run_until_idle()
    run_duty("fail abandoned deliveries")
    assert of_odd().state == "failed" and "no table of numbers" in of_odd().error
    assert resend_by(admin_client, of_odd()) == ""  # its job will say why


@pytest.mark.parametrize(
    "found",
    [raising(LookupError), *(returning({1: value}) for value in RUBBISH), returning(None), returning(3)],
)
def test_find_addresses(odd, user, found):
    """The jobs ask ``addresses()``."""

    def find_addresses(self, users):
        return {key: found(self)[1] for key in users} if isinstance(found(self), dict) else found(self)

    kind = odd(find_addresses=find_addresses)
    notify(user, "note")
    send_due()
    assert len(mail.outbox) == len(kind.sent) == 1


@pytest.mark.parametrize("judge", [raising(LookupError), returning(True), returning((False,))])
def test_judge(odd, user, judge, caplog, set_bounds):
    """The usual is done."""
    set_bounds(known=0)
    odd(send=raising(ValueError("too long")), judge=judge)
    notify(user, "note")
    send_due()
    run_until_idle()
    assert (of_odd().state, of_odd().error, of_odd().attempted_at) == ("failed", "too long", None)
    assert len(mail.outbox) == 1 and "channel odd" in caplog.text


@pytest.mark.parametrize(
    "error", [LookupError("x"), OperationalError("no such table: odd_receipt"), TimeoutError()]
)
def test_record(odd, user, error, caplog):
    """What was sent is stored as sent."""
    kind = odd(record=raising(error))
    notify(user, "note")
    send_due()
    run_until_idle()
    assert of_odd().state == "sent" and len(kind.sent) == 1
    assert "channel odd" in caplog.text


@pytest.mark.parametrize("path", ["absent.module.Odd", f"{__name__}.of_odd", "builtins.str"])
def test_a_class_that_cannot_be_imported(odd, user, path, settings):
    """Its deliveries wait, a check names it, and pages work."""
    odd(path)
    categories = {"export": {"default": {"odd": "off", "email": "on"}}}
    settings.NOTIFICATIONS = {**settings.NOTIFICATIONS, "CATEGORIES": categories}
    [id] = notify(user, "note")
    notify(user, "note", category="export")
    send_due()
    assert len(mail.outbox) == 2
    delivery = Delivery.objects.get(channel="odd", notification=id)
    assert delivery.state == "queued" and path in delivery.error
    [wrong] = system_checks("W036")
    assert path in wrong.msg and "'odd'" in wrong.msg
    client = Client()
    client.force_login(user)
    for page in ("", "preferences/", f"{id}/", "api/preferences/"):
        assert client.get(f"/notifications/{page}").status_code == 200


def test_digests_with_many_addresses(odd, user):
    """They would be sent to the first one only."""
    odd(has_digests=True, has_many_addresses=True)
    assert len(system_checks("W036")) == 1


@pytest.mark.parametrize("name", ["addresses", "send"])
def test_a_method_that_is_missing(odd, user, name):
    """Nothing would ever be sent, and only the first delivery would show it."""
    odd(**{name: getattr(Channel, name)})
    [wrong] = system_checks("W036")
    assert f"It has no method {name}()." in wrong.msg


def test_a_dead_address_of_several(odd, user):
    """It is left out."""
    kind = odd(has_many_addresses=True, addresses=returning(["dead", "one", "two", "one"]))
    Reader.objects.create(user_id=user.pk, dead_addresses={"odd": "dead"})
    notify(user, "note")
    send_all()
    assert sorted(message.address for message in kind.sent) == ["one", "two"]


def test_pages(odd, user, caplog):
    odd(describe_addresses=raising(LookupError("x")))
    [id] = notify(user, "note")
    send_due()
    assert "Odd: sent to somewhere." in [each.text for each in read_timeline(Notification.objects.get(id=id))]
    assert "was left out: channel odd.describe_addresses" in caplog.text
    odd(addresses=raising(LookupError("x")))
    Reader.objects.create(user_id=user.pk, dead_addresses={"odd": "somewhere"})
    client = Client()
    client.force_login(user)
    assert "somewhere" in client.get("/notifications/preferences/").text


@pytest.fixture
def short_sending(monkeypatch):
    """A channel has 50 ms to send."""
    monkeypatch.setattr(attempts, "SEND_TIMEOUT_SECONDS", 0.05)


@pytest.mark.parametrize("is_digest", [False, True])
def test_no_answer(odd, user, short_sending, is_digest):
    """Its time-out is recorded, so that the channel of one server is suspended."""

    async def send(self, message):
        await asyncio.sleep(60)

    odd(send=send, server="gateway", has_digests=True)
    if is_digest:
        choose(user, {("export", "odd"): "daily"})
    notify(user, "note", category="export")
    send_due()
    if is_digest:
        send_digests()
    assert ChannelOutage.objects.get().timeouts == 1
    assert of_odd().error == "There was no answer in time." and of_odd().attempted_at


@pytest.mark.parametrize(
    ("error", "timeouts"),
    [(outbound.TimedOut(), 2), (outbound.CircuitOpen(), 1), (outbound.Unreachable(), None)],
)
def test_errors_of_outbound(odd, user, error, timeouts):
    """A call that was not made is no answer of the server."""
    odd(send=raising(error), server="gateway")
    ChannelOutage.objects.create(channel="odd", timeouts=1)
    notify(user, "note")
    send_due()
    outage = ChannelOutage.objects.first()
    assert (outage and outage.timeouts) == timeouts


def test_a_channel_that_blocks(odd, user, start_worker, frequent_sending):
    """Where it reads addresses of many users."""
    release = threading.Event()
    odd(find_addresses=lambda self, users: release.wait(30) and {})
    notify(user, "note")
    start_worker()
    try:
        wait_until(lambda: mail.outbox, what="the e-mail")
        assert of_odd().state == "pending"
    finally:
        release.set()
    wait_until(lambda: of_odd().state == "sent", what="the channel")


def test_nothing_is_imported_in_a_transaction(odd, user, settings):
    """The defaults of categories ask channels for their choices."""
    blocks = []

    def is_in_transaction(self, name):
        blocks.append(connection.in_atomic_block)
        Channel.__init__(self, name)

    odd(__init__=is_in_transaction)
    settings.NOTIFICATIONS = {
        **settings.NOTIFICATIONS,
        "CATEGORIES": {"export": {"default": {"odd": "off"}}},
        "DELIVERY": {},
    }
    notify(user, "note", category="export")
    assert blocks == [False]


def test_a_channel_that_was_async(odd, user):
    """Jobs that were enqueued before run it on a thread, not on the event loop."""
    kind, threads = odd(), []
    notify(user, "note")
    Delivery.objects.update(due_at=timezone.now())
    enqueue_deliveries()
    kind.send = lambda self, message: threads.append(asyncio._get_running_loop())
    run_jobs()
    assert of_odd().state == "sent" and threads == [None]


@pytest.mark.parametrize("name", ["bell", "x" * 31, "a.b", ""])
def test_names(monkeypatch, name):
    """That of the bell is taken, and others have no room in the database."""
    config = apps.get_app_config("notifications_deliveries")
    monkeypatch.setattr(type(config), "channels", {name: "absent.Channel"})
    try:
        with pytest.raises(ImproperlyConfigured, match="cannot be a channel"):
            load(monkeypatch, *hooks.extensions)
    finally:
        monkeypatch.undo()


def test_digests_that_hang_take_no_thread_of_emails(odd, user, make_user, start_worker, frequent_sending):
    """Those of a channel whose send() is async wait beside it."""
    running, release = [], threading.Event()

    async def send(self, message):
        running.append(message)
        while not release.is_set():  # noqa: ASYNC110  # set by another thread
            await asyncio.sleep(0.05)

    odd(send=send, has_digests=True)
    users = [make_user(f"user-{number}", email="u@users.example") for number in range(4)]
    for each in users:
        choose(each, {("export", "odd"): "hourly"})
    notify(users, "note", category="export", deliver=[{"odd": 0}])
    enqueue_deliveries()
    Job.objects.update(run_after=None, due_at=None)
    start_worker()
    try:
        wait_until(lambda: len(running) == len(users), what="the digests")
        notify(user, "note")
        wait_until(lambda: mail.outbox, what="the e-mail")
        assert {message.is_digest for message in running[: len(users)]} == {True}
    finally:
        release.set()
    wait_until(lambda: not Delivery.objects.exclude(state="sent").exists(), what="all")


def test_an_async_digest_waits_while_its_server_does_not_answer(odd, user, start_worker, short_sending):
    """Without an attempt, also the one that has found it out."""

    async def send(self, message):
        await asyncio.sleep(60)

    kind = odd(send=send, has_digests=True, server="gateway")
    choose(user, {("export", "odd"): "hourly"})
    notify(user, "note", category="export", deliver=[{"odd": 0}])
    enqueue_deliveries()
    ChannelOutage.objects.create(channel="odd", timeouts=2)
    Job.objects.update(run_after=None, due_at=None)
    start_worker()  # which refuses pause() where an inline run does not
    jobs = Job.objects.filter(state="waiting")
    past = timezone.now() - timedelta(seconds=1)
    for number in (1, 2):
        wait_until(lambda number=number: jobs.exists() and Wait.objects.count() == number, what="the wait")
        assert ChannelOutage.objects.get().timeouts == 3
        if number == 2:
            kind.send = Odd.send
            ChannelOutage.objects.update(suspended_until=past)
        Wait.objects.update(due_at=past)
    wait_until(lambda: Job.objects.get().state == "succeeded", what="the digest")
    assert of_odd().state == "sent" and len(kind.sent) == 1 and not ChannelOutage.objects.exists()
    assert Job.objects.get().attempt == 1
