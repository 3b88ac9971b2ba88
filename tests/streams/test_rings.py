"""Rings of new jobs: what a process keeps of its own ones."""

import pytest
from django.db import connection

from notifications import streams
from notifications.models import Ring, uuid7
from notifications.streams import rings
from tests.jobs import tasks


@pytest.mark.skipif(connection.vendor != "sqlite", reason="only SQLite has a listener that reads jobs")
def test_ids_of_own_jobs_are_limited(db, user):
    """A process that enqueues and does not listen keeps the last ones only."""
    rings.own_jobs.update(dict.fromkeys(uuid7().hex for _ in range(rings.MAX_OWN_JOBS)))
    tasks.noop.using(owner=user).enqueue()
    assert len(rings.own_jobs) == rings.MAX_OWN_JOBS


@pytest.mark.skipif(connection.vendor != "sqlite", reason="only SQLite stores rings")
def test_many_rings_are_deleted_in_several_transactions(db):
    Ring.objects.bulk_create(Ring(user_id=user) for user in range(rings.MAX_RINGS_DELETED + 5))
    streams.number_pending()
    assert Ring.objects.count() == 5
    streams.number_pending()
    assert not Ring.objects.exists()


def test_merge():
    """Changes follow each other; one ring that carries nothing leaves nothing, before them or after them."""
    first, later, rung_users = "first", "later", {}
    rings.merge(rung_users, [1, 2, 3], {1: (first,), 2: (first,)})
    rings.merge(rung_users, [1, 2, 3], {1: (later,), 3: (first,)})
    assert rung_users == {1: (first, later), 2: (), 3: ()}
    rings.merge(rung_users, [2], {2: (later,)})
    assert rung_users[2] == ()
