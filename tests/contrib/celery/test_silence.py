"""What is said of a queued job of which Celery reports nothing."""

import json
import re
import uuid
from contextlib import suppress
from datetime import timedelta
from io import StringIO

import pytest
from django.core.management import CommandError, call_command
from django.urls import reverse

from notifications import times
from notifications.models import Job, Worker
from tests.jobs.conftest import live_worker  # noqa: F401 (fixture)
from tests.support.duties import run_duty

pytestmark = pytest.mark.django_db

PROMISE, DOUBT = "You can leave this page.", "No word from Celery since"
MINUTE = timedelta(minutes=1)


@pytest.fixture
def make_job(user):
    """make_job(minutes, **fields) inserts a queued job of an observed task that was published so many minutes ago."""

    def make(minutes, **fields):
        at = times.now() - minutes * MINUTE
        values = {
            "id": uuid.uuid4(),
            "user_id": user.pk,
            "task_path": "shop.tasks.export",
            "title": "Export",
            "executor": "observed",
            "queue_name": "celery",
            "created_at": at,
            "queued_at": at,
        }
        return Job.objects.create(**values | fields)

    return make


def started(minutes, **fields):
    return {"started_at": times.now() - minutes * MINUTE, "attempt": 1, **fields}


def ended(minutes, **fields):
    at = times.now() - minutes * MINUTE
    return started(minutes, state="succeeded", finished_at=at, seq=None, **fields)


@pytest.fixture
def read_page(user_client):
    def read(job):
        return user_client.get(reverse("notifications:job", args=[job.pk])).content.decode()

    return read


def test_a_young_job_is_promised(make_job, read_page):
    html = read_page(make_job(4))
    assert PROMISE in html and DOUBT not in html
    assert 59 <= int(re.search(r'reload-after="(\d+)"', html)[1]) <= 61  # when five minutes are over


def test_no_word_for_five_minutes(make_job, read_page):
    job = make_job(6)
    html = read_page(job)
    assert PROMISE not in html
    found = re.search(
        r"No word from Celery since <time datetime=\"(.*?)\".*?</time>\. It may be lost\.", html
    )
    assert found[1] == f"{job.queued_at:%Y-%m-%dT%H:%M:%SZ}"
    assert "reload-after" not in html


# Times in parameters are of the moment of collection, minutes before the test.
@pytest.mark.parametrize(
    ("describe_other", "is_silent"),
    [
        (lambda: ended(7), True),  # before it
        (lambda: started(7, state="running"), True),
        (lambda: ended(5), False),  # a backlog
        (lambda: started(5, state="running"), False),
        (lambda: started(5, run_after=times.now()), False),  # waits for its next attempt
        (lambda: ended(5, queue_name="mail"), True),  # of another queue
        (lambda: ended(5, executor="async"), True),  # of another worker
    ],
)
def test_tasks_of_the_queue_that_have_started_meanwhile(make_job, read_page, describe_other, is_silent):
    make_job(9, **describe_other())
    assert (DOUBT in read_page(make_job(6))) == is_silent


@pytest.mark.parametrize(
    "describe",
    [
        lambda: {"executor": "async"},
        lambda: {"run_after": times.now() - 4 * MINUTE},  # since then it could start
        lambda: {"run_after": times.now() + MINUTE},
        lambda: {"process_id": 7},  # it goes on with other tasks
        lambda: {"state": "running", "worker": uuid.uuid4(), "started_at": times.now()},
    ],
)
def test_jobs_of_which_no_word_is_expected(make_job, read_page, describe):
    assert PROMISE in read_page(make_job(6, **describe()))


def diagnose():
    out = StringIO()
    with suppress(CommandError):  # other checks fail
        call_command("notifications", "doctor", "--json", "--timeout", "0.1", stdout=out)
    findings = map(json.loads, out.getvalue().splitlines())
    return next(finding for finding in findings if finding["check"] == "celery")


def test_doctor_warns(make_job, live_worker):  # noqa: F811
    Worker.objects.filter(id=live_worker(60)).update(queues="celery:celery", concurrency=0)
    make_job(4)
    assert (diagnose()["state"], diagnose()["figures"]["silent"]) == ("ok", 0)
    make_job(8)
    make_job(9, **ended(7))
    for minutes in (6, 5.5):
        make_job(minutes)
    finding = diagnose()
    assert (finding["state"], finding["figures"]["silent"]) == ("warning", 2)
    assert finding["message"].startswith(
        "No word from Celery of observed tasks in the queue celery: 2, the oldest for 36"
    )
    assert "whether the broker has their messages" in finding["remedy"]
    make_job(6, **ended(1))
    assert diagnose()["state"] == "ok"


@pytest.mark.with_all_apps
def test_an_alert_names_the_queue(make_job):
    """That of jobs which wait too long: operations is installed, or not."""
    from notifications.contrib.operations.models import Alert

    def find():
        run_duty("evaluate alerts")
        return list(Alert.objects.filter(kind="wait").values_list("kind", "subject"))

    make_job(4)
    assert find() == []
    make_job(6)
    assert find() == [("wait", "celery")]
