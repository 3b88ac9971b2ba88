"""Handshakes that come at once are looked up together."""

import asyncio
import threading

import pytest

from notifications.realtime.auth import handshakes
from notifications.realtime.auth.handshakes import SessionLookup
from notifications.realtime.pool import Pool


@pytest.fixture
async def here(monkeypatch):
    """A door, the list of lookups that it made, and who is known: everybody whose session ends with a number."""
    lookups = []

    def users_signed_in(sessions):
        lookups.append(set(sessions))
        if "broken" in sessions:
            raise ConnectionError("the backend of this one is away")
        return {session: int(session[1:]) for session in sessions if session[1:].isdigit()}

    monkeypatch.setattr(handshakes, "users_signed_in", users_signed_in)
    pool = Pool("test-doors", 2)
    yield SessionLookup(pool), lookups
    for thread in pool.close():
        await asyncio.to_thread(thread.join, 5)


async def test_a_storm_is_looked_up_together(here):
    """Everybody gets their own answer, in a few lookups."""
    there, lookups = here
    sessions = [*(f"s{number}" for number in range(250)), None, "stranger", "s7"]
    assert await asyncio.gather(*map(there.who, sessions)) == [*range(250), None, None, 7]
    assert [len(some) for some in lookups] == [1, 100, 100, 51]


async def test_one_whose_lookup_fails_hurts_nobody_else(here):
    """The others get their answers, it gets the error."""
    there, _ = here
    answers = await asyncio.gather(
        *map(there.who, ["s1", "s2", "broken", "s3", "s4"]), return_exceptions=True
    )
    assert isinstance(answers.pop(2), ConnectionError)
    assert answers == [1, 2, 3, 4]


async def test_one_who_goes_away_hurts_nobody_else(here):
    """A handshake that is cancelled while it is looked up."""
    there, _ = here
    tasks = [asyncio.ensure_future(there.who(f"s{number}")) for number in range(4)]
    await asyncio.sleep(0)
    tasks[0].cancel()
    tasks[2].cancel()
    assert [await tasks[1], await tasks[3]] == [1, 3]


async def test_a_lookup_that_hangs_leaves_the_door_open(here, monkeypatch):
    """A second thread answers the others."""
    there, _ = here
    real, go_on = handshakes.users_signed_in, threading.Event()

    def hang(sessions):
        if sessions == {"s1"}:
            go_on.wait(30)
        return real(sessions)

    monkeypatch.setattr(handshakes, "users_signed_in", hang)
    hanging = asyncio.ensure_future(there.who("s1"))
    async with asyncio.timeout(10):
        assert await asyncio.gather(there.who("s2"), there.who("s3")) == [2, 3]
    go_on.set()
    assert await hanging == 1
