"""Asking sync/ and waiting for something new: a long poll."""

import time

import pytest
from django.test import Client
from django.utils import timezone

from notifications import streams
from notifications.api import notify
from notifications.realtime import delivery, hub, reader
from notifications.streams import changes
from tests.realtime import rows
from tests.realtime.conftest import in_thread, sign_in, until

WAIT = {"Prefer": "wait=10"}


@pytest.fixture
def client(user):
    """A browser of the user that asks by WSGI, which never waits."""
    client = Client()

    def sync(query="", **headers):
        return client.get(f"/notifications/api/sync/{query}", headers=headers)

    client.sync = sync
    return client


@pytest.fixture
async def here(ask, user):
    """Where the user's stream is: its epoch, seq and entity tag, and a cookie to ask with."""
    await in_thread(rows.notices, user, 2)
    cookie = await in_thread(sign_in, user)
    asked = await (await ask("sync/", cookie=cookie)).wait_for_response()
    frame = await asked.json()
    return Here(frame["epoch"], frame["seq"], asked.headers["etag"], cookie)


class Here:
    def __init__(self, epoch, seq, etag, cookie):
        self.epoch, self.seq, self.etag, self.cookie = epoch, seq, etag, cookie
        self.query = f"sync/?epoch={epoch}&seq={seq}"
        self.knowing = {**WAIT, "If-None-Match": etag}


async def waiting(count=1):
    await until(lambda: sum(one.is_synced for one in hub.current_hub().subscribers()) == count)


class TestTags:
    def test_etag_is_stable_without_changes(self, client, user):
        """304 without a body; also weak, in a list, and for any."""
        client.force_login(user)
        notify(user, "note")
        first = client.sync()
        tag = first["ETag"]
        assert tag.startswith('"')
        for known in (tag, f"W/{tag}", f'"other", {tag}', "*"):
            again = client.sync(If_None_Match=known)
            assert (again.status_code, again.content, again["ETag"]) == (304, b"", tag)
            assert again["Cache-Control"] == "no-store"
        assert client.sync(If_None_Match='"other"').status_code == 200
        assert client.sync(If_None_Match="no tag").status_code == 200

    def test_etag_does_not_depend_on_the_cursor(self, client, user):
        """It is of where the frame leads: what a client has after it."""
        client.force_login(user)
        rows.notices(user, 3)
        first = client.sync()
        for seq in (0, 2, 3):
            assert client.sync(f"?epoch={first.json()['epoch']}&seq={seq}")["ETag"] == first["ETag"]

    def test_etag_changes_with_jobs_and_head(self, client, user):
        """Every change of an active job counts, and every position."""
        client.force_login(user)
        tags = [client.sync()["ETag"]]
        job = rows.job(user)
        tags.append(client.sync()["ETag"])
        rows.change(job, state="running")
        tags.append(client.sync()["ETag"])
        rows.finish(job)
        tags.append(client.sync()["ETag"])
        notify(user, "note")
        tags.append(client.sync()["ETag"])
        assert len(set(tags)) == 5

    def test_etag_differs_between_users(self, client, user, other):
        """Whoever signs in after somebody else is not told that nothing has changed."""
        client.force_login(user)
        mine = client.sync()["ETag"]
        client.force_login(other)
        assert client.sync()["ETag"] != mine

    def test_etag_of_a_partial_sync(self, client, user):
        """What a client has after the first of several frames is not what there is: asked on, it gets the rest."""
        client.force_login(user)
        rows.notices(user, 250)
        epoch = streams.epoch()
        part = client.sync(f"?epoch={epoch}&seq=0")
        assert part.json()["more"]
        rest = client.sync(f"?epoch={epoch}&seq=200", If_None_Match=part["ETag"])
        assert (rest.status_code, rest.json()["seq"]) == (200, 250)

    def test_wsgi_does_not_wait(self, client, user):
        """wait counts as 0 there."""
        client.force_login(user)
        before = time.monotonic()
        answer = client.sync(Prefer="wait=20", If_None_Match=client.sync()["ETag"])
        assert answer.status_code == 304 and "Preference-Applied" not in answer
        assert time.monotonic() - before < 15


async def test_poll_waits_for_a_change(ask, user, here):
    """And answers with what followed, its new tag, and that it waited."""
    for headers in (here.knowing, WAIT):
        asked = await ask(here.query, cookie=here.cookie, headers=headers)
        await waiting()
        await in_thread(notify, user, "new")
        frame = await (await asked.wait_for_response()).json()
        assert (asked.status, frame["prev"], frame["seq"]) == (200, here.seq, here.seq + 1)
        assert [item["title"] for item in frame["items"]] == ["new"]
        assert asked.headers["preference-applied"] == "wait=10"
        assert asked.headers["etag"] != here.etag
        here.seq, here.query = frame["seq"], f"sync/?epoch={here.epoch}&seq={frame['seq']}"
        here.knowing["If-None-Match"] = asked.headers["etag"]


async def test_poll_waits_for_an_active_job(ask, user, here):
    """Each of its changes is an answer, with the job as it is."""
    asked = await ask(here.query, cookie=here.cookie, headers=here.knowing)
    await waiting()
    job = await in_thread(rows.job, user)
    assert len((await (await asked.wait_for_response()).json())["jobs"]) == 1
    here.knowing["If-None-Match"] = asked.headers["etag"]
    asked = await ask(here.query, cookie=here.cookie, headers=here.knowing)
    await waiting()
    await in_thread(rows.change, job, state="running")
    assert [job["state"] for job in (await (await asked.wait_for_response()).json())["jobs"]] == ["running"]


async def test_missed_changes_are_returned_immediately(ask, user, here):
    """A client that names no tag and is behind, or nowhere, does not wait; nor does one with another tag."""
    for query in (f"sync/?epoch={here.epoch}&seq={here.seq - 1}", "sync/", "sync/?epoch=other&seq=2"):
        asked = await (await ask(query, cookie=here.cookie, headers=WAIT)).wait_for_response(5)
        assert (asked.status, (await asked.json())["seq"]) == (200, here.seq)
    asked = await ask(here.query, cookie=here.cookie, headers={**WAIT, "If-None-Match": '"other"'})
    frame = await (await asked.wait_for_response(5)).json()
    assert (frame["items"], asked.headers["etag"]) == ([], here.etag)


async def test_known_etag_waits_from_any_cursor(ask, user, here):
    """With the tag it says that it has what there is, also where it asks for a snapshot."""
    asked = await ask("sync/", cookie=here.cookie, headers=here.knowing)
    await waiting()
    await in_thread(notify, user, "new")
    frame = await (await asked.wait_for_response()).json()
    assert (frame["reset"], len(frame["items"])) == (True, 3)


async def test_poll_timeout(ask, user, here):
    """304 for who knows what there is, else the frame; not before."""
    before = time.monotonic()
    asked = await ask(here.query, cookie=here.cookie, headers={**here.knowing, "Prefer": "wait=1"})
    await asked.wait_for_response()
    assert (asked.status, await asked.read_body()) == (304, b"")
    assert (asked.headers["etag"], asked.headers["preference-applied"]) == (here.etag, "wait=1")
    assert time.monotonic() - before >= 1
    asked = await ask(here.query, cookie=here.cookie, headers={"Prefer": "wait=1"})
    frame = await (await asked.wait_for_response()).json()
    assert (asked.status, frame["prev"], frame["seq"], frame["items"]) == (200, here.seq, here.seq, [])
    assert hub.current_hub().subscribers() == []


async def test_partial_sync_is_returned_immediately(ask, user, here):
    """Nobody waits with a rest in the server, and no frame begins elsewhere than was asked."""
    await in_thread(rows.notices, user, 300)
    query = f"sync/?epoch={here.epoch}&seq=0"
    part = await (await ask(query, cookie=here.cookie, headers=WAIT)).wait_for_response(5)
    assert (await part.json())["more"]
    tags = {"If-None-Match": part.headers["etag"], **WAIT}
    assert (await (await ask(query, cookie=here.cookie, headers=tags)).wait_for_response(5)).status == 304
    rest = await (
        await ask(query.replace("seq=0", "seq=200"), cookie=here.cookie, headers=tags)
    ).wait_for_response(5)
    assert [(await rest.json())[key] for key in ("prev", "seq", "more")] == [200, 302, False]


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
async def test_prefer_header(ask, here, prefer, applied):
    """A number of seconds; what is none is ignored."""
    asked = await ask(
        here.query,
        cookie=here.cookie,
        headers={"If-None-Match": here.etag, "Prefer": prefer.encode().decode("latin-1")},
    )
    await asked.wait_for_response()
    assert (asked.status, asked.headers.get("preference-applied")) == (304, applied)


async def test_wait_is_limited_to_20_seconds(ask, user, here):
    """Whatever was asked for."""
    asked = await ask(here.query, cookie=here.cookie, headers={**here.knowing, "Prefer": "wait=99999999999"})
    await waiting()
    await in_thread(notify, user, "new")
    assert (await asked.wait_for_response()).headers["preference-applied"] == "wait=20"


async def test_change_between_read_and_wait_is_not_missed(ask, user, here, monkeypatch):
    """It registers first and reads then: what is committed while it reads is an answer."""
    real, raced = changes.read_active_versions, []

    def race(users):
        found = real(users)
        if not raced:
            raced.append(notify(user, "in between"))
        return found

    monkeypatch.setattr(changes, "read_active_versions", race)
    asked = await ask(here.query, cookie=here.cookie, headers=here.knowing)
    frame = await (await asked.wait_for_response(5)).json()
    assert [item["title"] for item in frame["items"]] == ["in between"]


async def test_reads_for_other_clients_do_not_hide_a_change(ask, connect, user, here):
    """A poll and a socket of the same user each get every change of a job."""
    job = await in_thread(rows.job, user)
    socket = await connect(cookie=here.cookie)
    await socket.start()
    etag = (await (await ask(here.query, cookie=here.cookie)).wait_for_response()).headers["etag"]
    for version in range(2, 12):
        asked = await ask(
            here.query, cookie=here.cookie, headers={"Prefer": "wait=10", "If-None-Match": etag}
        )
        await in_thread(rows.change, job, progress_current=version)
        frame = await (await asked.wait_for_response(5)).json()
        assert frame["jobs"][0]["version"] == version
        etag = asked.headers["etag"]
        assert (await socket.receive("jobs"))["jobs"][0]["version"] == version


async def test_disconnected_client_leaves_the_hub(ask, here):
    """Its place is free, and nothing of it is kept."""
    for _ in range(6):
        asked = await ask(here.query, cookie=here.cookie, headers=here.knowing)
        await waiting()
        asked.disconnect()
        await asked.wait_until_closed()
        assert hub.current_hub().subscribers() == []


async def test_server_shutdown_ends_the_wait(ask, here):
    """As if it were over."""
    asked = await ask(here.query, cookie=here.cookie, headers=here.knowing)
    await waiting()
    await hub.close_current_hub()
    assert (await asked.wait_for_response()).status == 304


async def test_database_outage_during_the_wait(ask, user, here, monkeypatch):
    """What was never read is 503 when the wait is over."""
    monkeypatch.setattr(delivery, "RETRY_SECONDS", 0.05)

    def away(*args):
        raise RuntimeError("gone")

    monkeypatch.setattr(changes, "read_missed", away)
    asked = await ask(here.query, cookie=here.cookie, headers={**here.knowing, "Prefer": "wait=1"})
    assert (await asked.wait_for_response()).status == 503
    assert "retry-after" in asked.headers


async def test_poll_returns_the_same_frame_as_sync(ask, user, here):
    """Equal, byte for byte."""
    await in_thread(rows.job, user)
    plain = await (await ask(f"sync/?epoch={here.epoch}&seq=1", cookie=here.cookie)).wait_for_response()
    waited = await (
        await ask(f"sync/?epoch={here.epoch}&seq=1", cookie=here.cookie, headers=WAIT)
    ).wait_for_response()
    assert await plain.read_body() == await waited.read_body()
    assert plain.headers["etag"] == waited.headers["etag"]
    assert plain.headers["content-type"] == waited.headers["content-type"] == "application/json"


def test_etag_is_opaque_and_quoted():
    """A header's worth, whatever the position."""
    tag = reader.etag("ada", "e" * 50, 2**53, {timezone.now(): 1})
    assert len(tag) == 34 and tag[0] == tag[-1] == '"'
