"""The upkeep of a project without processes that last but its ASGI servers."""

import pytest

from notifications.contrib.engines import server
from notifications.extension import hooks
from tests.support.duties import leave_work


@pytest.fixture
def upkeep(monkeypatch):
    """The upkeep of this process, as of a new one."""
    upkeep = server.ServerUpkeep()
    monkeypatch.setattr(server, "_upkeep", upkeep)
    yield upkeep
    upkeep.stop(20)


@pytest.mark.django_db(transaction=True)
def test_a_server_does_the_upkeep(idle_engine, upkeep, set_bounds, user):
    """If an engine runs jobs: without one, workers do it."""
    set_bounds(duties=0.1)
    wait = leave_work(user)
    hooks.dispatch.start_in_server()
    wait()


@pytest.mark.django_db(transaction=True)
def test_a_server_beside_workers(upkeep):
    hooks.dispatch.start_in_server()
    assert not upkeep.is_running
