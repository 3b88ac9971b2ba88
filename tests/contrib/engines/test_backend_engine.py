"""What the engine of another backend says about that backend: whether it answers, and which jobs it refused."""

from datetime import timedelta

import pytest

from notifications.compat import BaseTaskBackend, TaskResultDoesNotExist, task_backends
from notifications.contrib.engines import engine_of
from notifications.contrib.engines.interface import DispatchedJob, JobsRefused
from notifications.ids import uuid7

JOBS = {"BACKEND": "notifications.jobs.backend.JobBackend", "QUEUES": []}


class Backend(BaseTaskBackend):
    """Takes the first `accepted` jobs, and answers with `error`."""

    supports_get_result = True
    accepted = 0
    error = None

    def enqueue(self, task, args, kwargs):
        self.accepted -= 1
        if self.accepted < 0:
            raise ConnectionError("The backend is away.")

    def get_result(self, result_id):
        raise self.error or TaskResultDoesNotExist(result_id)


@pytest.fixture
def engine(settings, transactional_db):
    other = {"BACKEND": f"{__name__}.Backend", "QUEUES": []}
    settings.TASKS = {"default": {**JOBS, "OPTIONS": {"engine": "alias:other"}}, "other": other}
    return engine_of("default")


def dispatched():
    fields = {"is_async": False, "priority": 0, "fence": 0, "timeout": timedelta(seconds=5)}
    return DispatchedJob(id=uuid7(), task_path="tests.jobs.tasks.noop", queue_name="default", **fields)


def test_backend_answers(engine):
    assert engine.ping() == "TASKS['other'] answers."


def test_backend_that_is_away(engine, monkeypatch):
    monkeypatch.setattr(Backend, "error", ConnectionError("The backend is away."))
    with pytest.raises(ConnectionError):
        engine.ping()


def test_backend_without_results_is_not_asked(engine, monkeypatch):
    monkeypatch.setattr(Backend, "supports_get_result", False)
    monkeypatch.setattr(Backend, "error", ConnectionError("The backend is away."))
    assert engine.ping() == ""


def test_backend_that_takes_no_job_is_away(engine):
    with pytest.raises(ConnectionError):
        engine.dispatch([dispatched(), dispatched()])


def test_backend_that_takes_some_jobs_has_refused_the_others(engine, monkeypatch):
    monkeypatch.setattr(task_backends["other"], "accepted", 1)
    with pytest.raises(JobsRefused, match=r"^1 jobs could not be enqueued"):
        engine.dispatch([dispatched(), dispatched()])
