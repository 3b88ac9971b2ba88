"""What extensions do in the hub of a server: it reads what their own clients follow."""

import asyncio

import pytest

from notifications import api, extension
from notifications.extension import Extension, HubPart
from notifications.realtime import hub as hubs
from notifications.realtime.hub import current_hub
from tests.realtime.conftest import in_thread, until
from tests.support.extensions import install


class FaxReader(HubPart):
    """Records the calls of its methods, and on which loop they are."""

    def __init__(self, hub):
        self.hub, self.users, self.rounds, self.readers = hub, [], 0, set()

    def has_readers(self, user):
        return user in self.readers

    def read_users(self, users):
        assert asyncio.get_running_loop() is self.hub.loop
        self.users += users

    def read_all(self):
        assert asyncio.get_running_loop() is self.hub.loop
        self.rounds += 1


class Fax(Extension):
    name, label = "notifications.testing", "fax"

    def hub_part(self, hub):
        return FaxReader(hub)


@pytest.fixture
def fax(monkeypatch):
    install(monkeypatch, Fax(Fax.name, extension))


def test_deactivated_users_are_searched_within_5_seconds():
    assert hubs.ACTIVE_CHECK_TICKS < 5


async def test_a_part_of_the_hub(fax, connect, user, set_ticks):
    """It reads when the doorbell rings for a user whose clients it has, and all every few seconds."""
    set_ticks(POSITION_CHECK=1)
    socket = await connect(user)
    await socket.start()
    part = current_hub().parts["fax"]
    assert part.hub is current_hub()
    await until(lambda: current_hub().users[user.pk].guard is not None)
    part.users.clear()
    await in_thread(api.notify, user, "Not read")
    await socket.receive("change")
    assert part.users == []
    part.readers.add(user.pk)
    await in_thread(api.notify, user, "Read")
    await until(lambda: user.pk in part.users)
    await until(lambda: part.rounds > 1)
