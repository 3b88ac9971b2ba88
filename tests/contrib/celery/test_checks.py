"""The system checks of Celery's tasks whose calls are jobs."""

import re

import pytest

celery = pytest.importorskip("celery", reason="Celery is not installed (pip install celery).")

from notifications.api import policy  # noqa: E402
from notifications.contrib.celery import JobTask  # noqa: E402
from notifications.contrib.celery.checks import check_job_tasks  # noqa: E402
from tests.contrib.celery import job_tasks as tasks  # noqa: E402


@pytest.fixture
def keep():
    """keep(*names) leaves only these tasks of a current app, which has those of all tests, and returns it."""
    before = celery.current_app._get_current_object()
    app = celery.Celery("checked")

    def keep(*names):
        for name in set(app.tasks) - set(names):
            del app.tasks[name]
        return app

    yield keep
    before.set_current()


def check():
    return [(message.id, message.msg) for message in check_job_tasks(None)]


def test_right_tasks(keep):
    keep(tasks.add.name, tasks.with_policy.name)
    assert check() == []


def declare(app, function, **options):
    """Declare a task in this app only: as a shared one it would be found by the checks of other tests."""
    return app.task(base=JobTask, shared=False, lazy=False, **options)(function)


def of_user(user_id):
    return None


@policy(timeout=5)
def with_timeout():
    return None


@pytest.mark.parametrize(
    ("function", "options", "words"),
    [
        (
            of_user,
            {"owner": "nobody"},
            "The owner 'nobody' of .* is no argument of it. It may name: user_id.",
        ),
        (with_timeout, {}, "has its limit from time_limit: remove timeout"),
    ],
)
def test_wrong_declarations(keep, function, options, words):
    declare(keep(), function, **options)
    [(id, message)] = check()
    assert id == "notifications.E015"
    assert re.search(words, message)


def test_what_jobs_do_not_have(keep):
    class Handled(JobTask):
        """A base class of a project."""

        def on_failure(self, *args):
            """Is not called."""

    app = keep()
    name = declare(app, of_user, soft_time_limit=5, rate_limit="1/m").name
    app.task(name="handled", base=Handled, lazy=False, shared=False)(tasks.add_plainly)
    found = check()
    assert {id for id, _ in found} == {"notifications.W053"}
    assert [message.rpartition(": ")[2] for _, message in found] == [f"{name}.", f"{name}.", "handled."]


@pytest.mark.parametrize("time_limit", [None, 60])
def test_soft_limit_of_a_project(keep, time_limit):
    """It raises nothing in any task."""
    app = keep(tasks.add.name)
    app.conf.update(task_soft_time_limit=5, task_time_limit=time_limit)
    [(id, message)] = check()
    assert id == "notifications.W053"
    assert message == f"SoftTimeLimitExceeded is not raised in jobs, which run on threads: {tasks.add.name}."


@pytest.mark.filterwarnings("ignore::celery.exceptions.CDeprecationWarning")
def test_queue_that_the_backend_does_not_have(keep, settings):
    settings.TASKS = {"default": {**settings.TASKS["default"], "QUEUES": ["default"]}}
    app = keep()
    for name, queue in [("known", app.conf.task_default_queue), ("unknown", "uploads")]:
        app.task(name=name, base=JobTask, queue=queue, lazy=False, shared=False)(tasks.add_plainly)
    [(id, message)] = check()
    assert id == "notifications.E015"
    assert re.search("task unknown is declared wrongly: .*uploads", message)
