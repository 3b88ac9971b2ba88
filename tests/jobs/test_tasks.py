"""The task class: .using() and what @task and @policy refuse."""

import pytest

from notifications.api import policy, task
from tests.jobs import tasks


def test_using_changes_a_copy():
    changed = tasks.noop.using(title="Mine", priority=3)
    assert (changed.options.title, changed.priority) == ("Mine", 3)
    assert (tasks.noop.options.title, tasks.noop.priority) == (None, 0)


def test_using_keeps_what_an_earlier_using_said():
    """Django's names and ours may be said in any order, one after the other."""
    changed = tasks.noop.using(owner=1, title="Mine").using(priority=3).using(url="/x/").using(title="Yours")
    assert (changed.options.owner, changed.options.title, changed.options.url) == (1, "Yours", "/x/")
    assert changed.priority == 3


def test_using_without_names_is_an_equal_task():
    assert tasks.noop.using() == tasks.noop
    assert tasks.noop.using() is not tasks.noop


def test_using_refuses_other_names():
    with pytest.raises(TypeError, match="colour"):
        tasks.noop.using(colour="red")


@pytest.mark.parametrize("name", ["owner", "title", "url", "max_attempts", "timeout", "notify"])
def test_task_takes_none_of_our_names(name):
    """Some Django lines would let them through; the error names the place where they belong."""
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
