"""The project `everything` under a WSGI server: notifications arrive by polling."""

import json

import pytest

from tests.hosts.test_everything import API, BROWSER, PROGRAM, until_done
from tests.support.follower import Follower

VIEWS = ["function", "class", "async"]


@pytest.mark.smoke
async def test_job_and_notification(wsgi):
    """A separate worker runs the job, polling sync/ gets each notification once, and the page has the bell."""
    async with wsgi.signed_in_session() as session:
        follower = Follower()
        follower.receive(await session.json(f"{API}sync/"))
        for view in VIEWS:
            status, headers, _ = await session.post(f"/app/en/export/{view}/2026/", **PROGRAM)
            assert status == 202
            await until_done(session, headers["Location"])
            status, headers, _ = await session.post(f"/app/en/export/{view}/2026/", **BROWSER)
            assert status == 303
            await until_done(session, headers["Location"].replace("/jobs/", "/api/jobs/"))
        frame = await session.json(f"{API}sync/?epoch={follower.epoch}&seq={follower.cursor}")
        assert not frame["reset"] and not frame["more"] and not follower.receive(frame)
        assert len(follower.notifications) == 2 * len(VIEWS) == follower.unread
        _, headers, html = await session.get("/app/en/notifications/")
        assert f'data-unread="{follower.unread}"' in html
        for notification in follower.notifications.values():
            assert (await session.get(notification["url"]))[0] == 200


async def test_requests_do_not_wait(wsgi):
    """Each waiting request would block a thread, so events/ is refused and `Prefer: wait` is ignored."""
    async with wsgi.signed_in_session() as session:
        status, headers, text = await session.get(f"{API}events/")
        assert (status, headers["Content-Type"]) == (501, "application/problem+json")
        assert "poll sync/ instead." in json.loads(text)["detail"]
        status, headers, text = await session.get(f"{API}sync/", Prefer="wait=20")
        assert status == 200 and "Preference-Applied" not in headers
        status, headers, _ = await session.get(f"{API}sync/", Prefer="wait=20", If_None_Match=headers["ETag"])
        assert status == 304 and "Preference-Applied" not in headers
        for view in VIEWS:
            status, headers, _ = await session.post(
                f"/app/en/export/{view}/2004/", Prefer="wait=20", **PROGRAM
            )
            assert status == 202 and "Preference-Applied" not in headers


async def test_signed_out(wsgi):
    async with wsgi.anonymous_session() as session:
        status, headers, _ = await session.get(f"{API}sync/")
        assert (status, headers["Content-Type"]) == (401, "application/problem+json")
        status, headers, _ = await session.get("/app/en/notifications/")
        assert (status, headers["Location"]) == (302, "/app/en/sign-in/?next=/app/en/notifications/")
