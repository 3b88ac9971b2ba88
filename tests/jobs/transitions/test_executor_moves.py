"""Queued jobs of a backend that has lost its engine move to the built-in worker."""

import pytest
from django.db import transaction

from notifications.extension import Dispatch, hooks
from notifications.ids import uuid7
from notifications.jobs.claiming.executors import ENGINE_EXECUTORS
from notifications.jobs.transitions import queueing
from notifications.models import Job
from tests.jobs import tasks
from tests.jobs.conftest import rings, with_engine  # noqa: F401 (fixtures)
from tests.support.claims import claim_rows

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def without_engines_app(monkeypatch):
    """The core dispatches as in a project without the app of engines."""
    monkeypatch.setattr(hooks, "dispatch", Dispatch())


def enqueue_for_engine(executor, task=tasks.noop):
    """Return the id of a queued job as processes with the earlier settings have left it."""
    with transaction.atomic():
        id = task.enqueue().id
        Job.objects.filter(id=id).update(executor=executor, dispatch_count=1)
    return id


@pytest.mark.parametrize("executor", ENGINE_EXECUTORS)
def test_jobs_move_without_the_app_of_engines(executor, rings):  # noqa: F811
    """One deploy has removed both the engine and its app. Workers are woken."""
    ids = [enqueue_for_engine(executor), enqueue_for_engine(executor, tasks.noop_sync)]
    rings.clear()
    assert claim_rows(uuid7(), 10) == []
    assert queueing.move_to_configured_executors() == 2
    assert True in rings
    jobs = Job.objects.in_bulk(ids, field_name="id")
    assert {job.executor for job in jobs.values()} == {"async", "sync"}
    assert len(claim_rows(uuid7(), 10)) == 2


def test_jobs_move_in_several_transactions(monkeypatch):
    monkeypatch.setattr(queueing, "MAX_JOBS_PER_TRANSACTION", 2)
    for _ in range(5):
        enqueue_for_engine("engine")
    assert queueing.move_to_configured_executors() == 5


def test_jobs_of_a_backend_that_is_removed_move(settings):
    enqueue_for_engine("dispatched")
    settings.TASKS = {"other": settings.TASKS["default"]}
    assert queueing.move_to_configured_executors() == 1
    assert Job.objects.get().executor == "async"


def test_jobs_of_a_backend_with_an_engine_stay(request):
    """The settings lack the app only, which a system check reports."""
    enqueue_for_engine("engine")
    request.getfixturevalue("with_engine")
    assert queueing.move_to_configured_executors() == 0
    assert Job.objects.get().executor == "engine"
