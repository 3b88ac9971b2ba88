"""Prefer: an answer that waits until the job is done, and what it holds meanwhile."""

import threading

import pytest
from asgiref.sync import sync_to_async
from django.db import OperationalError, connection, connections, transaction
from django.test import RequestFactory

from notifications.api import accepted
from notifications.asgi import get_asgi_application
from notifications.http import acceptance, job_waiting, wait_slots
from notifications.jobs import awaited
from notifications.models import Job
from notifications.realtime import hub
from notifications.testing import run_jobs
from tests.http import views
from tests.http.conftest import BROWSER
from tests.realtime import rows
from tests.realtime.conftest import in_thread, sign_in, until
from tests.support.waiting import wait_until

WAYS = ["/plain/", "/async/"]
LONG = {"Prefer": "wait=20"}


@pytest.fixture(autouse=True)
def nobody_waits(monkeypatch):
    """Whatever a test did, no seat is taken and nobody waits; nor is there somebody left who looks for them."""
    monkeypatch.setattr(awaited, "IDLE_SECONDS", 0.02)
    yield
    assert not awaited.waits._awaited and not any(wait_slots._slots.values())
    lookers = [thread for thread in threading.enumerate() if thread.name == "notifications-join"]
    wait_until(lambda: not any(thread.is_alive() for thread in lookers), what="whoever looks for jobs to end")


@pytest.fixture
def rings_only(monkeypatch):
    """No look at jobs but the ones that a ring asks for."""
    monkeypatch.setattr(awaited, "FIRST_POLL_SECONDS", 1_000.0)
    monkeypatch.setattr(awaited, "MAX_POLL_SECONDS", 1_000.0)


@pytest.fixture
async def post(asgi, user):
    """post(path, **headers) sends a request of Ada's by ASGI."""
    cookie = await in_thread(sign_in, user)
    application = get_asgi_application()

    async def send(path, **headers):
        return await asgi(path, cookie=cookie, method="POST", below="", headers=headers, app=application)

    return send


@pytest.fixture
async def get(asgi, user):
    """get(job, **headers) asks for a job of Ada's by ASGI."""
    cookie = await in_thread(sign_in, user)

    async def send(job, **headers):
        return await asgi(f"jobs/{job.pk}/", cookie=cookie, headers=headers)

    return send


def how_many_wait():
    return sum(len(one.futures) for one in awaited.waits._awaited.values())


async def one_waits(count=1):
    await until(lambda: how_many_wait() == count)


def is_ours(thread):
    return thread.name.startswith("notifications-")


def assert_done(answer, job):
    """200 as the contract says it."""
    assert answer.status == 200
    assert answer.headers["content-location"] == f"/notifications/api/jobs/{job['id']}/"
    assert (job["state"], job["done"]) == ("succeeded", True) and job["seq"] > 0
    assert answer.headers["etag"] and answer.headers["cache-control"] == "no-store"
    assert "location" not in answer.headers and "retry-after" not in answer.headers


def assert_accepted(answer, job):
    """202, and nothing that would say it is done."""
    assert answer.status == 202
    assert answer.headers["location"] == f"/notifications/api/jobs/{job['id']}/"
    assert answer.headers["retry-after"] == "1" and "content-location" not in answer.headers


@pytest.mark.parametrize("path", WAYS)
class TestAsking:
    async def test_done_in_time(self, path, post, rings_only):
        """200 with the job, as soon as it is done: it is the doorbell that tells."""
        answer = await post(path, **LONG)
        await one_waits()
        await in_thread(run_jobs)
        await answer.answered()
        assert_done(answer, await answer.json())
        assert answer.headers["preference-applied"] == "wait=20"

    async def test_not_in_time(self, path, post):
        """202 after the time is over, with the job as it is then."""
        answer = await post(path, Prefer="wait=1")
        await one_waits()
        await in_thread(Job.objects.update, progress_current=7)
        await answer.answered()
        job = await answer.json()
        assert_accepted(answer, job)
        assert job["progress"]["current"] == 7

    async def test_done_already(self, path, post):
        """A replay answers at once then."""
        first = await (await post(path, **{"Idempotency-Key": "k"})).answered()
        await in_thread(run_jobs)
        again = await (await post(path, **{"Idempotency-Key": "k"}, **LONG)).answered()
        job = await again.json()
        assert_done(again, job)
        assert job["id"] == (await first.json())["id"]
        assert again.headers["idempotency-replayed"] == "true"

    async def test_a_replay_waits_too(self, path, post):
        await (await post(path, **{"Idempotency-Key": "k"})).answered()
        again = await post(path, **{"Idempotency-Key": "k"}, **LONG)
        await one_waits()
        await in_thread(run_jobs)
        await again.answered()
        assert_done(again, await again.json())
        assert again.headers["idempotency-replayed"] == "true"

    @pytest.mark.parametrize("said", ["respond-async", "respond-async, wait=20", "wait=20,Respond-Async;x=y"])
    async def test_not_at_all(self, said, path, post):
        """respond-async: 202 at once, whatever else is said."""
        answer = await (await post(path, Prefer=said)).answered()
        assert_accepted(answer, await answer.json())
        assert answer.headers["preference-applied"] == "respond-async"

    async def test_a_browser_does_not_wait(self, path, post):
        """It is sent to a page that shows how far the job is."""
        answer = await (await post(path, **LONG, **BROWSER)).answered()
        assert (answer.status, "preference-applied" in answer.headers) == (303, False)

    async def test_beyond_four_waiting_requests(self, path, post, user):
        """The fifth is accepted, and does not wait."""
        seats = [wait_slots.acquire_wait_slot(user.pk) for _ in range(wait_slots.MAX_WAITING_REQUESTS)]
        answer = await (await post(path, **LONG)).answered()
        assert_accepted(answer, await answer.json())
        assert "preference-applied" not in answer.headers
        seats.pop().release()
        answer = await post(path, **LONG)
        await one_waits()
        assert wait_slots.acquire_wait_slot(user.pk) is None
        await in_thread(run_jobs)
        assert (await answer.answered()).status == 200
        for seat in seats:
            seat.release()

    async def test_a_client_that_goes(self, path, post, user):
        """Its thread and its seat are free at once, and the job goes on."""
        answer = await post(path, **LONG)
        await one_waits()
        answer.hang_up()
        await answer.is_over()
        assert not wait_slots._slots and not awaited.waits._awaited
        assert answer.outgoing.empty()
        await in_thread(run_jobs)
        assert (await in_thread(Job.objects.get)).done

    async def test_the_database_goes_while_it_waits(self, path, post, monkeypatch):
        """The job is accepted, whatever cannot be seen now: never 503."""
        answer = await post(path, **LONG)
        await one_waits()
        real = acceptance.database

        def away():
            raise OperationalError("gone")

        monkeypatch.setattr(acceptance, "database", away)
        await in_thread(run_jobs)
        await answer.answered()
        monkeypatch.setattr(acceptance, "database", real)
        assert_accepted(answer, await answer.json())

    async def test_a_job_that_is_deleted_meanwhile(self, path, post, user):
        """It was accepted."""
        answer = await post(path, **LONG)
        await one_waits()
        job = await in_thread(Job.objects.get)
        await in_thread(job.delete)
        await in_thread(rows.job, user)  # rings
        assert_accepted(await answer.answered(), await answer.json())

    async def test_it_holds_no_connection(self, path, post, monkeypatch):
        """Closed in the thread that opened it, before the first wait; from an async view, that thread ends too."""
        threads = []

        def ask():
            threads.append((threading.current_thread(), connections["default"]))
            return views.double.enqueue()

        monkeypatch.setattr(views, "ask", ask)
        answer = await post(path, **LONG)
        await one_waits()
        [(thread, used)] = threads
        assert used.connection is None
        if path == "/async/":
            await until(lambda: not thread.is_alive())
        await in_thread(run_jobs)
        assert (await answer.answered()).status == 200


@pytest.mark.parametrize("how", [*WAYS, "the job"])
async def test_a_server_that_stops_waits_for_nobody(how, post, get, user):
    """Every request that waits is answered with the job as it is, before the hub is closed."""
    if how in WAYS:
        answer = await post(how, **LONG)
    else:
        answer = await get(await in_thread(rows.job, user), **LONG)
    await one_waits()
    await hub.close_current_hub()
    # Daphne cancels all requests then.
    assert not answer.outgoing.empty()
    assert (await answer.answered()).status == (202 if how in WAYS else 200)
    assert (await answer.json())["done"] is False


async def test_asking_from_an_async_view_takes_one_thread_hop(post, monkeypatch):
    """What the view adds to what Django does for any request."""
    hops = []

    def counted(work, *args, **kwargs):
        hops.append(work)
        return sync_to_async(work, *args, **kwargs)

    monkeypatch.setattr(acceptance, "sync_to_async", counted)
    assert (await (await post("/async/")).answered()).status == 202
    assert hops == [acceptance._enqueue_or_refuse]


@pytest.mark.parametrize("wait", ["wait=20", "respond-async"])
def test_nobody_waits_under_wsgi(wait, transactional_db, user_client, monkeypatch):
    """There a request that waits holds one of a few threads."""
    monkeypatch.setattr(job_waiting, "wait_until_done", None)
    answer = user_client.post("/plain/", headers={"Prefer": wait, "Idempotency-Key": "k"})
    assert answer.status_code == 202
    run_jobs()
    again = user_client.post("/plain/", headers={"Prefer": wait, "Idempotency-Key": "k"})
    assert (again.status_code, again.json()["done"]) == (202, True)


async def test_nobody_waits_in_a_transaction_of_the_view(asgi, user, rf):
    """Nobody else sees the job before its end, so it would never be done."""

    def inside():
        from django.core.handlers.asgi import ASGIRequest

        with transaction.atomic():
            request = RequestFactory().post("/plain/", headers=LONG)
            scope = {
                "type": "http",
                "method": "POST",
                "path": "/plain/",
                "headers": [(b"prefer", b"wait=20")],
            }
            request = ASGIRequest(scope, request)
            request.user = user
            answer = accepted(request, views.ask)
            return answer.status_code, connection.in_atomic_block, dict(answer.headers)

    status, in_transaction, headers = await in_thread(inside)
    assert (status, in_transaction, "Preference-Applied" in headers) == (202, True, False)


class TestJob:
    async def test_done_in_time(self, get, user, rings_only):
        job = await in_thread(rows.job, user)
        answer = await get(job, **LONG)
        await one_waits()
        await in_thread(rows.finish, job)
        told = await (await answer.answered()).json()
        assert (answer.status, told["state"], told["done"]) == (200, "succeeded", True) and told["seq"] > 0
        assert answer.headers["preference-applied"] == "wait=20" and "retry-after" not in answer.headers

    async def test_only_its_end_is_waited_for(self, get, user):
        """Not each change, as sync/ does; after the time it is answered as it is then."""
        job = await in_thread(rows.job, user)
        answer = await get(job, Prefer="wait=1")
        await one_waits()
        await in_thread(rows.change, job, state="running", progress_current=3)
        told = await (await answer.answered()).json()
        assert (answer.status, told["state"], told["progress"]["current"]) == (200, "running", 3)
        assert answer.headers["retry-after"] == "1"

    @pytest.mark.parametrize("known", ["{}", "*", 'W/{}, "other"'])
    async def test_nothing_changed_until_the_time_was_over(self, known, get, user):
        """304, for the tag that it has then."""
        job = await in_thread(rows.job, user)
        tag = (await (await get(job)).answered()).headers["etag"]
        answer = await get(job, **{"Prefer": "wait=1", "If-None-Match": known.format(tag)})
        await answer.answered()
        assert (answer.status, await answer.whole(), answer.headers["etag"]) == (304, b"", tag)
        assert answer.headers["preference-applied"] == "wait=1"

    async def test_what_changed_is_told(self, get, user):
        job = await in_thread(rows.job, user)
        tag = (await (await get(job)).answered()).headers["etag"]
        answer = await get(job, **LONG, **{"If-None-Match": tag})
        await one_waits()
        await in_thread(rows.finish, job)
        assert (await answer.answered()).status == 200
        assert answer.headers["etag"] != tag

    async def test_done_already(self, get, user):
        job = await in_thread(rows.job, user)
        await in_thread(rows.finish, job)
        answer = await (await get(job, **LONG)).answered()
        assert (answer.status, (await answer.json())["done"]) == (200, True)

    async def test_beyond_four_waiting_requests(self, get, user):
        """429, and when to come again; who does not wait is answered."""
        job = await in_thread(rows.job, user)
        four = [await get(job, **LONG) for _ in range(4)]
        await one_waits(4)
        refused = await (await get(job, **LONG)).answered()
        assert (refused.status, refused.headers["content-type"]) == (429, "application/problem+json")
        assert int(refused.headers["retry-after"]) > 0
        assert (await (await get(job)).answered()).status == 200
        four[0].hang_up()
        await four[0].is_over()
        await one_waits(3)
        four.append(await get(job, **LONG))
        await one_waits(4)
        await in_thread(rows.finish, job)
        for one in four[1:]:
            assert (await one.answered()).status == 200

    async def test_somebody_elses(self, get, other_user):
        """404 at once."""
        job = await in_thread(rows.job, other_user)
        assert (await (await get(job, **LONG)).answered()).status == 404

    async def test_no_thread_and_no_connection_is_held(self, get, user):
        """The threads that Django gave the requests have ended."""
        job = await in_thread(rows.job, user)
        first = await get(job, **LONG)
        await one_waits()  # whoever looks for all has started
        before = set(threading.enumerate())
        others = [await get(job, **LONG) for _ in range(3)]
        await one_waits(4)
        # Those of the app are there for all requests together; one may just have started.
        await until(lambda: all(is_ours(thread) for thread in set(threading.enumerate()) - before))
        assert how_many_wait() == 4  # so none has ended only because its time was over
        await in_thread(rows.finish, job)
        for one in (first, *others):
            assert (await one.answered()).status == 200
