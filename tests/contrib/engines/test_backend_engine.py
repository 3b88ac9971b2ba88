"""What the engine of another backend says about that backend: whether it answers, and the messages that it gets."""

import pytest

from notifications.contrib.engines import engine_of, process
from notifications.jobs import task_backends
from tests.support.django_tasks import BaseTaskBackend, TaskResultDoesNotExist

pytestmark = pytest.mark.nightly_on_postgres

JOBS = {"BACKEND": "notifications.jobs.backend.JobBackend", "QUEUES": []}


class Backend(BaseTaskBackend):
    """Takes the first `accepted` tasks, and answers with `error`."""

    supports_get_result = True
    accepted = 0
    error = None

    def on_enqueue(self, task, args):
        pass

    def enqueue(self, task, args, kwargs):
        self.on_enqueue(task, args)
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


def test_message_has_a_queue_and_an_end(engine, monkeypatch):
    """Also a worker that gets it an hour later, as from a table, has nothing to do for it."""
    monkeypatch.setattr(task_backends["other"], "accepted", 2)
    sent, waiting = [], []
    monkeypatch.setattr(Backend, "on_enqueue", lambda self, task, args: sent.append((task, args)))
    engine.wake("reports", 2, expires=60)
    assert [(task.queue_name, *args[:2]) for task, args in sent] == [("reports", "reports", "default")] * 2
    monkeypatch.setattr(process, "run_waiting", lambda queue, backend: waiting.append((queue, backend)))
    task, args = sent[0]
    task.func(*args)
    task.func(*args[:2], args[2] - 61)
    assert waiting == [("reports", "default")]


def test_backend_that_takes_no_message_is_away(engine):
    with pytest.raises(ConnectionError):
        engine.wake("default", 1, expires=60)
