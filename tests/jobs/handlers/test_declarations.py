"""A wrong handler is found by a system check and logged; the others are called, and commands run."""

import sys

import pytest
from django.core import checks
from django.core.management import call_command

from notifications.api import notify
from notifications.conf import settings as app_settings
from notifications.jobs.handlers import declarations
from notifications.models import Job
from tests.jobs.handlers.conftest import PATH

RIGHT = f"{PATH}.handle"


@pytest.fixture
def with_handlers(settings):
    def set_handlers(handlers):
        settings.NOTIFICATIONS = {**settings.NOTIFICATIONS, "HANDLERS": handlers}

    return set_handlers


@pytest.mark.parametrize(
    ("handlers", "id", "message"),
    [
        ({"job.done": [RIGHT]}, "W026", "There is no such event."),
        ({"job.waiting": [RIGHT]}, "W026", "There is no such event."),
        ({1: [RIGHT]}, "W026", "There is no such event."),
        ({"job.failed": RIGHT}, "W026", "is not a list"),
        ({"job.failed": ["tests.no_module.task"]}, "W027", "No module named"),
        ({"job.failed": ["nodots"]}, "W027", "doesn't look like a module path"),
        ({"job.failed": [None]}, "W027", "doesn't look like a module path"),
        ({"job.failed": [f"{PATH}.events"]}, "W027", "is not a task"),
        ({"job.failed": [f"{PATH}.takes_two"]}, "W028", "cannot be called with the event"),
        ({"job.failed": [f"{PATH}.takes_none"]}, "W028", "cannot be called with the event"),
    ],
)
def test_wrong_handler(db, user, with_handlers, caplog, handlers, id, message):
    with_handlers(handlers | {"notification.created": [RIGHT]})
    [warning] = [each for each in checks.run_checks(tags=["notifications"]) if each.id > "notifications.W025"]
    assert warning.id == f"notifications.{id}" and message in warning.msg and warning.hint
    assert warning.level == checks.WARNING
    notify(user, "Hello")
    assert Job.objects.get().task_path == RIGHT
    assert caplog.text.count("Handler is not called: NOTIFICATIONS['HANDLERS']") == 1
    call_command("check", verbosity=0)


def test_backend_of_another_package(settings, with_handlers):
    settings.TASKS = {"default": {"BACKEND": "django.tasks.backends.dummy.DummyBackend"}}
    if "django.tasks" not in sys.modules:
        settings.TASKS["default"]["BACKEND"] = "django_tasks.backends.dummy.DummyBackend"
    with_handlers({"job.failed": [RIGHT]})
    [wrong] = declarations.read_handlers().wrong
    assert wrong.id == "notifications.W027" and "stores no jobs in this app" in wrong.message


def test_engine_that_cannot_run_jobs(settings, with_handlers):
    backend = {"BACKEND": "notifications.jobs.backend.JobBackend", "QUEUES": []}
    settings.TASKS = {"default": backend | {"OPTIONS": {"engine": "alias:none"}}}
    with_handlers({"job.failed": [RIGHT]})
    [wrong] = declarations.read_handlers().wrong
    assert wrong.id == "notifications.W027" and "cannot run" in wrong.message


def test_not_a_dict(settings):
    settings.NOTIFICATIONS = {**settings.NOTIFICATIONS, "HANDLERS": ["shop.tasks.tell_crm"]}
    assert declarations.load_handlers().by_event == {}
    assert "notifications.E003" in {message.id for message in checks.run_checks(tags=["notifications"])}


def test_nothing_is_built_without_handlers(monkeypatch):
    """The default."""
    assert app_settings.HANDLERS == {}
    assert declarations.load_handlers() is declarations.load_handlers()
    assert declarations.load_handlers().by_event == {}
