"""Jobs of version 0.9.0 get the executors of this version."""

import pytest
from django.db import transaction

from notifications.extension import Dispatch, hooks
from notifications.jobs.transitions import upgrading
from notifications.models import Job, uuid7
from notifications.testing import run_jobs
from tests.jobs import tasks
from tests.jobs.conftest import with_engine  # noqa: F401 (fixtures)
from tests.support.claims import claim_rows
from tests.support.duties import run_duty

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.with_all_apps("A backend has an engine, for which the app of engines is needed."),
]


def enqueue_as_0_9_0(executor, task=tasks.noop, **options):
    """Return the id of a queued job as a process of version 0.9.0 has left it."""
    with transaction.atomic():
        id = task.using(**options).enqueue().id
        Job.objects.filter(id=id).update(executor=executor)
    return id


def executors():
    return dict(Job.objects.values_list("id", "executor"))


@pytest.mark.parametrize("executor", upgrading.OLD_EXECUTORS)
def test_jobs_of_an_engine(with_engine, executor, monkeypatch):  # noqa: F811
    """In chunks. The built-in worker leaves them alone before and after it."""
    monkeypatch.setattr(upgrading, "MAX_JOBS_PER_TRANSACTION", 2)
    ids = [enqueue_as_0_9_0(executor), enqueue_as_0_9_0(executor, tasks.noop_sync, queue_name="reports")]
    ids.append(enqueue_as_0_9_0(executor, backend="builtin"))
    assert claim_rows(uuid7(), 10) == []
    while upgrading.turn_old_executors():
        pass
    kinds = ["quarantined"] * 3 if executor == "engine_quarantined" else ["async", "sync", "async"]
    expected = [f"woken_{kind}" if number < 2 else kind for number, kind in enumerate(kinds)]
    assert [executors()[id] for id in map(_uuid, ids)] == expected
    assert [str(job.id) for job in claim_rows(uuid7(), 10)] == [ids[2]]
    assert run_jobs() == 2


@pytest.mark.parametrize("executor", upgrading.OLD_EXECUTORS)
def test_jobs_of_an_engine_that_was_removed(executor, monkeypatch):
    """One deploy has removed both the engine and its app: the built-in worker runs them."""
    monkeypatch.setattr(hooks, "dispatch", Dispatch())
    enqueue_as_0_9_0(executor)
    upgrading.turn_old_executors()
    assert len(claim_rows(uuid7(), 10)) == 1


def test_running_job_of_a_lost_process(with_engine):  # noqa: F811
    """Its process of version 0.9.0 was lost. It is quarantined, and a process of the engine runs it."""
    id = enqueue_as_0_9_0("engine")
    Job.objects.filter(id=id).update(state="running", worker=uuid7(), attempt=1, max_attempts=3, fence=1)
    run_duty("take jobs from lost workers")
    assert executors() == {_uuid(id): "woken_quarantined"}


def _uuid(id):
    return Job._meta.pk.to_python(id)
