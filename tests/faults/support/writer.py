"""A host that writes: notifications and jobs, in transactions that end in every way, on a database that comes and goes.

    burst(seed, count, users) -> {"committed": […], "undone": […], "jobs": […]}

What was written is named "token/user". What is in none of the lists was cut off: it may have been committed or not.
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
from tests.support.deeds import people

User = get_user_model()


class Undone(Exception):
    pass


class Burst:
    """Random deeds. What is written carries a token, by which it is known however it ended."""

    def __init__(self, seed, users, slow, deadly):
        self.chance = random.Random(seed)
        self.seed, self.users, self.slow, self.deadly = seed, users, slow, deadly
        self.made = 0
        self.committed, self.undone, self.jobs = [], [], []

    def run(self, count):
        deeds = [*[self.tell] * 6, *[self.transact] * 4, *[self.ask] * 3, self.die_before_numbering]
        todo = self.chance.choices(deeds, k=count)
        if self.deadly:  # of what comes last nobody else is reminded
            todo += [self.die_before_numbering] * 4
        for deed in todo:
            try:
                deed()
            except (OperationalError, InterfaceError):
                wait_for_the_database()
            time.sleep(self.chance.random() * 0.02)
        return {"committed": self.committed, "undone": self.undone, "jobs": self.jobs}

    def tell(self):
        self.committed += self.write()

    def transact(self):
        """Several notifications with savepoints, of which some are rolled back, as is the whole now and then."""
        done, undone = [], []
        try:
            with transaction.atomic():
                for _ in range(self.chance.randint(1, 4)):
                    self.write_or_undo(done, undone)
                time.sleep(self.chance.random() * 0.03)
                if self.chance.random() < 0.25:
                    raise Undone
        except Undone:
            undone, done = undone + done, []
        self.committed += done
        self.undone += undone

    def write_or_undo(self, done, undone):
        try:
            with transaction.atomic():
                names = self.write()
                if self.chance.random() < 0.25:
                    raise Undone
            done += names
        except Undone:
            undone += names

    def ask(self):
        owner = User.objects.get(pk=self.chance.choice(self.users))
        with transaction.atomic():
            asked = [tasks.noop.using(owner=owner).enqueue() for _ in range(self.chance.randint(0, 2))]
            asked.append(tasks.short_sync.using(owner=owner).enqueue(0.2))
        self.jobs += [result.id for result in asked]

    def die_before_numbering(self):
        """A process that is killed after its commit, in front of our own hook."""
        self.made += 1
        token = self.token()
        user = self.chance.choice(self.users)
        connection.close()  # a fork must not share it
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
        """Notify some users; with `slow` every eighth commit takes its time."""
        self.made += 1
        category = "slow" if self.slow and self.made % 8 == 0 else ""
        some = self.chance.sample(self.users, self.chance.randint(1, len(self.users)))
        notify(some, f"note {self.made}", category=category, data={"token": self.token()})
        if category and connection.vendor == "sqlite" and connection.in_atomic_block:
            time.sleep(0.2)
        return [f"{self.token()}/{user}" for user in some]

    def token(self):
        return f"{self.seed}-{self.made}"


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


def active():
    """How many jobs are not done, and how many rows have no number yet."""
    waiting = [model.objects.filter(seq__isnull=True).count() for model in (Job, Notification)]
    return Job.objects.filter(state__in=["queued", "running"]).count() + sum(waiting)


def slow_commits():
    """PostgreSQL: a commit that wrote a row of the category "slow" takes 0.3 s, that of its numbering too."""
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


DEEDS = (burst, active, slow_commits, people)
