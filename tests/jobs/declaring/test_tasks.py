"""The task class: options of .using(), and options that @task and @policy refuse."""

import pytest

from notifications.api import policy, task
from tests.jobs import tasks


def test_using_changes_a_copy():
    changed = tasks.noop.using(title="Mine", priority=3)
    assert (changed.options.title, changed.priority) == ("Mine", 3)
    assert (tasks.noop.options.title, tasks.noop.priority) == (None, 0)


def test_using_keeps_options_of_earlier_calls():
    """Options of Django and of the app may be given in any order, in several calls."""
    changed = tasks.noop.using(owner=1, title="Mine").using(priority=3).using(url="/x/").using(title="Yours")
    assert (changed.options.owner, changed.options.title, changed.options.url) == (1, "Yours", "/x/")
    assert changed.priority == 3


def test_using_without_options_returns_an_equal_copy():
    assert tasks.noop.using() == tasks.noop
    assert tasks.noop.using() is not tasks.noop


@pytest.mark.parametrize("name", ["owner", "url", "key", "eta"])
def test_task_refuses_other_options(name):
    """Some versions of Django ignore unknown options; the error says where those of one job belong."""
    with pytest.raises(
        TypeError, match=rf"@task takes no {name}. It takes .* of @policy\(...\). .*\.using\(...\)"
    ):
        task(**{name: "x"})(_function)


class TestPolicy:
    """Options of ``@policy`` may be given to ``@task``."""

    @pytest.mark.parametrize(
        ("options", "error"),
        [
            ({"max_attempts": 0}, "max_attempts is 0"),
            ({"timeout": "x"}, "timeout is 'x'"),
            ({"title": "{nothing}"}, "names 'nothing'"),
            ({"concurrency_key": "{nothing}"}, "names 'nothing'"),
        ],
    )
    def test_wrong_values(self, options, error):
        with pytest.raises(ValueError, match=error):
            task(**options)(_function)


def test_policy_above_task_is_refused():
    with pytest.raises(TypeError, match=r"@policy stands above @task. Write @task first, then @policy"):
        policy(title="x")(task(_function))


@pytest.mark.parametrize("task", [tasks.add, tasks.context_sync])
def test_a_task_can_be_called(task):
    if task is tasks.add:
        assert task.call(40, 2) == 42


async def test_an_async_task_can_be_called():
    assert await tasks.echo.acall(42) == 42


def _function():
    pass


def test_options_of_other_queues():
    """The error names the option of this app."""
    with pytest.raises(
        TypeError, match=r"@policy takes no retries. Use max_attempts, which counts the first"
    ):
        policy(retries=3)
    with pytest.raises(TypeError, match=r"@policy takes no colour. It takes title, max_attempts, timeout,"):
        policy(colour="red")
    with pytest.raises(TypeError, match=r"@task takes no time_limit. Use timeout. Options of one job"):
        task(time_limit=3)(print_nothing)


def print_nothing():
    pass


@pytest.mark.parametrize(
    ("options", "hint"),
    [
        ({"user": 1}, "user. Use owner."),
        ({"queue": "slow"}, "queue. Use queue_name."),
        ({"countdown": 5}, "countdown. Use run_after=60, in seconds."),
        ({"ttl": 5}, "ttl. Use expires=60, in seconds."),
        ({"timeout": 5}, r"timeout. Options of all jobs of a task are those of @policy\("),
        ({"max_retries": 5}, r"max_retries. Options of all jobs of a task are those of @policy\("),
        (
            {"report_id": 5},
            r"report_id. It takes owner, title, .*, backend; arguments of the task go to enqueue\(",
        ),
    ],
)
def test_options_that_using_does_not_take(options, hint):
    with pytest.raises(TypeError, match=rf"\.using\(\) takes no {hint}"):
        tasks.noop.using(**options)


@pytest.mark.parametrize("verb", ["delay", "apply_async"])
def test_verbs_of_other_queues(verb):
    with pytest.raises(AttributeError, match=rf"A task has no {verb}\(\). Enqueue a job of it by enqueue\("):
        getattr(tasks.noop, verb)(1)
    assert not hasattr(tasks.noop, verb)
    with pytest.raises(AttributeError, match="'BackendTask' object has no attribute 'colour'"):
        tasks.noop.colour  # noqa: B018
