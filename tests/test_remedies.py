"""Errors of common mistakes say what is wrong and what to do."""

import uuid

import pytest
from asgiref.sync import sync_to_async
from django.apps import apps
from django.contrib.auth.models import AnonymousUser
from django.core.exceptions import SynchronousOnlyOperation
from django.test import RequestFactory
from django.urls import include, path, reverse

from notifications import api
from notifications.api import ajoin, get_job, join, task
from notifications.exceptions import JobDoesNotExist
from notifications.models import Attempt, Job
from notifications.outbound import Forbidden, parse_target
from notifications.testing import run_jobs
from tests.jobs import tasks
from tests.support.checks import system_checks
from tests.support.django_tasks import InvalidTask

pytestmark = pytest.mark.django_db(transaction=True)


def message_of(kind, call, *args, **kwargs):
    with pytest.raises(kind) as error:
        call(*args, **kwargs)
    return str(error.value)


def test_a_task_that_is_called():
    assert message_of(TypeError, tasks.add, 1, 2) == (
        "tests.jobs.tasks.add is a task, which is not called: add.enqueue(...) has a worker run it, and "
        "add.call(...) runs it here."
    )
    assert tasks.add.call(1, 2) == 3


@pytest.mark.parametrize("wrong", ["high", True, [1], 5.5])
def test_a_priority_that_is_no_number(wrong):
    """Of one job and of a task."""
    text = f"priority must be a whole number between -100 and 100, not {wrong!r}. Jobs with a higher one begin first."
    assert message_of(InvalidTask, tasks.add.using, priority=wrong) == text
    assert message_of(InvalidTask, api.task(priority=wrong), tasks.add.func) == text


@pytest.mark.parametrize("name", ["priority", "queue_name", "backend"])
def test_an_option_of_tasks_in_a_policy(name):
    assert message_of(TypeError, api.policy, **{name: "high"}) == (
        f"@policy takes no {name}. Use @task({name}=...), or .using({name}=...) for one job."
    )


@pytest.mark.parametrize("name", ["owner", "url", "key", "queued_key", "run_after"])
def test_an_option_of_one_job_in_a_policy(name):
    assert (
        message_of(TypeError, api.policy, **{name: "x"})
        == f"@policy takes no {name}. Use .using({name}=...)."
    )


def test_notify_an_anonymous_user(user):
    """Jobs have no owner then."""
    text = (
        "An anonymous user has no inbox. Call it for users who are signed in: request.user.is_authenticated."
    )
    for users in (AnonymousUser(), [user, AnonymousUser()]):
        assert message_of(ValueError, api.notify, users, "x") == text
    assert message_of(ValueError, api.unread_count, AnonymousUser()) == text
    assert Job.objects.get(pk=tasks.add.using(owner=AnonymousUser()).enqueue(1, 2).id).user_id is None


def test_a_user_who_does_not_exist(user, settings, caplog):
    """In development the log says so. Elsewhere keys are not looked up, which would cost a query each."""
    line = "No user has this primary key, so nobody is notified: 99999. Pass a saved user or its key."
    for debug in (False, True):
        settings.DEBUG = debug
        for call in (
            lambda: tasks.add.using(owner=99999).enqueue(1, 2),
            lambda: api.notify([user, 99999], "x"),
            lambda: api.notify(99999, "x"),
        ):
            caplog.clear()
            call()
            assert caplog.messages.count(line) == debug
    for known in (user, user.pk, [user.pk]):
        caplog.clear()
        api.notify(known, "x")
        assert "No user" not in caplog.text


@pytest.mark.parametrize("name", ["NOTIFICATION", "NOTIFICATIONS_", "NOTIFICATONS"])
def test_a_name_of_the_setting_that_is_misspelled(name, settings):
    """E002 where it has a key of the app; another app may have a setting of such a name."""
    setattr(settings, name, {"LEASE": 30})
    (message,) = system_checks("E002")
    assert (
        message.msg
        == f"The settings have {name}, which nothing reads. It has the key 'LEASE' of NOTIFICATIONS."
    )
    assert message.hint == "Write NOTIFICATIONS = {...}."
    setattr(settings, name, {"email": True})
    assert system_checks("E002") == []


@task
def reverse_name_of_optional_app():
    return reverse("notifications:preferences")


@pytest.mark.with_all_apps("its name is that of an app which is taken out")
def test_a_url_of_an_app_that_is_not_installed(settings, monkeypatch):
    """The traceback of a job names the line to add, as pages of errors do (tests/extension/test_shipped.py)."""
    app = "notifications.contrib.deliveries"
    settings.ROOT_URLCONF = __name__
    result = reverse_name_of_optional_app.enqueue()
    monkeypatch.setattr(apps, "is_installed", lambda name: name != app)
    run_jobs()
    assert f'Add "{app}" to INSTALLED_APPS' in Attempt.objects.get(job=result.id).traceback


urlpatterns = [path("", include(([], "notifications")))]


@pytest.mark.parametrize("wrong", [tasks.add, 7, None])
def test_accepted_without_a_function(wrong):
    request = RequestFactory().post("/")
    assert message_of(TypeError, api.accepted, request, wrong) == (
        f"accepted() got {wrong!r}. Pass a function that enqueues and returns the job: "
        "accepted(request, lambda: task.enqueue(...))."
    )


@pytest.mark.parametrize(
    "name", ["notify", "get_job", "get_jobs", "jobs_of", "notifications_of", "unread_count", "mark_read"]
)
async def test_sync_functions_in_async_code(name, user):
    """They name the twin to await."""
    arguments = {"notify": (user, "x"), "get_job": (uuid.uuid4(),), "get_jobs": ([uuid.uuid4()],)}
    with pytest.raises(SynchronousOnlyOperation) as error:
        getattr(api, name)(*arguments.get(name, (user,)))
    assert (
        str(error.value) == f"{name}() makes queries, which would block the event loop. Use await a{name}()."
    )


async def test_enqueue_in_async_code():
    with pytest.raises(SynchronousOnlyOperation) as error:
        tasks.add.enqueue(1, 2)
    assert (
        str(error.value) == "enqueue() makes queries, which would block the event loop. Use await aenqueue()."
    )
    assert (await tasks.add.aenqueue(1, 2)).id


async def test_accepted_in_async_code():
    with pytest.raises(SynchronousOnlyOperation, match="Use await aaccepted\\(\\)"):
        api.accepted(RequestFactory().post("/"), lambda: tasks.add.enqueue(1, 2))


def test_what_is_no_id_of_a_job():
    assert message_of(JobDoesNotExist, get_job, "x") == (
        "There is no job x: that is no id of a job, which is a UUID. Pass what enqueue() returned as id."
    )
    id = uuid.uuid4()
    assert message_of(JobDoesNotExist, get_job, id).startswith(
        f"There is no job {id}. It may not be committed"
    )


def test_join_without_a_worker():
    result = tasks.add.enqueue(1, 2)
    assert message_of(TimeoutError, join, result, 0.01) == (
        f"Job {result.id} was not done within 0.01 s. It is queued, and no worker runs: "
        "start one with manage.py run_jobs."
    )


async def test_ajoin_without_a_worker():
    result = await sync_to_async(tasks.add.enqueue)(1, 2)
    with pytest.raises(TimeoutError, match=r"no worker runs: start one with manage\.py run_jobs"):
        await ajoin(result, 0.01)


def test_progress_outside_of_a_job(caplog):
    """It has no effect, so that a function may be called from anywhere; the log says so."""
    with caplog.at_level("DEBUG", "notifications.jobs"):
        api.progress(1, 2)
    assert "progress() has no effect outside of a job" in caplog.text


def test_a_key_that_is_misspelled(settings):
    settings.NOTIFICATIONS = {"RETENTON": 1, "XYZ": 1}
    near, far = system_checks("E002")
    assert near.hint.startswith("Did you mean 'RETENTION'? Known keys: ACTIVE_JOBS_PER_USER, ")
    assert far.hint.startswith("Known keys: ")


def test_a_port_names_the_setting():
    with pytest.raises(Forbidden, match=r'its port is not in NOTIFICATIONS\["OUTBOUND_PORTS"\]'):
        parse_target("http://example.com:25/").check()


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("a\0b", "contain NUL or a lone surrogate, which cannot be stored. Remove it."),
        ("a" * 300_000, "have 300004 bytes of JSON. At most 262144 are allowed."),
    ],
)
def test_arguments_that_cannot_be_stored(value, words):
    assert message_of(ValueError, tasks.echo.enqueue, value).startswith(f"The arguments {words}")
