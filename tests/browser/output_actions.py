"""The job of a user that writes, without a worker, for tests/support/driver.py."""

from datetime import timedelta

from django.contrib.auth import get_user_model
from django.db.models import F
from django.utils import timezone

from asyncsite.tasks import delete_old_reports
from notifications import streams
from notifications.contrib.output.storage import buffer_of, store_output
from notifications.models import Attempt, Job, Worker, uuid7
from tests.support.duties import run_duty

#: The claimed row of each execution, with what it has written, by job and attempt.
executions = {}


def start_job(title="Summary"):
    """Create a running job of demo and return its id."""
    user = get_user_model().objects.get(username="demo")
    result = delete_old_reports.using(owner=user, title=title).enqueue()
    now = timezone.now()
    worker = Worker.objects.create(
        id=uuid7(), host="test", started_at=now, lease_until=now + timedelta(minutes=3), concurrency=1
    )
    Job.objects.filter(id=result.id).update(
        state="running", fence=1, attempt=1, max_attempts=9, started_at=now, worker=worker.id
    )
    return result.id


def write(id, text, attempt=1):
    """Append text to the output of a job, in this attempt."""
    if (id, attempt) not in executions:
        Job.objects.filter(id=id).update(fence=attempt, attempt=attempt)
        executions[id, attempt] = Job.objects.get(id=id)
    job = executions[id, attempt]
    buffer = buffer_of(job)
    buffer.append(text)
    buffer.finish()
    while store_output([job]):
        pass


def end(id, state, result=None):
    """End a job in a state, with a JSON result."""
    Job.objects.filter(id=id).update(
        state=state, finished_at=timezone.now(), seq=None, version=F("version") + 1, result=result
    )
    run_duty("number pending changes")
    streams.ring([Job.objects.get(id=id).user_id])


def fail_attempt(id):
    """End the first attempt of a job, and begin the next one."""
    now = timezone.now()
    Attempt.objects.create(job_id=id, number=1, started_at=now, ended_at=now, outcome="failed")
    Job.objects.filter(id=id).update(attempt=2, version=F("version") + 1, started_at=now)
    streams.ring([Job.objects.get(id=id).user_id])


def end_before(id, seconds):
    """Change when a job has ended."""
    Job.objects.filter(id=id).update(finished_at=timezone.now() - timedelta(seconds=seconds))
