"""Owners of stored schedules: one each, for good, and a limited number of schedules for each."""

from threading import Barrier

import pytest

from notifications.contrib.schedules import TooManySchedules, schedule, update_schedule
from notifications.contrib.schedules.models import Schedule
from tests.contrib.schedules.tasks import add
from tests.support.threads import run_in_threads


@pytest.mark.database_law
@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("key", ["", "weekly"])
def test_schedules_that_are_made_at_the_same_moment(user, settings, key):
    """No more than ``per_user`` of them are stored, and one for a key, which any of the calls may have changed last."""
    settings.NOTIFICATIONS = {**settings.NOTIFICATIONS, "USER_SCHEDULES": {"per_user": 2}}
    refused, returned, barrier = [], [], Barrier(8)

    def make():
        barrier.wait(30)
        number = len(returned)
        try:
            row = schedule(add, [number, 2], cron="0 8 * * *", owner=user, key=key)
        except TooManySchedules:
            refused.append(number)
        else:
            returned.append(f'"args": [{number}, 2]' in row.options)

    run_in_threads(*[make] * 8)
    rows, stored = Schedule.objects.filter(user=user).count(), len(returned)
    assert (rows, stored, len(refused)) == ((1, 8, 0) if key else (2, 2, 6))
    assert all(returned)


def test_a_schedule_keeps_its_owner(user, other_user):
    """So that neither a key nor a limit is that of another one."""
    row = schedule(add, [1, 2], cron="0 8 * * *", owner=user, key="weekly")
    with pytest.raises(TypeError, match="takes no owner"):
        update_schedule(row, owner=other_user)
    assert Schedule.objects.get().user_id == user.pk
