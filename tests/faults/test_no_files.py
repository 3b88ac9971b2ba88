"""A server and a worker may open no more files for a while: no connection, no socket. With files again all goes on."""

import asyncio
import re
import resource

import pytest

from tests.faults.support.clients import EventSource, LongPoll, WebSocketClient
from tests.faults.support.deployment import SERVERS
from tests.faults.support.engine import PATIENCE, ROUNDS, Engine
from tests.realtime.servers.test_servers import SESSION
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
#: How servers, Python and the databases say it.
NO_FILE = re.compile("Too many open files|unable to open database file|out of system resource|EMFILE")


@pytest.fixture
def engine(site):
    engine = Engine(site, "files", lease=20)
    yield engine
    engine.close()


@pytest.mark.parametrize("server", SERVERS if ROUNDS else SERVERS[1:], ids=lambda server: server[0])
@pytest.mark.timeout(240 + 20 * ROUNDS)
async def test_no_file_can_be_opened_for_a_while(engine, server):
    """Whoever was connected is, or comes back, with all that was told; each job ends once."""
    site = engine.site
    name, *arguments = server
    arguments = [argument.format(port=site.port) for argument in arguments]
    web = site.start("web", "-m", name, *arguments, "asyncsite.asgi:application")
    worker = site.start_worker()
    for task in ("work", "work_sync"):  # imported, which takes files
        await asyncio.to_thread(engine.ask, task, args=[0])
    await asyncio.to_thread(engine.until_done)
    await asyncio.to_thread(web.wait_until, lambda: is_listening(site.port), what="the server to listen")
    session = (await asyncio.to_thread(site.python, SESSION.format(name="demo"))).split()[-1]
    watchers = [
        kind("demo", session, [site.url], engine.chance) for kind in (WebSocketClient, EventSource, LongPoll)
    ]
    following = [asyncio.create_task(watcher.run()) for watcher in watchers]
    try:
        for number in range(ROUNDS // 10 or 1):
            await until(lambda: all(one.cursor is not None for one in watchers), "the clients to be there")
            said = len(web.output)
            limits = [limit_files(process.pid) for process in (web, worker)]
            for task in ("work", "work_sync"):
                await asyncio.to_thread(engine.ask, task, 10, args=[0.05])
            await asyncio.to_thread(site.python, NOTIFY.format("while no file can be opened"))
            await until(lambda said=said: NO_FILE.search(web.output[said:]), "the server to be without files")
            for process, limit in zip((web, worker), limits, strict=True):
                resource.prlimit(process.pid, resource.RLIMIT_NOFILE, limit)
            await asyncio.to_thread(site.python, NOTIFY.format("with files again"))
            await asyncio.to_thread(engine.until_done)
            ((head, unread),) = site.rows(HEAD)
            await until(
                lambda head=head: all(one.cursor == head for one in watchers), "all to have been told all"
            )
            assert {one.unread for one in watchers} == {unread}
            print(f"{number}: {len(NO_FILE.findall(web.output[said:]))} times without a file")
    finally:
        for task in following:
            task.cancel()
        await asyncio.gather(*following, return_exceptions=True)
    # One that had to open a file itself has failed.
    jobs = engine.jobs()
    assert {job.state for job in jobs} <= {"succeeded", "failed"} and {job.attempt for job in jobs} == {1}
    told = [job for _, job, _ in engine.notifications() if job]
    assert sorted(told) == sorted(job.id for job in jobs if job.user)
    engine.assert_no_hole()
    assert web.running and worker.running
    # Where Python itself could not import what it needed for the answer.
    ignored = "was answered 500"
    assert not [wrong for one in watchers for wrong in one.failures if wrong != ignored]


def limit_files(pid):
    """Let a process open no file more; return the limit as it was."""
    soft, hard = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (3, hard))
    return soft, hard


async def until(condition, what):
    await asyncio.to_thread(wait_until, condition, timeout=PATIENCE, what=what)
