"""``Prefer: wait``: a response that is delayed until the job is done, and what the waiting request holds."""

import threading

import pytest
from asgiref.sync import SyncToAsync
from django.db import connection, connections, transaction
from django.test import AsyncRequestFactory

from notifications.api import accepted
from notifications.asgi import get_asgi_application
from notifications.jobs import job_ends
from notifications.models import Job
from notifications.realtime import hub
from notifications.testing import run_jobs
from tests.http import views
from tests.http.conftest import BROWSER
from tests.realtime import rows
from tests.realtime.conftest import in_thread, sign_in, until
from tests.support.statements import preceded, refused
from tests.support.waiting import skip_time, wait_until

pytestmark = [pytest.mark.nightly_on_postgres, pytest.mark.nightly_on_old_django]

PATHS = ["/plain/", "/async/"]
WAIT_20 = {"Prefer": "wait=20"}
#: Requests of one user, or of one address, that may wait.
MAX_WAITING = 4
#: The statement that reads how the awaited jobs are.
LOOKUP = (
    '"notifications_job"."id"[^,]*, "notifications_job"."user_id"[^,]*, "notifications_job"."state"[^,]* FROM'
)


@pytest.fixture(autouse=True)
def no_waits_left(set_bounds):
    """Check after each test that no request waits, and the lookup thread has ended."""
    set_bounds(joins=0.02)
    yield
    assert not job_ends.end_reader._awaited
    threads = [thread for thread in threading.enumerate() if thread.name == "notifications-join"]
    wait_until(lambda: not any(thread.is_alive() for thread in threads), what="the lookup thread to end")


@pytest.fixture
def rings_only(set_bounds):
    """Look for awaited jobs only after a ring."""
    set_bounds(polls=1_000.0)


@pytest.fixture
async def post(asgi, user):
    """Return a function that posts to a path by ASGI."""
    cookie = await in_thread(sign_in, user)
    application = get_asgi_application()

    async def send(path, **headers):
        return await asgi(path, cookie=cookie, method="POST", below="", headers=headers, app=application)

    return send


@pytest.fixture
async def get(asgi, user):
    """Return a function that gets a job by ASGI."""
    cookie = await in_thread(sign_in, user)

    async def send(job, **headers):
        return await asgi(f"jobs/{job.pk}/", cookie=cookie, headers=headers)

    return send


def count_waits():
    return sum(len(each.futures) for each in job_ends.end_reader._awaited.values())


async def until_waiting(count=1):
    await until(lambda: count_waits() == count)


def assert_done(response, job):
    """Assert that the response is a complete 200 for a job that is done."""
    assert response.status == 200
    assert response.headers["content-location"] == f"/notifications/api/jobs/{job['id']}/"
    assert (job["state"], job["done"]) == ("succeeded", True) and job["seq"] > 0
    assert response.headers["etag"] and response.headers["cache-control"] == "no-store"
    assert "location" not in response.headers and "retry-after" not in response.headers


def assert_accepted(response, job):
    """Assert that the response is a complete 202, without headers of a job that is done."""
    assert response.status == 202
    assert response.headers["location"] == f"/notifications/api/jobs/{job['id']}/"
    assert response.headers["retry-after"] == "1" and "content-location" not in response.headers


@pytest.mark.parametrize("path", PATHS)
class TestAccepted:
    async def test_done_in_time(self, path, post, rings_only):
        """200 with the job as soon as it is done. The doorbell ends the wait."""
        response = await post(path, **WAIT_20)
        await until_waiting()
        await in_thread(run_jobs)
        await response.wait_for_response()
        assert_done(response, await response.json())
        assert response.headers["preference-applied"] == "wait=20"

    async def test_timeout(self, path, post):
        """202 after the timeout, with the current state of the job."""
        response = await post(path, **WAIT_20)
        await until_waiting()
        await in_thread(Job.objects.update, progress_current=7)
        await skip_time(20)
        await response.wait_for_response()
        job = await response.json()
        assert_accepted(response, job)
        assert job["progress"]["current"] == 7

    async def test_done_already(self, path, post):
        """A replay does not wait for a job that is done."""
        first = await (await post(path, **{"Idempotency-Key": "k"})).wait_for_response()
        await in_thread(run_jobs)
        again = await (await post(path, **{"Idempotency-Key": "k"}, **WAIT_20)).wait_for_response()
        job = await again.json()
        assert_done(again, job)
        assert job["id"] == (await first.json())["id"]
        assert again.headers["idempotency-replayed"] == "true"

    async def test_a_replay_waits_too(self, path, post):
        await (await post(path, **{"Idempotency-Key": "k"})).wait_for_response()
        again = await post(path, **{"Idempotency-Key": "k"}, **WAIT_20)
        await until_waiting()
        await in_thread(run_jobs)
        await again.wait_for_response()
        assert_done(again, await again.json())
        assert again.headers["idempotency-replayed"] == "true"

    @pytest.mark.parametrize(
        "prefer", ["respond-async", "respond-async, wait=20", "wait=20,Respond-Async;x=y"]
    )
    async def test_respond_async(self, prefer, path, post):
        """202 immediately, also if ``wait`` is present."""
        response = await (await post(path, Prefer=prefer)).wait_for_response()
        assert_accepted(response, await response.json())
        assert response.headers["preference-applied"] == "respond-async"

    async def test_browsers_do_not_wait(self, path, post):
        """They are redirected to a page that shows the progress."""
        response = await (await post(path, **WAIT_20, **BROWSER)).wait_for_response()
        assert (response.status, "preference-applied" in response.headers) == (303, False)

    async def test_too_many_waiting_requests(self, path, post):
        """The fifth request gets 202 and does not wait, until another one has ended."""
        waiting = [await post(path, **WAIT_20) for _ in range(MAX_WAITING)]
        await until_waiting(MAX_WAITING)
        for _ in range(2):
            response = await (await post(path, **WAIT_20)).wait_for_response()
            assert_accepted(response, await response.json())
            assert "preference-applied" not in response.headers
            waiting[0].disconnect()
            await waiting.pop(0).wait_until_closed()
            waiting.append(await post(path, **WAIT_20))
            await until_waiting(MAX_WAITING)
        await in_thread(run_jobs)
        assert {(await request.wait_for_response()).status for request in waiting} == {200}

    async def test_anonymous_requests_have_slots_for_each_address(self, path, asgi, db):
        """The fifth of one address gets 202 at once. One of another address waits."""
        application = get_asgi_application()

        async def send(address):
            return await asgi(
                path, method="POST", below="", headers=WAIT_20, app=application, address=address
            )

        waiting = []
        for address in ["192.0.2.1"] * MAX_WAITING + ["192.0.2.2"]:
            waiting.append(await send(address))
            await until_waiting(len(waiting))
        refused = await (await send("192.0.2.1")).wait_for_response()
        assert refused.status == 202 and "preference-applied" not in refused.headers
        await in_thread(run_jobs)
        assert {(await request.wait_for_response()).status for request in waiting} == {200}

    async def test_client_disconnects(self, path, post, user):
        """Nothing waits any more, and the job continues."""
        response = await post(path, **WAIT_20)
        await until_waiting()
        response.disconnect()
        await response.wait_until_closed()
        assert not job_ends.end_reader._awaited
        assert response.outgoing.empty()
        await in_thread(run_jobs)
        assert (await in_thread(Job.objects.get)).done

    async def test_database_unavailable_after_the_wait(self, path, post):
        """202, not 503: the job has been accepted."""
        response = await post(path, **WAIT_20)
        await until_waiting()
        with refused(r'FROM "notifications_job" WHERE "notifications_job"."id" = \S+ ORDER BY') as statements:
            await in_thread(run_jobs)
            await response.wait_for_response()
        assert_accepted(response, await response.json())
        assert statements

    async def test_job_is_deleted_during_the_wait(self, path, post, user):
        """202: the job has been accepted."""
        response = await post(path, **WAIT_20)
        await until_waiting()
        job = await in_thread(Job.objects.get)
        await in_thread(job.delete)
        await in_thread(rows.job, user)  # rings
        assert_accepted(await response.wait_for_response(), await response.json())

    async def test_waiting_holds_no_connection(self, path, post, monkeypatch):
        """It is closed in the thread that opened it. The thread of an async view ends too."""
        threads = []

        def enqueue():
            threads.append((threading.current_thread(), connections["default"]))
            return views.double.enqueue()

        monkeypatch.setattr(views, "enqueue_double", enqueue)
        response = await post(path, **WAIT_20)
        await until_waiting()
        [(thread, used)] = threads
        assert used.connection is None
        if path == "/async/":
            await until(lambda: not thread.is_alive())
        await in_thread(run_jobs)
        assert (await response.wait_for_response()).status == 200


@pytest.mark.parametrize("path", [*PATHS, "the job"])
async def test_server_shutdown_ends_waits(path, post, get, user):
    """Every waiting request gets a response with the current state before the hub is closed."""
    if path in PATHS:
        response = await post(path, **WAIT_20)
    else:
        response = await get(await in_thread(rows.job, user), **WAIT_20)
    await until_waiting()
    await hub.close_current_hub()
    # Daphne cancels all requests then.
    assert not response.outgoing.empty()
    assert (await response.wait_for_response()).status == (202 if path in PATHS else 200)
    assert (await response.json())["done"] is False


async def test_aaccepted_takes_one_thread_hop(post, monkeypatch):
    """It adds one hop to those that Django makes for any request."""
    hops, call = [], SyncToAsync.__call__

    def count(self, *args, **kwargs):
        hops.append(self.func)
        return call(self, *args, **kwargs)

    monkeypatch.setattr(SyncToAsync, "__call__", count)
    assert (await (await post("/async/")).wait_for_response()).status == 202
    assert [hop.__module__ for hop in hops if hop.__module__.startswith("notifications.")] == [
        "notifications.http.acceptance"
    ]


@pytest.mark.parametrize("wait", ["wait=20", "respond-async"])
def test_wait_is_ignored_under_wsgi(wait, transactional_db, user_client):
    """There each waiting request would hold a thread."""
    headers = {"Prefer": wait, "Idempotency-Key": "k"}
    for is_done in (False, True):
        response = user_client.post("/plain/", headers=headers)
        assert (response.status_code, response.json()["done"]) == (202, is_done)
        assert not response.get("Preference-Applied", "").startswith("wait")
        run_jobs()


async def test_wait_is_ignored_in_a_transaction(user, event_loop_database):
    """No worker sees the job before the transaction ends, so the wait would always time out."""

    def accept_in_transaction():
        with transaction.atomic():
            request = AsyncRequestFactory().post("/plain/", headers=WAIT_20)
            request.user = user
            response = accepted(request, views.enqueue_double)
            return response.status_code, connection.in_atomic_block, "Preference-Applied" in response

    assert await in_thread(accept_in_transaction) == (202, True, False)


class TestJob:
    async def test_done_in_time(self, get, user, rings_only):
        job = await in_thread(rows.job, user)
        response = await get(job, **WAIT_20)
        await until_waiting()
        await in_thread(rows.finish, job)
        data = await (await response.wait_for_response()).json()
        assert (response.status, data["state"], data["done"]) == (200, "succeeded", True) and data["seq"] > 0
        assert response.headers["preference-applied"] == "wait=20" and "retry-after" not in response.headers

    async def test_other_changes_do_not_end_the_wait(self, get, user):
        """Unlike sync/, it waits for the end of the job. After the timeout it returns the current state."""
        job = await in_thread(rows.job, user)
        with preceded(LOOKUP, lambda: None, times=None) as lookups:
            response = await get(job, **WAIT_20)
            await until_waiting()
            await in_thread(rows.change, job, state="running", progress_current=3)
            before = len(lookups)
            await until(lambda: len(lookups) >= before + 2)  # the first may have begun before the change
        assert count_waits() == 1
        await skip_time(20)
        data = await (await response.wait_for_response()).json()
        assert (response.status, data["state"], data["progress"]["current"]) == (200, "running", 3)
        assert response.headers["retry-after"] == "1"

    @pytest.mark.parametrize("known", ["{}", "*", 'W/{}, "other"'])
    async def test_not_modified_after_the_timeout(self, known, get, user):
        job = await in_thread(rows.job, user)
        tag = (await (await get(job)).wait_for_response()).headers["etag"]
        response = await get(job, **{"Prefer": "wait=1", "If-None-Match": known.format(tag)})
        await response.wait_for_response()
        assert (response.status, await response.read_body(), response.headers["etag"]) == (304, b"", tag)
        assert response.headers["preference-applied"] == "wait=1"

    async def test_modified(self, get, user):
        job = await in_thread(rows.job, user)
        tag = (await (await get(job)).wait_for_response()).headers["etag"]
        response = await get(job, **WAIT_20, **{"If-None-Match": tag})
        await until_waiting()
        await in_thread(rows.finish, job)
        assert (await response.wait_for_response()).status == 200
        assert response.headers["etag"] != tag

    async def test_done_already(self, get, user):
        job = await in_thread(rows.job, user)
        await in_thread(rows.finish, job)
        response = await (await get(job, **WAIT_20)).wait_for_response()
        assert (response.status, (await response.json())["done"]) == (200, True)

    async def test_too_many_waiting_requests(self, get, user):
        """429 with Retry-After. Requests that do not wait are not limited."""
        job = await in_thread(rows.job, user)
        four = [await get(job, **WAIT_20) for _ in range(4)]
        await until_waiting(4)
        refused = await (await get(job, **WAIT_20)).wait_for_response()
        assert (refused.status, refused.headers["content-type"]) == (429, "application/problem+json")
        assert int(refused.headers["retry-after"]) > 0
        assert (await (await get(job)).wait_for_response()).status == 200
        four[0].disconnect()
        await four[0].wait_until_closed()
        await until_waiting(3)
        four.append(await get(job, **WAIT_20))
        await until_waiting(4)
        await in_thread(rows.finish, job)
        for each in four[1:]:
            assert (await each.wait_for_response()).status == 200

    async def test_job_of_another_user(self, get, other_user):
        """404 immediately."""
        job = await in_thread(rows.job, other_user)
        assert (await (await get(job, **WAIT_20)).wait_for_response()).status == 404

    async def test_waiting_holds_no_thread(self, get, user):
        """The threads that Django started for the requests have ended."""
        job = await in_thread(rows.job, user)
        first = await get(job, **WAIT_20)
        await until_waiting()  # the lookup thread has started
        before = set(threading.enumerate())
        others = [await get(job, **WAIT_20) for _ in range(3)]
        await until_waiting(4)
        # The app's own threads serve all requests together. One of them may just have started.
        await until(
            lambda: all(
                thread.name.startswith("notifications-") for thread in set(threading.enumerate()) - before
            )
        )
        assert count_waits() == 4  # none has timed out
        await in_thread(rows.finish, job)
        for one in (first, *others):
            assert (await one.wait_for_response()).status == 200
