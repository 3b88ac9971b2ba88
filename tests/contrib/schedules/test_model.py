"""Ticks: outages, changes, pauses, wrong clocks and kills at random; each tick has one job, or a row that says why not.

MODEL_EXAMPLES=500 python -m pytest tests/contrib/schedules/test_model.py    a long run
"""

import os
from datetime import UTC, datetime, timedelta
from functools import cache
from itertools import count

import pytest
from django.core.management import CommandError
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from notifications.contrib.schedules import schedule, update_schedule
from notifications.contrib.schedules.models import Schedule, Tick
from notifications.models import ACTIVE, Job
from notifications.testing import clock, run_jobs
from tests.contrib.schedules.test_stored import COMPARE, by_hand, reload, run_round, set_clock
from tests.contrib.schedules.test_timing_oracle import Cron, expected_ticks
from tests.jobs import tasks
from tests.support.duties import run_duty
from tests.support.statements import mortal

EXAMPLES = int(os.environ.get("MODEL_EXAMPLES", "25"))
NUMBERS = count()
#: In the night in which clocks are set forward in Berlin, and beside the minutes of all ticks.
START = datetime(2027, 3, 27, 22, 0, 20, tzinfo=UTC)
MINUTE, GRACE = timedelta(minutes=1), timedelta(hours=1)
TIMINGS = [
    (timedelta(minutes=10), ""),
    (timedelta(hours=1), ""),
    (Cron({0, 30}, {1, 2, 3, 12}, 1), "Europe/Berlin"),
    (Cron(20, 1, 1), "America/New_York"),
]


@cache
def ticks_of(number):
    timing, zone = TIMINGS[number]
    start, end = START - timedelta(days=1), START + timedelta(days=6)
    if zone:
        return expected_ticks(timing, zone, start.replace(second=0), end)
    first = datetime(1970, 1, 5, tzinfo=UTC)
    return [first + timing * n for n in range((start - first) // timing, (end - first) // timing)]


def options_of(number, zone_key):
    timing, zone = TIMINGS[number]
    return {"cron": str(timing), zone_key: zone} if zone else {"every": timing}


class Simulated:
    """A schedule. ``since``: later ticks are due. ``ticks``: outcome, number and first time of recorded ones."""

    def __init__(self, timing, *, allows_overlap):
        self.timing, self.allows_overlap, self.is_paused = timing, allows_overlap, False
        self.since, self.last, self.ticks = clock.now(), None, {}
        self.begin()

    def due(self, since, until):
        return [tick for tick in ticks_of(self.timing) if since < tick <= until]

    def forget_wrong_clock(self, now):
        """What a fast clock has computed, or recorded, holds up no tick."""
        latest = now + MINUTE
        following = self.due(max(self.since, latest), datetime.max.replace(tzinfo=UTC))[:1]
        if (
            self.due(self.since, latest) == []
            and following
            and self.due(latest, following[0])[0] < following[0]
        ):
            self.since = now

    def round(self, now):
        if self.last and self.last <= now:
            self.since = max(self.since, self.last)
        if self.is_paused or not (due := self.due(self.since, now)):
            return
        self.since = self.last = due[-1]
        missed = due if now - due[-1] > GRACE else due[:-1]
        if missed and missed[-1] not in self.ticks:
            self.ticks[missed[-1]] = "missed", len(missed), missed[0] if len(missed) > 1 else None
        if missed != due and due[-1] not in self.ticks:
            is_skipped = self.count_active() and not self.allows_overlap
            self.ticks[due[-1]] = "skipped" if is_skipped else "enqueued", 1, None

    def count_active(self):
        return Job.objects.filter(schedule=self.name, state__in=ACTIVE).count()

    def pause(self, number):
        by_hand("pause", reload(self))
        self.is_paused = True

    def resume(self, number):
        by_hand("resume", reload(self))
        if self.is_paused:
            self.is_paused, self.since = False, clock.now()

    def run(self, number):
        try:
            by_hand("run", reload(self))
        except CommandError:
            assert self.count_active() and not self.allows_overlap

    def compare(self):
        found = Tick.objects.filter(schedule=self.name)
        rows = found.filter(is_manual=False)
        assert {row.due_at: (row.outcome, row.count, row.first_due_at) for row in rows} == self.ticks
        jobs = Job.objects.filter(schedule=self.name).values_list("id", flat=True)
        assert sorted(jobs) == sorted(found.filter(outcome="enqueued").values_list("job", flat=True))


class Stored(Simulated):
    def begin(self):
        overlap = "allow" if self.allows_overlap else "skip"
        options = options_of(self.timing, "zone")
        self.name = schedule(tasks.noop, key=f"{next(NUMBERS)}", overlap=overlap, **options).name
        self.timed_at = clock.now()

    def change(self, number):
        update_schedule(reload(self), **options_of(number % len(TIMINGS), "zone"))
        if number % len(TIMINGS) != self.timing:
            self.timing, self.since, self.timed_at = number % len(TIMINGS), clock.now(), clock.now()

    def forget_wrong_clock(self, now):
        if self.timed_at > now + MINUTE:
            self.since, self.last, self.timed_at = now, None, now

    def resume(self, number):
        self.timed_at = clock.now() if self.is_paused else self.timed_at
        super().resume(number)

    def round(self, now):
        before = self.last
        super().round(now)
        self.timed_at = self.timed_at if self.last == before else now


class Declared(Simulated):
    """Processes with another timing may have declared it up to a minute ago."""

    def begin(self):
        self.name, self.declared_since = f"poll-{next(NUMBERS)}", {}
        self.declare()

    def declare(self):
        options = {
            "overlap": "allow" if self.allows_overlap else "skip",
            **options_of(self.timing, "timezone"),
        }
        declared = {self.name: {"task": tasks.noop.module_path, **options}}
        self.settings.NOTIFICATIONS = {**self.settings.NOTIFICATIONS, "SCHEDULES": declared}
        self.declared_since.setdefault(self.timing, clock.now())

    def change(self, number):
        before, self.timing = self.timing, number % len(TIMINGS)
        self.declare()
        if self.timing == before:
            return
        now = clock.now()
        since = max(self.declared_since[self.timing], now - MINUTE)
        due = self.due(max(since, self.last or since), now)
        self.since = due[-1] - MINUTE if due else now
        self.last = min(self.last, self.since) if due and self.last else self.last


ACTS = ["nothing", "nothing", "nothing", "pause", "resume", "change", "change", "run"]
HOUR = timedelta(hours=1)
STEPS = st.lists(
    st.tuples(
        st.sampled_from(
            [timedelta(), 10 * MINUTE, 10 * MINUTE, 25 * MINUTE, HOUR, 5 * HOUR, -25 * MINUTE, -HOUR]
        ),
        st.sampled_from(ACTS),
        st.integers(0, 7),
        st.sampled_from([0, 0, 0, 1, 4, 7, 10, 13]),
        st.booleans(),
    ),
    min_size=8,
    max_size=14,
)


@pytest.mark.database_law
@pytest.mark.django_db(transaction=True)
@pytest.mark.timeout(200 + 4 * EXAMPLES)
@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    steps=STEPS,
    kind=st.sampled_from([Stored, Declared]),
    timing=st.integers(0, 3),
    allows_overlap=st.booleans(),
)
def test_ticks_are_those_of_the_simulation(settings, steps, kind, timing, allows_overlap):
    """``steps``: the time that passes, what staff do, after how many statements a process is killed, if jobs run."""
    Declared.settings = settings
    settings.NOTIFICATIONS = {**settings.NOTIFICATIONS, "SCHEDULES": {}}
    Schedule.objects.all().delete()
    set_clock(START)
    try:
        one = kind(timing, allows_overlap=allows_overlap)
        run_round()
        for passed, act, number, death, is_run in steps:
            if clock.now() + passed > START - HOUR:
                clock.advance(passed)
            if act != "nothing":
                getattr(one, act)(number)
            one.forget_wrong_clock(clock.now())
            one.round(clock.now())
            with mortal() as kill:
                if death:
                    kill(death)
                    run_duty(COMPARE), run_round()
            run_duty(COMPARE), run_round()
            one.compare()
            if is_run:
                run_jobs()
                run_round()
    finally:
        clock.reset()
