"""The channels of this package and one of another app keep the contract."""

import pytest
from django.core import mail

from notifications.api import notify
from notifications.contrib.deliveries.models import ChannelOutage, Delivery, Throttle
from notifications.extension import AddressGone, Channel, Verdict, hooks
from notifications.testing import run_jobs
from tests.contrib.deliveries.channel_contract import ChannelContract
from tests.contrib.deliveries.conftest import digest_jobs, send_digests, send_due
from tests.support.duties import enqueue_deliveries
from tests.support.extensions import set_channels

pytestmark = pytest.mark.nightly_on_postgres


class TestEmail(ChannelContract):
    name = "email"

    @pytest.fixture
    def server(self, mailbox, configure):
        configure([])
        mailbox.reach = lambda user: None
        mailbox.count = lambda: len(mailbox.messages)
        answers = {None: "250 OK", "passing": "451 Try again", "final": "550 5.1.1 No such user"}
        mailbox.fail = lambda kind: setattr(mailbox, "answer_to_recipient", answers[kind])
        return mailbox


class TestPush(ChannelContract):
    name = "push"

    @pytest.fixture
    def server(self, service):
        service.reach = service.add_device
        service.count = lambda: len(service.messages)
        answers = {None: 201, "passing": 503, "final": 400}
        service.fail = lambda kind: setattr(service, "answer", lambda device, number: answers[kind])
        return service


class Pager(Channel):
    """A channel of another package: async, with digests, and one server."""

    label, preference_label = "pager", "on the pager"
    has_digests, server = True, "pager gateway"
    sent, numbers, error = [], {}, None

    def addresses(self, user):
        return self.numbers.get(user.username, [])

    async def send(self, message):
        if self.error is not None:
            raise self.error
        self.sent.append(message)

    def judge(self, error):
        return Verdict(may_pass=False, is_dead=True) if isinstance(error, LookupError) else None


@pytest.fixture
def pager(monkeypatch, configure):
    """The class, whose channel is installed."""
    set_channels(monkeypatch, **hooks.channels, pager=f"{__name__}.Pager")
    monkeypatch.setattr(Pager, "sent", [])
    monkeypatch.setattr(Pager, "numbers", {})
    monkeypatch.setattr(Pager, "error", None)
    Pager.reach = lambda user: Pager.numbers.update({user.username: [f"555-{user.pk}"]})
    Pager.count = lambda: len(Pager.sent)
    errors = {None: None, "passing": TimeoutError("busy"), "final": ValueError("too long")}
    Pager.fail = lambda kind: setattr(Pager, "error", errors[kind])
    configure([])
    return Pager


class TestPager(ChannelContract):
    name = "pager"

    @pytest.fixture
    def server(self, pager):
        return pager

    def test_digests_are_of_one_channel(self, user, server, configure):
        """Those of e-mail at the same time are another message."""
        defaults = {"email": "hourly", "pager": "hourly"}
        configure([{"pager": 0}, {"email": 0}], CATEGORIES={"export": {"default": defaults}})
        server.reach(user)
        for title in ("First", "Second"):
            notify(user, title, category="export")
        send_due()
        assert (server.count(), len(mail.outbox), digest_jobs().count()) == (0, 0, 2)
        send_digests()
        [message], [email] = server.sent, mail.outbox
        assert (message.count, message.is_digest, message.is_joined) == (2, True, False)
        assert [row.title for row in message.notifications] == ["First", "Second"]
        assert email.subject == "Second and 1 more"

    def test_many_within_a_short_time_are_joined(self, user, server, configure, set_throttle):
        configure([{"pager": 0}, {"email": 0}])
        set_throttle(10)
        server.reach(user)
        for title in ("First", "Second", "Third"):
            notify(user, title)
        send_due()
        assert (server.count(), len(mail.outbox), Throttle.objects.count()) == (1, 1, 2)
        send_digests()
        assert [message.count for message in server.sent] == [1, 2] and server.sent[1].is_joined

    def test_an_address_that_is_dead(self, user, server, client_of):
        """Nothing more is sent to it, by this channel, until the user tries it again."""
        server.reach(user)
        server.error = LookupError("no such number")
        self.notify(user)
        [delivery] = self.send()
        assert (delivery.state, delivery.error) == ("failed", "no such number")
        server.error = None
        self.notify(user)
        assert Delivery.objects.latest("id").reason == "" and self.send()[-1].reason == "dead-address"
        client_of(user).post("/notifications/preferences/", {"revive": "pager"})
        self.notify(user)
        assert self.send()[-1].state == "sent"

    def test_an_address_that_is_gone(self, user, server):
        server.reach(user)
        server.error = AddressGone("555 is not assigned")
        self.notify(user)
        [delivery] = self.send()
        assert (delivery.state, delivery.reason, delivery.attempted_at) == ("skipped", "gone", None)

    def test_its_server_is_tried_once_a_minute_when_it_does_not_answer(self, user, server):
        server.reach(user)
        server.fail("passing")
        for _ in range(5):
            self.notify(user)
        send_due()
        assert ChannelOutage.objects.get().suspended_until
        assert sorted(Delivery.objects.values_list("state", flat=True)) == ["pending"] * 3 + ["queued"] * 2
        server.fail(None)
        enqueue_deliveries()
        run_jobs()
        assert server.count() == 0
