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


def test_using_refuses_unknown_options():
    with pytest.raises(TypeError, match="colour"):
        tasks.noop.using(colour="red")


@pytest.mark.parametrize("name", ["owner", "title", "url", "max_attempts", "timeout", "notify"])
def test_task_refuses_options_of_policy_and_using(name):
    """Some versions of Django ignore unknown options; the error says where these belong."""
    with pytest.raises(
        TypeError, match=rf"@task takes no {name}.*@policy\(...\) below @task.*\.using\(...\)"
    ):
        task(**{name: "x"})(_function)


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
