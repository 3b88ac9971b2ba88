"""Notifications by chat and SMS, by a server in the place of each service, which answers as it does."""

import asyncio
import json
from base64 import b64encode
from urllib.parse import parse_qsl

import pytest
from aiohttp import web
from django.utils import timezone

from notifications import conf
from notifications.api import notify
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

ANSWERS = {None: (200, "{}"), "passing": (500, "rollup_error"), "final": (403, "action_prohibited")}


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


class TestSlack(ChannelContract):
    name = "slack"

    @pytest.fixture
    def server(self, server):
        return server


class OtherService(ChannelContract):
    """``options`` are those of the service at the address of a server, whose paths begin with ``/services/``."""

    #: What it answers where a destination is gone.
    gone = (404, "{}")

    @pytest.fixture
    def server(self, server, configure):
        chat = {self.name: self.options(server.url("/services"))}
        self.configure = lambda **changes: configure(
            [{self.name: 0}], CHAT={self.name: chat[self.name] | changes}, OUTBOUND_ALLOW=[server.address]
        )
        self.configure()
        return server

    def sent(self, user, server, **fields):
        """Return what the service was sent for a notification."""
        server.reach(user)
        notify(user, "R&D <a> *b*", body="[c](d) @everyone", url="/exports/1/?a=1&b=2", **fields)
        send_due()
        assert Delivery.objects.get().state == "sent"
        return server.requests[-1]

    def test_nothing_more_is_sent_to_what_is_gone(self, user, server):
        server.reach(user)
        server.answer = self.gone
        notify(user, "first")
        send_due()
        assert Delivery.objects.get().state == "failed"
        server.answer = 200, "{}"
        notify(user, "second")
        send_due()
        assert Delivery.objects.latest("id").reason == "dead-address" and len(server.requests) == 1


class TestTeams(OtherService):
    name = "teams"

    def options(self, url):
        return {"webhook_url": f"{__name__}.webhook_of"}

    def test_what_is_sent(self, user, server):
        [attachment] = json.loads(self.sent(user, server).body)["attachments"]
        card = attachment["content"]
        texts = [run["text"] for block in card["body"] for run in block["inlines"]]
        assert {block["type"] for block in card["body"]} == {"RichTextBlock"}, "Elsewhere it is Markdown."
        assert texts == ["R&D <a> *b*", "[c](d) @everyone"]
        assert card["actions"][0]["url"] == f"{SITE_URL}/exports/1/?a=1&b=2"


class TestDiscord(OtherService):
    name = "discord"

    def options(self, url):
        return {"webhook_url": f"{__name__}.webhook_of"}

    def test_what_is_sent(self, user, server):
        message = json.loads(self.sent(user, server).body)
        [embed] = message["embeds"]
        assert message["allowed_mentions"] == {"parse": []}
        assert (embed["title"], embed["url"]) == (r"R&D \<a\> \*b\*", f"{SITE_URL}/exports/1/?a=1&b=2")
        assert embed["description"] == r"\[c\]\(d\) \@everyone"


def number_of(user):
    return "491701234567" if user.username in webhooks else ""


class TestTelegram(OtherService):
    name, gone = "telegram", (403, json.dumps({"ok": False, "description": "Forbidden: bot was blocked"}))

    def options(self, url):
        return {"bot_token": "12:secret", "chat_id": f"{__name__}.number_of", "api_url": url}

    def test_what_is_sent(self, user, server):
        request = self.sent(user, server)
        message = json.loads(request.body)
        assert request.path == "/services/bot12:secret/sendMessage"
        assert (message["chat_id"], message["parse_mode"]) == ("491701234567", "HTML")
        assert message["text"] == (
            f'<a href="{SITE_URL}/exports/1/?a=1&amp;b=2">R&amp;D &lt;a&gt; *b*</a>\n[c](d) @\u2060everyone'
        )

    def test_the_time_is_in_the_answer(self, user, server):
        server.reach(user)
        server.answer = 429, json.dumps({"ok": False, "parameters": {"retry_after": 5000}})
        notify(user, "note")
        before = timezone.now()
        send_due()
        assert (Job.objects.get().run_after - before).total_seconds() >= 5000

    def test_a_wrong_token_ends_no_chat(self, user, server):
        server.reach(user)
        server.answer = 401, json.dumps({"ok": False, "description": "Unauthorized"})
        notify(user, "note")
        send_due()
        assert not any(reader.dead_addresses for reader in Reader.objects.all())
        rows = [vars(row) for model in (Delivery, Job, Attempt, Reader) for row in model.objects.all()]
        assert "401" in str(rows) and "secret" not in f"{rows} {Delivery.objects.get().error}"


def phone_of(user):
    return "+491701234567" if user.username in webhooks else ""


class TestSms(OtherService):
    name, gone = "sms", (400, json.dumps({"code": 21610, "message": "Attempt to send to unsubscribed"}))

    def options(self, url):
        account = {"account_sid": "AC1", "auth_token": "secret", "from": "+4930123456"}
        return {**account, "to": f"{__name__}.phone_of", "api_url": url}

    def test_what_is_sent(self, user, server):
        request = self.sent(user, server)
        assert request.path == "/services/2010-04-01/Accounts/AC1/Messages.json"
        assert request.headers["Authorization"] == f"Basic {b64encode(b'AC1:secret').decode()}"
        form = dict(parse_qsl(request.body.decode()))
        assert (form["To"], form["From"]) == ("+491701234567", "+4930123456")
        assert form["Body"] == f"R&D <a> *b*\n[c](d) @everyone\n{SITE_URL}/exports/1/?a=1&b=2"

    def test_a_long_text_is_cut_before_its_link(self, user, server):
        server.reach(user)
        notify(user, "t" * 200, body="b" * 2_000, url="/exports/1/")
        send_due()
        body = dict(parse_qsl(server.requests[-1].body.decode()))["Body"]
        assert len(body) <= 459 and body.endswith(f"...\n{SITE_URL}/exports/1/")

    def test_a_long_link_is_left_out(self, user, server):
        server.reach(user)
        notify(user, "note", url=f"/exports/{'1' * 900}/")
        send_due()
        assert dict(parse_qsl(server.requests[-1].body.decode()))["Body"] == "note"


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
    assert (Job.objects.get().run_after - before).total_seconds() >= 5000
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
        ("hooks.slack.com/services/T/B/x", "neither a destination nor a dotted path"),
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


@pytest.mark.long
def test_a_provider_that_hangs_and_one_that_refuses_delay_no_other(
    make_user, server, configure, start_worker, frequent_sending
):
    """Fifty users, for whom one provider does not answer, and another one says that their chats are gone."""
    hanging, refusing = SlackServer(), SlackServer()
    hanging.is_silent, refusing.answer = True, (403, "{}")
    users = [make_user(f"user{number}") for number in range(50)]
    for user in users:
        server.reach(user)
    bot = {"bot_token": "1:x", "chat_id": f"{__name__}.number_of"}
    configure(
        [{"slack": 0}, {"teams": 0}, {"telegram": 0}],
        SLACK={"webhook_url": f"{__name__}.webhook_of"},
        CHAT={
            "teams": {"webhook_url": hanging.url("/services/site")},
            "telegram": {**bot, "api_url": refusing.url("/services")},
        },
        OUTBOUND_ALLOW=[server.address, hanging.address, refusing.address],
    )
    try:
        notify(users, "note")
        start_worker()

        def count(channel, state):
            return Delivery.objects.filter(channel=channel, state=state).count()

        wait_until(lambda: count("slack", "sent") == 50, what="Slack")
        wait_until(lambda: count("telegram", "failed") == 50, what="the refusals of Telegram")
        assert hanging.active and not count("teams", "sent")
    finally:
        hanging.is_silent = False
        hanging.close()
        refusing.close()


@pytest.mark.parametrize(
    "value", [{"webhook_url": 1}, {"url": "https://hooks.slack.com/services/x"}, {"webhook_url": "x", "a": 1}]
)
def test_wrong_setting(value):
    assert not conf.SETTINGS["SLACK"].is_valid(value)


@pytest.mark.parametrize(
    "value",
    [
        {"teams": {}},
        {"slack": {"webhook_url": "x"}},
        {"fax": {"to": "+49"}},
        {"telegram": {"chat_id": "1"}},
        {"sms": {"account_sid": "a", "auth_token": "b", "from": "+1", "to": 49}},
    ],
)
def test_wrong_settings_of_services(value):
    assert not conf.SETTINGS["CHAT"].is_valid(value)
