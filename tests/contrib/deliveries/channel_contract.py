"""What holds for each channel. The test class of each inherits it."""

import pytest
from django.core.checks import run_checks
from django.test import Client
from django.utils import timezone, translation

from notifications.api import notify
from notifications.contrib.deliveries.models import Delivery, Preference
from notifications.extension import Channel, hooks
from notifications.inbox import read_timeline
from notifications.models import Job, Notification
from notifications.streams import marking_seen
from notifications.testing import run_until_idle
from tests.contrib.deliveries.conftest import choose, send_all
from tests.contrib.deliveries.test_resending import resend_by
from tests.support.duties import enqueue_deliveries
from tests.support.extensions import set_channels


class ChannelContract:
    """The tests. A subclass has the ``name`` of its channel and a fixture ``server``.

    ``server`` is what receives, with ``count()`` messages, ``fail(kind)`` for ``"passing"``, ``"final"`` and None, and
    ``reach(user)``, after which the user has an address.
    """

    pytestmark = pytest.mark.django_db(transaction=True)
    name: str

    @pytest.fixture
    def server(self):
        raise NotImplementedError

    @pytest.fixture
    def user_without_address(self, make_user):
        """A user without an address."""
        return make_user("nobody", email="")

    def notify(self, user, **fields):
        [id] = notify(user, "The export is ready", deliver=[{self.name: 0}], **fields)
        return id

    def send(self):
        send_all()
        return list(Delivery.objects.order_by("id"))

    def texts(self, id):
        return [event.text for event in read_timeline(Notification.objects.get(id=id))]

    def test_declaration(self, server):
        channel = hooks.find_channel(self.name)
        assert isinstance(channel, Channel) and channel.name == self.name and len(self.name) <= 30
        assert str(channel.label) and str(channel.preference_label) not in ("", self.name)
        assert set(Preference.Choice.of_channel(self.name)) >= {"on", "off"}
        assert set(channel.reasons) <= set(Delivery.Reason.values)

    def test_it_is_sent_once(self, user, server):
        server.reach(user)
        id = self.notify(user)
        assert [row.state for row in self.send()] == ["sent"]
        [delivery] = self.send()
        assert server.count() == 1 and 0 < len(delivery.address) <= 320
        label = delivery.describe_channel()
        assert any(text.startswith(f"{label[:1].upper()}{label[1:]}: sent to ") for text in self.texts(id))

    def test_what_was_seen_is_not_sent(self, user, server):
        server.reach(user)
        id = self.notify(user)
        marking_seen.mark_seen(user.pk, Notification.objects.get(id=id).raised)
        [delivery] = self.send()
        assert (delivery.state, delivery.reason, server.count()) == ("skipped", "seen", 0)

    def test_what_is_switched_off_is_not_sent(self, user, server):
        server.reach(user)
        choose(user, {("export", self.name): "off"})
        self.notify(user, category="export")
        [delivery] = self.send()
        assert (delivery.state, delivery.reason, server.count()) == ("skipped", "off", 0)

    def test_a_user_without_an_address(self, user_without_address, server):
        id = self.notify(user_without_address)
        [delivery] = self.send()
        assert (delivery.state, delivery.reason, server.count()) == ("skipped", "no-address", 0)
        assert delivery.describe_reason() in self.texts(id)[-1]

    def test_an_error_that_passes(self, user, server):
        server.reach(user)
        server.fail("passing")
        self.notify(user)
        [delivery] = self.send()
        assert delivery.state == "queued" and delivery.error and Job.objects.get().state == "queued"
        server.fail(None)
        run_until_idle()
        assert Delivery.objects.get().state == "sent" and server.count() == 1

    def test_an_error_that_stays(self, user, server):
        server.reach(user)
        server.fail("final")
        id = self.notify(user)
        [delivery] = self.send()
        run_until_idle()
        assert delivery.state in ("failed", "skipped") and delivery.error and server.count() == 0
        assert Job.objects.get().attempt == 1
        assert delivery.error in self.texts(id)[-1]

    @pytest.mark.parametrize("when", ["before it is due", "before its job runs"])
    def test_an_app_that_is_not_installed_any_more(self, user, server, admin_client, monkeypatch, when):
        """Its deliveries end, and pages that show them work."""
        server.reach(user)
        id = self.notify(user)
        if when == "before its job runs":
            Delivery.objects.update(due_at=timezone.now())
            enqueue_deliveries()
        choose(user, {("", self.name): "on"})
        others = {name: path for name, path in hooks.channels.items() if name != self.name}
        set_channels(monkeypatch, **others)
        [delivery] = self.send()
        assert (delivery.state, delivery.reason, server.count()) == ("skipped", "not-installed", 0)
        assert "The app of this channel is not installed any more." in self.texts(id)[-1]
        assert resend_by(admin_client, delivery) == "The app of this channel is not installed any more."
        client = Client()
        client.force_login(user)
        for path in ("preferences/", f"{id}/", "api/preferences/"):
            assert client.get(f"/notifications/{path}").status_code == 200

    def test_it_is_offered_where_users_choose(self, user, configure, server):
        configure([{self.name: 0}])
        client = Client()
        client.force_login(user)
        label = str(hooks.find_channel(self.name).preference_label)
        assert label[:1].upper() + label[1:] in client.get("/notifications/preferences/").content.decode()
        changes = {"categories": {"export": {self.name: "off"}}}
        response = client.post("/notifications/api/preferences/", changes, content_type="application/json")
        [row] = [row for row in response.json()["categories"] if row["category"] == "export"]
        assert row["channels"][self.name] == "off"

    def test_checks(self, server):
        """With complete settings there is nothing to say."""
        with translation.override("en"):
            found = [each for each in run_checks() if each.id and each.id.startswith("notifications.W0")]
        assert found == [], found
