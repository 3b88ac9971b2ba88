"""A project that writes notifications and jobs in transactions that commit or roll back, on a database that may crash.

    burst(seed, count, users) -> {"committed": […], "rolled_back": […], "jobs": […]}

Notifications are identified as "token/user". Those in none of the lists were interrupted: they may be committed.
"""

import os
import random
import signal
import time

from django.contrib.auth import get_user_model
from django.db import InterfaceError, OperationalError, connection, transaction

from notifications.api import notify
from notifications.models import Job, Notification
from tests.jobs import tasks
from tests.support.site_actions import create_users as create_users

User = get_user_model()


class RollBack(Exception):
    pass


class Burst:
    """Random writes. Each notification has a token, by which the test finds it."""

    def __init__(self, seed, users, slow, deadly):
        self.rng = random.Random(seed)
        self.seed, self.users, self.slow, self.deadly = seed, users, slow, deadly
        self.written = 0
        self.committed, self.rolled_back, self.jobs = [], [], []

    def run(self, count):
        writes = [
            *[self.notify_once] * 6,
            *[self.run_transaction] * 4,
            *[self.enqueue_jobs] * 3,
            self.die_before_numbering,
        ]
        chosen = self.rng.choices(writes, k=count)
        if self.deadly:  # They come last, so that no later ring makes up for those that they lose.
            chosen += [self.die_before_numbering] * 4
        for write in chosen:
            try:
                write()
            except (OperationalError, InterfaceError):
                wait_for_the_database()
            time.sleep(self.rng.random() * 0.02)
        return {"committed": self.committed, "rolled_back": self.rolled_back, "jobs": self.jobs}

    def notify_once(self):
        self.committed += self.write()

    def run_transaction(self):
        """Write in savepoints, of which some are rolled back, and sometimes the whole transaction."""
        committed, rolled_back = [], []
        try:
            with transaction.atomic():
                for _ in range(self.rng.randint(1, 4)):
                    self.write_in_savepoint(committed, rolled_back)
                time.sleep(self.rng.random() * 0.03)
                if self.rng.random() < 0.25:
                    raise RollBack
        except RollBack:
            rolled_back, committed = rolled_back + committed, []
        self.committed += committed
        self.rolled_back += rolled_back

    def write_in_savepoint(self, committed, rolled_back):
        try:
            with transaction.atomic():
                names = self.write()
                if self.rng.random() < 0.25:
                    raise RollBack
            committed += names
        except RollBack:
            rolled_back += names

    def enqueue_jobs(self):
        owner = User.objects.get(pk=self.rng.choice(self.users))
        with transaction.atomic():
            results = [tasks.noop.using(owner=owner).enqueue() for _ in range(self.rng.randint(0, 2))]
            results.append(tasks.short_sync.using(owner=owner).enqueue(0.2))
        self.jobs += [result.id for result in results]

    def die_before_numbering(self):
        """Commit in a process that is killed before the app's commit hook runs."""
        self.written += 1
        token = self.token()
        user = self.rng.choice(self.users)
        connection.close()  # It must not be shared with the child.
        if pid := os.fork():
            _, status = os.waitpid(pid, 0)
            if os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL:
                self.committed.append(f"{token}/{user}")
            return
        try:
            with transaction.atomic():
                transaction.on_commit(lambda: os.kill(os.getpid(), signal.SIGKILL))
                notify(user, "left", data={"token": token})
        finally:
            os._exit(1)

    def write(self):
        """Notify some users; with `slow` every eighth commit is slow."""
        self.written += 1
        category = "slow" if self.slow and self.written % 8 == 0 else ""
        users = self.rng.sample(self.users, self.rng.randint(1, len(self.users)))
        notify(users, f"note {self.written}", category=category, data={"token": self.token()})
        if category and connection.vendor == "sqlite" and connection.in_atomic_block:
            time.sleep(0.2)
        return [f"{self.token()}/{user}" for user in users]

    def token(self):
        return f"{self.seed}-{self.written}"


def wait_for_the_database():
    connection.close()
    while True:
        try:
            connection.ensure_connection()
            return
        except OperationalError:
            time.sleep(0.05)


def burst(seed, count, users, slow=False, deadly=False):
    return Burst(seed, users, slow, deadly).run(count)


def count_unfinished():
    """Return the number of jobs that are not done plus the number of rows without a seq."""
    unnumbered = [model.objects.filter(seq__isnull=True).count() for model in (Job, Notification)]
    return Job.objects.filter(state__in=["queued", "running"]).count() + sum(unnumbered)


def slow_commits():
    """Make commits that write rows of the category "slow" take 0.3 s on PostgreSQL, also those of numbering."""
    if connection.vendor != "postgresql":
        return
    with connection.cursor() as cursor:
        cursor.execute(
            "CREATE FUNCTION slowly() RETURNS trigger LANGUAGE plpgsql AS "
            "$$ BEGIN PERFORM pg_sleep(0.3); RETURN NULL; END $$"
        )
        cursor.execute(
            "CREATE CONSTRAINT TRIGGER slowly AFTER INSERT OR UPDATE ON notifications_notification "
            "DEFERRABLE INITIALLY DEFERRED FOR EACH ROW WHEN (NEW.category = 'slow') EXECUTE FUNCTION slowly()"
        )
