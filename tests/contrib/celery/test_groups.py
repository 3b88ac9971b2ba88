"""The tasks of a group or chord are jobs of their own, whose notifications are one row in the inbox."""

import pytest

from notifications.api import requester
from notifications.models import Job, Notification
from notifications.streams.building import NAMED
from tests.contrib.celery.conftest import bell_of, until_ended
from tests.support.waiting import wait_until

celery = pytest.importorskip("celery", reason="Celery is not installed.")
chord, group = celery.chord, celery.group

pytestmark = pytest.mark.usefixtures("worker")


@pytest.fixture
def tasks():
    from tests.contrib.celery import tasks

    return tasks


def groups_of(user):
    """Return what each group of the user's notifications is called, with the number of its notifications."""
    rows = Notification.objects.filter(user=user)
    names = [row.group_key.removeprefix(NAMED) if row.group_key.startswith(NAMED) else "" for row in rows]
    return {name: names.count(name) for name in names}


def test_a_group_is_one_row_in_the_inbox(tasks, user, user_client):
    result = group(tasks.export.s(user.pk, 1), tasks.export.s(user.pk, 2), tasks.fail.s(user.pk))()
    jobs = [until_ended(child) for child in result]
    assert {(job.state, job.user_id, job.batch) for job in jobs} == {
        ("succeeded", user.pk, None),
        ("failed", user.pk, None),
    }
    assert groups_of(user) == {result.id: 3}
    page = user_client.get("/notifications/").content.decode()
    assert "1 failed, 2 succeeded" in page
    assert f"{result.id}:" not in page  # it is no name


def test_each_owner_has_the_own_tasks(tasks, user, other_user):
    result = group(tasks.export.s(user.pk, 1), tasks.export.s(other_user.pk, 2))()
    for child in result:
        until_ended(child)
    assert groups_of(user) == groups_of(other_user) == {result.id: 1}


def test_the_body_of_a_chord_is_in_its_group(tasks, user):
    with requester(user):
        result = chord([tasks.add.s(1, 1), tasks.add.s(2, 2)], tasks.collect.s())()
    assert result.get(timeout=30) == 6
    assert until_ended(result.id).title == "Collect"
    wait_until(lambda: len(bell_of(user)) == 3, what="the notifications")
    assert groups_of(user) == {result.parent.id: 3}


@pytest.mark.usefixtures("prefork")
def test_the_end_that_the_main_process_reports_is_in_the_group(tasks, user):
    result = group(tasks.kill_itself.s(user.pk))()
    assert [until_ended(child).state for child in result] == ["failed"]
    assert groups_of(user) == {result.id: 1}


@pytest.mark.parametrize("id", ["mine", "x" * 200])
def test_a_group_with_an_id_of_the_project(tasks, user, id):
    """It cannot be a group of the inbox if it is too long."""
    result = group(tasks.export.s(user.pk, 1), tasks.export.s(user.pk, 2)).apply_async(task_id=id)
    for child in result:
        until_ended(child)
    assert groups_of(user) == {id if len(id) < 100 else "": 2}
    assert Job.objects.filter(user=user).count() == 2
