"""What an app lets users follow beside their stream, by public names only."""

import json
import logging
from dataclasses import dataclass

import pytest
from asgiref.sync import sync_to_async
from django.core.exceptions import ObjectDoesNotExist
from django.http import HttpResponse
from django.urls import include, path

from notifications import api
from notifications.http import Feed, Problem, api_view
from tests.realtime.conftest import in_thread

pytestmark = pytest.mark.django_db(transaction=True)

#: The text of each log, and what the next read raises.
LOGS: dict[str, bytes] = {}
ERRORS: list[Exception] = []
#: What the next event raises.
EVENT_ERRORS: list[Exception] = []


@dataclass
class Part:
    data: bytes
    end: int
    is_closed: bool = False
    is_last: bool = True


class Log(Feed):
    def read(self, positions):
        if ERRORS:
            raise ERRORS.pop()
        text = LOGS[self.key]
        return {start: Part(text[start:], len(text), text.endswith(b".")) for start in positions}

    def event(self, part):
        if EVENT_ERRORS:
            raise EVENT_ERRORS.pop()
        return b"id: %d\ndata: %s\n\n" % (part.end, json.dumps(part.data.decode()).encode())


def open_log(request, name):
    log = Log(request, name, "text/event-stream")
    return log, log.read([0])[0]


@api_view()
async def wait_for_log(request, name):
    log = await sync_to_async(Log)(request, name, "text/plain")
    try:
        part = await log.wait(len("one "), 20)
    except ObjectDoesNotExist:
        raise Problem(404, "The log is gone.") from None
    return HttpResponse(part.data)


@api_view()
async def follow_log(request, name):
    log, part = await sync_to_async(open_log)(request, name)
    return log.stream(part)


urlpatterns = [
    path("notifications/api/<name>/wait/", wait_for_log),
    path("notifications/api/<name>/follow/", follow_log),
    path("notifications/", include("notifications.urls")),
]


@pytest.fixture(autouse=True)
def log(settings, set_ticks):
    """Without the reads every few seconds, which would hide that a ring was not heard."""
    set_ticks(POSITION_CHECK=1_000)
    settings.ROOT_URLCONF = __name__
    LOGS["deploy"] = b"one "
    yield
    ERRORS.clear()


def write(user, text):
    """Write something, and ring for the user."""
    LOGS["deploy"] += text
    api.notify(user, "Written")


async def test_a_long_poll(send_request, user):
    poll = await send_request("deploy/wait/", user)
    await in_thread(write, user, b"two")
    await poll.wait_for_response()
    assert await poll.read_body() == b"two"


async def test_events(send_request, user):
    events = await (await send_request("deploy/follow/", user)).wait_for_response()
    assert await events.receive() == {"retry": "3000"}
    assert await events.receive() == {"id": "4", "data": "one "}
    await in_thread(write, user, b"two.")
    assert await events.receive() == {"id": "8", "data": "two."}
    assert await events.receive() is None


async def test_a_read_that_fails_is_repeated(send_request, user, caplog, forgotten_log):
    """Each second, and the log says so once a minute."""
    events = await (await send_request("deploy/follow/", user)).wait_for_response()
    assert [await events.receive() for _ in range(2)][1]["id"] == "4"
    logging.getLogger().addHandler(caplog.handler)  # the request has set Django up, and with it the log
    ERRORS.extend([OSError("The disk is away.")] * 2)
    await in_thread(write, user, b"two.")
    assert (await events.receive())["data"] == "two."
    assert not ERRORS
    assert caplog.messages == ["Could not read a feed, which is tried again: The disk is away."]


async def test_an_event_that_cannot_be_made_is_not_lost(send_request, user):
    """The response ends before it, and another client gets it."""
    events, others = [
        await (await send_request("deploy/follow/", user)).wait_for_response() for _ in range(2)
    ]
    for response in (events, others):
        assert [await response.receive() for _ in range(2)][1]["id"] == "4"
    EVENT_ERRORS.append(ValueError("No."))
    await in_thread(write, user, b"two")
    got = [await response.receive() for response in (events, others)]
    assert None in got and {"id": "7", "data": "two"} in got


async def test_head(send_request, user):
    """It gets the headers, and no slot."""
    head = await (await send_request("deploy/follow/", user, method="HEAD")).wait_for_response()
    assert head.status == 200 and await head.read_body() == b""


@pytest.mark.parametrize("name", ["wait", "follow"])
def test_under_wsgi(user_client, name):
    assert user_client.get(f"/notifications/api/deploy/{name}/").status_code == 501


async def test_what_is_gone_ends_its_requests(send_request, user):
    poll = await send_request("deploy/wait/", user)
    events = await (await send_request("deploy/follow/", user)).wait_for_response()
    assert [await events.receive() for _ in range(2)][1]["id"] == "4"
    LOGS["deploy"] = b""
    ERRORS.extend([ObjectDoesNotExist()] * 2)
    await in_thread(api.notify, user, "Gone")
    await poll.wait_for_response()
    assert poll.status == 404
    assert await events.receive() is None


async def test_who_may_follow(send_request, user):
    signed_out = await (await send_request("deploy/wait/")).wait_for_response()
    assert signed_out.status == 401
    post = await (await send_request("deploy/follow/", user, method="POST")).wait_for_response()
    assert post.status == 405
