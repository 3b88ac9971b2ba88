"""A server and a worker cannot open files or connections for a while. Afterwards both continue."""

import asyncio
import re
import resource

import pytest

from tests.realtime.servers.test_servers import SESSION
from tests.support.faults.clients import EventSource, LongPoll, WebSocketClient
from tests.support.faults.engine import ROUNDS, TIMEOUT_SECONDS, Engine
from tests.support.network import is_listening
from tests.support.waiting import wait_until

NOTIFY = """
from django.contrib.auth import get_user_model
from notifications.api import notify
notify(get_user_model().objects.get(username="demo"), {!r})
"""
HEAD = """
SELECT head, unread FROM notifications_stream
WHERE user_id = (SELECT id FROM auth_user WHERE username = 'demo')
"""
#: The messages of servers, Python and the databases.
NO_FILE = re.compile(
    "Too many open files|unable to open database file|out of system resource|EMFILE|connection is bad: no error"
)


@pytest.fixture
def engine(site):
    engine = Engine(site, "files", lease=20)
    yield engine
    engine.close()


@pytest.mark.parametrize("server", ["daphne", "uvicorn"] if ROUNDS else ["uvicorn"])
@pytest.mark.timeout(240 + 20 * ROUNDS)
async def test_no_files(engine, server):
    """Connected clients receive all changes, on the same or a new connection, and each job ends once."""
    site = engine.site
    web = site.launch_web(server)
    worker = site.start_worker()
    for task in ("work", "work_sync"):  # Imports their modules now, because an import opens files.
        await asyncio.to_thread(engine.enqueue, task, args=[0])
    await asyncio.to_thread(engine.wait_until_done)
    await asyncio.to_thread(web.wait_until, lambda: is_listening(site.port), what="the server to listen")
    session = (await asyncio.to_thread(site.python, SESSION.format(name="demo"))).split()[-1]
    clients = [
        kind("demo", session, [site.url], engine.rng) for kind in (WebSocketClient, EventSource, LongPoll)
    ]
    following = [asyncio.create_task(client.run()) for client in clients]
    try:
        for number in range(ROUNDS // 10 or 1):
            await until(
                lambda: all(client.cursor is not None for client in clients), "the clients to have a snapshot"
            )
            log_start = len(web.output)
            limits = [limit_files(process.pid) for process in (web, worker)]
            for task in ("work", "work_sync"):
                await asyncio.to_thread(engine.enqueue, task, 10, args=[0.05])
            await asyncio.to_thread(site.python, NOTIFY.format("without files"))
            await until(
                lambda log_start=log_start: NO_FILE.search(web.output[log_start:]),
                "the server to be without files",
            )
            for process, limit in zip((web, worker), limits, strict=True):
                resource.prlimit(process.pid, resource.RLIMIT_NOFILE, limit)
            await asyncio.to_thread(site.python, NOTIFY.format("with files again"))
            await asyncio.to_thread(engine.wait_until_done)
            ((head, unread),) = site.rows(HEAD)
            await until(
                lambda head=head: all(client.cursor == head for client in clients),
                "all clients to be up to date",
            )
            assert {client.unread for client in clients} == {unread}
            print(f"{number}: {len(NO_FILE.findall(web.output[log_start:]))} times without files")
    finally:
        for task in following:
            task.cancel()
        await asyncio.gather(*following, return_exceptions=True)
    # A job that had to open a file itself has failed.
    jobs = engine.jobs()
    assert {job.state for job in jobs} <= {"succeeded", "failed"} and {job.attempt for job in jobs} == {1}
    notified = [job for _, job, _ in engine.notifications() if job]
    assert sorted(notified) == sorted(job.id for job in jobs if job.user)
    engine.assert_no_gap()
    assert web.running and worker.running
    assert not [failure for client in clients for failure in client.failures]


def limit_files(pid):
    """Prevent a process from opening files; return its previous limit."""
    soft, hard = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (3, hard))
    return soft, hard


async def until(condition, what):
    await asyncio.to_thread(wait_until, condition, timeout=TIMEOUT_SECONDS, what=what)
