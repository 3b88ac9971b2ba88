"""The output of a job over HTTP: what there is, long polls and Server-Sent Events."""

import asyncio
import json
import time

import pytest
from django.contrib.sessions.models import Session
from django.utils import timezone

from notifications.contrib.output import views
from notifications.contrib.output.models import OutputChunk
from notifications.contrib.output.storage import buffer_of, store_output
from notifications.contrib.output.views import next_cursor
from notifications.models import Job
from notifications.realtime import hub
from notifications.realtime.hub import current_hub
from tests.data.rows import job as make_job
from tests.http.conftest import assert_problem, job_url
from tests.realtime.conftest import in_thread, until
from tests.support.statements import preceded

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.nightly_on_postgres]


@pytest.fixture
def job(user):
    """A running job."""
    job = make_job(user, state="running")
    Job.objects.filter(pk=job.pk).update(fence=1, attempt=1)
    return Job.objects.get(pk=job.pk)


@pytest.fixture
def small_parts(monkeypatch):
    """Readers get 10 kB at once."""
    monkeypatch.setattr("notifications.contrib.output.reading.MAX_PART_BYTES", 10_000)


@pytest.fixture
def path(job):
    return f"jobs/{job.pk}/output/"


def write(job, text):
    buffer_of(job).append(text)
    while store_output([job]):
        pass


def end(job, state="succeeded"):
    Job.objects.filter(pk=job.pk).update(state=state, finished_at=timezone.now())


def offset(number):
    return f"{number:016d}"


def url(job):
    return job_url(job, "output/")


def test_what_there_is(user_client, job):
    response = user_client.get(url(job))
    assert (response.status_code, response.content) == (200, b"")
    assert response["Stream-Next-Offset"] == offset(0)
    write(job, "first é\n")
    write(job, "second")
    response = user_client.get(url(job), {"offset": "-1"})
    assert response.content.decode() == "first é\nsecond"
    assert response["Content-Type"] == "text/plain; charset=utf-8"
    assert response["Stream-Next-Offset"] == offset(15)
    assert response["Stream-Up-To-Date"] == "true"
    assert "Stream-Closed" not in response
    assert (response["Cache-Control"], response["X-Content-Type-Options"]) == ("no-store", "nosniff")


@pytest.mark.parametrize("at", ["7", "16", "x", "-2", "1.5", "", "٣", "9" * 17, "0" * 20])
def test_offsets_that_are_none(user_client, job, at):
    """Inside a character, beyond the end, and no numbers."""
    write(job, "first é\nsecond")
    assert_problem(user_client.get(url(job), {"offset": at}), 400)


def test_parts(user_client, job, small_parts, set_bounds):
    """A large output comes in parts, of which only the last one is up to date, whatever chunks it was written in."""
    set_bounds(rows=7)
    text = "".join(f"{number} ä\n" for number in range(9_000))
    for start in range(0, 500, 50):
        write(job, text[start : start + 50])
    write(job, text[500:])
    end(job)
    body, at, count = b"", "-1", 0
    while True:
        response = user_client.get(url(job), {"offset": at})
        body, at, count = body + response.content, response["Stream-Next-Offset"], count + 1
        assert ("Stream-Up-To-Date" in response) is ("Stream-Closed" in response)
        if "Stream-Closed" in response:
            break
    assert body.decode() == text
    assert count > 5


def test_at_the_end_of_the_job(user_client, job):
    write(job, "all")
    end(job, "failed")
    for at in ("-1", "3", "now"):
        response = user_client.get(url(job), {"offset": at})
        assert (response["Stream-Closed"], response["Stream-Up-To-Date"]) == ("true", "true")


def test_head_and_now(user_client, job):
    """The end of the output, without the text."""
    write(job, "all of it")
    for response in (user_client.head(url(job)), user_client.get(url(job), {"offset": "now"})):
        assert (response.status_code, response.content) == (200, b"")
        assert response["Stream-Next-Offset"] == offset(9)
        assert "ETag" not in response


def test_entity_tags(user_client, job):
    """They name the range, and whether it is closed."""
    write(job, "all")
    etag = user_client.get(url(job))["ETag"]
    assert etag == f'"{job.pk}:0:3"'
    assert user_client.get(url(job), headers={"If-None-Match": etag}).status_code == 304
    end(job)
    response = user_client.get(url(job), headers={"If-None-Match": etag})
    assert (response.status_code, response["ETag"]) == (200, f'"{job.pk}:0:3:closed"')


def test_rights(user_client, client_of, client, other_user, job):
    """Those of the job: of other users it does not exist."""
    write(job, "secret")
    assert_problem(client_of(other_user).get(url(job)), 404)
    assert_problem(client.get(url(job)), 401)
    assert_problem(user_client.post(url(job)), 405)
    assert_problem(user_client.get(url(job), headers={"Accept": "application/json"}), 406)
    assert_problem(user_client.get(url(job), {"live": "websocket"}), 400)
    assert_problem(user_client.get(url(job), {"live": "sse", "offset": "-1"}), 501)


async def waiting(count=1):
    """Wait until this many readers wait for output."""
    await until(
        lambda: (
            sum(
                len(followed.clients)
                for feeds in current_hub().feeds._feeds.values()
                for followed in feeds.values()
            )
            == count
        )
    )


async def test_a_long_poll(asgi, user, job, path):
    """It ends with what is written, and holds neither a thread nor a connection until then."""
    await in_thread(write, job, "first ")
    response = await (await asgi(f"{path}?offset=-1&live=long-poll", user)).wait_for_response()
    assert (response.status, await response.read_body()) == (200, b"first ")
    at, cursor = response.headers["stream-next-offset"], response.headers["stream-cursor"]
    poll = await asgi(f"{path}?offset={at}&live=long-poll&cursor={cursor}", user)
    await waiting()
    await in_thread(write, job, "second")
    await poll.wait_for_response()
    assert (poll.status, await poll.read_body()) == (200, b"second")
    assert poll.headers["stream-next-offset"] == offset(12)
    assert int(poll.headers["stream-cursor"]) > int(cursor)


async def test_a_long_poll_without_output(asgi, user, job, path, set_bounds):
    set_bounds(clients=0.2)
    await in_thread(write, job, "all")
    response = await (await asgi(f"{path}?offset=now&live=long-poll", user)).wait_for_response()
    assert response.status == 204
    assert response.headers["stream-next-offset"] == offset(3)
    assert response.headers["stream-up-to-date"] == "true"
    assert "stream-closed" not in response.headers


@pytest.mark.parametrize("before", [True, False])
async def test_the_end_of_the_job_ends_a_long_poll(asgi, user, job, path, before):
    if before:
        await in_thread(end, job)
    poll = await asgi(f"{path}?offset=0&live=long-poll", user)
    if not before:
        await waiting()
        await in_thread(write, job, "")
        await in_thread(end, job)
        current_hub().feeds.read_all()
    await poll.wait_for_response()
    assert (poll.status, poll.headers["stream-closed"]) == (204, "true")


async def read_events(response, until_closed=True):
    """Return the text and the control events of a response, until one says that the output is closed."""
    text, controls = "", []
    while True:
        while b"\n\n" not in response.body:
            if response.ended:
                return text, controls
            await response._more()
        block, _, response.body = response.body.partition(b"\n\n")
        fields = [line.split(":", 1) for line in block.decode().split("\n")]
        data = "\n".join(value.removeprefix(" ") for name, value in fields if name == "data")
        if ["event", " data"] in fields:
            text += data
        elif ["event", " control"] in fields:
            controls.append(json.loads(data))
            assert ["id", f" {controls[-1]['streamNextOffset']}"] in fields
            if controls[-1].get("streamClosed") or not until_closed:
                return text, controls


async def test_events(asgi, user, job, path):
    """Text as it is written, each with its offset, until the job ends."""
    await in_thread(write, job, "first\n")
    events = await (await asgi(f"{path}?offset=-1&live=sse", user)).wait_for_response()
    assert events.headers["content-type"] == "text/event-stream"
    assert events.headers["x-content-type-options"] == "nosniff"
    text, [control] = await read_events(events, until_closed=False)
    assert text == "first\n"
    assert (control["streamNextOffset"], control["upToDate"]) == (offset(6), True)
    await waiting()
    for line in (" two\n\n", "data: x\n", "\u2028ä\n \n"):
        await in_thread(write, job, line)
        got, [control] = await read_events(events, until_closed=False)
        assert got == line
    await in_thread(write, job, "last")
    await in_thread(end, job)
    current_hub().feeds.read_all()
    text, controls = await read_events(events)
    assert text == "last"
    assert (controls[-1]["streamClosed"], controls[-1]["upToDate"]) == (True, True)
    await events.wait_until_closed()
    assert not current_hub().feeds._feeds


async def test_events_go_on_after_the_last_id(asgi, user, job, path):
    """As the EventSource of a browser connects again."""
    await in_thread(write, job, "first second")
    await in_thread(end, job)
    headers = {"Last-Event-ID": offset(6)}
    events = await (await asgi(f"{path}?offset=-1&live=sse", user, headers=headers)).wait_for_response()
    assert (await read_events(events))[0] == "second"


async def test_events_of_a_large_output(asgi, user, job, path, small_parts, monkeypatch):
    """A response ends after a number of bytes, and the next one goes on."""
    monkeypatch.setattr("notifications.realtime.transports.feeds.FeedEvents.max_response_bytes", 50_000)
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


async def test_a_response_is_bounded(asgi, user, job, path):
    """A client that does not read costs a server that keeps what is unsent 256 KiB of text."""
    await in_thread(write, job, "x" * 199 + "\n")
    for _ in range(8):
        await in_thread(write, job, ("x" * 199 + "\n") * 500)
    await in_thread(end, job)
    events = await (await asgi(f"{path}?offset=-1&live=sse", user)).wait_for_response()
    text, controls = await read_events(events)
    assert 0 < len(text) <= 256 * 1024
    assert not controls[-1].get("streamClosed")


async def test_many_readers_cost_one_read(asgi, user, job, path, monkeypatch):
    """What is written is read and encoded once, whatever the number of readers."""
    sent, event = [], views.OutputFeed.event
    monkeypatch.setattr(views.OutputFeed, "event", lambda feed, part: sent.append(part) or event(feed, part))
    events = [await asgi(f"{path}?offset=-1&live=sse", user) for _ in range(10)]
    for response in events:
        await response.wait_for_response()
        await read_events(response, until_closed=False)
    await waiting(10)
    await asyncio.sleep(0.2)
    sent.clear()
    with preceded("SELECT .*FROM .notifications_output_outputchunk", lambda: None, times=None) as reads:
        await in_thread(write, job, "text")
        for response in events:
            assert (await read_events(response, until_closed=False))[0] == "text"
    assert 0 < len(reads) < 5
    assert len(sent) == 10
    assert len({id(part.event) for part in sent}) == 1


async def test_lost_rings(asgi, user, job, path):
    """The output is read every few seconds too. The first check of positions finds the job itself to be new."""
    events = await (await asgi(f"{path}?offset=0&live=sse", user)).wait_for_response()
    await read_events(events, until_closed=False)
    for start, text in ((0, "unheard"), (7, "again")):
        await in_thread(
            OutputChunk.objects.create,
            job=job.pk,
            start=start,
            text=text,
            attempt=1,
            fence=1,
            created_at=timezone.now(),
        )
        assert (await read_events(events, until_closed=False))[0] == text


async def test_sign_out_ends_readers(asgi, user, path):
    poll, events = (
        await asgi(f"{path}?offset=0&live=long-poll", user),
        await asgi(f"{path}?offset=0&live=sse", user),
    )
    await events.wait_for_response()
    await waiting(2)
    await in_thread(Session.objects.all().delete)
    await poll.wait_for_response()
    assert poll.status == 401
    await events.wait_until_closed()


async def test_the_server_stops(asgi, user, path):
    poll, events = (
        await asgi(f"{path}?offset=0&live=long-poll", user),
        await asgi(f"{path}?offset=0&live=sse", user),
    )
    await events.wait_for_response()
    await waiting(2)
    await hub.close_current_hub()
    await poll.wait_for_response()
    assert (poll.status, poll.headers["retry-after"]) == (503, "2")
    await events.wait_until_closed()


async def test_the_job_is_pruned(asgi, user, job, path):
    poll, events = (
        await asgi(f"{path}?offset=0&live=long-poll", user),
        await asgi(f"{path}?offset=0&live=sse", user),
    )
    await events.wait_for_response()
    await waiting(2)
    await in_thread(Job.objects.all().delete)
    current_hub().feeds.read_all()
    await poll.wait_for_response()
    assert poll.status == 404
    await events.wait_until_closed()


async def test_too_many_readers(asgi, user, path, monkeypatch):
    monkeypatch.setattr(views.OutputFeed, "max_clients", 2)
    for _ in range(2):
        await asgi(f"{path}?offset=0&live=long-poll", user)
    await waiting(2)
    refused = await (await asgi(f"{path}?offset=0&live=long-poll", user)).wait_for_response()
    assert (refused.status, refused.headers["retry-after"]) == (429, "5")
    other = await (await asgi("events/", user)).wait_for_response()
    assert other.status == 200


def test_cursors(monkeypatch):
    """They count intervals of 20 s, and one that the client has is never repeated."""
    monkeypatch.setattr(time, "time", lambda: 1_728_432_000 + 20 * 1_000 + 7)
    assert next_cursor("") == next_cursor("999") == next_cursor("x") == "1000"
    assert 1_000 < int(next_cursor("1000")) <= 1_180
    assert int(next_cursor("5000")) > 5_000


async def test_a_reader_that_disconnects(asgi, user, path):
    for live in ("long-poll", "sse"):
        response = await asgi(f"{path}?offset=0&live={live}", user)
        await waiting()
        response.disconnect()
        await response.wait_until_closed()
        await waiting(0)
        assert not current_hub().users
