"""A night at a partner's that fails a third of the calls, then all, then answers again.

night = Night(jobs_clock, users)
night.run(minutes=20, failing=1 / 3)     # so many minutes later; the duties of operations have run each minute
night.doctor(), night.overview(client)   # what operators read then
"""

from datetime import timedelta

import pytest

from notifications.contrib.operations.models import Alert, Incident, JobStatistics
from notifications.db import database_now
from notifications.jobs.announcing import Announcer
from notifications.models import Attempt, Job, Notification, uuid7
from tests.support.checks import doctor
from tests.support.duties import run_duty

pytestmark = pytest.mark.django_db(transaction=True)

TASK = "shop.tasks.fetch_orders"
TIMEOUT = "httpx.ConnectTimeout"
LOCATION = "shop.tasks.fetch_orders, line 12"
TRACEBACK = (
    "Traceback (most recent call last):\nhttpx.ConnectTimeout: https://partner.example/orders does not answer"
)


class Night:
    def __init__(self, clock, users):
        self.clock, self.users = clock, list(users)
        self.ended = self.failed = 0

    @property
    def now(self):
        return database_now()

    def run(self, minutes, failing, per_minute=12.5):
        """Let jobs end for so many minutes, of which a share fails, and have what operators are told evaluated."""
        for minute in range(minutes):
            self.clock.advance(timedelta(minutes=1))
            count = int((minute + 1) * per_minute) - int(minute * per_minute)
            failed = int((minute + 1) * per_minute * failing) - int(minute * per_minute * failing)
            self.end_jobs(count - failed, failed)
            run_duty("record failures")
            run_duty("evaluate alerts")
        Announcer().run_round()

    def end_jobs(self, succeeded, failed):
        now = self.now
        jobs = []
        for number in range(succeeded + failed):
            user = self.users[(self.failed + number) % len(self.users)] if self.users else None
            jobs.append(
                Job(
                    id=uuid7(),
                    task_path=TASK,
                    title="Fetch orders",
                    user_id=user,
                    state="failed" if number < failed else "succeeded",
                    attempt=1,
                    created_at=now,
                    queued_at=now,
                    started_at=now,
                    finished_at=now,
                    backend="default",
                    queue_name="default",
                    args="[]",
                    kwargs="{}",
                )
            )
        Job.objects.bulk_create(jobs)
        Attempt.objects.bulk_create(
            Attempt(
                job=job,
                number=1,
                ended_at=now,
                outcome="failed",
                exception_class_path=TIMEOUT,
                location=LOCATION,
                traceback=TRACEBACK,
            )
            for job in jobs[:failed]
        )
        start = int(now.timestamp()) // 60 * 60
        sums = {"enqueued": 0, "wait_microseconds": 0, "run_microseconds": 0}
        key = {"period": 1, "shard": 0, "start": start, "queue_name": "default", "task_path": TASK}
        for outcome, count in (("succeeded", succeeded), ("failed", failed)):
            if count:
                JobStatistics.objects.update_or_create(
                    **key,
                    outcome=outcome,
                    defaults={"count": count},
                    create_defaults={"count": count, **sums},
                )
        self.ended, self.failed = self.ended + succeeded + failed, self.failed + failed

    def doctor(self):
        return [finding["message"] for finding in doctor("failures")]

    def overview(self, client):
        return client.get("/admin/notifications_operations/overview/")


@pytest.fixture
def operator(make_user):
    """Return a user who receives alerts."""
    return make_user("operator", is_superuser=True)


def mails(user):
    """Return title and body of what a user was notified of alerts, the oldest first."""
    rows = Notification.objects.filter(user=user, category="alert", title__contains=TASK)
    return list(rows.order_by("id").values_list("title", "body"))


def test_since_when_and_until_when(jobs_clock, make_user, operator, user):
    """One incident and one alert from the first failure to the last, with its numbers, cause and people."""
    night = Night(jobs_clock, [user.pk])
    night.run(minutes=3, failing=0)
    assert night.doctor() == [] and mails(operator) == []
    night.run(minutes=8, failing=1 / 3)
    [incident] = Incident.objects.all()
    begun = incident.begun_at
    assert (incident.host, incident.users, incident.over_at) == ("partner.example", 1, None)
    [said] = night.doctor()
    assert said.startswith(f"{TASK}: Failing since {begun:%H:%M}: ")
    assert said.endswith(f"{night.failed} of 100, ConnectTimeout at partner.example, 1 person")
    [(title, body)] = mails(operator)
    assert title == f"Many jobs fail: {TASK}"
    night.run(minutes=6, failing=1)
    night.run(minutes=4, failing=0)
    [incident] = Incident.objects.all()
    assert (incident.begun_at, incident.over_at) == (begun, None)
    night.run(minutes=3, failing=0)
    [incident] = Incident.objects.all()
    assert incident.over_at == incident.failed_at and night.doctor() == []
    [_, (title, body)] = mails(operator)
    assert title == f"Over: Many jobs fail: {TASK}"
    assert body == f"Over since {incident.over_at:%H:%M}, lasted 13 min"
    assert Alert.objects.filter(kind="failures").count() == 1
