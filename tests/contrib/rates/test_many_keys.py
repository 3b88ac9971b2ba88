"""Jobs of one user with very many keys: jobs of others begin in the next claim."""

from datetime import timedelta

import pytest

from notifications.contrib.rates.models import Limit
from notifications.db import database_now
from notifications.models import Job, LimitedQueue
from tests.contrib.rates import rated_tasks
from tests.contrib.rates.conftest import open_limits
from tests.contrib.rates.test_jobs import ONE_AN_HOUR, ids, moved
from tests.jobs import tasks
from tests.support.claims import claim_rows

pytestmark = [pytest.mark.django_db, pytest.mark.database_law, pytest.mark.nightly]
KEYS = 2_000


@pytest.fixture
def accounts(declare, settings, user):
    """A job of one user for each of 2,000 accounts, whose partner takes nothing for an hour."""
    declare(partner=ONE_AN_HOUR)
    settings.NOTIFICATIONS = {**settings.NOTIFICATIONS, "ACTIVE_JOBS_PER_USER": KEYS}
    closed_until = int((database_now() + timedelta(hours=1)).timestamp() * 1e6)
    Limit.objects.bulk_create(
        Limit(key=f"partner:{account}", name="partner", closed_until=closed_until, used_at=database_now())
        for account in range(KEYS)
    )
    for account in range(KEYS):
        rated_tasks.fetch_of.using(owner=user).enqueue(account)


def test_2000_keys_of_one_user(accounts, other_user):
    first = tasks.noop.using(owner=other_user).enqueue()
    assert ids(claim_rows(None, 2)) == [first.id]
    while Job.objects.filter(state="queued", due_at=None).exists():
        assert not claim_rows(None, 500)
    assert LimitedQueue.objects.count() == KEYS
    second = tasks.noop.using(owner=other_user).enqueue()
    assert ids(claim_rows(None, 1)) == [second.id]
    with moved(hours=1.1):
        open_limits()  # of all of them at once
        third = tasks.noop.using(owner=other_user).enqueue()
        assert third.id in ids(claim_rows(None, 3))
