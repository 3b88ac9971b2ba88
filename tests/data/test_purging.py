"""The purge of a deleted user, beside transactions that write rows of the user."""

import pytest

from notifications.models import Job
from notifications.streams import purging
from tests.data.rows import job

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.database_law]


def test_one_that_is_inserted_meanwhile(user, open_connection, on_postgresql):
    """A transaction that ends a job of the user has inserted the job of a handler: both are deleted."""
    row = job(user)
    ending, deleting = open_connection(), open_connection()
    ending.begin()
    ending.do(lambda: list(Job.objects.select_for_update().filter(pk=row.pk)))
    purge = deleting.start(lambda: purging.purge([user.pk]))
    deleting.wait_until_blocked()
    telling = Job(
        event_source=row.pk, title="t", task_path="t", created_at=row.created_at, queued_at=row.queued_at
    )
    ending.do(lambda: telling.save(force_insert=True))
    ending.commit()
    purge.result(60)
    assert not Job.objects.exists()
