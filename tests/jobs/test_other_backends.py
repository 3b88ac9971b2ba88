"""A project whose tests run its tasks by Django's own backends: each verb names `notifications.testing`."""

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.test import RequestFactory

from notifications import api
from notifications.testing import run_jobs, run_until_idle
from tests.jobs import tasks
from tests.support.checks import system_checks
from tests.support.django_tasks import BaseTaskBackend, task

pytestmark = pytest.mark.django_db(transaction=True)

REMEDY = (
    'Write "BACKEND": "notifications.jobs.backend.JobBackend" in TASKS, also in the settings of tests, which run '
    "jobs by run_jobs() of notifications.testing."
)
BACKENDS = [
    f"{BaseTaskBackend.__module__.rpartition('.')[0]}.{name}"
    for name in ("immediate.ImmediateBackend", "dummy.DummyBackend")
]


def plain(number=0):
    return number


plain.func = plain  # DummyBackend copies its tasks, and finds them by their paths


@pytest.fixture(params=BACKENDS, ids=lambda path: path.rpartition(".")[2])
def backend(request, settings):
    settings.TASKS = {"default": {"BACKEND": request.param}}
    return request.param


def verbs(user):
    declared = task(plain)
    request = RequestFactory().post("/")
    request.user = user

    def use_batch():
        with api.batch(owner=user):
            declared.enqueue()

    return {
        ".using(owner=...)": lambda: declared.using(owner=user),
        ".using(title=...)": lambda: api.task(plain).using(title="Title"),
        "@task(max_attempts=...)": lambda: api.task(max_attempts=2)(plain),
        "accepted()": lambda: api.accepted(request, lambda: declared.enqueue(1)),
        "join()": lambda: api.join(declared.enqueue(), 1),
        "batch()": use_batch,
        "run_jobs()": run_jobs,
        "run_until_idle()": run_until_idle,
    }


@pytest.mark.parametrize(
    "verb",
    [
        ".using(owner=...)",
        ".using(title=...)",
        "@task(max_attempts=...)",
        "accepted()",
        "join()",
        "batch()",
        "run_jobs()",
        "run_until_idle()",
    ],
)
def test_verbs_name_the_module_for_tests(backend, verb, user):
    """And the backend."""
    with pytest.raises(ImproperlyConfigured) as error:
        verbs(user)[verb]()
    assert backend in str(error.value) and str(error.value).endswith(REMEDY), error.value
    assert verb in str(error.value)


def test_options_of_django_work(backend):
    """And names that no backend knows stay errors of Django."""
    declared = task(plain).using(queue_name="default")
    assert declared.enqueue(7).args == [7]
    with pytest.raises(TypeError, match="unexpected keyword argument 'countdown'"):
        declared.using(countdown=3)
    with pytest.raises(TypeError, match="unexpected keyword argument 'countdown'"):
        task(countdown=3)(plain)


def test_check(backend):
    """W003 names it too."""
    (message,) = system_checks("W003")
    assert backend in message.msg and "notifications.testing" in message.hint


def test_a_second_backend_beside_that_of_the_app(settings, user):
    """Is one more that stores no jobs: its tasks are declared for the other one."""
    settings.TASKS = {**settings.TASKS, "plain": {"BACKEND": BACKENDS[0]}}
    with pytest.raises(ImproperlyConfigured, match="'plain'"):
        task(backend="plain")(plain).using(owner=user)
    assert run_jobs() == 0
    assert tasks.noop.using(owner=user).enqueue().id
    assert run_jobs() == 1
