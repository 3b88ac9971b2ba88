"""A project that combines every difficult setting, under ASGI servers: no notification is lost, and links work.

It has ATOMIC_REQUESTS, LoginRequiredMiddleware, languages in its paths, a user model with other keys, a script name,
hashed static files, a nonce for each page, a database of the app's own and a base_site.html, all with default options.
"""

import asyncio
import json
import re
import secrets

import aiohttp
import pytest

from tests.support.follower import Follower
from tests.support.waiting import wait_until

pytestmark = [
    pytest.mark.nightly_names("*[daphne-uuid*"),
    pytest.mark.nightly_names("*[uvicorn-string*", on="old_django"),
]

API = "/app/en/notifications/api/"
PROGRAM, BROWSER = {"Accept": "application/json"}, {"Accept": "text/html"}
#: Links in items have the project's default language, not that of a request: a worker has no request.
LINKS = "/app/de/notifications/"
VIEWS = ["function", "class", "async"]


async def receive_until(socket, follower, until):
    """Receive frames until the condition is met."""
    async with asyncio.timeout(30):
        while not until():
            frame = json.loads((await socket.receive()).data)
            assert frame["op"] != "bye", frame
            for response in follower.receive(frame):
                await socket.send_json(response)


async def start_follower(socket):
    """Send hello and return a follower that has received the snapshot."""
    follower = Follower()
    await socket.send_json(follower.hello())
    await receive_until(socket, follower, lambda: follower.cursor is not None)
    return follower


@pytest.mark.parametrize("view", VIEWS)
async def test_job_and_notification(asgi, view):
    """202 with working links. The job runs in the server, and the socket receives the notification once."""
    async with asgi.signed_in_session() as session, session.socket() as socket:
        follower = await start_follower(socket)
        status, headers, text = await session.post(f"/app/en/export/{view}/2026/", **PROGRAM)
        job = json.loads(text)
        assert (status, headers["Retry-After"]) == (202, "1")
        assert headers["Location"] == job["links"]["self"] == f"{LINKS}api/jobs/{job['id']}/"
        assert job["title"] == ("Export 2026 at once" if view == "async" else "Export 2026")
        await receive_until(socket, follower, lambda: follower.notifications)
        [data] = follower.notifications.values()
        assert (data["job"], data["level"]) == (job["id"], "success")
        assert data["url"] == f"{LINKS}jobs/{job['id']}/"

        done = await session.json(headers["Location"])
        assert done["state"] == "succeeded" and done == follower.jobs[job["id"]]
        assert await session.json(done["links"]["result"]) == {"year": 2026}
        listed = await session.json(f"{API}notifications/")
        assert listed["items"] == [data] and (listed["seq"], listed["unread"]) == (follower.cursor, 1)

        second = Follower(follower.epoch, follower.cursor)
        async with session.socket() as other:
            await other.send_json(second.hello())
            await receive_until(other, second, lambda: second.unread is not None)
        assert not second.notifications and second.cursor == follower.cursor


@pytest.mark.parametrize("view", VIEWS)
async def test_browser_is_redirected_to_the_job(asgi, view):
    """303 to its page, in the language of the request. The inbox links to it in its language."""
    async with asgi.signed_in_session() as session:
        status, headers, _ = await session.post(f"/app/en/export/{view}/1999/", **BROWSER)
        assert status == 303 and headers["Location"].startswith("/app/en/notifications/jobs/")
        page = headers["Location"]
        await until_done(session, page.replace("/jobs/", "/api/jobs/"))
        status, _, html = await session.get(page)
        assert status == 200 and "Succeeded" in html and "1999" in html
        status, headers, html = await session.get("/app/en/notifications/")
        assert status == 200 and f'href="{page}"' in html and '<a href="/app/">' in html
        assert re.search(r"<script[^>]* data-unread=\"1\"", html)
        assert_nonces_match_the_header(headers, html)
        status, _, html = await session.get(page.replace("/en/", "/de/"))
        assert status == 200 and '<html lang="de"' in html


async def test_bell_is_on_every_page(asgi):
    """On pages of the project and of its admin. URLs have the script name, and names of static files their hash."""
    async with asgi.signed_in_session("boss") as boss:
        for page in ("", "notifications/", "admin/"):
            status, headers, html = await boss.get(f"/app/en/{page}")
            assert status == 200 and "<notifications-bell>" in html, page
            assert 'data-socket="/app/ws/notifications/?' in html and f'data-sync="{API}sync/?' in html
            assert_nonces_match_the_header(headers, html)
            modules = json.loads(re.search(r'id="notifications-data"[^>]*>([^<]+)<', html)[1])["modules"]
            entry = re.search(r'<script type="module" src="([^"]+)"', html)[1]
            for url in (entry, *modules.values()):
                assert re.fullmatch(r"/app/static/notifications/bundle/\w+\.[0-9a-f]{12}\.js", url)
                assert (await boss.get(url))[0] == 200
        assert "The office" in html


async def test_admin_shows_jobs_and_notifications_with_their_users(asgi):
    """The users are in another database."""
    async with asgi.signed_in_session() as session, asgi.signed_in_session("boss") as boss:
        _, headers, text = await session.post("/app/en/export/function/2001/", **PROGRAM)
        await until_done(session, headers["Location"])
        job, note = json.loads(text)["id"], (await session.json(f"{API}notifications/"))["items"][0]["id"]
        for kind, id in (("job", job), ("notification", note)):
            status, _, html = await boss.get(f"/app/en/admin/notifications/{kind}/")
            assert status == 200 and session.name in html and id in html
            status, _, html = await boss.get(f"/app/en/admin/notifications/{kind}/{id}/change/")
            assert status == 200 and session.name in html and "2001" in html
        form = {"action": "retry_jobs", "_selected_action": job}
        status, _, _ = await boss.post("/app/en/admin/notifications/job/", form)
        assert status == 302


async def test_long_poll_and_events(asgi):
    """Both work below the script name and the language."""
    async with asgi.signed_in_session() as session:
        start = await session.json(f"{API}sync/")
        position = f"epoch={start['epoch']}&seq={start['seq']}"
        async with session.http.get(f"{API}events/?{position}") as response:
            assert (response.status, response.content_type) == (200, "text/event-stream")
            waiting = asyncio.create_task(session.get(f"{API}sync/?{position}", Prefer="wait=20"))
            await session.post("/app/en/export/function/2002/", **PROGRAM)
            status, headers, _ = await waiting
            assert (status, headers["Preference-Applied"]) == (200, "wait=20")
            async with asyncio.timeout(30):
                async for line in response.content:
                    if line.startswith(b"data: ") and b'"kind":"notification"' in line:
                        break
        assert (await session.json(f"{API}sync/?{position}"))["unread"] == 1


async def test_prefer(asgi):
    """`Prefer: wait` works in views without a transaction, and idempotency keys work in all views."""
    async with asgi.signed_in_session() as session:
        for view, status in (("async", 200), ("function", 202)):
            data = {**PROGRAM, "Prefer": "wait=20", "Idempotency_Key": view}
            actual_status, headers, text = await session.post(f"/app/en/export/{view}/2004/", **data)
            assert actual_status == status, text
            assert headers.get("Preference-Applied") == ("wait=20" if status == 200 else None)
            link = headers["Content-Location" if status == 200 else "Location"]
            assert link == json.loads(text)["links"]["self"] == f"{LINKS}api/jobs/{json.loads(text)['id']}/"
            _, replay_headers, replay = await session.post(f"/app/en/export/{view}/2004/", **data)
            assert (
                replay_headers["Idempotency-Replayed"] == "true"
                and json.loads(replay)["id"] == json.loads(text)["id"]
            )
        count = "SELECT count(*) FROM everything_export WHERE year = 2004"
        assert asgi.rows("default", count) == [(1,)]


async def test_openapi_document(asgi):
    """It is public, and its server URL has the script name and the language."""
    async with asgi.anonymous_session() as anonymous:
        assert (await anonymous.json(f"{API}openapi.json"))["servers"] == [{"url": API.rstrip("/")}]


async def test_signed_out(asgi):
    """The API returns 401, before the CSRF check. Pages redirect to the project's login."""
    async with asgi.anonymous_session() as anonymous:
        unknown_id = "00000000-0000-0000-0000-000000000000"
        for path in ("jobs/", f"jobs/{unknown_id}/", f"jobs/{unknown_id}/result/", "notifications/", "sync/"):
            status, headers, _ = await anonymous.get(API + path)
            assert (status, headers["Content-Type"]) == (401, "application/problem+json"), path
        for path in (f"jobs/{unknown_id}/cancel/", f"jobs/{unknown_id}/retry/", "notifications/read/"):
            status, headers, _ = await anonymous.post(API + path)
            assert (status, headers["Content-Type"]) == (401, "application/problem+json"), path
        assert (await anonymous.get(f"{API}events/"))[0] == 204
        for page in ("", f"jobs/{unknown_id}/"):
            status, headers, _ = await anonymous.get(f"/app/en/notifications/{page}")
            assert (status, headers["Location"]) == (
                302,
                f"/app/en/sign-in/?next=/app/en/notifications/{page}",
            )
        async with anonymous.socket() as socket:
            assert json.loads((await socket.receive()).data)["code"] == 4401


async def test_sign_out_closes_the_socket(asgi):
    async with asgi.signed_in_session() as session, session.socket() as socket:
        await start_follower(socket)
        assert (await session.post("/app/en/sign-out/"))[0] == 302
        async with asyncio.timeout(30):
            while True:
                message = await socket.receive()
                if message.type in (aiohttp.WSMsgType.CLOSE, aiohttp.WSMsgType.CLOSED):
                    break
        assert socket.close_code == 4401


@pytest.mark.parametrize("view", ["failing", "broken"])
async def test_failed_request_stores_nothing(asgi, view):
    """The job and the row in the other database are rolled back with the transaction."""
    async with asgi.signed_in_session() as session:
        status, _, _ = await session.post(f"/app/en/export/{view}/1234/", **PROGRAM)
        assert status == 500
        assert (await session.json(f"{API}jobs/"))["items"] == []
        assert not asgi.rows("default", "SELECT 1 FROM everything_export WHERE year = 1234")


async def test_rows_of_a_deleted_user_are_deleted(asgi):
    """They are deleted after the commit of the project's transaction, which is in another database."""
    async with asgi.signed_in_session() as session:
        _, headers, _ = await session.post("/app/en/export/function/2003/", **PROGRAM)
        await until_done(session, headers["Location"])
        [(key,)] = asgi.rows("default", "SELECT id FROM everything_person WHERE username = ?", session.name)
        rows = "SELECT 1 FROM notifications_job WHERE user_id = ?"
        assert (await session.post("/app/en/delete-me/rolled-back/"))[0] == 204
        assert asgi.rows("app", rows, key)
        assert (await session.post("/app/en/delete-me/"))[0] == 200
        await asyncio.to_thread(wait_until, lambda: not asgi.rows("app", rows, key))


def test_rows_are_in_the_database_of_the_app(asgi):
    """System checks report no issues."""
    tables = "SELECT name FROM sqlite_master WHERE type = 'table' AND name LIKE 'notifications_%'"
    assert not asgi.rows("default", tables)
    assert len(asgi.rows("app", tables)) > 5
    asgi.manage("check", "--database", "default", "--database", "app", "--fail-level", "WARNING")
    assert "No changes" in asgi.manage("makemigrations", "notifications", "--check", "--dry-run")


async def test_broadcast_from_the_admin(asgi):
    """It is sent to each user, who are in another database, once, and withdrawn."""
    pages = "/app/en/admin/notifications_broadcasts/broadcast"
    title = f"To all, {secrets.token_hex(4)}"
    form = {"title": title, "level": "info", "audience_kind": "everybody", "_send": "1"}

    def state():
        broadcasts = "SELECT state, sent, withdrawn FROM notifications_broadcasts_broadcast"
        [row] = asgi.rows("app", f"{broadcasts} WHERE title = '{title}'")
        return row

    [(users,)] = asgi.rows("default", "SELECT count(*) FROM everything_person WHERE is_active")
    async with asgi.signed_in_session("boss") as boss:
        await boss.get(f"{pages}/add/")
        status, headers, html = await boss.post(f"{pages}/add/", form)
        assert status == 302, html
        await asyncio.to_thread(wait_until, lambda: state() == ("sent", users, 0), timeout=60)
        status, _, html = await boss.get(headers["Location"])
        assert status == 200 and "boss" in html
        status, _, html = await boss.post(headers["Location"].replace("change", "withdraw"))
        assert status == 302, html
        await asyncio.to_thread(wait_until, lambda: state() == ("withdrawn", users, users), timeout=60)
    sent = "SELECT count(DISTINCT user_id), count(archived_at) FROM notifications_notification"
    assert asgi.rows("app", f"{sent} WHERE title = '{title}'") == [(users, users)]


async def until_done(session, path):
    """Return the job when it is done. Each request waits for it, at most a second."""
    async with asyncio.timeout(30):
        job = await session.json(path, Prefer="wait=20")
        while not job["done"]:
            await asyncio.sleep(0.05)
            job = await session.json(path, Prefer="wait=20")
    return job


def assert_nonces_match_the_header(headers, html):
    [nonce] = set(re.findall(r"'nonce-([^']+)'", headers["Content-Security-Policy"]))
    loaded = re.findall(r"<(?:script|link)[^>]*/static/notifications/[^>]*>", html)
    assert loaded and all(f'nonce="{nonce}"' in tag for tag in loaded), (nonce, loaded)
