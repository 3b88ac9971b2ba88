"""A night at a partner's: jobs of one task that end as a partner answers, in rows that are made in bulk.

night = Night(jobs_clock, users)
night.run(minutes=20, failing=1 / 3)     # so many minutes later; the duties of operations have run each minute
night.doctor(), night.overview(client)   # what operators read then
"""

from datetime import timedelta

from notifications.contrib.operations.alerts import evaluation
from notifications.contrib.operations.duties import record_failures
from notifications.contrib.operations.models import JobStatistics
from notifications.db import database_now
from notifications.jobs.announcing import Announcer
from notifications.models import Attempt, Job, uuid7
from tests.support.checks import doctor

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
            record_failures()
            evaluation.evaluate()
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
