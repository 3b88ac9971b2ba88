"""Quiet hours: what waits for their end, what goes through, and when they are, over both changes of the clock."""

from datetime import UTC, datetime, timedelta
from io import StringIO
from zoneinfo import ZoneInfo

import pytest
from django.core.management import call_command
from django.utils import timezone

from notifications.api import notify
from notifications.contrib.deliveries import (
    preferences,
    quiet_hours,
)
from notifications.contrib.deliveries.models import Delivery, Reader
from notifications.contrib.deliveries.quiet_hours import check_quiet_hours, quiet_until
from notifications.inbox import read_timeline
from notifications.models import Notification, Wait
from notifications.testing import run_jobs
from tests.contrib.deliveries.conftest import choose, digest_jobs, send_digests, send_due
from tests.support.duties import enqueue_deliveries

pytestmark = pytest.mark.nightly_on_postgres

NIGHTS = ["22:00", "07:00"]
#: Later on Fridays, all of Saturday, which the night from Sunday follows without a break.
WEEK = [NIGHTS, NIGHTS, NIGHTS, NIGHTS, ["23:30", "10:00"], ["12:00", "12:00"], ["12:00", "06:30"]]
ZONES = (
    "Europe/Berlin",
    "Australia/Lord_Howe",  # by half an hour
    "America/New_York",
    "America/Los_Angeles",
    "Pacific/Auckland",
    "Africa/Cairo",  # at midnight
    "America/Santiago",
    "Asia/Kolkata",  # never
)
YEARS = [
    ZONES[0],
    pytest.param(ZONES[1], marks=pytest.mark.long),
    *(pytest.param(name, marks=pytest.mark.nightly) for name in ZONES[2:]),
]
STEP = timedelta(minutes=30)
WEEKS = 52


def is_quiet_by_the_wall(moment, zone):
    """The model: what a clock on the wall of the reader shows."""
    local = moment.astimezone(zone)
    shown = f"{local:%H:%M}"
    begin, end = WEEK[local.weekday()]
    before_begin, before_end = WEEK[local.weekday() - 1]
    if begin <= shown and (end <= begin or shown < end):
        return True
    return before_end <= before_begin and shown < before_end


def ends_of_a_year(zone):
    """Return the moments of a year, each with the end of the quiet hours in which it is, or itself."""
    first = datetime(2026, 1, 1, tzinfo=UTC)
    moments = [first + STEP * number for number in range(int(timedelta(weeks=WEEKS) / STEP))]
    quiet = [is_quiet_by_the_wall(moment, zone) for moment in moments]
    end_of, end = {}, None
    for moment, is_quiet in zip(reversed(moments), reversed(quiet), strict=True):
        end = end if is_quiet else moment
        end_of[moment] = end
    last = max(moment for moment, is_quiet in zip(moments, quiet, strict=True) if not is_quiet)
    return {moment: end_of[moment] for moment in moments if moment < last}


@pytest.mark.parametrize("name", YEARS)
def test_a_year_against_the_clock_on_the_wall(name):
    zone, reader = ZoneInfo(name), Reader(time_zone=name, quiet_hours=WEEK)
    ends = ends_of_a_year(zone)
    for moment, end in ends.items():
        assert (quiet_until(reader, moment) or moment) == end, moment
    offsets = {moment.astimezone(zone).utcoffset() for moment in ends}
    assert len(offsets) == (1 if name == "Asia/Kolkata" else 2)


@pytest.mark.parametrize(
    ("hours", "day", "begin", "end"),
    [
        # In the night in which clocks are set forward, and in that in which they are set back.
        (["02:15", "02:45"], "2026-03-29", "2026-03-29T01:15", "2026-03-29T01:45"),
        (["02:30", "03:00"], "2026-03-29", None, None),
        (["02:15", "02:45"], "2026-10-25", "2026-10-25T00:15", "2026-10-25T00:45"),
        (["22:00", "07:00"], "2026-03-28", "2026-03-28T21:00", "2026-03-29T05:00"),
        (["22:00", "07:00"], "2026-10-24", "2026-10-24T20:00", "2026-10-25T06:00"),
    ],
)
def test_hours_that_clocks_leave_out_or_repeat(hours, day, begin, end):
    date = datetime.fromisoformat(day).replace(tzinfo=ZoneInfo("Europe/Berlin"))
    week = [hours if number == date.weekday() else None for number in range(7)]
    reader = Reader(time_zone="Europe/Berlin", quiet_hours=week)
    moments = [date.astimezone(UTC) + timedelta(minutes=minute) for minute in range(36 * 60)]
    found = [moment for moment in moments if quiet_until(reader, moment)]
    if begin is None:
        assert found == []
        return
    bounds = [datetime.fromisoformat(each).replace(tzinfo=UTC) for each in (begin, end)]
    assert [found[0], found[-1] + timedelta(minutes=1)] == bounds
    assert {quiet_until(reader, moment) for moment in found} == {bounds[1]}


@pytest.mark.parametrize(
    "value",
    [
        [],
        {},
        [NIGHTS] * 6,
        ["22:00"] * 7,
        [["22:00", "7:00"]] * 7,
        [["22:00", "24:00"]] * 7,
        [["22:00", 7]] * 7,
        [["22:00", "07:00", "08:00"]] * 7,
        [["00:00", "00:00"]] * 7,
        [["12:00"] * 2] * 7,
    ],
)
def test_what_cannot_be_stored(value):
    with pytest.raises(ValueError, match=r"[Qq]uiet hours|is not a time"):
        check_quiet_hours(value)


def test_a_week_that_leaves_an_hour():
    check_quiet_hours([*[["00:00", "00:00"]] * 6, ["00:00", "23:00"]])


def explain(id):
    out = StringIO()
    call_command("notifications", "explain", str(id), stdout=out)
    return out.getvalue()


@pytest.mark.django_db(transaction=True)
class TestWhatWaits:
    @pytest.fixture
    def categories(self, configure):
        configure([{"email": 600}], CATEGORIES={"security": {"name": "Security", "required": True}})

    @pytest.fixture
    def be_quiet(self, user, categories):
        """be_quiet() begins the quiet hours an hour ago, and has them end in two. Returns their end."""

        def be_quiet():
            now = timezone.now()
            begin, end = now - timedelta(hours=1), (now + timedelta(hours=2)).replace(second=0, microsecond=0)
            week = [None] * 7
            week[begin.weekday()] = [f"{begin:%H:%M}", f"{end:%H:%M}"]
            preferences.change_reader(user.pk, time_zone="UTC", quiet_hours=week)
            return end

        return be_quiet

    @pytest.fixture
    def wake(self, jobs_clock):
        def wake():
            jobs_clock.ahead = timedelta(hours=2)
            run_jobs()

        return wake

    def test_one_digest_at_their_end(self, user, be_quiet, wake, mailoutbox):
        end = be_quiet()
        for number in range(3):
            notify(user, f"Export {number}")
            send_due()
        assert mailoutbox == [] and [job.run_after for job in digest_jobs()] == [end]
        wake()
        (message,) = mailoutbox
        assert all(f"Export {number}" in message.body for number in range(3))
        assert set(Delivery.objects.values_list("state", flat=True)) == {"sent"}

    def test_what_was_seen_meanwhile_is_not_sent(self, user, be_quiet, wake, mailoutbox):
        be_quiet()
        notify(user, "Seen")
        send_due()
        Notification.objects.update(read_at=timezone.now())
        wake()
        assert mailoutbox == []
        assert list(Delivery.objects.values_list("state", "reason")) == [("skipped", "read")]

    def test_they_are_longer_meanwhile(self, user, be_quiet, mailoutbox):
        """It is decided again when it is due."""
        end = be_quiet()
        notify(user, "Export")
        send_due()
        send_digests()
        assert mailoutbox == []
        send_due()
        assert digest_jobs().latest("run_after").run_after == end and mailoutbox == []

    def test_they_end_early(self, user, be_quiet, mailoutbox):
        be_quiet()
        notify(user, "Export")
        send_due()
        preferences.change_reader(user.pk, quiet_hours=None)
        send_digests()
        assert len(mailoutbox) == 1

    def test_a_daily_digest_whose_window_ends_in_them(self, user, be_quiet, mailoutbox):
        choose(user, {("", "email"): "daily"})
        notify(user, "Export")
        send_due()
        Delivery.objects.update(due_at=timezone.now() - timedelta(days=1, hours=1))
        end = be_quiet()
        digest_jobs().delete()
        Delivery.objects.update(state="pending", job=None)
        enqueue_deliveries()
        assert [job.run_after for job in digest_jobs()] == [end]

    def test_what_goes_through(self, user, be_quiet, mailoutbox):
        """What is required, alerts, and a question that expires in them; one that does not waits."""
        end = be_quiet()
        notify(user, "Required", category="security")
        notify(user, "Alert", category="alert")
        for name, due_at in (
            ("Urgent", end - timedelta(minutes=1)),
            ("Later", end + timedelta(minutes=1)),
            ("Open", None),
        ):
            wait = Wait.objects.create(
                job=Wait().id, name="q", kind="question", created_at=timezone.now(), due_at=due_at, attempt=1
            )
            (id,) = notify(user, name)
            Notification.objects.filter(id=id).update(open_question=wait.id)
        send_due()
        assert {message.subject for message in mailoutbox} == {"Required", "Alert", "Urgent"}
        assert Delivery.objects.filter(job=digest_jobs().get().id).count() == 2

    def test_a_channel_without_digests(self, user, be_quiet, service):
        """Each message is decided anew at their end."""
        service.add_device(user)
        end = be_quiet()
        notify(user, "Export")
        send_due()
        delivery = Delivery.objects.get()
        assert (delivery.state, delivery.due_at, service.messages) == ("pending", end, [])
        preferences.change_reader(user.pk, quiet_hours=None)
        send_due()
        assert len(service.messages) == 1

    def test_explain_names_them(self, user, be_quiet):
        be_quiet()
        (id,) = notify(user, "Export")
        send_due()
        assert (
            "E-mail: waits for the end of the quiet hours of the user, if it is still open then."
            in explain(id)
        )
        texts = [event.text for event in read_timeline(Notification.objects.get(), for_user=True)]
        assert "E-mail: will be sent after your quiet hours, unless you see or read this before." in texts
        preferences.change_reader(user.pk, quiet_hours=None)
        assert "quiet hours" not in explain(id)


@pytest.mark.parametrize("name", ["", "Mars/Base", "../etc", "\0"])
def test_time_zone_that_does_not_exist_any_more(name, settings):
    settings.TIME_ZONE = "Asia/Tokyo"
    assert quiet_hours.zone_of(Reader(time_zone=name)).key == "Asia/Tokyo"
