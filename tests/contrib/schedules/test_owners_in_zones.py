"""Schedules of 500 users in 20 zones over a change of clocks, some of whom travel, against the oracle of cron."""

import random
from datetime import UTC, datetime

import pytest

from notifications.contrib.schedules import schedule
from notifications.contrib.schedules.models import Schedule, Tick
from notifications.models import Job
from tests.contrib.schedules.test_stored import COMPARE, HOUR, run_round, set_clock, zones  # noqa: F401
from tests.contrib.schedules.test_timing_oracle import MINUTE, Cron, wall_time
from tests.jobs import tasks
from tests.support.duties import run_duty

pytestmark = [
    pytest.mark.usefixtures("jobs_clock"),
    pytest.mark.django_db(transaction=True),
    pytest.mark.long,
]
ZONES = (
    *(
        "Europe/Berlin",
        "Europe/London",
        "Europe/Athens",
        "Europe/Lisbon",
        "Atlantic/Azores",
        "Antarctica/Troll",
    ),
    *("America/New_York", "America/Los_Angeles", "America/St_Johns", "America/Havana", "America/Santiago"),
    *("Asia/Tokyo", "Asia/Kolkata", "Asia/Kathmandu", "Asia/Jerusalem", "Africa/Cairo"),
    *("Australia/Lord_Howe", "Pacific/Auckland", "Pacific/Kiritimati", "UTC"),
)
USERS = 500


def due_moments(cron, zone_at, start, end):
    """Return when an expression is due for a user whose zone is that of a moment: see ``expected_ticks()``.

    The zone that a clock shows is a change of it, too.
    """
    reached, found, moment = wall_time(start, zone_at(start)), [], start
    while (moment := moment + MINUTE) <= end:
        wall, is_due = wall_time(moment, zone_at(moment)), False
        while reached < wall:
            reached += MINUTE
            is_due = is_due or cron.matches(reached)
        if is_due:
            found.append(moment)
    return found


@pytest.mark.parametrize(
    "change", [datetime(2027, 3, 28, tzinfo=UTC), datetime(2027, 10, 31, tzinfo=UTC)], ids=str
)
def test_each_owner_has_each_tick_once(change, zones, django_user_model):  # noqa: F811
    """At 2:30 as at any other time, also of those who travel in the night of the change: none doubled, none lost."""
    chance = random.Random(change.day)
    start, end = change - 18 * HOUR, change + 30 * HOUR
    set_clock(start)
    users = django_user_model.objects.bulk_create(
        django_user_model(username=f"user-{n}") for n in range(USERS)
    )
    # Not at the moment of a tick, which is recorded before the move.
    moves = sorted(start + chance.choice(range(4, 40)) * HOUR + 7 * MINUTE for _ in range(3))
    travels, wanted = {}, {}
    for number, user in enumerate(users):
        home = ZONES[number % len(ZONES)]
        travels[user.pk] = [(start, home)]
        if number % 5 == 0:
            travels[user.pk] += [(moment, chance.choice(ZONES)) for moment in moves]
        zones[user.pk] = home
        cron = Cron({chance.choice([0, 30])}, {chance.choice([0, 1, 2, 3, 8, 23])}, 1)
        row = schedule(tasks.noop, cron=str(cron), owner=user, zone="owner", overlap="allow")

        def zone_at(moment, legs=travels[user.pk]):
            return [zone for since, zone in legs if since <= moment][-1]

        wanted[row.name] = due_moments(cron, zone_at, start, end)
    stops = list(moves)
    while True:
        due = Schedule.objects.order_by("next_tick").values_list("next_tick", flat=True)[0]
        moment = min([due, *stops])
        if moment > end:
            break
        set_clock(moment)
        if moment in stops:
            stops.remove(moment)
            zones |= {
                user: [zone for since, zone in legs if since <= moment][-1] for user, legs in travels.items()
            }
            run_duty(COMPARE)
        while run_round() == 0:
            pass
    found = {name: [] for name in wanted}
    for name, moment, outcome in Tick.objects.order_by("due_at").values_list("schedule", "due_at", "outcome"):
        assert outcome == "enqueued"
        found[name].append(moment)
    assert found == wanted
    assert sum(map(len, wanted.values())) > USERS
    assert Job.objects.count() == Tick.objects.count()
