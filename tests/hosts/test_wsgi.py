"""The same host under a WSGI server: slower, and nothing is missing."""

import json

from tests.hosts.test_everything import API, PERSON, PROGRAM, until_done
from tests.support.follower import Follower

VIEWS = ["function", "class", "async"]


async def test_asked_run_and_told(wsgi):
    """A worker of its own runs the job, whoever asks sync/ now and then is told once, and the page has the bell."""
    async with wsgi.person() as ada:
        follower = Follower()
        follower.receive(await ada.json(f"{API}sync/"))
        for view in VIEWS:
            status, headers, _ = await ada.post(f"/app/en/ask/{view}/2026/", **PROGRAM)
            assert status == 202
            await until_done(ada, headers["Location"])
            status, headers, _ = await ada.post(f"/app/en/ask/{view}/2026/", **PERSON)
            assert status == 303
            await until_done(ada, headers["Location"].replace("/jobs/", "/api/jobs/"))
        frame = await ada.json(f"{API}sync/?epoch={follower.epoch}&seq={follower.cursor}")
        assert not frame["reset"] and not frame["more"] and not follower.receive(frame)
        assert len(follower.notifications) == 2 * len(VIEWS) == follower.unread
        _, headers, html = await ada.get("/app/en/notifications/")
        assert f'data-unread="{follower.unread}"' in html
        for address in follower.notifications.values():
            assert (await ada.get(address["url"]))[0] == 200


async def test_nobody_waits(wsgi):
    """Each waiting request would hold a thread: events are refused, and wait counts as none."""
    async with wsgi.person() as ada:
        status, headers, text = await ada.get(f"{API}events/")
        assert (status, headers["Content-Type"]) == (501, "application/problem+json")
        assert "poll sync/ instead." in json.loads(text)["detail"]
        status, headers, text = await ada.get(f"{API}sync/", Prefer="wait=20")
        assert status == 200 and "Preference-Applied" not in headers
        status, again, _ = await ada.get(f"{API}sync/", Prefer="wait=20", If_None_Match=headers["ETag"])
        assert status == 304 and "Preference-Applied" not in again
        for view in VIEWS:
            status, headers, _ = await ada.post(f"/app/en/ask/{view}/2004/", Prefer="wait=20", **PROGRAM)
            assert status == 202 and "Preference-Applied" not in headers


async def test_who_is_not_signed_in(wsgi):
    async with wsgi.visitor() as nobody:
        status, headers, _ = await nobody.get(f"{API}sync/")
        assert (status, headers["Content-Type"]) == (401, "application/problem+json")
        status, headers, _ = await nobody.get("/app/en/notifications/")
        assert (status, headers["Location"]) == (302, "/app/en/sign-in/?next=/app/en/notifications/")
