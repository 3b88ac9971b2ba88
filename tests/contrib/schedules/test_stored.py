"""Schedules that are made while the site runs: the verbs, ticks like those of declared ones, owners and failures."""

import io
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from django.contrib.auth import get_user_model
from django.core.management import CommandError, call_command
from django.db import connection, transaction

from notifications.api import task
from notifications.contrib.schedules import (
    ScheduleGone,
    TooManySchedules,
    aschedule,
    cancel_schedule,
    schedule,
    stored,
    update_schedule,
)
from notifications.contrib.schedules.models import Schedule, Tick
from notifications.extension import Upkeep, Where
from notifications.jobs import own_task
from notifications.models import Job, Notification
from notifications.testing import clock, run_jobs
from tests.contrib.schedules.tasks import add
from tests.extension import faulty
from tests.jobs import tasks
from tests.support.checks import doctor
from tests.support.duties import run_duty
from tests.support.statements import preceded, refused
from tests.support.threads import run_in_threads

HOUR = timedelta(hours=1)
COMPARE = "set next runs of stored schedules"


@own_task()
def internal():
    pass


@task
def report(fails):
    if fails:
        raise ValueError("no data")


@pytest.fixture(autouse=True)
def monday(jobs_clock, db):
    """The clock shows the evening of a Sunday before clocks are set forward in Berlin."""
    set_clock(datetime(2027, 3, 21, 20, 30, tzinfo=UTC))


@pytest.fixture
def zones(monkeypatch):
    """The time zones that users have chosen, by key."""
    chosen = {}
    read = lambda users: {user: ZoneInfo(chosen[user]) for user in users if user in chosen}  # noqa: E731
    faulty.install(monkeypatch, "time_zones_of", fault=read)
    return chosen


def set_clock(moment):
    clock.ahead += moment - clock.now()


def run_round(at=None):
    """Run a round of a worker, at a time. Return the seconds until the next one."""
    if at:
        set_clock(at)
    [loop] = [duty for duty in Upkeep(Where.WORKER, seconds=60).own_loops if "schedules" in duty.name]
    return loop.run()


def reload(row):
    return Schedule.objects.get(name=row.name)


def run_next(row):
    """Run the round of the next tick, its job, and a round that records its end."""
    run_round(reload(row).next_tick)
    run_jobs()
    run_round()


def by_hand(verb, row):
    """Call the command of operators. Return what it prints."""
    printed = io.StringIO()
    call_command("notifications", "schedules", verb, row.name, stdout=printed)
    return printed.getvalue()


def outcomes(row):
    return list(Tick.objects.filter(schedule=row.name).order_by("due_at").values_list("outcome", flat=True))


def announce():
    run_duty("announce problems")


def test_a_schedule_of_a_user(user):
    """One job for each tick, with the arguments, the owner and the queue; in the zone that it names."""
    row = schedule(add, [1], {"b": 2}, cron="0 8 * * 1", owner=user, zone="Asia/Tokyo", queue="reports")
    assert row.next_tick == datetime(2027, 3, 21, 23, tzinfo=UTC)
    assert (str(row), row.user_id, row.timing) == ("Add", user.pk, "0 8 * * 1 Asia/Tokyo")
    run_round(row.next_tick - timedelta(seconds=5))
    assert not Job.objects.exists()
    run_round(row.next_tick), run_round()
    [job] = Job.objects.all()
    assert (job.task_path, job.args, job.kwargs) == (add.module_path, "[1]", '{"b":2}')
    assert (job.user_id, job.queue_name, job.schedule) == (user.pk, "reports", row.name)
    assert reload(row).next_tick == datetime(2027, 3, 28, 23, tzinfo=UTC)
    run_jobs(), run_round()
    assert Tick.objects.get().job_state == "succeeded"


def test_a_round_ends_when_a_stored_schedule_is_due():
    """So that it is not up to a second late."""
    row = schedule(add, [1, 2], every=timedelta(minutes=10))
    assert 0 < run_round(row.next_tick - timedelta(seconds=0.5)) <= 0.5
    assert not Job.objects.exists()


def test_it_is_stored_with_the_transaction_of_the_caller():
    with pytest.raises(ZeroDivisionError), transaction.atomic():
        schedule(add, [1, 2], cron="0 8 * * *")
        _ = 1 / 0
    assert not Schedule.objects.exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"cron": "61 * * * *"}, "61"),
        ({"cron": "0 0 31 2 *"}, "0 0 31 2"),
        ({}, "neither cron nor every"),
        ({"cron": "0 8 * * *", "every": HOUR}, "both cron and every"),
        ({"cron": "0 8 * * *", "zone": "Mars/Base"}, "unknown"),
        ({"cron": "0 8 * * *", "zone": "owner"}, "there is no owner"),
        ({"cron": "0 8 * * *", "args": [1, 2, 3]}, "args and kwargs are wrong"),
        ({"cron": "0 8 * * *", "task": "tests.contrib.schedules.test_stored.internal"}, "own task"),
        ({"cron": "0 8 * * *", "task": "shop.tasks.gone"}, "shop"),
        ({"cron": "0 8 * * *", "grace": 10**400}, "grace is 1000"),
        ({"cron": "0 8 * * *", "kwargs": {"b": {1, 2}}, "args": [1]}, "JSON"),
    ],
)
def test_what_cannot_be_scheduled(arguments, message):
    """Nothing is stored, and the error says what to write."""
    with pytest.raises(ValueError, match=message):
        schedule(**{"task": add, "args": [1, 2], **arguments})
    assert not Schedule.objects.exists()


def test_one_schedule_for_a_key(user, other_user):
    """A deployment that calls it again changes the row, and does not run it at once; keys are those of an owner."""
    rows = [schedule(add, [1, n], cron="0 8 * * *", owner=user, key="weekly") for n in range(2)]
    schedule(add, [1, 2], cron="0 8 * * *", owner=other_user, key="weekly")
    assert rows[0].name == rows[1].name and Schedule.objects.count() == 2
    assert '"args": [1, 1]' in reload(rows[0]).options
    run_round()
    assert not Job.objects.exists()


@pytest.mark.django_db(transaction=True)
def test_async_twin(user):
    from asgiref.sync import async_to_sync

    row = async_to_sync(aschedule)(add, [1, 2], cron="0 8 * * *", owner=user)
    assert reload(row).user_id == user.pk


def test_changed_times_are_due_from_then_on():
    """What was due before by the new times is neither enqueued nor missed, however they are changed."""
    row = schedule(add, [1, 2], cron="0 8 * * *", zone="UTC")
    row = update_schedule(row, cron="0 20 * * *", args=[3, 4])
    assert row.next_tick == datetime(2027, 3, 22, 20, tzinfo=UTC)
    run_round()
    assert outcomes(row) == []
    row = update_schedule(row, every=HOUR, title="Hourly")
    assert (row.timing, str(row)) == ("every 3600 s", "Hourly")
    run_round(row.next_tick)
    assert Job.objects.get().args == "[3,4]"
    with pytest.raises(TypeError, match="takes no timezone"):
        update_schedule(row, timezone="UTC")


def test_changed_arguments_lose_no_tick():
    """One that is due already is enqueued with them, also if they change while its job is prepared."""
    row = schedule(add, [1, 2], every=HOUR)
    set_clock(row.next_tick + timedelta(seconds=5))
    assert update_schedule(row, args=[3, 4]).next_tick == row.next_tick
    with preceded("LIMIT 10( |$)", lambda: update_schedule(row, args=[5, 6]), times=1) as changed:
        run_round()
    assert changed and not Job.objects.exists()
    run_round()
    assert Job.objects.get().args == "[5,6]" and outcomes(row) == ["enqueued"]


def test_changed_owner(user, other_user):
    """The job is that of the owner whom its schedule has when it is enqueued, not of one before."""
    row = schedule(add, [1, 2], every=HOUR, owner=user)
    rows = Schedule.objects.filter(name=row.name)
    with preceded("LIMIT 10( |$)", lambda: rows.update(user=other_user), times=1) as changed:
        run_round(row.next_tick)
    run_round()
    assert changed and Job.objects.get().user_id == other_user.pk


def test_changed_setting(settings):
    """A schedule keeps the time zone that the site had when it was made, in processes with either setting."""
    row = schedule(add, [1, 2], cron="0 8 * * *")
    settings.TIME_ZONE = "Europe/Berlin"
    run_next(row)
    assert outcomes(row) == ["enqueued"] and reload(row).next_tick == row.next_tick + timedelta(days=1)
    assert update_schedule(row, args=[3, 4]).timing == row.timing


def test_cancelled_schedule():
    """It enqueues nothing more, also if it was due; the job that it has enqueued stays."""
    row = schedule(add, [1, 2], every=HOUR)
    run_round(row.next_tick)
    assert cancel_schedule(row) and not cancel_schedule(row)
    with pytest.raises(ScheduleGone):
        update_schedule(row, cron="0 8 * * *")
    run_round(row.next_tick + HOUR), run_jobs(), run_round()
    assert Job.objects.get().state == "succeeded"
    assert Tick.objects.get().job_state == "deleted"


def test_a_user_has_a_limited_number(user, other_user, settings):
    settings.NOTIFICATIONS = {**settings.NOTIFICATIONS, "USER_SCHEDULES": {"per_user": 2}}
    rows = [schedule(add, [1, 2], every=HOUR, owner=user) for _ in range(2)]
    with pytest.raises(TooManySchedules, match="There are 2 schedules already"):
        schedule(add, [1, 2], every=HOUR, owner=user)
    schedule(add, [1, 2], every=HOUR, owner=other_user)
    cancel_schedule(rows[0])
    schedule(add, [1, 2], every=HOUR, owner=user)


def test_resumed_while_its_times_change():
    """What is resumed is what it says then: a row with the times of before could not be read."""
    row = schedule(add, [1, 2], cron="0 8 * * *")
    by_hand("pause", row)
    with preceded("SAVEPOINT", lambda: update_schedule(row, cron="0 18 * * *"), times=1) as changed:
        by_hand("resume", row)
    run_next(row)
    assert changed and outcomes(row) == ["enqueued"] and reload(row).timing == "0 18 * * * UTC"


def test_resumed_though_it_cannot_be_read():
    """It stays due, so that it is named."""
    row = schedule(add, [1, 2], every=HOUR)
    Schedule.objects.update(options="{}")
    by_hand("pause", row), by_hand("resume", row)
    run_round(row.next_tick + timedelta(minutes=10))
    assert doctor("overdue")[0]["subject"] == row.name
    with pytest.raises(CommandError, match="cannot be read"):
        by_hand("run", row)


def test_run_by_hand_while_it_is_changed_or_deleted():
    """The job has the arguments that it has then; one that is deleted is refused."""
    row = schedule(add, [1, 2], every=HOUR)
    with preceded("SAVEPOINT", lambda: update_schedule(row, args=[3, 4]), times=1) as changed:
        by_hand("run", row)
    assert changed and Job.objects.get().args == "[3,4]"
    with (
        preceded("SAVEPOINT", lambda: cancel_schedule(row), times=1),
        pytest.raises(CommandError, match="not declared"),
    ):
        by_hand("run", row)


@pytest.mark.django_db(transaction=True)
def test_rounds_do_not_wait_for_a_caller(user, other_user, zones):
    """Who changes schedules in a long transaction holds up no others."""
    if connection.vendor != "postgresql":
        pytest.skip("SQLite has one lock for the whole file. Run with --database postgres.")
    zones[other_user.pk] = "Asia/Tokyo"
    held = [schedule(add, [1, 2], every=HOUR, owner=owner) for owner in (user, None)]
    held.append(schedule(add, [1, 2], cron="0 8 * * *", owner=other_user, zone="owner"))
    free = schedule(add, [1, 2], every=HOUR)
    Schedule.objects.filter(pk=held[1].pk).update(options="no JSON")
    get_user_model().objects.filter(pk=user.pk).update(is_active=False)
    zones[other_user.pk] = "Europe/Berlin"

    def run():
        with connection.cursor() as cursor:
            cursor.execute("SET lock_timeout = '1s'")
        stored.make_duty().run([held[2].name])
        run_round(free.next_tick)

    with transaction.atomic():
        list(Schedule.objects.select_for_update().filter(pk__in=[row.pk for row in held]))
        run_in_threads(run)
    assert outcomes(free) == ["enqueued"]
    run_round()
    assert reload(held[0]).paused_by == "owner"


def test_paused_without_an_active_owner(user):
    """No job is enqueued for a user who was deactivated. It is not due again when they are active again."""
    row = schedule(add, [1, 2], every=HOUR, owner=user)
    user.is_active = False
    user.save()
    run_round(row.next_tick)
    assert (reload(row).paused_by, outcomes(row)) == ("owner", [])
    with pytest.raises(CommandError, match="owner is not active"):
        by_hand("run", row)
    user.is_active = True
    user.save()
    run_round(row.next_tick + HOUR)
    assert not Job.objects.exists()
    by_hand("resume", row)
    run_next(row)
    assert outcomes(row) == ["enqueued"] and reload(row).paused_by == ""


@pytest.mark.django_db(transaction=True)
def test_deleted_with_its_owner(user):
    row = schedule(add, [1, 2], every=HOUR, owner=user)
    kept = schedule(add, [1, 2], every=HOUR)
    run_next(row)
    user.delete()
    assert list(Schedule.objects.all()) == [kept]
    assert set(Tick.objects.values_list("schedule", flat=True)) == {kept.name}


@pytest.mark.django_db(transaction=True)
def test_pauses_itself_after_failures_in_a_row(user, settings):
    """Its owner is told once, with a link, and not again by later rounds; a success begins the count anew."""
    settings.NOTIFICATIONS = {**settings.NOTIFICATIONS, "USER_SCHEDULES": {"max_failures": 3, "offers": {}}}
    row = schedule(report, [True], every=HOUR, owner=user, title="My report")
    run_next(row), run_next(row)
    update_schedule(row, args=[False])
    run_next(row)
    update_schedule(row, args=[True])
    for _ in range(2):
        run_next(row)
    assert reload(row).paused_at is None and reload(row).failures == 2
    run_next(row), announce()
    assert (reload(row).paused_by, reload(row).problem) == ("failures", "given up")
    run_round(reload(row).next_tick + 5 * HOUR), announce()
    [told] = Notification.objects.filter(user=user, title="My report is paused")
    assert told.url == "/notifications/schedules/" and "3 runs have failed" in told.body
    assert len(outcomes(row)) == 6
    by_hand("resume", row)
    update_schedule(row, args=[False])
    run_next(row), announce()
    assert (reload(row).problem, reload(row).failures) == ("", 0)
    assert Notification.objects.filter(user=user, title="My report runs again").count() == 1


def test_arguments_that_do_not_fit_any_more(user, caplog):
    """A finding that names the task, and no hindrance to others; the schedule pauses itself."""
    rows = [schedule(add, [1, 2], every=HOUR, owner=user, title=title) for title in ("Bad", "Good")]
    options = rows[0].options.replace("[1, 2]", "[1, 2, 3]")  # a deployment has changed the signature
    Schedule.objects.filter(name=rows[0].name).update(options=options)
    for n in range(5):
        run_round(rows[0].next_tick + n * HOUR)
        run_jobs()
    assert outcomes(rows[0]) == ["failed"] * 5 and outcomes(rows[1]) == ["enqueued"] * 5
    assert reload(rows[0]).paused_by == "failures"
    (found,) = doctor("unusable")
    assert found["subject"] == rows[0].name and "“Bad” cannot enqueue" in found["message"]
    assert "cannot be called" in found["message"]


@pytest.mark.django_db(transaction=True)
def test_a_task_that_is_gone(user):
    """The same for a task that a deployment has removed."""
    row = schedule(add, [1, 2], every=HOUR, owner=user)
    Schedule.objects.update(options=row.options.replace("tasks.add", "tasks.gone"))
    run_round(row.next_tick), announce()
    assert Notification.objects.get(user=user).body == "Its job could not be enqueued."
    assert "tasks.gone" in doctor("unusable")[0]["message"]


MARS = {
    "options": '{"task": "x.y", "cron": "0 8 * * *", "timezone": "Mars/Base"}',
    "timing": "0 8 * * * Mars/Base",
}


HUGE = {"options": '{"task": "x.y", "every": 1e20}'}
DEEP = {"options": f'{{"task": "x.y", "every": 3600, "args": {"[" * 100_000}{"]" * 100_000}}}'}


@pytest.mark.parametrize(
    "values", [{"options": "no JSON"}, {"options": "[]"}, {"timing": "every 7 s"}, MARS, HUGE, DEEP]
)
def test_rows_that_cannot_be_read(values, caplog):
    """They are logged, named by doctor, and left out for longer each time, so that they hold up no other."""
    bad, good = (schedule(add, [1, 2], every=HOUR) for _ in range(2))
    Schedule.objects.filter(name=bad.name).update(**values)
    run_round(bad.next_tick)
    assert outcomes(good) == ["enqueued"] and bad.name in caplog.text
    first = reload(bad).put_off_until
    caplog.clear()
    run_round()
    assert first > clock.now() and bad.name not in caplog.text
    run_round(first + timedelta(seconds=60))
    assert reload(bad).put_off_until > first + timedelta(seconds=120)
    assert doctor("overdue")[0]["subject"] == bad.name


def test_an_owner_who_cannot_be_asked(user, other_user, django_user_model, monkeypatch):
    """What a property of the user model raises for one owner holds up no other, and pauses nothing."""
    bad, good = (schedule(add, [1, 2], every=HOUR, owner=owner) for owner in (user, other_user))
    is_active = property(lambda self: self.pk // (self.pk - user.pk), lambda self, value: None)
    monkeypatch.setattr(django_user_model, "is_active", is_active)
    run_round(bad.next_tick)
    assert (outcomes(good), outcomes(bad)) == (["enqueued"], [])
    assert reload(bad).paused_at is None and reload(bad).put_off_until


def test_ends_are_recorded_of_jobs_in_a_round_that_fails():
    """Else one table or one row that cannot be read would hide how all jobs ended."""
    row = schedule(add, [1, 2], every=HOUR)
    run_round(row.next_tick), run_jobs()
    with refused("next_tick.* LIMIT", error=RuntimeError) as tried, pytest.raises(RuntimeError):
        run_round()
    assert tried and Tick.objects.get().job_state == "succeeded"


def test_what_was_due_in_a_transaction_that_is_rolled_back():
    """A process that is killed between the tick and its job leaves neither; the next round does both."""
    row = schedule(add, [1, 2], every=HOUR)
    with refused("INSERT INTO .notifications_schedules_tick", error=RuntimeError) as tried:
        run_round(row.next_tick)
    assert tried and outcomes(row) == [] and not Job.objects.exists()
    run_round(row.next_tick + timedelta(seconds=30))
    assert outcomes(row) == ["enqueued"] and Job.objects.count() == 1


@pytest.mark.django_db(transaction=True)
def test_in_the_time_zone_of_the_owner(user, zones):
    """That which the owner has at each tick; of the site while they have none."""
    zones[user.pk] = "Europe/Berlin"
    row = schedule(add, [1, 2], cron="0 8 * * *", owner=user, zone="owner")
    assert row.next_tick == datetime(2027, 3, 22, 7, tzinfo=UTC)
    run_next(row)
    zones[user.pk] = "America/New_York"
    run_duty(COMPARE)
    run_round(datetime(2027, 3, 23, 7, tzinfo=UTC))
    assert outcomes(row) == ["enqueued"]
    assert reload(row).next_tick == datetime(2027, 3, 23, 12, tzinfo=UTC)
    run_next(row)
    del zones[user.pk]
    run_duty(COMPARE), run_round(datetime(2027, 3, 24, 8, 0, 1, tzinfo=UTC))
    assert outcomes(row) == ["enqueued"] * 3


@pytest.mark.django_db(transaction=True)
def test_zones_that_cannot_be_read(user, other_user, zones, caplog):
    """Schedules stay in the zone that they have, also of the users of one call; those of others follow theirs."""
    zones |= {user.pk: "America/New_York", other_user.pk: "America/New_York"}
    rows = [
        schedule(add, [1, 2], cron="0 8 * * *", owner=owner, zone="owner") for owner in (user, other_user)
    ]
    zones |= {user.pk: "Mars/Base", other_user.pk: "Asia/Tokyo"}
    run_duty(COMPARE)
    assert [reload(row).timing for row in rows] == ["0 8 * * * America/New_York", "0 8 * * * Asia/Tokyo"]
    assert reload(rows[0]).next_tick == rows[0].next_tick and "Mars/Base" in caplog.text
    run_next(rows[0])
    assert outcomes(rows[0]) == ["enqueued"]


def test_a_zone_without_a_name(user, monkeypatch):
    """It cannot be stored, and must not count as none."""
    faulty.install(monkeypatch, "time_zones_of", fault=lambda users: dict.fromkeys(users, UTC))
    with pytest.raises(TypeError, match="ZoneInfo with a name"):
        schedule(add, [1, 2], cron="0 8 * * *", owner=user, zone="owner")


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(("cron", "days"), [("0 * * * *", 0), ("0 8 * * 1", 3)])
def test_a_tick_that_is_due_before_a_move(user, zones, cron, days):
    """It is recorded by the zone before: enqueued within its grace, missed after it, and never lost."""
    zones[user.pk] = "Asia/Tokyo"
    row = schedule(add, [1, 2], cron=cron, owner=user, zone="owner")
    zones[user.pk] = "Europe/Berlin"
    set_clock(row.next_tick + timedelta(days=days, seconds=1))
    run_duty(COMPARE), run_round()
    assert outcomes(row) == ["missed" if days else "enqueued"] and reload(row).put_off_until is None
    run_duty(COMPARE)
    assert reload(row).timing.endswith("Europe/Berlin")


@pytest.mark.django_db(transaction=True)
def test_a_round_asks_for_no_zones(user, monkeypatch):
    """What is asked may hang, and would hold up all schedules."""
    extension = faulty.install(monkeypatch, "time_zones_of")
    row = schedule(add, [1, 2], cron="0 8 * * *", owner=user, zone="owner")
    asked = len(extension.calls)
    run_next(row)
    assert outcomes(row) == ["enqueued"] and len(extension.calls) == asked > 0


@pytest.mark.django_db(transaction=True)
def test_an_owner_who_travels_east_and_west(user, zones):
    """Each wall time is due once, as over a change of clocks: right after the move if that skips it."""
    zones[user.pk] = "Europe/Berlin"
    row = schedule(add, [1, 2], cron="0 8 * * *", owner=user, zone="owner")
    set_clock(datetime(2027, 3, 22, 3, tzinfo=UTC))
    zones[user.pk] = "Asia/Tokyo"  # where it is noon
    run_duty(COMPARE)
    run_next(row)
    assert outcomes(row) == ["enqueued"] and clock.now() < datetime(2027, 3, 22, 3, 1, tzinfo=UTC)
    for zone in (
        "America/New_York",
        "Asia/Tokyo",
        "America/New_York",
    ):  # where it is 23 o'clock of the day before
        zones[user.pk] = zone
        run_duty(COMPARE)
        run_round()
    assert outcomes(row) == ["enqueued"]
    assert reload(row).next_tick == datetime(2027, 3, 23, 12, tzinfo=UTC)


def resume(row):
    by_hand("pause", row), by_hand("resume", row)


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(
    "act",
    [
        pytest.param(lambda row: run_round(), id="a round"),
        pytest.param(resume, id="resume"),
        pytest.param(lambda row: update_schedule(row, every=timedelta(minutes=30)), id="a change"),
    ],
)
@pytest.mark.parametrize("is_made_then", [False, True])
def test_a_clock_that_was_wrong(act, is_made_then):
    """The next tick is computed anew when the clock of the database is right again, whatever has computed it."""
    right = clock.now()
    wrong = right + timedelta(days=365)
    set_clock(wrong if is_made_then else right)
    row = schedule(add, [1, 2], every=HOUR)
    set_clock(wrong)
    act(row)
    set_clock(right)
    run_duty(COMPARE)
    assert right < reload(row).next_tick <= right + timedelta(minutes=30)
    run_next(row)
    assert right < reload(row).last_tick <= clock.now()


def test_put_off_by_a_clock_that_was_wrong():
    """Until a time that is further than rounds put off: it is of no meaning."""
    row = schedule(add, [1, 2], every=HOUR)
    Schedule.objects.update(put_off_until=row.next_tick + timedelta(days=365))
    run_round(row.next_tick)
    assert outcomes(row) == ["enqueued"]


def test_zones_are_compared_in_few_queries(user, zones, django_assert_max_num_queries):
    """However many schedules are in that of their owner: nothing is written where none has another one."""
    zones[user.pk] = "Europe/Berlin"
    names = [
        schedule(add, [1, n], cron="0 8 * * *", owner=user, zone="owner", title=f"{n}").name
        for n in range(20)
    ]
    with django_assert_max_num_queries(5):
        stored.make_duty().run(names)


def test_few_rows_are_read_of_many(user, django_assert_max_num_queries):
    """Those that are due, by an index, a bounded number in a round; and none where nothing is due."""
    row = schedule(add, [1, 2], every=HOUR)
    rows = [
        Schedule(
            name=f"_{n}",
            timing=row.timing,
            task_path=row.task_path,
            options=row.options,
            created_at=row.created_at,
            declared_until=row.created_at,
            next_tick=row.next_tick + timedelta(days=n // 150),
        )
        for n in range(300)
    ]
    Schedule.objects.bulk_create(rows)
    run_round()
    with django_assert_max_num_queries(10):
        run_round()
    assert run_round(row.next_tick) == 0
    assert Tick.objects.count() == 100
    assert run_round() > 0 and Tick.objects.count() == 151


def test_a_task_that_is_declared_below_a_policy(user):
    """Its owner has few slots: one who has too many jobs gets a tick that has failed, and others theirs."""
    row = schedule(tasks.noop, every=HOUR, owner=user)
    run_next(row)
    assert Job.objects.get().user_id == user.pk


@pytest.mark.django_db(transaction=True)
def test_a_tick_after_one_that_a_fast_clock_has_recorded_is_not_lost():
    """It was neither enqueued nor missed, because the tick before it had a row."""
    start = clock.now().replace(minute=5, second=0, microsecond=0)
    set_clock(start)
    row = schedule(add, [1, 2], every=timedelta(minutes=10), overlap="allow")
    for minutes in (25, 0, 10, 35):
        set_clock(start + timedelta(minutes=minutes))
        run_duty(COMPARE)
        run_round()
    last = Tick.objects.filter(schedule=row.name).latest("due_at")
    assert (last.due_at, last.outcome) == (start + timedelta(minutes=35), "enqueued")
