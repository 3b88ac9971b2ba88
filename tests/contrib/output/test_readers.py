"""What a reader of output gets."""

import asyncio

import pytest

from notifications.contrib.output import readers
from notifications.contrib.output.readers import next_cursor
from tests.contrib.output.test_views import end, job, path, read_events, small_parts, waiting, write  # noqa: F401
from tests.realtime.conftest import in_thread


def test_cursors(monkeypatch):
    """They count intervals of 20 s, and one that the client has is never repeated."""
    monkeypatch.setattr(readers.time, "time", lambda: 1_728_432_000 + 20 * 1_000 + 7)
    assert next_cursor("") == next_cursor("999") == next_cursor("x") == "1000"
    assert 1_000 < int(next_cursor("1000")) <= 1_180
    assert int(next_cursor("5000")) > 5_000


@pytest.mark.django_db(transaction=True)
async def test_events_of_a_large_output(asgi, user, job, path, small_parts, monkeypatch):  # noqa: F811
    """A response ends after a number of bytes, and the next one goes on."""
    monkeypatch.setattr(readers.OutputEvents, "max_response_bytes", 50_000)
    text = "".join(f"{number} ä\n" for number in range(20_000))
    await in_thread(write, job, text)
    await in_thread(end, job)
    got, at, count = "", "-1", 0
    while True:
        events = await (await asgi(f"{path}?offset={at}&live=sse", user)).wait_for_response()
        more, controls = await read_events(events)
        got, at, count = got + more, controls[-1]["streamNextOffset"], count + 1
        if controls[-1].get("streamClosed"):
            break
    assert got == text
    assert count > 3


@pytest.mark.django_db(transaction=True)
async def test_many_readers_cost_one_read(asgi, user, job, path, monkeypatch):  # noqa: F811
    """What is written is read and encoded once, whatever the number of readers."""
    reads, encoded = [], []
    read_parts, data_event = readers.read_parts, readers._data_event
    monkeypatch.setattr(readers, "read_parts", lambda *args: reads.append(args) or read_parts(*args))
    monkeypatch.setattr(
        readers, "_data_event", lambda part: encoded.append(event := data_event(part)) or event
    )
    events = [await asgi(f"{path}?offset=-1&live=sse", user) for _ in range(10)]
    for response in events:
        await response.wait_for_response()
        await read_events(response, until_closed=False)
    await waiting(10)
    await asyncio.sleep(0.2)
    reads.clear()
    await in_thread(write, job, "text")
    for response in events:
        assert (await read_events(response, until_closed=False))[0] == "text"
    assert [offsets for *_, offsets in reads if offsets == {0}] == [{0}]
    assert len(encoded) == 10
    assert len(set(map(id, encoded))) == 1
