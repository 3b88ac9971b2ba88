"""Endpoints of webhooks, and a real server that receives them."""

import pytest

from notifications.contrib import webhooks
from notifications.outbound.circuits import circuits
from tests.contrib.webhooks.endpoints.receiver import Receiver


@pytest.fixture(autouse=True)
def webhooks_on(settings):
    settings.NOTIFICATIONS = {**settings.NOTIFICATIONS, "WEBHOOKS": True}


@pytest.fixture(autouse=True)
def reset_circuits():
    circuits.reset()


@pytest.fixture
def receiver(settings):
    """A server on loopback, which the allow list opens."""
    receiver = Receiver()
    settings.NOTIFICATIONS = {**settings.NOTIFICATIONS, "OUTBOUND_ALLOW": [receiver.address]}
    yield receiver
    receiver.close()


@pytest.fixture
def create(receiver, user):
    """create(**fields) creates an endpoint of the user at the receiver."""

    def create(path="/hook", **fields):
        return webhooks.create(receiver.url(path), **{"owner": user, **fields})

    return create
