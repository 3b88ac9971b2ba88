"""What a task stores while it runs counts only as long as its worker has the claim of its job.

The tests of apps change the fence. After a crash of PostgreSQL lost the first claim, that of another worker has the
same one.
"""

import threading

import pytest
from django.db import connection, transaction

from notifications.api import policy, task
from notifications.contrib.output import output
from notifications.contrib.output.models import OutputChunk
from notifications.contrib.steps import step
from notifications.contrib.steps.models import Step
from notifications.contrib.webhooks import callback
from notifications.exceptions import AttemptEnded
from notifications.models import Job, Wait, uuid7
from notifications.testing import run_jobs
from tests.jobs import tasks
from tests.jobs.conftest import until_done
from tests.support.statements import preceded
from tests.support.waiting import wait_until

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.with_all_apps("Several of them store something of a running job."),
]

STORE = {
    "step": lambda: step("name", str),
    "output": lambda: output("text"),
    "callback": lambda: callback("name"),
}
raised = []


@task(takes_context=True)
@policy(max_attempts=1)
def lose_claim(context, kind):
    Job.objects.filter(id=context.task_result.id).update(worker=uuid7())
    try:
        STORE[kind]()
    except AttemptEnded:
        raised.append(kind)
        raise


@task
@policy(max_attempts=1)
def store_step_and_output():
    tasks.held.append("begun")
    tasks.gate.wait(30)
    output("text")
    return step("name", str)


@pytest.mark.parametrize("kind", STORE)
def test_another_worker_has_the_job(settings, kind):
    settings.NOTIFICATIONS = {**settings.NOTIFICATIONS, "SITE_URL": "https://site.example"}
    raised.clear()
    lose_claim.enqueue(kind)
    assert run_jobs() == 1
    assert Job.objects.get().state == "running"
    assert not any(model.objects.exists() for model in (Step, OutputChunk, Wait))
    assert raised == ([] if kind == "output" else [kind])


@pytest.mark.skipif(connection.vendor != "postgresql", reason="SQLite locks no rows.")
def test_another_transaction_has_the_row(worker, gate):
    """The claim is not lost: what cannot be stored is tried again."""
    result = store_step_and_output.enqueue()
    wait_until(lambda: tasks.held, what="the task to run")
    is_tried = threading.Event()
    with transaction.atomic():
        Job.objects.select_for_update().get()
        with preceded("notifications_job .*SKIP LOCKED", is_tried.set, times=None) as tries:
            gate.set()
            wait_until(lambda: len(tries) > 2, what="tries to store them")
    assert is_tried.is_set()
    [job] = until_done(result)
    assert (job.state, job.attempt) == ("succeeded", 1)
    assert (Step.objects.count(), OutputChunk.objects.get().text) == (1, "text")
