"""Arguments of a job must fit the signature of its task, when it is enqueued and when a worker calls it."""

import json
from datetime import timedelta
from functools import wraps

import pytest
from django.db import transaction
from django.utils import timezone

from notifications.api import batch, policy, task
from notifications.models import Attempt, Job
from notifications.testing import run_jobs
from tests.jobs import tasks
from tests.jobs.conftest import notifications_of, until_done
from tests.support.waiting import wait_until

MODULE = __name__


@task
def add(a, b):
    return a + b


@task
async def add_async(a, b):
    return a + b


@task
def anything(*args, **kwargs):
    return None


@task(takes_context=True)
def with_context(context, a):
    return a


@task
@policy(title="Number {a}")
def titled(a):
    return a


@task
@policy(retry_on=(Exception,), backoff=0)
def retried(a):
    return a


@task
@transaction.atomic
def atomic(a):
    return a


def pass_on(function):
    @wraps(function)
    def call(*args, **kwargs):
        return function(*args, **kwargs)

    return call


def inject(function):
    @wraps(function)
    def call(*args, **kwargs):
        return function("session", *args, **kwargs)

    return call


def consume(function):
    @wraps(function)
    def call(*args, **kwargs):
        kwargs.pop("tenant")
        return function(*args, **kwargs)

    return call


@task
@pass_on
def wrapped(a):
    return a


@task(takes_context=True)
@pass_on
def wrapped_with_context(context, a):
    return a


@task
@inject
def injected(session, a):
    return a


@task
@consume
def consumed(a):
    return a


@task
def raises(a):
    raise TypeError("It is no number.")


@task
@inject
def injected_raises(session, a):
    raise TypeError("It is no number.")


class TestEnqueueing:
    @pytest.mark.parametrize(
        ("task", "args", "kwargs", "message"),
        [
            (
                "add",
                (1,),
                {},
                f"{MODULE}.add(a, b) cannot be called with these arguments: missing a required argument: 'b'.",
            ),
            (
                "add",
                (1, 2),
                {"c": 3},
                f"{MODULE}.add(a, b) cannot be called with these arguments: got an unexpected keyword argument 'c'.",
            ),
            (
                "add",
                (1, 2, 3),
                {},
                f"{MODULE}.add(a, b) cannot be called with these arguments: too many positional arguments.",
            ),
            # The context is no argument of enqueue().
            (
                "with_context",
                (),
                {},
                f"{MODULE}.with_context(a) cannot be called with these arguments: missing a required argument: 'a'.",
            ),
            (
                "titled",
                (),
                {},
                f"{MODULE}.titled(a) cannot be called with these arguments: missing a required argument: 'a'.",
            ),
            (
                "atomic",
                (),
                {},
                f"{MODULE}.atomic(a) cannot be called with these arguments: missing a required argument: 'a'.",
            ),
        ],
    )
    def test_arguments_that_do_not_fit(self, db, task, args, kwargs, message):
        """``enqueue()`` refuses them with the task and its signature, and stores nothing."""
        with pytest.raises(TypeError) as error:
            globals()[task].enqueue(*args, **kwargs)
        assert str(error.value) == message
        assert not Job.objects.exists()

    def test_a_batch_refuses_them_too(self, db):
        with pytest.raises(TypeError, match="add\\(a, b\\) cannot be called"), batch():
            add.enqueue(1)

    @pytest.mark.parametrize(
        ("task", "args", "kwargs"),
        [
            ("add", (1,), {"b": 2}),
            ("anything", (1, 2), {"c": 3}),
            ("wrapped_with_context", (1,), {}),
            # Decorators that pass an argument of their own, and that take one away.
            ("injected", (1,), {}),
            ("consumed", (1,), {"tenant": "a"}),
        ],
    )
    def test_calls_that_work_are_enqueued(self, db, task, args, kwargs):
        globals()[task].enqueue(*args, **kwargs)
        run_jobs(raise_errors=True)
        assert Job.objects.get().state == "succeeded"


def enqueue_as_newer_code(task, args, kwargs, owner=None):
    """Enqueue a job with arguments that this version of the code does not take."""
    with transaction.atomic():
        result = tasks.noop.using(owner=owner).enqueue(*args, **kwargs)
        Job.objects.filter(id=result.id).update(task_path=f"{MODULE}.{task}")
    return result


def requeued_job():
    return Job.objects.filter(run_after__gt=timezone.now()).first()


class TestWorkers:
    @pytest.mark.parametrize("task", ["add", "add_async", "atomic", "with_context", "wrapped"])
    def test_a_call_of_newer_code_is_requeued(self, worker, user, task):
        """After half a minute a worker with the newer code may claim it. The attempt does not count."""
        before = timezone.now()
        result = enqueue_as_newer_code(task, [1, 2], {"c": 3}, user)
        job = wait_until(requeued_job, what="the job to be requeued")
        assert (job.state, job.attempt, job.worker) == ("queued", 0, None)
        assert before < job.run_after - timedelta(seconds=30) < timezone.now()
        assert before < job.fail_if_unknown_after - timedelta(hours=1) < timezone.now()
        assert (notifications_of(user), Attempt.objects.count()) == ([], 0)
        Job.objects.filter(id=result.id).update(
            task_path="tests.jobs.tasks.noop", run_after=timezone.now(), due_at=timezone.now()
        )
        assert until_done(result)[0].attempt == 1

    def test_it_fails_an_hour_after_the_first_worker_met_it(self, worker, user):
        """Whatever ``retry_on`` of its task says: another attempt would fail too."""
        result = enqueue_as_newer_code("retried", [1, 2], {}, user)
        wait_until(requeued_job, what="the job to be requeued")
        past = timezone.now() - timedelta(seconds=1)
        Job.objects.update(fail_if_unknown_after=past, run_after=past, due_at=past)
        (job,) = until_done(result)
        assert json.loads(job.error)["type"] == "task-failed"
        attempt = Attempt.objects.get()
        assert attempt.exception_class_path == "builtins.TypeError"
        assert "takes 1 positional argument but 2 were given" in attempt.traceback

    def test_a_type_error_of_the_task_itself_fails_it(self, worker):
        """Also where its decorator hides which arguments it takes."""
        results = [raises.enqueue(1), injected_raises.enqueue(1)]
        assert [until_done(result)[0].state for result in results] == ["failed", "failed"]

    def test_inline_it_raises(self, db):
        """A worker would requeue the job, but in a test it is a mistake."""
        enqueue_as_newer_code("add", [1], {})
        with pytest.raises(TypeError, match="add"):
            run_jobs()
