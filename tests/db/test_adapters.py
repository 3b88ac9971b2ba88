"""User keys of a project's own field type, whose values differ between Python and the database."""

import pytest
from django.db import connection, connections
from django.db.models import BigAutoField

from notifications import streams
from notifications.api import notify
from notifications.db import adapters, new_row
from notifications.models import Job, Notification, Stream
from tests.data.rows import unnumbered
from tests.jobs import tasks
from tests.support.claims import claim_rows
from tests.support.outcomes import record, succeeded

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.database_law]


class OffsetKeyField(BigAutoField):
    """A key whose value in Python is 1000 higher than in the database, and which is sent to the database as text."""

    def get_db_prep_value(self, value, connection, prepared=False):
        return None if value is None else str(int(value) - 1000)

    def from_db_value(self, value, expression, connection):
        return None if value is None else value + 1000


@pytest.fixture
def custom_user_key(monkeypatch):
    """Users have keys of type OffsetKeyField."""

    def clear_caches():
        adapters._max_plain_integer.cache_clear()
        for name in ("_notifications_adapters", "_notifications_converters"):
            connections["default"].__dict__.pop(name, None)

    monkeypatch.setattr(Stream._meta.pk.target_field, "__class__", OffsetKeyField)
    clear_caches()
    yield
    monkeypatch.undo()
    clear_caches()


def test_rows_are_numbered_with_custom_user_keys(custom_user_key, user):
    """Jobs and notifications of users with custom keys are claimed, recorded and numbered."""
    assert user.pk > 1000
    tasks.noop.using(owner=user).enqueue()
    (job,) = claim_rows(new_row(Job).id, 1)
    assert job.user_id == user.pk
    record(succeeded(job))
    notify(user, "note")
    unnumbered(user.pk, 1)
    streams.number_pending()
    assert Job.objects.get().seq == 1
    assert list(Notification.objects.order_by("seq").values_list("seq", "user_id")) == [
        (seq, user.pk) for seq in (2, 3, 4)
    ]
    with connection.cursor() as cursor:
        cursor.execute("SELECT user_id, head FROM notifications_stream")
        assert cursor.fetchall() == [(user.pk - 1000, 4)]
