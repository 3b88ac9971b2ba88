"""A group in a process with ``task_always_eager`` is a batch as with workers."""

import pytest

from notifications.models import Job
from tests.contrib.celery.conftest import bell_of

celery = pytest.importorskip("celery", reason="Celery is not installed.")
pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def tasks(celery_app):
    from tests.contrib.celery import tasks

    celery_app.conf.task_always_eager = True
    yield tasks
    celery_app.conf.task_always_eager = False


def test_a_group_notifies_once(tasks, user):
    result = celery.group(tasks.export.s(user.pk, 1), tasks.export.s(user.pk, 2))()
    batch = Job.objects.get(id=result.id)
    assert (batch.state, batch.progress_total, batch.open_until) == ("succeeded", 2, None)
    assert bell_of(user) == [("Export: 2 jobs", "All 2 jobs succeeded.", "success")]


def test_what_a_task_of_the_group_publishes_is_not_part_of_it(tasks, user):
    result = celery.group(tasks.enqueue_child.s(user.pk))()
    assert Job.objects.get(title="Add 20 and 22").batch is None
    assert Job.objects.get(id=result.id).progress_total == 1
    assert [title for title, *_ in bell_of(user)] == ["Add 20 and 22", "Parent"]
