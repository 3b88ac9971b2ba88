"""Graceful shutdown of a real server: arriving and waiting requests get a response, and the process exits."""

import asyncio

import pytest

from tests.realtime.servers.test_servers import (
    EVENTS,
    SYNC,
    browser_session,  # noqa: F401 (a fixture)
    open_socket,
    receive_frame,
    served,  # noqa: F401 (a fixture)
    session_key,  # noqa: F401 (a fixture)
    start,
)

pytestmark = pytest.mark.nightly_names("*[uvicorn]")


class Unfinished:
    """A request of demo without its last byte: the server has accepted it, but has not called the view."""

    async def send(self, site, session, path, **headers):
        self.reader, self.writer = await asyncio.open_connection("127.0.0.1", site.port)
        headers = {"Cookie": f"sessionid={session}", "Content-Length": "1", "Connection": "close", **headers}
        lines = [f"GET {path} HTTP/1.1", f"Host: 127.0.0.1:{site.port}"]
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
        self.writer.write("\r\n".join([*lines, "", ""]).encode())
        return self

    def finish(self):
        self.writer.write(b"x")

    async def read_response(self):
        """Return the whole response, when the server has closed the connection."""
        text = (await asyncio.wait_for(self.reader.read(), 40)).decode()
        self.writer.close()
        return text


async def test_requests_during_shutdown_are_refused(browser_session, session_key, served):  # noqa: F811
    """Requests that complete during shutdown are answered: events with a bye, polls with 503. The process exits."""
    async with (
        # It does not answer the close frame, so that Daphne's shutdown takes long enough for the requests.
        browser_session.ws_connect(
            f"{served.url}/ws/notifications/", headers={"Origin": served.url}, autoclose=False
        ) as silent,
        open_socket(browser_session, served) as socket,
    ):
        await start(silent)
        await start(socket)
        known = (await browser_session.get(f"{served.url}{SYNC}")).headers["ETag"]
        events = await Unfinished().send(served, session_key, EVENTS)
        poll = await Unfinished().send(served, session_key, SYNC, Prefer="wait=20", If_None_Match=known)
        served.web.popen.terminate()
        await receive_frame(socket, "bye")
        events.finish()
        poll.finish()
        text = await events.read_response()
        assert "event: bye" in text and '"code":4000' in text, text
        text = await poll.read_response()
        assert " 503 " in text.partition("\r\n")[0] and "The server is stopping" in text, text
        await asyncio.to_thread(served.web.popen.wait, 60)


async def test_waiting_sync_views_are_answered(browser_session, served):  # noqa: F811
    """At shutdown a waiting sync view responds 202 with the job, also on Daphne, which cancels all requests."""
    token = "t" * 32
    headers = {"Prefer": "wait=20", "X-CSRFToken": token, "Cookie": f"csrftoken={token}"}
    report = {"urls": [f"{served.url}/upstream/ok"]}

    async def post_report():
        async with browser_session.post(f"{served.url}/reports/", json=report, headers=headers) as response:
            return response.status, await response.json(), response.headers.get("Preference-Applied")

    # One request more than may wait: it is answered immediately, and then the other four wait.
    requests = {asyncio.create_task(post_report()) for _ in range(5)}
    answered, waiting = await asyncio.wait(requests, return_when=asyncio.FIRST_COMPLETED)
    assert [task.result()[0] for task in answered] == [202]
    assert len(waiting) == 4
    served.web.popen.terminate()
    for task in waiting:
        status, job, applied = await task
        assert (status, job["state"], applied) == (202, "queued", "wait=20")
    await asyncio.to_thread(served.web.popen.wait, 60)
