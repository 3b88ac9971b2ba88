"""Callbacks: a job gives an upstream a URL and waits for the call."""

import json
import random
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.core.management import call_command
from django.db import connection, transaction
from django.test import Client
from django.utils import timezone
from standardwebhooks import Webhook

from notifications.api import pause, policy, task
from notifications.contrib.steps import step
from notifications.contrib.webhooks import callback
from notifications.exceptions import AttemptEnded
from notifications.jobs import cancel, retry
from notifications.models import Attempt, Job, Wait
from notifications.testing import clock, run_jobs, run_until_idle
from tests.jobs import wait_tasks
from tests.jobs.conftest import until_done, until_state

pytestmark = [
    pytest.mark.database_law,
    pytest.mark.django_db(transaction=True),
    pytest.mark.nightly_on_postgres,
]


@task
@policy(max_attempts=1)
def ask_bank_sync():
    reply = callback("bank")
    step("ask", wait_tasks.call, reply.url)
    return reply.result()


@task
@policy(max_attempts=1)
def ask_two_banks():
    replies = [callback(name) for name in ("one", "two")]
    for number, reply in enumerate(replies):
        step(f"ask {number}", wait_tasks.call, reply.url)
    return [reply.result() for reply in replies]


@task
@policy(max_attempts=1)
def nap_before_the_answer(count):
    reply = callback("bank")
    step("ask", wait_tasks.call, reply.url)
    for number in range(count):
        pause(f"nap {number}", timedelta(minutes=30))
    return reply.result()


@task
def call_back_in_transaction():
    with transaction.atomic():
        callback("bank")


#: What a task has caught.
errors = []


@task
def ask_when_stale(changes):
    """Ask when another execution has begun."""
    Job.objects.update(**changes)
    try:
        callback("bank")
    except AttemptEnded as exc:
        errors.append(type(exc))
        raise


SITE_URL = "https://site.example"
SECRET = "whsec_" + "c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0"


@pytest.fixture(autouse=True)
def calls(jobs_clock, settings):
    settings.NOTIFICATIONS = {**settings.NOTIFICATIONS, "SITE_URL": SITE_URL}
    wait_tasks.calls.clear()
    return wait_tasks.calls


def waiting_job(task=wait_tasks.ask_bank, *args):
    id = task.enqueue(*args).id
    run_jobs()
    return Job.objects.get(id=id)


def post(url, body="", content_type="application/json", **headers):
    assert url.startswith(SITE_URL)
    client = Client(enforce_csrf_checks=True, raise_request_exception=True)
    return client.post(url.removeprefix(SITE_URL), body, content_type=content_type, headers=headers)


def end_of(job):
    run_jobs()
    job.refresh_from_db()
    return job.state, job.result and json.loads(job.result)


@pytest.mark.parametrize("task", [wait_tasks.ask_bank, ask_bank_sync])
def test_a_job_goes_on_with_what_the_call_brings(task, calls):
    job = waiting_job(task)
    assert (job.state, job.worker, job.attempt) == ("waiting", None, 1)
    assert json.loads(job.waiting)["kind"] == "callback"
    [url] = calls
    response = post(url, '{"approved": true, "note": "ü"}')
    assert (response.status_code, response.content) == (204, b"")
    assert response["Cache-Control"] == "no-store"
    assert end_of(job) == ("succeeded", {"approved": True, "note": "ü"})
    assert calls == [url] and job.attempt == 1 and not Attempt.objects.exists()


@pytest.mark.parametrize(
    ("body", "content_type", "expected"),
    [
        ("", "application/json", None),
        ("[1]", "application/vnd.bank+json; charset=utf-8", [1]),
        ("a=1&b=ü", "application/x-www-form-urlencoded", "a=1&b=ü"),
        ("x" * 65_536, "text/plain", "x" * 65_536),
    ],
)
def test_bodies(calls, body, content_type, expected):
    job = waiting_job()
    assert post(calls[0], body.encode(), content_type).status_code == 204
    assert end_of(job) == ("succeeded", expected)


@pytest.mark.parametrize(
    ("body", "content_type", "status"),
    [
        (b"x" * 65_537, "text/plain", 413),
        (b"{", "application/json", 400),
        (b"[" * 60_000, "application/json", 400),
        (b"NaN", "application/json", 400),
        (b"\xff", "text/plain", 400),
        (b"paid\0", "text/plain", 400),
        (b'{"a": "\\ud800"}', "application/json", 400),
    ],
)
def test_a_body_that_is_refused_changes_nothing(calls, body, content_type, status):
    job = waiting_job()
    response = post(calls[0], body, content_type)
    assert (response.status_code, response["Content-Type"]) == (status, "application/problem+json")
    assert end_of(job) == ("waiting", None)
    assert post(calls[0], "1").status_code == 204


def test_it_is_called_once(calls):
    job = waiting_job()
    assert [post(calls[0], body).status_code for body in ("1", "2", "{")] == [204, 410, 410]
    assert end_of(job) == ("succeeded", 1)
    assert post(calls[0], "3").status_code == 410


def test_only_a_post_calls_it(calls):
    job = waiting_job()
    for method in ("get", "head", "put", "delete", "options"):
        response = getattr(Client(), method)(calls[0].removeprefix(SITE_URL))
        assert (response.status_code, response["Allow"]) == (405, "POST")
    assert end_of(job) == ("waiting", None)


def test_an_unknown_url_says_nothing_of_the_callback(calls):
    """The answers for a token that is wrong, of a callback that is open, was called or does not exist, are the same."""
    waiting_job()
    before, token = calls[0].rstrip("/").rsplit("/", 1)
    pause = Wait.objects.create(
        job=Wait.objects.get().job, name="nap", kind="pause", attempt=1, created_at=timezone.now()
    )
    wrong = [
        f"{before}/{token[:-1]}_/",
        f"{before}/%C3%BC/",
        f"{before}/",
        f"{before.rsplit('/', 1)[0]}/{pause.id}/{token}/",
    ]
    answers = [post(url, "1") for url in wrong]
    post(calls[0], "1")
    answers += [post(url, "1") for url in wrong]
    assert {(answer.status_code, answer.content) for answer in answers} == {(404, answers[0].content)}
    assert token not in Wait.objects.get(kind="callback").details


@pytest.mark.parametrize("fallbacks", [0, 1])
def test_a_url_that_an_earlier_secret_key_has_made(calls, settings, fallbacks):
    job = waiting_job()
    settings.SECRET_KEY_FALLBACKS = [settings.SECRET_KEY] * fallbacks
    settings.SECRET_KEY = "another"
    assert post(calls[0][:-2] + "~/").status_code == 404
    assert post(calls[0]).status_code == 204
    assert end_of(job)[0] == "succeeded"


class TestSecret:
    def sign(self, body, secret=SECRET, at=None):
        at = at or timezone.now()
        return {
            "webhook-id": "m1",
            "webhook-timestamp": str(int(at.timestamp())),
            "webhook-signature": Webhook(secret).sign("m1", at, body),
        }

    def test_a_signed_call(self, calls):
        job = waiting_job(wait_tasks.ask_bank, SECRET)
        body = '{"paid": 1}'
        assert post(calls[0], body).status_code == 400
        assert post(calls[0], body, **self.sign("{}")).status_code == 400
        assert (
            post(calls[0], body, **self.sign(body, at=timezone.now() - timedelta(hours=1))).status_code == 400
        )
        assert end_of(job) == ("waiting", None)
        assert post(calls[0], body, **self.sign(body)).status_code == 204
        assert end_of(job) == ("succeeded", {"paid": 1})

    def test_a_wrong_secret(self):
        job = waiting_job(wait_tasks.ask_bank, "whsec_abcde")
        assert job.state == "failed" and "whsec_ and base64" in Attempt.objects.get().traceback


class TestEnds:
    def test_expired(self, calls):
        job = waiting_job(wait_tasks.ask_bank, None, 60)
        clock.advance(timedelta(seconds=61))
        run_until_idle()
        job.refresh_from_db()
        assert (job.state, Wait.objects.get().how) == ("failed", "expired")
        assert "The callback 'bank' was not called in time." in Attempt.objects.get().traceback
        assert json.loads(job.error)["detail"] == "No reply from “bank” in time."
        assert post(calls[0]).status_code == 410

    def test_a_call_between_the_expiry_and_the_duty_that_ends_it(self, calls):
        """410, whatever its body is, and the job expires."""
        job = waiting_job(wait_tasks.ask_bank, None, 60)
        clock.advance(timedelta(seconds=59))
        assert post(calls[0], "{").status_code == 400
        clock.advance(timedelta(seconds=2))
        assert [post(calls[0], body).status_code for body in ("1", "{")] == [410, 410]
        run_until_idle()
        job.refresh_from_db()
        assert (job.state, Wait.objects.get().how) == ("failed", "expired")

    def test_a_call_after_the_expiry_while_the_job_runs(self, calls, monkeypatch):
        """The job, which does not wait yet, expires too."""

        def call(url):
            clock.advance(timedelta(seconds=61))
            calls.append(post(url, "1").status_code)

        monkeypatch.setattr(wait_tasks, "call", call)
        wait_tasks.ask_bank.enqueue(None, 60)
        run_until_idle()
        assert (calls, Job.objects.get().state, Wait.objects.get().how) == ([410], "failed", "expired")

    def test_cancelled(self, calls):
        job = waiting_job()
        cancel([job.id])
        assert post(calls[0]).status_code == 410
        retry([job.id])
        run_jobs()
        assert Job.objects.get().state == "waiting" and len(calls) == 1  # the step is stored

    def test_pruned(self, calls):
        job = waiting_job()
        cancel([job.id])
        Job.objects.update(finished_at=timezone.now() - timedelta(days=999), seq=0)
        call_command("notifications", "prune")
        assert not Job.objects.exists()
        assert post(calls[0]).status_code == 404

    def test_a_call_before_the_job_waits(self, calls, monkeypatch):
        """The upstream calls while the step that has asked it is running."""
        monkeypatch.setattr(wait_tasks, "call", lambda url: calls.append(post(url, "7").status_code))
        assert end_of(waiting_job()) == ("succeeded", 7)
        assert calls == [204]

    @pytest.mark.parametrize("is_key_replaced", [False, True])
    def test_an_attempt_dies_after_it_has_sent_the_url(self, calls, monkeypatch, settings, is_key_replaced):
        """The URL of the next one is the same, or both work if another SECRET_KEY has made it."""

        def die(url):
            calls.append(url)
            raise OSError

        with monkeypatch.context() as patched:
            patched.setattr(wait_tasks, "call", die)
            job = waiting_job()
        assert job.state == "failed"
        if is_key_replaced:
            settings.SECRET_KEY = "another"
        retry([job.id])
        run_jobs()
        first, second = calls
        assert (first != second) is is_key_replaced
        assert [post(url, "1").status_code for url in (first, second)] == [204, 410]
        assert end_of(job) == ("succeeded", 1)

    def test_many_executions_before_the_call(self, calls):
        """The URL that was sent in the first works after the thirtieth."""
        job = waiting_job(nap_before_the_answer, 30)
        for _ in range(30):
            clock.advance(timedelta(hours=1))
            run_jobs()
        assert post(calls[0], "1").status_code == 204
        assert end_of(job) == ("succeeded", 1)

    def test_two_callbacks(self, calls):
        job = waiting_job(ask_two_banks)
        assert post(calls[1], '"second"').status_code == 204
        assert end_of(job) == ("waiting", None)
        assert post(calls[0], '"first"').status_code == 204
        assert end_of(job) == ("succeeded", ["first", "second"])


class TestMisuse:
    def test_outside_of_a_job(self):
        with pytest.raises(RuntimeError, match="outside of a job"):
            callback("bank")

    def test_in_a_transaction(self, worker):
        (job,) = until_done(call_back_in_transaction.enqueue())
        assert (
            "callback() was called inside a transaction" in Attempt.objects.filter(job=job).first().traceback
        )

    def test_without_the_address_of_the_site(self, settings):
        settings.NOTIFICATIONS = {**settings.NOTIFICATIONS, "SITE_URL": ""}
        with pytest.raises(ImproperlyConfigured, match="SITE_URL"):
            callback("bank")

    @pytest.mark.parametrize(("expires", "error"), [(5, TypeError), (timedelta(), ValueError)])
    def test_expires(self, expires, error):
        with pytest.raises(error, match="expires"):
            callback("bank", expires=expires)


@pytest.mark.parametrize("changes", [{"state": "waiting"}, {"fence": 9}])
def test_a_stale_execution_stores_nothing(changes):
    errors.clear()
    ask_when_stale.enqueue(changes)
    run_jobs()
    assert errors == [AttemptEnded] and not Wait.objects.exists()


@pytest.mark.nightly
def test_calls_at_the_same_moment(worker, calls):
    """One of eight counts, and the job goes on once."""
    for round in range(25):
        calls.clear()
        result = wait_tasks.ask_bank.enqueue()
        (job,) = [until_state(result, "waiting")]

        def call(number, url=calls[0]):
            try:
                return post(url, str(number)).status_code
            finally:
                connection.close()

        with ThreadPoolExecutor(8) as threads:
            statuses = list(threads.map(call, range(8)))
        assert sorted(statuses) == [204] + [410] * 7, round
        (job,) = until_done(result)
        assert (job.state, job.result) == ("succeeded", str(statuses.index(204)))


def test_calls_while_jobs_are_being_suspended(worker, calls, monkeypatch):
    """None waits for ever, whether the call is stored before, during or after the suspension."""
    statuses = []

    def call_soon(url):
        def call():
            time.sleep(random.random() / 50)
            try:
                statuses.append(post(url, "1").status_code)
            finally:
                connection.close()

        threads.submit(call)

    with ThreadPoolExecutor(8) as threads:
        monkeypatch.setattr(wait_tasks, "call", call_soon)
        jobs = until_done(*[wait_tasks.ask_bank.enqueue() for _ in range(200)], timeout=120)
    assert {(job.state, job.result, job.error) for job in jobs} == {("succeeded", "1", None)}
    assert statuses == [204] * 200
