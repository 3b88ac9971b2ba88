"""Policies of tasks of other packages, in the settings."""

import sys
from types import ModuleType

import pytest

from notifications.api import policy, task
from notifications.contrib.wagtail.apps import WagtailAdmin
from notifications.extension import hooks
from notifications.jobs.declaring import package_tasks
from notifications.jobs.declaring.policies import policy_of
from notifications.models import Attempt, Job, Notification
from notifications.testing import run_jobs
from tests.jobs import tasks
from tests.jobs.conftest import until_done
from tests.jobs.otherpackage.tasks import insert_or_update_object_task
from tests.support.checks import system_checks


@pytest.fixture
def set_policies(settings):
    """set_policies(patterns) sets the policies of the backend "default"."""

    def set_them(policies):
        backend = settings.TASKS["default"]
        options = {**backend.get("OPTIONS", {}), "policies": policies}
        settings.TASKS = {**settings.TASKS, "default": {**backend, "OPTIONS": options}}

    return set_them


@pytest.mark.django_db(transaction=True)
def test_index_tasks_of_another_package(set_policies, start_worker, user):
    """Thirty of ten objects, with the policy for those of Wagtail: none fails, and nobody is notified."""
    set_policies({"tests.jobs.otherpackage.tasks.*": WagtailAdmin.tasks["modelsearch.tasks.*"]})
    results = [
        insert_or_update_object_task.using(owner=user).enqueue("home", "homepage", str(number % 10))
        for number in range(30)
    ]
    start_worker()
    jobs = until_done(*results)
    assert {job.state for job in jobs} == {"succeeded"}
    assert {(job.max_attempts, job.concurrency_key) for job in jobs} == {(10, "search-index")}
    assert not Attempt.objects.exists() and not Notification.objects.exists()


@pytest.mark.django_db
def test_retry_on(set_policies):
    """It may name exceptions by their paths. An attempt that fails is followed by another one."""
    set_policies({"tests.jobs.tasks.fail": {"retry_on": ["builtins.ValueError"], "max_attempts": 2}})
    job = Job.objects.get(id=tasks.fail.enqueue().id)
    run_jobs()
    job.refresh_from_db()
    assert (job.max_attempts, job.state, job.attempt) == (2, "queued", 1)


def test_patterns_add_to_the_policy_of_the_task(set_policies):
    """In the order of the settings, for the paths that they match."""

    @policy(title="Mine", timeout=7)
    def function():
        """Stands for that of a task."""

    path = f"{function.__module__}.{function.__qualname__}"
    set_policies(
        {"tests.*": {"timeout": 5, "max_attempts": 1}, path: {"max_attempts": 4}, "other.*": {"timeout": 1}}
    )
    found = policy_of(function)
    assert (found.title, found.timeout, found.max_attempts) == ("Mine", 5, 4)
    set_policies({})
    assert policy_of(function).timeout == 7


@pytest.mark.parametrize(
    ("policies", "problem"),
    [
        ([], "TASKS['default']['OPTIONS']['policies'] is not a dict."),
        ({"a.tasks.*": {"retries": 5}}, "['a.tasks.*']: The option 'retries' is unknown."),
        ({"a.tasks.*": {"max_attempts": 0}}, "['a.tasks.*']: max_attempts is 0."),
        ({"a.tasks.*": {"retry_on": "a.Missing"}}, "['a.tasks.*']: 'a.Missing' cannot be imported"),
        ({"a.tasks.*": {"retry_on": "django.db.connection"}}, "['a.tasks.*']: retry_on is"),
        ({"a.tasks.*": 5}, "['a.tasks.*']: The options are 5."),
        ({"tasks": {}}, "['tasks']: The key is no path of tasks."),
        ({7: {}}, "[7]: The key is no path of tasks."),
    ],
)
def test_wrong_policies(policies, problem, set_policies):
    """A check names the key."""
    set_policies(policies)
    [error] = system_checks("W011")
    assert problem in error.msg


def test_wrong_policies_are_ignored(set_policies, caplog):
    """A server process does not run the checks. The task keeps its own policy, and the log says so."""
    set_policies({"tests.jobs.tasks.*": {"max_attempts": 0}})
    assert policy_of(tasks.noop.func).max_attempts == 3
    assert "Ignored wrong policies in TASKS: task tests.jobs.tasks.noop" in caplog.text


def test_settings_win_over_extensions(set_policies, monkeypatch):
    monkeypatch.setattr(hooks, "policies", {"tests.jobs.tasks.noop": {"timeout": 5, "max_attempts": 7}})
    set_policies({"tests.jobs.tasks.*": {"timeout": 9}})
    found = policy_of(tasks.noop.func)
    assert (found.timeout, found.max_attempts) == (9, 7)


def test_tasks_of_a_package_without_a_policy(set_policies, monkeypatch):
    """W039, until the settings declare one, also an empty one. Who imports a task does not declare it again."""
    importing = ModuleType("otherpackage.index.tasks")
    importing.imported = insert_or_update_object_task
    monkeypatch.setitem(sys.modules, importing.__name__, importing)
    monkeypatch.setattr(package_tasks, "is_of_package", lambda module: "otherpackage" in module.__name__)
    [warning] = system_checks("W039")
    assert "tests.jobs.otherpackage.tasks.insert_or_update_object_task" in warning.msg
    assert "tests.jobs.otherpackage.tasks.*" in warning.hint
    for options in ({}, {"retry_on": "nope.Missing"}):  # W011 names the second
        set_policies({"tests.jobs.otherpackage.*": options})
        assert system_checks("W039") == []


@task(max_attempts=5, timeout=60, backoff=30, queue_name="default", title="Check {id}")
@policy(timeout=3, concurrency=2)
def check(id):
    pass


def test_options_of_task_replace_those_of_policy():
    found = policy_of(check.func)
    assert (found.max_attempts, found.timeout, found.concurrency) == (5, 60, 2)
    assert (found.backoff, found.title) == (30, "Check {id}")
    assert policy_of(check.using(priority=3).func) is found


def test_options_of_settings_replace_both(settings):
    path = f"{__name__}.*"
    settings.TASKS = {
        "default": {**settings.TASKS["default"], "OPTIONS": {"policies": {path: {"timeout": 9}}}}
    }
    assert (policy_of(check.func).max_attempts, policy_of(check.func).timeout) == (5, 9)
