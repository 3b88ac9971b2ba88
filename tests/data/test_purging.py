"""The purge of a deleted user, beside transactions that write rows of the user."""

from functools import partial
from itertools import pairwise

import pytest
from django.contrib.auth import get_user_model
from django.db.models import Manager

from notifications import times
from notifications.api import notify
from notifications.contrib.broadcasts.models import Broadcast
from notifications.db import retrying_atomic
from notifications.models import Job, Notification, SeenMark, Stream, Wait, uuid7
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


def make_seen_mark(user, number):
    return SeenMark(user_id=user, up_to=1, at=times.now())


def make_wait(user, number):
    """Return one of a job of another user, which the user has answered."""
    return Wait(job=uuid7(), name=f"w{number}", attempt=1, created_at=times.now(), ended_by_id=user)


def make_broadcast(user, number):
    return Broadcast(sender_id=user, recipients=1, created_at=times.now())


MAKERS = {SeenMark: make_seen_mark, Wait: make_wait, Broadcast: make_broadcast}
COLUMNS = {SeenMark: "user", Wait: "ended_by", Broadcast: "sender"}
models = pytest.mark.parametrize("model", MAKERS)


@models
def test_many_rows_are_purged_in_several_transactions(users, model):
    """Each deletes or changes at most 100 rows, which are of several users; then the streams are deleted."""
    *deleted, other = users(4)
    Stream.objects.bulk_create([Stream(user_id=user) for user in (*deleted, other)])
    model.objects.bulk_create(
        [MAKERS[model](user, number) for user in (*deleted, other) for number in range(84)]
    )
    rows = model.objects.filter(**{f"{COLUMNS[model]}__in": deleted})
    counts = [rows.count()]
    returned = [84 * 3]
    while returned[-1]:
        returned.append(retrying_atomic(partial(purging.purge_chunk, deleted)))
        counts.append(rows.count())
    assert [before - after for before, after in pairwise(counts)] == returned[1:] == [100, 100, 52, 0]
    assert model.objects.filter(**{COLUMNS[model]: other}).count() == 84
    assert list(Stream.objects.values_list("user", flat=True)) == [other]


@models
def test_rows_are_locked_in_the_order_of_their_ids(users, open_connection, on_postgresql, model):
    """While it waits for the first one it holds no later one, although these are before it in the table."""
    (user,) = users(1)
    rows = sorted((MAKERS[model](user, number) for number in range(3)), key=lambda row: row.pk)
    for row in reversed(rows):
        row.save(force_insert=True)
    holding, deleting = open_connection(), open_connection()
    holding.begin()
    holding.do(lambda: list(model.objects.select_for_update().filter(pk=rows[0].pk)))
    purge = deleting.start(lambda: purging.purge([user]))
    deleting.wait_until_blocked()
    holding.do(lambda: list(model.objects.select_for_update(nowait=True).filter(pk=rows[-1].pk)))
    holding.commit()
    purge.result(60)
    assert not model.objects.filter(**{COLUMNS[model]: user}).exists()


class UsersElsewhere:
    """A router of a project whose users are in another database."""

    def db_for_write(self, model, **hints):
        return "elsewhere" if model is get_user_model() else None


def test_users_of_another_database(user, settings):
    """If users are in another database, no user is treated as deleted, because this one cannot tell."""
    notify(user, "note")
    settings.DATABASE_ROUTERS = [UsersElsewhere()]
    get_user_model().objects.all().using("default")._raw_delete("default")
    assert not any(purging.find_deleted_users())
    assert Notification.objects.exists()


def test_hidden_users_are_not_deleted_users(user, monkeypatch):
    """Users whom a project's manager hides are not treated as deleted."""

    class HidingManager(Manager):
        def get_queryset(self):
            return super().get_queryset().none()

    manager = HidingManager()
    manager.model = get_user_model()
    for name in ("default_manager", "base_manager"):
        monkeypatch.setattr(get_user_model()._meta, name, manager)
    notify(user.pk, "note")
    assert not any(purging.find_deleted_users())
    assert Notification.objects.exists()
