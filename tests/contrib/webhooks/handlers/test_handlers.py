"""A wrong handler is found by a system check and logged; the others are called, and commands run."""

import logging
import sys
from datetime import timedelta

import pytest
from django.core import checks
from django.core.management import call_command

from notifications.api import notify
from notifications.conf import settings as app_settings
from notifications.contrib.webhooks import handlers
from notifications.models import Job
from tests.contrib.webhooks.handlers.conftest import PATH
from tests.support.waiting import wait_until

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
        ({"job.running": [RIGHT]}, "W026", "There is no such event."),
        ({1: [RIGHT]}, "W026", "There is no such event."),
        ({"job.failed": RIGHT}, "W026", "is not a list"),
        ({"job.failed": ["tests.no_module.task"]}, "W027", "No module named"),
        ({"job.failed": ["nodots"]}, "W027", "doesn't look like a module path"),
        ({"job.failed": [None]}, "W027", "doesn't look like a module path"),
        ({"job.failed": [f"{PATH}.events"]}, "W027", "is not a task"),
        ({"job.failed": [f"{PATH}.takes_two"]}, "W028", "cannot be called with these arguments"),
        ({"job.failed": [f"{PATH}.takes_none"]}, "W028", "cannot be called with these arguments"),
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


def test_the_policy_says_when_jobs_of_a_handler_expire(db, user, with_handlers, settings):
    """Counted from the event, not from when the handlers were loaded."""
    policies = {RIGHT: {"expires": 60}}
    settings.TASKS = {"default": {**settings.TASKS["default"], "OPTIONS": {"policies": policies}}}
    with_handlers({"notification.created": [RIGHT]})
    notify(user, "Hello")
    notify(user, "Hello again")
    first, second = Job.objects.order_by("id")
    assert first.expires_at < second.expires_at
    assert timedelta(seconds=60) <= second.expires_at - second.created_at < timedelta(seconds=61)


def test_backend_of_another_package(settings, with_handlers):
    settings.TASKS = {"default": {"BACKEND": "django.tasks.backends.dummy.DummyBackend"}}
    if "django.tasks" not in sys.modules:
        settings.TASKS["default"]["BACKEND"] = "django_tasks.backends.dummy.DummyBackend"
    with_handlers({"job.failed": [RIGHT]})
    [wrong] = handlers.read_handlers().wrong
    assert wrong.id == "notifications.W027" and "stores no jobs in this app" in wrong.message


def test_engine_that_cannot_run_jobs(settings, with_handlers):
    backend = {"BACKEND": "notifications.jobs.backend.JobBackend", "QUEUES": []}
    settings.TASKS = {"default": backend | {"OPTIONS": {"engine": "alias:none"}}}
    with_handlers({"job.failed": [RIGHT]})
    [wrong] = handlers.read_handlers().wrong
    assert wrong.id == "notifications.W027" and "cannot be used" in wrong.message


@pytest.mark.with_all_apps("one of the backends has an engine")
def test_host_code_that_raises_anything(with_engine, with_handlers, monkeypatch):
    """Only its own handler is not called: an outcome or a system check never fails with it."""

    def fail(*args):
        raise KeyError("broken")

    with_handlers({"job.failed": [RIGHT], "job.cancelled": [f"{PATH}.handle_too"]})
    monkeypatch.setattr(with_engine.RecordingEngine, "check", fail)
    wrong = handlers.read_handlers().wrong
    assert {each.id for each in wrong} == {"notifications.W027"}
    assert all("'broken'" in each.message for each in wrong)


def test_job_that_cannot_be_enqueued(with_handlers):
    """PostgreSQL would refuse the outcomes that are stored with it."""
    with_handlers({"job.failed": [f"{PATH}.in_long_queue"]})
    [wrong] = handlers.read_handlers().wrong
    assert wrong.id == "notifications.W027" and "queue_name has 300 characters" in wrong.message


@pytest.mark.with_all_apps("the backend has an engine")
def test_handler_of_an_engine_is_checked_without_a_query(settings, with_handlers, with_engine):
    """System checks may run before there is a database: pytest-django refuses one here."""
    with_handlers({"job.failed": [RIGHT]})
    assert not handlers.read_handlers().wrong


def test_import_that_fails_for_a_moment(with_handlers, tmp_path, monkeypatch, caplog):
    """The handler is called later, without a restart. Nothing waits for the import."""
    caplog.set_level(logging.INFO)
    (tmp_path / "unsteady_handlers.py").write_text(
        "import pathlib, threading\n"
        "from notifications.api import task\n"
        f"if not pathlib.Path({str(tmp_path / 'up')!r}).exists(): raise ConnectionError('The CRM is down.')\n"
        "assert threading.current_thread() is not threading.main_thread()\n"
        "@task\ndef tell(event): pass\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    with_handlers({"job.failed": ["unsteady_handlers.tell"], "job.done": []})
    assert handlers.load_handlers().by_event == {}
    (tmp_path / "up").touch()
    assert handlers.load_handlers().by_event == {}, "Not before half a minute."
    monkeypatch.setattr(handlers, "_retry_at", 0.0)
    handlers.load_handlers()
    wait_until(lambda: "job.failed" in handlers.load_handlers().by_event, what="the handler")
    assert handlers._retry_at == float("inf"), "Another event does not come to exist by waiting."
    assert caplog.text.count("The CRM is down.") == caplog.text.count("There is no such event.") == 1
    assert "Handlers that could not be used are called now: 1" in caplog.text


def test_not_a_dict(settings):
    settings.NOTIFICATIONS = {**settings.NOTIFICATIONS, "HANDLERS": ["shop.tasks.tell_crm"]}
    assert handlers.load_handlers().by_event == {}
    assert "notifications.E003" in {message.id for message in checks.run_checks(tags=["notifications"])}


def test_nothing_is_built_without_handlers(monkeypatch):
    """The default."""
    assert app_settings.HANDLERS == {}
    assert handlers.load_handlers() is handlers.load_handlers()
    assert handlers.load_handlers().by_event == {}
