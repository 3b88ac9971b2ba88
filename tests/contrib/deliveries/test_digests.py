"""When the windows of digests end."""

import re
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from zoneinfo import ZoneInfo

import pytest
from django.core import mail
from django.utils import timezone

from notifications.api import notify
from notifications.contrib.deliveries import digests
from notifications.contrib.deliveries.models import Delivery, Reader
from notifications.models import Job, Notification
from notifications.testing import run_jobs
from tests.contrib.deliveries.conftest import send_digests, send_due
from tests.contrib.deliveries.test_quiet_hours import WEEK, YEARS, ends_of_a_year, is_quiet_by_the_wall
from tests.support.duties import run_duty

PARIS = ZoneInfo("Europe/Paris")


@pytest.mark.parametrize(
    ("choice", "after", "expected"),
    [
        ("hourly", datetime(2026, 5, 1, 12, 59, 59, tzinfo=UTC), datetime(2026, 5, 1, 13, tzinfo=UTC)),
        ("hourly", datetime(2026, 5, 1, 13, tzinfo=UTC), datetime(2026, 5, 1, 14, tzinfo=UTC)),
        ("daily", datetime(2026, 5, 1, 1, tzinfo=PARIS), datetime(2026, 5, 1, 8, tzinfo=PARIS)),
        ("daily", datetime(2026, 5, 1, 8, tzinfo=PARIS), datetime(2026, 5, 2, 8, tzinfo=PARIS)),
        # Clocks are set forward and back in these nights.
        ("daily", datetime(2026, 3, 28, 9, tzinfo=PARIS), datetime(2026, 3, 29, 8, tzinfo=PARIS)),
        ("daily", datetime(2026, 10, 24, 9, tzinfo=PARIS), datetime(2026, 10, 25, 8, tzinfo=PARIS)),
        # A Friday.
        ("weekly", datetime(2026, 5, 1, 7, tzinfo=PARIS), datetime(2026, 5, 6, 8, tzinfo=PARIS)),
        ("weekly", datetime(2026, 5, 6, 8, tzinfo=PARIS), datetime(2026, 5, 13, 8, tzinfo=PARIS)),
    ],
)
def test_end_of_a_window(choice, after, expected):
    reader = Reader(time_zone="Europe/Paris", digest_hour=8, digest_day=2)
    assert digests.window_end(choice, reader, after) == expected


@pytest.mark.parametrize("hour", range(24))
@pytest.mark.parametrize("day", [datetime(2026, 3, 29, tzinfo=PARIS), datetime(2026, 10, 25, tzinfo=PARIS)])
def test_days_with_another_length_have_one_window(day, hour):
    reader = Reader(time_zone="Europe/Paris", digest_hour=hour)
    end = day - timedelta(days=2)
    ends = [end := digests.window_end("daily", reader, end) for _ in range(5)]
    assert len({each.astimezone(PARIS).date() for each in ends}) == 5


@pytest.mark.parametrize("is_first", [True, False])
@pytest.mark.django_db(transaction=True)
def test_window_that_ends_while_deliveries_are_added(user, configure, monkeypatch, is_first):
    """They are in the next digest. The one that has ended is not sent again."""
    configure([{"email": 600}], CATEGORIES={"export": {"default": {"email": "daily"}}})
    if not is_first:
        notify(user, "Export 1", category="export")
        send_due()
    insert = digests.insert

    def insert_after_the_end(prepared):
        monkeypatch.setattr(digests, "insert", insert)
        send_digests()
        for each in prepared:
            each.job.run_after = timezone.now() - timedelta(seconds=1)
        return insert(prepared)

    notify(user, "Export 2", category="export")
    Delivery.objects.filter(state="pending").update(due_at=timezone.now())
    monkeypatch.setattr(digests, "insert", insert_after_the_end)
    run_duty("enqueue deliveries by email")
    second = Delivery.objects.latest("id")
    assert second.state == "pending"
    run_duty("enqueue deliveries by email")
    second.refresh_from_db()
    assert Job.objects.get(id=second.job).run_after > timezone.now()
    Job.objects.filter(id=second.job).update(run_after=timezone.now(), due_at=timezone.now())
    run_jobs()
    mails = [["Export 2"]] if is_first else [["Export 1"], ["Export 2"]]
    assert [re.findall(r"Export \d", email.body) for email in mail.outbox] == mails


@pytest.mark.nightly_on_postgres
@pytest.mark.parametrize("name", YEARS)
@pytest.mark.long
def test_a_year_of_digests_against_the_clock_on_the_wall(name):
    """What comes in one night goes in one message at its end; no message goes in a night, however long the night is."""
    zone, reader = ZoneInfo(name), Reader(time_zone=name, quiet_hours=WEEK, digest_hour=6, digest_day=2)
    channel = SimpleNamespace(has_digests=True, name="email")
    category = SimpleNamespace(key="", is_required=False)

    def digest_end(moment, choice="on"):
        delivery = Delivery(due_at=moment, channel="email")
        facts = digests.Facts(delivery, channel, Notification(), category, 0, choice, reader, moment)
        return digests.digest_end(facts, moment)

    ends = ends_of_a_year(zone)
    for moment, quiet_end in ends.items():
        assert digest_end(moment) == quiet_end
        if moment.hour % 4 or moment.minute:
            continue
        for choice in ("hourly", "daily", "weekly"):
            end, window = digest_end(moment, choice), digests.window_end(choice, reader, moment)
            assert end > moment and end == ends.get(window, end)
            assert not is_quiet_by_the_wall(end, zone), (moment, choice, end)
