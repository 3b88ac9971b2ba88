"""A writer process of the stress test: writes as projects and workers do, and kills itself at critical points.

    python -m tests.data.writer SEED SECONDS JOURNAL USER…

Each child is a fork, so that a kill costs milliseconds. The journal has a line for each row whose transaction the
child knows to be committed (+) or rolled back (-).
"""

import os
import random
import signal
import sys
import time
import traceback

import django
from django.db import connection, transaction


class RollBack(Exception):
    """Raised to roll a transaction or savepoint back."""


class WriterProcess:
    """A forked process: executes random actions, then kills itself or exits."""

    def __init__(self, random, journal, users, until):
        self.random = random
        self.journal = os.open(journal, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        self.users = users
        self.until = until
        self.numbered_at = 0.0

    def run(self):
        actions = [
            *[self.notify_users] * 4,
            *[self.transact] * 4,
            *[self.read] * 3,
            *[self.see] * 2,
            *[self.work] * 3,
            self.raise_in_callback,
            self.hold_row_lock,
            self.number_some_users,
        ]
        endings = [
            self.kill_in_transaction,
            self.kill_before_numbering,
            self.kill_during_numbering,
            self.kill_with_locked_streams,
            self.close,
        ]
        for _ in range(self.random.randint(3, 20)):
            if time.monotonic() > self.until:
                return
            self.random.choice(actions)()
            if time.monotonic() - self.numbered_at > 0.3:
                streams.number_pending()
                self.numbered_at = time.monotonic()
            time.sleep(self.random.random() * 0.004)
        self.random.choice(endings)()

    def notify_users(self):
        self.note("+", notify(self.sample_users(), "note", **self.fields()))

    def transact(self):
        """Write notifications and jobs in savepoints, and randomly roll back savepoints or the whole transaction."""
        committed, rolled_back = [], []
        try:
            with transaction.atomic():
                for _ in range(self.random.randint(1, 5)):
                    ids = []
                    try:
                        with transaction.atomic():
                            ids += self.write()
                            if self.random.random() < 0.3:
                                raise RollBack
                        committed += ids
                    except RollBack:
                        rolled_back += ids
                if self.random.random() < 0.3:
                    raise RollBack
        except RollBack:
            rolled_back += committed
            committed = []
        self.note("+", committed)
        self.note("-", rolled_back)

    def write(self):
        ids = notify(self.sample_users(), "written", **self.fields())
        if self.random.random() < 0.3:
            ids.append(rows.job(self.random.choice(self.users)).pk)
        return ids

    def read(self):
        user = self.random.choice(self.users)
        marking.mark(user, "read", self.random.randint(0, position(user)[0]))

    def see(self):
        user = self.random.choice(self.users)
        mark_seen(user, self.random.randint(0, position(user)[0]))

    def work(self):
        """Enqueue, claim and finish jobs, as a worker does. The claimed jobs may be those of another writer."""
        for _ in range(self.random.randint(1, 3)):
            self.note("+", [rows.job(self.random.choice(self.users)).pk])
        claimed = claim_rows(uuid7(), 5)
        record(*map(succeeded, claimed))
        ended = Notification.objects.filter(job__in=[job.pk for job in claimed])
        self.note("+", ended.values_list("pk", flat=True))

    def raise_in_callback(self):
        """Raise in an on_commit callback of the project, after which Django drops the app's callbacks."""

        def raise_error():
            raise RollBack

        try:
            with transaction.atomic():
                transaction.on_commit(raise_error)
                ids = self.write()
        except RollBack:
            self.note("+", ids)

    def hold_row_lock(self):
        """Lock a notification for a while and roll back, as code of a project may."""
        with transaction.atomic():
            row = Notification.objects.filter(user=self.random.choice(self.users)).order_by("?").first()
            if row:
                Notification.objects.select_for_update().get(pk=row.pk)
                time.sleep(self.random.random() * 0.03)
            transaction.set_rollback(True)

    def number_some_users(self):
        streams.number(self.sample_users())

    def kill_in_transaction(self):
        with transaction.atomic():
            ids = self.write()
            self.note("-", ids)
            self.kill()

    def kill_before_numbering(self):
        """Commit, and kill the process before the app's on_commit callback."""
        ids = []

        def note_and_kill():
            self.note("+", ids)
            self.kill()

        with transaction.atomic():
            transaction.on_commit(note_and_kill)
            ids += self.write()

    def kill_during_numbering(self):
        self.kill_after("UPDATE notifications_stream")

    def kill_with_locked_streams(self):
        self.kill_after("seq IS NULL ORDER BY id LIMIT")

    def kill_after(self, statement):
        """Kill the process after a statement of numbering."""

        def execute_and_kill(execute, sql, *args):
            result = execute(sql, *args)
            if statement in sql:
                self.kill()
            return result

        ids = []
        with connection.execute_wrapper(execute_and_kill), transaction.atomic():
            transaction.on_commit(lambda: self.note("+", ids))
            ids += self.write()

    def close(self):
        connection.close()

    def kill(self):
        os.kill(os.getpid(), signal.SIGKILL)

    def sample_users(self):
        """Return a random selection of users in random order."""
        return self.random.sample(self.users, self.random.randint(1, len(self.users)))

    def fields(self):
        return {"key": self.random.choice(["", "", "a", "b"])}

    def note(self, sign, ids):
        """Write to the journal that the rows are committed (+) or rolled back (-)."""
        os.write(self.journal, "".join(f"{sign}{id}\n" for id in ids).encode())


def main(seed, seconds, journal, *users):
    until = time.monotonic() + float(seconds)
    number = 0
    while time.monotonic() < until:
        number += 1
        if pid := os.fork():
            _, status = os.waitpid(pid, 0)
            if not (os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL) and status:
                sys.exit(1)
            continue
        try:
            WriterProcess(
                random.Random(f"{seed} {number}"), journal, [int(user) for user in users], until
            ).run()
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    print(f"{number} processes")


if __name__ == "__main__":
    django.setup()

    from notifications import streams
    from notifications.api import notify
    from notifications.models import Notification, uuid7
    from notifications.streams import marking
    from notifications.streams.marking_seen import mark_seen
    from tests.data import rows
    from tests.data.shapes import position
    from tests.support.claims import claim_rows
    from tests.support.outcomes import record, succeeded

    main(*sys.argv[1:])
