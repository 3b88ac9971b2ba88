"""Keys of users in a type of the host's own: another one in Python than in the database, made from one of Django's."""

import pytest
from django.db import connection, connections
from django.db.models import BigAutoField

from notifications import streams
from notifications.api import notify
from notifications.db import bulk, user_keys
from notifications.jobs.policies import DEFAULT_POLICY
from notifications.jobs.transitions import outcomes, recording
from notifications.models import Job, Notification, Stream
from tests.data.rows import unnumbered
from tests.jobs import tasks
from tests.support.claims import claim_rows

pytestmark = pytest.mark.database_law


class Disguised(BigAutoField):
    """5 in the database is 1005 here; it is sent as a text, which is no number to those who compare."""

    def get_db_prep_value(self, value, connection, prepared=False):
        return None if value is None else str(int(value) - 1000)

    def from_db_value(self, value, expression, connection):
        return None if value is None else value + 1000


@pytest.fixture
def disguised(monkeypatch):
    def forget():
        user_keys._are_plain_integers.cache_clear()
        for name in ("_notifications_adapters", "_notifications_converters"):
            connections["default"].__dict__.pop(name, None)

    monkeypatch.setattr(Stream._meta.pk.target_field, "__class__", Disguised)
    forget()
    yield
    monkeypatch.undo()
    forget()


def test_jobs_and_notifications_get_their_numbers(disguised, user):
    assert user.pk > 1000
    tasks.noop.using(owner=user).enqueue()
    (job,) = claim_rows(bulk.new(Job).id, 1)
    assert job.user_id == user.pk
    recording.record_outcomes([outcomes.succeeded(job, DEFAULT_POLICY, None)])
    notify(user, "told")
    unnumbered(user.pk, 1)
    streams.number_pending()
    assert Job.objects.get().seq == 1
    assert list(Notification.objects.order_by("seq").values_list("seq", "user_id")) == [
        (seq, user.pk) for seq in (2, 3, 4)
    ]
    with connection.cursor() as cursor:
        cursor.execute("SELECT user_id, head FROM notifications_stream")
        assert cursor.fetchall() == [(user.pk - 1000, 4)]
