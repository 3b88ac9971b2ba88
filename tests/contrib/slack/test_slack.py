"""Notifications in Slack, by a server in the place of Slack's, which answers as it does."""

import asyncio
import json

import pytest
from aiohttp import web
from django.core import mail
from django.utils import timezone

from notifications import conf
from notifications.api import notify
from notifications.contrib.deliveries.attempts import FIRST_PAUSE_SECONDS
from notifications.contrib.deliveries.models import Delivery, Reader
from notifications.inbox import read_timeline
from notifications.models import Attempt, Job, Notification
from notifications.outbound.circuits import circuits
from notifications.testing import run_until_idle
from tests.contrib.deliveries.channel_contract import ChannelContract
from tests.contrib.deliveries.conftest import SITE_URL, send_due
from tests.outbound.upstream import Upstream
from tests.support.checks import system_checks
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.database_law]

ANSWERS = {None: (200, "ok"), "passing": (500, "rollup_error"), "final": (403, "action_prohibited")}


class SlackServer(Upstream):
    """Answers posts to webhooks with ``answer``: a status, a text, and headers."""

    answer = (200, "ok")
    is_silent, taken = False, 0

    async def services(self, request):
        while self.is_silent:  # noqa: ASYNC110  # set by another thread
            await asyncio.sleep(0.05)
        status, text, *headers = self.answer
        self.taken += status == 200
        return web.Response(text=text, status=status, headers=dict(headers))

    @property
    def texts(self):
        return [json.loads(request.body)["text"] for request in self.requests]

    def fail(self, kind):
        self.answer = ANSWERS[kind]

    def count(self):
        return self.taken


#: The webhooks of users, by their names.
webhooks = {}


def webhook_of(user):
    return webhooks.get(user.username, "")


@pytest.fixture
def server(configure):
    """Slack, to which each user has a webhook of their own after ``reach(user)``."""
    circuits.reset()
    webhooks.clear()
    server = SlackServer()
    server.reach = lambda user: webhooks.update({user.username: server.url(f"/services/{user.username}")})
    slack = {"webhook_url": f"{__name__}.webhook_of"}
    configure([{"slack": 0}], SLACK=slack, OUTBOUND_ALLOW=[server.address])
    yield server
    server.is_silent = False
    server.close()


class TestContract(ChannelContract):
    name = "slack"

    @pytest.fixture
    def server(self, server):
        return server


def test_message(user, server):
    """Its title leads to the page; what is markup in Slack is escaped."""
    server.reach(user)
    notify(user, "R&D <export>", body="a > b", url="/exports/1/?a=1&b=x|y")
    notify(user, "No body")
    send_due()
    assert server.texts == [
        f"<{SITE_URL}/exports/1/?a=1&amp;b=x%7Cy|R&amp;D &lt;export&gt;>\na &gt; b",
        f"<{SITE_URL}/notifications/|No body>",
    ]
    assert {request.path for request in server.requests} == {"/services/ada"}
    assert {delivery.state for delivery in Delivery.objects.all()} == {"sent"}


def test_webhook_of_the_site(user, make_user, server, configure):
    """All messages go to one channel."""
    slack = {"webhook_url": server.url("/services/site")}
    configure([{"slack": 0}], SLACK=slack, OUTBOUND_ALLOW=[server.address])
    notify([user, make_user("bob")], "note")
    send_due()
    assert [request.path for request in server.requests] == ["/services/site"] * 2


def test_the_url_is_nowhere(user, server):
    """Who knows it can post."""
    server.reach(user)
    for status, text in ((200, "ok"), (404, "no_service")):
        server.answer = status, text
        notify(user, "note")
        send_due()
    rows = [vars(row) for model in (Delivery, Job, Reader) for row in model.objects.all()]
    shown = f"{rows} {[read_timeline(row) for row in Notification.objects.all()]}"
    assert "webhook " in shown and "services" not in shown


@pytest.mark.parametrize(
    ("status", "text"), [(404, "no_service"), (404, "channel_not_found"), (410, "channel_is_archived")]
)
def test_a_webhook_that_is_gone(user, server, status, text, client_of):
    """It fails at once, and no more is sent to it until the user tries it again, or has another one."""
    server.reach(user)
    server.answer = status, text
    notify(user, "first")
    send_due()
    delivery = Delivery.objects.get()
    assert (delivery.state, len(server.requests)) == ("failed", 1) and str(status) in delivery.error
    server.answer = 200, "ok"
    notify(user, "second")
    send_due()
    assert Delivery.objects.latest("id").reason == "dead-address" and len(server.requests) == 1
    webhooks["ada"] = server.url("/services/new")
    notify(user, "third")
    send_due()
    assert server.requests[-1].path == "/services/new"
    server.reach(user)
    client_of(user).post("/notifications/preferences/", {"revive": "slack"})
    notify(user, "fourth")
    send_due()
    assert Delivery.objects.latest("id").state == "sent"


def test_too_many_requests(user, server):
    """It is tried again when Slack says so, if that is later than the usual pause."""
    server.reach(user)
    server.answer = 429, "rate_limited", ("Retry-After", "5000")
    notify(user, "note")
    before = timezone.now()
    send_due()
    assert (Job.objects.get().run_after - before).total_seconds() >= 5000 > FIRST_PAUSE_SECONDS
    server.answer = 200, "ok"
    run_until_idle()
    assert Delivery.objects.get().state == "sent"


@pytest.mark.parametrize(("status", "text"), [(400, "invalid_payload"), (403, "action_prohibited")])
def test_answers_that_do_not_pass(user, server, status, text):
    server.reach(user)
    server.answer = status, text
    notify(user, "note")
    send_due()
    run_until_idle()
    assert Delivery.objects.get().state == "failed" and len(server.requests) == 1
    assert not any(reader.dead_addresses for reader in Reader.objects.all())


def test_an_address_inside_the_network(user, server, configure):
    """The guard refuses it."""
    server.reach(user)
    configure([{"slack": 0}], OUTBOUND_ALLOW=[])
    notify(user, "note")
    send_due()
    assert Delivery.objects.get().state == "failed" and not server.requests


def test_a_redirect_is_not_followed(user, server):
    """A GET of where it leads would be answered, and nothing posted."""
    server.reach(user)
    server.answer = 302, "", ("Location", "/services/docs")
    notify(user, "note")
    send_due()
    run_until_idle()
    delivery = Delivery.objects.get()
    assert delivery.state == "failed" and "redirects" in delivery.error and len(server.requests) == 1


def test_the_url_is_in_no_error(user, server, caplog):
    """Neither of what is no HTTP, nor of a URL without its scheme."""
    server.reach(user)
    good, shown = webhooks["ada"], ""
    for url in (good, good.partition("://")[2], "http://localhost:1/services/ada", "https://[services"):
        webhooks["ada"] = url
        server.answer = (
            200,
            "ok",
            ("Transfer-Encoding", "services-are-chunked") if url == good else ("A", "b"),
        )
        notify(user, "note")
        send_due()
        rows = [vars(row) for model in (Delivery, Job, Attempt, Reader) for row in model.objects.all()]
        shown += f"{rows} {[read_timeline(row) for row in Notification.objects.all()]} {caplog.text}"
    assert "attempt" in shown and "services" not in shown.replace("services-are", "")


@pytest.mark.parametrize(
    ("url", "text"),
    [
        (f"{__name__}.webhook_of", ""),
        ("https://hooks.slack.com/services/T/B/x", ""),
        ("absent.slack.webhook_of", "No module named 'absent'"),
        (f"{__name__}.absent", "absent"),
        (f"{__name__}.webhooks", "cannot be called"),
        ("hooks.slack.com/services/T/B/x", "neither a URL nor a dotted path"),
        ("", "NOTIFICATIONS['SLACK'] is empty"),
    ],
)
def test_checks_of_the_setting(user, configure, url, text):
    """And what is wrong there stands in the delivery, which is tried again. The value may be a secret."""
    configure([{"slack": 0}], SLACK={"webhook_url": url} if url else {})
    wrong = [each.msg for each in system_checks("W037")]
    assert len(wrong) == bool(text) and all(text in each and "services" not in each for each in wrong)
    if not url:
        configure([{"email": 0}], SLACK={})
        assert not system_checks("W036", "W037")
    if url and text:
        notify(user, "note")
        send_due()
        delivery = Delivery.objects.get()
        assert delivery.state == "queued" and text in delivery.error and "services" not in delivery.error


def test_a_server_that_does_not_answer_delays_no_other_channel(
    user, server, configure, start_worker, frequent_sending
):
    server.is_silent = True
    server.reach(user)
    slack = {"webhook_url": f"{__name__}.webhook_of"}
    configure([{"slack": 0}, {"email": 0}], SLACK=slack, OUTBOUND_ALLOW=[server.address])
    for number in range(20):
        notify(user, f"note {number}")
    start_worker()
    emails = Delivery.objects.filter(channel="email", state="sent")
    wait_until(lambda: emails.count() == 20, what="the e-mails")
    assert len(mail.outbox) == 20 and server.active
    assert not Delivery.objects.filter(channel="slack", state="sent").exists()
    server.is_silent = False
    wait_until(lambda: not Delivery.objects.exclude(state="sent").exists(), what="Slack")


@pytest.mark.parametrize(
    "value", [{"webhook_url": 1}, {"url": "https://hooks.slack.com/services/x"}, {"webhook_url": "x", "a": 1}]
)
def test_wrong_setting(value):
    assert not conf.SETTINGS["SLACK"].is_valid(value)
