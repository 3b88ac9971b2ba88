"""Long polls: requests of sync/ that wait for a change."""

import time

import pytest
from django.db import OperationalError

from notifications.api import notify
from notifications.inbox import read_numbered_position
from notifications.realtime import hub
from notifications.realtime.hub import current_hub
from tests.realtime import rows
from tests.realtime.auth.test_sign_outs import in_other_thread
from tests.realtime.conftest import in_thread, sign_in, until
from tests.realtime.test_following import READ_MISSED

WAIT = {"Prefer": "wait=10"}


@pytest.fixture
def sync_client(user_client):
    """A client of Django's WSGI handler, on which requests never wait; sync_client.sync(query) requests sync/."""

    def sync(query="", **headers):
        return user_client.get(f"/notifications/api/sync/{query}", headers=headers)

    user_client.sync = sync
    return user_client


@pytest.fixture
async def cursor(send_request, user):
    """The epoch, seq and ETag of the user's stream after two notifications, and a cookie for requests."""
    await in_thread(rows.notices, user, 2)
    cookie = await in_thread(sign_in, user)
    response = await (await send_request("sync/", cookie=cookie)).wait_for_response()
    frame = await response.json()
    return Cursor(frame["epoch"], frame["seq"], response.headers["etag"], cookie)


class Cursor:
    """A position, and the query and headers of a request that waits for changes after it."""

    def __init__(self, epoch, seq, etag, cookie):
        self.epoch, self.seq, self.etag, self.cookie = epoch, seq, etag, cookie
        self.query = f"sync/?epoch={epoch}&seq={seq}"
        self.wait_headers = {**WAIT, "If-None-Match": etag}


async def wait_for_waiting_poll():
    """Wait until one poll waits for changes."""
    await until(lambda: sum(subscriber.is_synced for subscriber in current_hub().subscribers()) == 1)


@pytest.mark.django_db(transaction=True)
class TestTags:
    def test_etag_is_stable_without_changes(self, sync_client, user):
        """Without changes the ETag is the same, and If-None-Match gets 304; it may be weak, in a list, or "*"."""
        notify(user, "note")
        first = sync_client.sync()
        tag = first["ETag"]
        assert tag.startswith('"')
        for if_none_match in (tag, f"W/{tag}", f'"other", {tag}', "*"):
            response = sync_client.sync(If_None_Match=if_none_match)
            assert (response.status_code, response.content, response["ETag"]) == (304, b"", tag)
            assert response["Cache-Control"] == "no-store"
        assert sync_client.sync(If_None_Match='"other"').status_code == 200
        assert sync_client.sync(If_None_Match="no tag").status_code == 200

    def test_etag_does_not_depend_on_the_cursor(self, sync_client, user):
        """The ETag is that of the position after the frame, whichever cursor the request has."""
        rows.notices(user, 3)
        first = sync_client.sync()
        for seq in (0, 2, 3):
            assert sync_client.sync(f"?epoch={first.json()['epoch']}&seq={seq}")["ETag"] == first["ETag"]

    def test_etag_changes_with_jobs_and_head(self, sync_client, user):
        """Each change of an active job and each new seq changes the ETag."""
        tags = [sync_client.sync()["ETag"]]
        job = rows.job(user)
        tags.append(sync_client.sync()["ETag"])
        rows.change(job, state="running")
        tags.append(sync_client.sync()["ETag"])
        rows.finish(job)
        tags.append(sync_client.sync()["ETag"])
        notify(user, "note")
        tags.append(sync_client.sync()["ETag"])
        assert len(set(tags)) == 5

    def test_etag_differs_between_users(self, sync_client, user, other_user):
        """ETags differ between users, so that a browser in which another user signs in gets no 304."""
        first = sync_client.sync()["ETag"]
        sync_client.force_login(other_user)
        assert sync_client.sync()["ETag"] != first

    def test_etag_of_a_partial_sync(self, sync_client, user):
        """The ETag of the first of several frames is not that of the head, so a request with it gets the next frame."""
        rows.notices(user, 250)
        epoch = read_numbered_position(user.pk).epoch
        part = sync_client.sync(f"?epoch={epoch}&seq=0")
        assert part.json()["more"]
        second = sync_client.sync(f"?epoch={epoch}&seq=200", If_None_Match=part["ETag"])
        assert (second.status_code, second.json()["seq"]) == (200, 250)

    def test_wsgi_does_not_wait(self, sync_client, user):
        """On WSGI "Prefer: wait" has no effect."""
        before = time.monotonic()
        response = sync_client.sync(Prefer="wait=20", If_None_Match=sync_client.sync()["ETag"])
        assert response.status_code == 304 and "Preference-Applied" not in response
        assert time.monotonic() - before < 15


async def test_poll_waits_for_a_change(send_request, user, cursor):
    """A poll waits for a change and responds with it, a new ETag and Preference-Applied."""
    for headers in (cursor.wait_headers, WAIT):
        request = await send_request(cursor.query, cookie=cursor.cookie, headers=headers)
        await wait_for_waiting_poll()
        await in_thread(notify, user, "new")
        frame = await (await request.wait_for_response()).json()
        assert (request.status, frame["prev"], frame["seq"]) == (200, cursor.seq, cursor.seq + 1)
        assert [item["title"] for item in frame["items"]] == ["new"]
        assert request.headers["preference-applied"] == "wait=10"
        assert request.headers["etag"] != cursor.etag
        cursor.seq, cursor.query = frame["seq"], f"sync/?epoch={cursor.epoch}&seq={frame['seq']}"
        cursor.wait_headers["If-None-Match"] = request.headers["etag"]


async def test_poll_waits_for_an_active_job(send_request, user, cursor):
    """A poll gets a response at each change of an active job, with the current state of the job."""
    request = await send_request(cursor.query, cookie=cursor.cookie, headers=cursor.wait_headers)
    await wait_for_waiting_poll()
    job = await in_thread(rows.job, user)
    assert len((await (await request.wait_for_response()).json())["jobs"]) == 1
    cursor.wait_headers["If-None-Match"] = request.headers["etag"]
    request = await send_request(cursor.query, cookie=cursor.cookie, headers=cursor.wait_headers)
    await wait_for_waiting_poll()
    await in_thread(rows.change, job, state="running")
    assert [job["state"] for job in (await (await request.wait_for_response()).json())["jobs"]] == ["running"]


async def test_missed_changes_are_returned_immediately(send_request, user, cursor):
    """A request with an old, missing or invalid cursor, or with another ETag, does not wait."""
    for query in (f"sync/?epoch={cursor.epoch}&seq={cursor.seq - 1}", "sync/", "sync/?epoch=other&seq=2"):
        request = await (await send_request(query, cookie=cursor.cookie, headers=WAIT)).wait_for_response(5)
        assert (request.status, (await request.json())["seq"]) == (200, cursor.seq)
    request = await send_request(
        cursor.query, cookie=cursor.cookie, headers={**WAIT, "If-None-Match": '"other"'}
    )
    frame = await (await request.wait_for_response(5)).json()
    assert (frame["items"], request.headers["etag"]) == ([], cursor.etag)


async def test_known_etag_waits_from_any_cursor(send_request, user, cursor):
    """A request with the current ETag waits, even if it has no cursor and so gets a snapshot."""
    request = await send_request("sync/", cookie=cursor.cookie, headers=cursor.wait_headers)
    await wait_for_waiting_poll()
    await in_thread(notify, user, "new")
    frame = await (await request.wait_for_response()).json()
    assert (frame["reset"], len(frame["items"])) == (True, 3)


async def test_poll_timeout(send_request, user, cursor):
    """After the timeout a request with the current ETag gets 304; one without an ETag gets a frame without items."""
    before = time.monotonic()
    request = await send_request(
        cursor.query, cookie=cursor.cookie, headers={**cursor.wait_headers, "Prefer": "wait=1"}
    )
    await request.wait_for_response()
    assert (request.status, await request.read_body()) == (304, b"")
    assert (request.headers["etag"], request.headers["preference-applied"]) == (cursor.etag, "wait=1")
    assert time.monotonic() - before >= 1
    request = await send_request(cursor.query, cookie=cursor.cookie, headers={"Prefer": "wait=1"})
    frame = await (await request.wait_for_response()).json()
    assert (request.status, frame["prev"], frame["seq"], frame["items"]) == (200, cursor.seq, cursor.seq, [])
    assert current_hub().subscribers() == []


async def test_partial_sync_is_returned_immediately(send_request, user, cursor):
    """A request whose changes need several frames does not wait, and each frame begins at the requested cursor."""
    await in_thread(rows.notices, user, 300)
    query = f"sync/?epoch={cursor.epoch}&seq=0"
    part = await (await send_request(query, cookie=cursor.cookie, headers=WAIT)).wait_for_response(5)
    assert (await part.json())["more"]
    tags = {"If-None-Match": part.headers["etag"], **WAIT}
    assert (
        await (await send_request(query, cookie=cursor.cookie, headers=tags)).wait_for_response(5)
    ).status == 304
    last = await (
        await send_request(query.replace("seq=0", "seq=200"), cookie=cursor.cookie, headers=tags)
    ).wait_for_response(5)
    assert [(await last.json())[key] for key in ("prev", "seq", "more")] == [200, 302, False]


@pytest.mark.parametrize(
    ("prefer", "applied"),
    [
        ("wait=1", "wait=1"),
        ("Wait = 1", "wait=1"),
        ('wait="1"', "wait=1"),
        ("respond-async, wait=1; x=y, wait=7", "wait=1"),
        ("wait=0", None),
        ("wait", None),
        ("wait=", None),
        ("wait=soon", None),
        ("wait=-1", None),
        ("wait=1.5", None),
        ("wait=٣", None),
        ("waiting=1", None),
    ],
)
async def test_prefer_header(send_request, cursor, prefer, applied):
    """Prefer: wait takes an integer of seconds; other values are ignored."""
    request = await send_request(
        cursor.query,
        cookie=cursor.cookie,
        headers={"If-None-Match": cursor.etag, "Prefer": prefer.encode().decode("latin-1")},
    )
    await request.wait_for_response()
    assert (request.status, request.headers.get("preference-applied")) == (304, applied)


async def test_wait_is_limited_to_20_seconds(send_request, user, cursor):
    """A longer wait is reduced to 20 seconds, which Preference-Applied names."""
    request = await send_request(
        cursor.query, cookie=cursor.cookie, headers={**cursor.wait_headers, "Prefer": "wait=99999999999"}
    )
    await wait_for_waiting_poll()
    await in_thread(notify, user, "new")
    assert (await request.wait_for_response()).headers["preference-applied"] == "wait=20"


async def test_change_between_read_and_wait_is_not_missed(wrap_statements, send_request, user, cursor):
    """A poll registers before it reads, so a change that is committed while it reads ends the wait."""
    written = []

    def read_then_notify(execute, sql, *args):
        result = execute(sql, *args)
        if READ_MISSED in sql and not written:
            written.append(sql)
            in_other_thread(notify, user, "in between")
        return result

    wrap_statements(read_then_notify)
    request = await send_request(cursor.query, cookie=cursor.cookie, headers=cursor.wait_headers)
    frame = await (await request.wait_for_response(5)).json()
    assert [item["title"] for item in frame["items"]] == ["in between"]
    assert written


async def test_reads_for_other_clients_do_not_hide_a_change(send_request, connect, user, cursor):
    """A poll and a socket of the same user each get every change of a job."""
    job = await in_thread(rows.job, user)
    socket = await connect(cookie=cursor.cookie)
    await socket.start()
    response = await (await send_request(cursor.query, cookie=cursor.cookie)).wait_for_response()
    etag = response.headers["etag"]
    for version in range(2, 12):
        request = await send_request(
            cursor.query, cookie=cursor.cookie, headers={"Prefer": "wait=10", "If-None-Match": etag}
        )
        await in_thread(rows.change, job, progress_current=version)
        frame = await (await request.wait_for_response(5)).json()
        assert frame["jobs"][0]["version"] == version
        etag = request.headers["etag"]
        assert (await socket.receive("jobs"))["jobs"][0]["version"] == version


async def test_disconnected_client_leaves_the_hub(send_request, cursor):
    """When a client disconnects, the hub forgets its subscriber, and the slot is free."""
    for _ in range(6):
        request = await send_request(cursor.query, cookie=cursor.cookie, headers=cursor.wait_headers)
        await wait_for_waiting_poll()
        request.disconnect()
        await request.wait_until_closed()
        assert current_hub().subscribers() == []


async def test_server_shutdown_ends_the_wait(send_request, cursor):
    """A shutdown ends the wait with 304, as a timeout does."""
    request = await send_request(cursor.query, cookie=cursor.cookie, headers=cursor.wait_headers)
    await wait_for_waiting_poll()
    await hub.close_current_hub()
    assert (await request.wait_for_response()).status == 304


async def test_database_outage_during_the_wait(wrap_statements, send_request, user, cursor):
    """If no read succeeded during the wait, the response is 503 with Retry-After."""

    def fail(execute, sql, *args):
        if READ_MISSED in sql:
            raise OperationalError("gone")
        return execute(sql, *args)

    wrap_statements(fail)
    request = await send_request(
        cursor.query, cookie=cursor.cookie, headers={**cursor.wait_headers, "Prefer": "wait=1"}
    )
    assert (await request.wait_for_response()).status == 503
    assert "retry-after" in request.headers


async def test_poll_returns_the_same_frame_as_sync(send_request, user, cursor):
    """With and without "Prefer: wait" the body is equal byte for byte."""
    await in_thread(rows.job, user)
    plain = await (
        await send_request(f"sync/?epoch={cursor.epoch}&seq=1", cookie=cursor.cookie)
    ).wait_for_response()
    waited = await (
        await send_request(f"sync/?epoch={cursor.epoch}&seq=1", cookie=cursor.cookie, headers=WAIT)
    ).wait_for_response()
    assert await plain.read_body() == await waited.read_body()
    assert plain.headers["etag"] == waited.headers["etag"]
    assert plain.headers["content-type"] == waited.headers["content-type"] == "application/json"
