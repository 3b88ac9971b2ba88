"""Jobs that wait for a rate are counted with all others, and it is said what they wait for."""

import json
import re
from datetime import timedelta

import pytest
from django.core.management import call_command
from django.utils import timezone

from notifications.management import queue_depths
from notifications.models import Job, Queue
from tests.contrib.rates import rated_tasks
from tests.contrib.rates.conftest import claim_all
from tests.jobs import tasks
from tests.support.checks import doctor

pytestmark = [pytest.mark.django_db, pytest.mark.database_law]


@pytest.fixture
def jobs(declare):
    """One that may start, four that wait for a rate, and two that are scheduled, one of them with a rate."""
    declare(partner={"rate": "1/h"})
    rated_tasks.fetch.enqueue()
    later = timezone.now() + timedelta(hours=1)
    limited = [rated_tasks.fetch.enqueue() for _ in range(4)]
    claim_all()
    return {
        "in_turn": [tasks.noop.enqueue()],
        "limited": limited,
        "scheduled": [task.using(run_after=later).enqueue() for task in (tasks.noop, rated_tasks.fetch)],
    }


def test_all_queued_jobs_are_counted(jobs):
    (depth,) = queue_depths().queues
    assert (depth.due, depth.limited, depth.delayed, depth.in_queue, depth.total) == (1, 4, 2, 5, 7)
    (found,) = doctor("workers")
    assert "7 jobs waiting, 4 for a limit, 2 scheduled, the oldest for" in found["message"]


def test_a_queue_with_jobs_that_wait_for_a_rate_only(declare):
    declare(partner={"rate": "1/h"})
    for _ in range(2):
        rated_tasks.fetch.enqueue()
    claim_all()
    (depth,) = queue_depths().queues
    assert (depth.due, depth.limited) == (0, 1)
    assert "1 job waiting, 1 for a limit" in doctor("workers")[0]["message"]
    Queue.objects.create(name="default", paused_at=timezone.now())
    assert [depth.total for depth in queue_depths(is_paused=True).queues] == [1]
    assert queue_depths(is_paused=False).queues == []
    assert "default (1 jobs)" in doctor("queues")[0]["message"]


def test_the_list_says_why_each_job_waits(jobs, capsys):
    call_command("notifications", "jobs", "list", "--json")
    listed = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert {row["id"]: row["waits"] for row in listed if row["state"] == "queued"} == {
        str(job.id): reason for reason, of_reason in jobs.items() for job in of_reason
    }
    call_command("notifications", "jobs", "list")
    text = capsys.readouterr().out
    assert text.count("waiting for the limit of partner") == 4 and text.count("not before") == 2


@pytest.mark.django_db(transaction=True)
def test_a_worker_until_idle_says_what_it_leaves(declare, capsys):
    declare(partner={"rate": "1/h", "burst": 1})
    for _ in range(40):
        rated_tasks.fetch.enqueue()
    tasks.noop.using(run_after=timezone.now() + timedelta(hours=1)).enqueue()
    call_command("run_jobs", "--until-idle")
    left = Job.objects.filter(state="queued", run_after=None).count()
    said = re.search(
        r"Jobs are left: (\d+) jobs waiting, (\d+) for a limit, 1 scheduled\.", capsys.readouterr().out
    )
    assert said and int(said[1]) == left + 1 and int(said[2]) == left > 30
