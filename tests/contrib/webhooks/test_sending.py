"""What a receiver gets, and what follows from its answers."""

import asyncio
import json
import logging
import threading
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from aiohttp import web
from django.core.management import call_command
from django.db import OperationalError
from django.utils import timezone

from notifications.api import notify
from notifications.contrib import webhooks
from notifications.contrib.webhooks import sending
from notifications.contrib.webhooks.models import WebhookAttempt, WebhookEndpoint
from notifications.jobs import retry
from notifications.jobs.declaring.policies import policy_of
from notifications.models import Attempt, Job, Notification
from notifications.testing import run_jobs, run_until_idle
from tests.contrib.webhooks.endpoints.conftest import *  # noqa: F403 (fixtures)
from tests.contrib.webhooks.endpoints.receiver import signers
from tests.jobs import tasks
from tests.outbound.conftest import resolve_names  # noqa: F401 (a fixture)
from tests.outbound.upstream import CannedServer
from tests.support.waiting import skip_time, wait_until

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.database_law,
    pytest.mark.nightly_on_postgres,
]

ATTEMPTS = len(sending.PAUSES_SECONDS) + 1


def wait_for_jobs():
    """Wait until all are done, so that no thread of a worker writes into the next test."""
    wait_until(lambda: not Job.objects.exclude(state="succeeded").exists(), what="the jobs")


def attempts():
    return list(WebhookAttempt.objects.order_by("id").values_list("status", "error"))


def test_event_of_a_job(create, receiver, user):
    """Signed, as the documentation says, by another implementation of the specification."""
    endpoint = create(events=["job.failed"])
    tasks.fail.using(owner=user, title="Export").enqueue()
    run_jobs()
    [request], [event] = receiver.requests, receiver.events
    assert request.method == "POST" and request.headers["Content-Type"] == "application/json"
    assert signers(request, endpoint.secret) == [endpoint.secret]
    sent_at = datetime.fromtimestamp(int(request.headers["webhook-timestamp"]), UTC)
    assert abs(datetime.now(UTC) - sent_at) < timedelta(minutes=1)
    assert set(event) == {"type", "id", "at", "user", "job", "notification"}
    assert (event["type"], event["user"], event["job"]["title"]) == ("job.failed", user.pk, "Export")
    assert event["notification"]["title"] == "Export"
    job = Job.objects.get(task_path=sending.send.module_path)
    assert request.headers["webhook-id"] == str(job.id)
    assert (job.state, json.loads(job.result)) == ("succeeded", {"status": 204})
    [attempt] = WebhookAttempt.objects.all()
    assert (attempt.endpoint, attempt.job, attempt.event) == (endpoint.id, job.id, "job.failed")
    assert (attempt.status, attempt.error) == (204, "")
    assert not Notification.objects.exclude(job=event["job"]["id"]).exists()  # nobody is told of the job


async def redirect(request):
    return web.Response(status=307, headers={"Location": "/elsewhere"})


FAILURES = [400, 401, 404, 429, 500, 503, redirect]


@pytest.mark.parametrize("answer", FAILURES, ids=lambda answer: getattr(answer, "__name__", answer))
def test_failure_is_tried_again(create, receiver, user, answer):
    """With the same id, and a time and signature of its own."""
    endpoint = create()
    receiver.answers = [answer, answer]
    notify(user, "Hello")
    run_jobs()
    assert WebhookEndpoint.objects.get().failing_since
    run_until_idle()
    status = answer if isinstance(answer, int) else 307
    assert attempts() == [(status, ""), (status, ""), (204, "")]
    assert len(set(receiver.ids)) == 1 and [request.path for request in receiver.requests] == ["/hook"] * 3
    assert all(signers(request, endpoint.secret) for request in receiver.requests)
    assert WebhookEndpoint.objects.get().failing_since is None
    assert Job.objects.get(task_path=sending.send.module_path).state == "succeeded"


def test_pauses_are_a_day():
    """Each differs by a random part."""
    pauses = [sending.pause_after(left) for left in range(ATTEMPTS - 1, 0, -1)]
    for pause, seconds in zip(pauses, sending.PAUSES_SECONDS, strict=True):
        assert 0.8 * seconds <= pause <= 1.2 * seconds
    assert 20 * 3600 < sum(sending.PAUSES_SECONDS) < 28 * 3600
    assert len({sending.pause_after(3) for _ in range(20)}) > 1
    # A policy of the settings may have other numbers of attempts.
    assert sending.pause_after(50) <= 1.2 * 5 and sending.pause_after(0) >= 0.8 * 8 * 3600


def test_pauses_are_stored(create, receiver, user):
    """At least as long as Retry-After says."""
    create()

    async def later(request):
        return web.Response(status=429, headers={"Retry-After": "7200"})

    receiver.answers = [500, later]
    rows = Job.objects.filter(task_path=sending.send.module_path)
    for shortest, longest in ((4, 6), (7200, 7200)):
        if rows.exists():
            rows.update(
                run_after=timezone.now() - timedelta(seconds=1), due_at=timezone.now() - timedelta(seconds=1)
            )
        else:
            notify(user, "Hello")
        before = timezone.now()
        run_jobs()
        pause = (rows.get().run_after - before).total_seconds()
        assert shortest <= pause <= longest + 60


def test_all_attempts_fail(create, receiver, user):
    """A retry by hand sends it again, with the same id."""
    create()
    receiver.answers = [500] * ATTEMPTS
    notify(user, "Hello")
    run_until_idle()
    job = Job.objects.get(task_path=sending.send.module_path)
    assert (job.state, len(receiver.requests)) == ("failed", ATTEMPTS)
    assert WebhookEndpoint.objects.get().off_at is None  # not for days
    retry([job.id])
    run_jobs()
    assert attempts()[-1] == (204, "") and len(set(receiver.ids)) == 1


def test_gone(create, receiver, user):
    """It is turned off at once, its owner is notified once, and what waits is not sent."""
    endpoint = create(description="CRM")
    receiver.answers = [410]
    notify([user], "first")
    notify([user], "second")
    run_jobs()
    run_until_idle()
    assert len(receiver.requests) == 1
    [row] = webhooks.endpoints_of(user)
    assert row.off_at and row.off_reason == "gone"
    [told] = Notification.objects.filter(category="webhook")
    assert (told.user_id, told.title) == (user.pk, "The webhook CRM was turned off")
    assert "410" in told.body and told.level == "error"
    assert set(Job.objects.values_list("state", flat=True)) == {"failed"}
    # Turned on again, a retry by hand sends what has waited.
    webhooks.turn_on(endpoint.id)
    assert [webhooks.resend_failed(endpoint.id), webhooks.resend_failed(endpoint.id)] == [2, 0]
    run_jobs()
    assert [event["notification"]["title"] for event in receiver.events[1:]] == ["first", "second"]


@pytest.mark.parametrize(("days", "is_off"), [(4.9, False), (5.1, True)])
def test_sustained_failure(create, receiver, user, days, is_off):
    """Turned off when an event has failed for good, and nothing has arrived for five days."""
    create()
    receiver.answers = [500] * ATTEMPTS
    WebhookEndpoint.objects.update(failing_since=timezone.now() - timedelta(days=days))
    notify(user, "Hello")
    run_jobs()
    assert not webhooks.endpoints_of(user)[0].off_at
    run_until_idle()
    [row] = webhooks.endpoints_of(user)
    assert (bool(row.off_at), row.off_reason) == (is_off, "failing" if is_off else "")
    assert Notification.objects.filter(category="webhook").count() == is_off


def test_endpoint_of_the_site_that_is_gone(create, receiver, user):
    """It is shown in the admin; no user owns it."""
    create(owner=None)
    receiver.answers = [410]
    notify(user, "Hello")
    run_jobs()
    assert webhooks.endpoints_of(None)[0].off_reason == "gone"
    assert Notification.objects.count() == 1


def test_turned_off_twice(create, user):
    """By two workers: its owner is notified once."""
    endpoint = create()
    assert [sending.turn_off(endpoint.id, "gone"), sending.turn_off(endpoint.id, "gone")] == [True, False]
    assert Notification.objects.count() == 1


@pytest.fixture
def set_deadline(set_bounds):
    """set_deadline(seconds) sets the time that an endpoint has to answer."""
    return lambda seconds: set_bounds(answers=seconds)


def test_silence(create, receiver, user, set_deadline):
    set_deadline(0.1)
    create("/slow/60")
    notify(user, "Hello")
    run_jobs()
    assert attempts() == [(None, "TimedOut")]


def test_huge_answer(create, receiver, user):
    """A status is all that is read of it: the connection is closed."""
    create("/big/1000")
    notify(user, "Hello")
    run_jobs()
    assert attempts() == [(200, "")]
    wait_until(lambda: not receiver.active, what="the receiver to find the connection closed")
    assert Job.objects.get().result == '{"status":200}'


def test_answer_is_not_stored(create, receiver, user, caplog):
    caplog.set_level(logging.DEBUG)
    create()

    async def answer(request):
        return web.Response(
            status=500, text="body of the answer", headers={"X-Header": "header of the answer"}
        )

    receiver.answers = [answer]
    notify(user, "Hello")
    run_jobs()
    stored = [str(vars(row)) for model in (Job, Attempt, WebhookAttempt) for row in model.objects.all()]
    assert len(stored) == 3
    assert "of the answer" not in "".join(stored) + caplog.text


def test_no_http(create, receiver, user, settings):
    with CannedServer(b"SSH-2.0-OpenSSH\r\n") as server:
        settings.NOTIFICATIONS = {**settings.NOTIFICATIONS, "OUTBOUND_ALLOW": [server.address]}
        webhooks.create(server.url, owner=user)
        notify(user, "Hello")
        run_jobs()
    [(status, error)] = attempts()
    assert status is None and error in ("BadResponse", "Unreachable")


@pytest.mark.parametrize(
    "url",
    ["https://127.0.0.1/", "https://10.0.0.1/", "https://[::1]/", "https://169.254.169.254/latest/"],
)
def test_internal_address(user, url):
    """It is refused when it is created, and again when it is called."""
    with pytest.raises(ValueError, match="url is refused"):
        webhooks.create(url, owner=user)
    endpoint = webhooks.create("https://hooks.example/", owner=user)
    WebhookEndpoint.objects.filter(id=endpoint.id).update(url=url)
    notify(user, "Hello")
    run_jobs()
    assert attempts() == [(None, "Refused")]


def test_name_that_leads_inside(user, receiver, create, settings, resolve_names):  # noqa: F811
    """The address is checked where the socket is made; nothing arrives."""
    endpoint = create()
    resolve_names({"inside.test": ["127.0.0.1"]})
    url = f"http://inside.test:{receiver.port}/hook"
    WebhookEndpoint.objects.filter(id=endpoint.id).update(url=url)
    settings.NOTIFICATIONS = {**settings.NOTIFICATIONS, "OUTBOUND_PORTS": [receiver.port]}
    notify(user, "Hello")
    run_jobs()
    assert attempts() == [(None, "Refused")] and not receiver.requests


def test_both_secrets_sign_during_a_rotation(create, receiver, user):
    endpoint = create()
    secrets = [endpoint.secret, webhooks.rotate_secret(endpoint.id)]
    notify(user, "Hello")
    run_jobs()
    assert signers(receiver.requests[-1], *secrets) == secrets
    # It has ended, and one that a clock began which was wrong.
    for until in (timedelta(seconds=-1), timedelta(days=400)):
        WebhookEndpoint.objects.update(previous_until=timezone.now() + until)
        notify(user, "Hello")
        run_jobs()
        assert signers(receiver.requests[-1], *secrets) == secrets[1:]
    secrets.append(webhooks.rotate_secret(endpoint.id, overlap=timedelta(0)))
    notify(user, "Hello")
    run_jobs()
    assert signers(receiver.requests[-1], *secrets) == secrets[2:]


def test_answer_is_kept_until_the_database_takes_it(create, receiver, user, monkeypatch, short_pauses):
    """While it is away the attempt goes on, and the event is sent once."""
    create()
    record, calls = sending._record, []

    def fail_twice(*args, **kwargs):
        calls.append(args)
        if len(calls) != 1:
            record(*args, **kwargs)
        if len(calls) <= 2:  # the second time the commit has reached the database, and its reply is lost
            raise OperationalError("server closed the connection")

    monkeypatch.setattr(sending, "_record", fail_twice)
    notify(user, "Hello")
    run_until_idle()
    assert len(receiver.ids) == 1 and len(calls) == 3
    assert attempts() == [(204, "")]


@pytest.mark.parametrize("change", ["delete", "deactivate"])
def test_owner_that_left(create, receiver, user, change):
    """Nothing is sent for a user that may not sign in any more."""
    create()
    notify(user, "Hello")
    if change == "deactivate":
        type(user).objects.update(is_active=False)
    else:
        user.delete()
        assert not WebhookEndpoint.objects.exists()
    run_until_idle()
    assert not receiver.requests and not WebhookAttempt.objects.exists()


def test_deleted_endpoint(create, receiver, user):
    endpoint = create()
    notify(user, "Hello")
    webhooks.delete(endpoint.id)
    run_jobs(raise_errors=True)
    assert not receiver.requests and Job.objects.get().result == '{"status":null}'


def test_an_event_that_was_answered_before_its_worker_stopped(create, receiver, user):
    """The answer is stored, the end of the job is not: it is queued again, and its attempt does not count."""
    create()
    notify(user, "Hello")
    run_jobs()
    unfinished = {"state": "queued", "attempt": 0, "worker": None, "deadline": None}
    Job.objects.update(**unfinished, result=None, finished_at=None, seq=0)
    run_jobs()
    assert len(receiver.requests) == 1 and attempts() == [(204, "")]
    assert Job.objects.get().result == '{"status":204}'


def test_an_event_that_was_answered_is_not_sent_again(create, receiver, user, monkeypatch):
    """The answer is stored although the time of the attempt is over, and the next attempt finds it."""
    create()
    record, is_over, is_recorded, loops = sending._record, threading.Event(), threading.Event(), []

    def record_late(*args, **kwargs):
        asyncio.run_coroutine_threadsafe(skip_time(60), loops[0])  # longer than the attempt may take
        is_over.wait(60)
        record(*args, **kwargs)
        is_recorded.set()

    def short_policy(function):
        loops.append(asyncio.get_running_loop())
        asyncio.current_task().add_done_callback(lambda task: is_over.set())
        return replace(policy_of(function), timeout=60, backoff=0)

    monkeypatch.setattr(sending, "_record", record_late)
    monkeypatch.setattr("notifications.worker.execution.policy_of", short_policy)
    notify(user, "Hello")
    run_jobs()
    assert Attempt.objects.get().outcome == "timed_out" and is_recorded.wait(60)
    run_until_idle()
    assert len(receiver.ids) == 1 and attempts() == [(204, "")]
    job = Job.objects.get(task_path=sending.send.module_path)
    assert (job.state, job.result) == ("succeeded", '{"status":204}')


def test_stuck_endpoint_leaves_room(create, receiver, user, other_user, start_worker, set_deadline):
    """Of what is sent for one user only some attempts run at a time, so another one gets events meanwhile."""
    set_deadline(50)  # no attempt ends before the test releases it
    release = asyncio.Event()

    async def wait(request):
        await release.wait()
        return web.Response()

    receiver.stuck = wait
    create("/stuck")
    create("/stuck")
    neighbor = create("/hook", owner=other_user)
    for number in range(10):
        notify([user, other_user], f"note {number}")
    start_worker(concurrency=1)
    try:
        ok = WebhookAttempt.objects.filter(endpoint=neighbor.id, status=204)
        wait_until(lambda: ok.count() == 10, what="the events of the neighbor")
        assert sum(request.path == "/stuck" for request in receiver.requests) <= 8
    finally:
        receiver.loop.call_soon_threadsafe(release.set)
        wait_for_jobs()


def test_test_event(create, receiver, user):
    """Also to an endpoint that is off. It has one attempt, and its failure turns nothing off."""
    endpoint = create()
    webhooks.turn_off(endpoint.id)
    receiver.answers = [204, 410]
    ids = [webhooks.send_test(endpoint.id) for _ in range(2)]
    run_until_idle()
    assert [event["type"] for event in receiver.events] == ["webhook.test"] * 2
    assert receiver.ids == [str(id) for id in ids]
    assert attempts() == [(204, ""), (410, "")]
    assert webhooks.endpoints_of(user)[0].off_reason == "by-hand"
    assert not Notification.objects.exists()


def test_secrets_are_nowhere(create, receiver, user, caplog):
    """Neither in the rows of jobs and attempts, nor in logs."""
    caplog.set_level(logging.DEBUG)
    secrets = [(endpoint := create()).secret, webhooks.rotate_secret(endpoint.id)]
    receiver.answers = [500, 410]
    notify(user, "Hello")
    run_until_idle()
    models = (Job, Attempt, WebhookAttempt, Notification)
    stored = "".join(str(vars(row)) for model in models for row in model.objects.all())
    for secret in secrets:
        assert secret not in stored and secret not in caplog.text and secret not in repr(endpoint)
        assert secret not in repr(WebhookEndpoint.objects.get()) + str(WebhookEndpoint.objects.get())


def test_log_is_pruned(create, user):
    create()
    notify(user, "Hello")
    run_jobs()
    WebhookAttempt.objects.update(started_at=timezone.now() - timedelta(days=31))
    create()
    notify(user, "Hello")
    call_command("notifications", "prune")
    assert not WebhookAttempt.objects.exists()


def test_worker_sends(create, receiver, user, start_worker):
    start_worker()
    create()
    notify(user, "Hello")
    wait_for_jobs()
    assert attempts() == [(204, "")]
