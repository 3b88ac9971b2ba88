"""A process of the crowd: writes whatever a host or a worker may write, and dies now and then, at the worst places.

    python -m tests.data.writer SEED SECONDS JOURNAL USER…

Each life is a fork, so that a death costs milliseconds. The journal says of each row whether its transaction was
committed (+) or rolled back (-), as far as the writer has lived to know.
"""

import os
import random
import signal
import sys
import time
import traceback

import django
from django.db import connection, transaction


class Undone(Exception):
    pass


class Life:
    """One life: random deeds until the last one, which is a death or a natural end."""

    def __init__(self, chance, journal, users, until):
        self.chance = chance
        self.journal = os.open(journal, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        self.users = users
        self.until = until
        self.ticked = 0.0

    def live(self):
        deeds = [
            *[self.tell] * 4,
            *[self.transact] * 4,
            *[self.read] * 3,
            *[self.work] * 3,
            self.spoil_the_hooks,
            self.hold_a_row,
            self.number_for_nothing,
        ]
        deaths = [
            self.die_in_a_transaction,
            self.die_before_numbering,
            self.die_while_numbering,
            self.die_with_the_streams,
            self.end,
        ]
        for _ in range(self.chance.randint(3, 20)):
            if time.monotonic() > self.until:
                return
            self.chance.choice(deeds)()
            if time.monotonic() - self.ticked > 0.3:
                streams.number_pending()
                self.ticked = time.monotonic()
            time.sleep(self.chance.random() * 0.004)
        self.chance.choice(deaths)()

    def tell(self):
        self.note("+", notify(self.some(), "told", **self.fields()))

    def transact(self):
        """Several notifications and jobs with savepoints, some of them rolled back, like the whole now and then."""
        done, undone = [], []
        try:
            with transaction.atomic():
                for _ in range(self.chance.randint(1, 5)):
                    inner = []
                    try:
                        with transaction.atomic():
                            inner += self.write()
                            if self.chance.random() < 0.3:
                                raise Undone
                        done += inner
                    except Undone:
                        undone += inner
                if self.chance.random() < 0.3:
                    raise Undone
        except Undone:
            undone += done
            done = []
        self.note("+", done)
        self.note("-", undone)

    def write(self):
        ids = notify(self.some(), "written", **self.fields())
        if self.chance.random() < 0.3:
            ids.append(rows.job(self.chance.choice(self.users)).pk)
        return ids

    def read(self):
        user = self.chance.choice(self.users)
        inbox.mark(user, "read", self.chance.randint(0, position(user)[0]))

    def work(self):
        """Enqueue, claim and finish, as a worker does; what it claims may be another's job."""
        for _ in range(self.chance.randint(1, 3)):
            self.note("+", [rows.job(self.chance.choice(self.users)).pk])
        claimed = claim_rows(uuid7(), 5)
        stored, _ = recording.record_outcomes(
            [outcomes.succeeded(job, DEFAULT_POLICY, None) for job in claimed]
        )
        self.note("+", [outcome.notification.pk for outcome in stored])

    def spoil_the_hooks(self):
        """A host's hook that raises takes our later ones with it."""

        def spoil():
            raise Undone

        try:
            with transaction.atomic():
                transaction.on_commit(spoil)
                ids = self.write()
        except Undone:
            self.note("+", ids)

    def hold_a_row(self):
        """A host that locks a row for a while and changes its mind."""
        with transaction.atomic():
            row = Notification.objects.filter(user=self.chance.choice(self.users)).order_by("?").first()
            if row:
                Notification.objects.select_for_update().get(pk=row.pk)
                time.sleep(self.chance.random() * 0.03)
            transaction.set_rollback(True)

    def number_for_nothing(self):
        streams.number(self.some())

    def die_in_a_transaction(self):
        with transaction.atomic():
            ids = self.write()
            self.note("-", ids)
            self.die()

    def die_before_numbering(self):
        """Committed, and gone before our own hook."""
        ids = []

        def die():
            self.note("+", ids)
            self.die()

        with transaction.atomic():
            transaction.on_commit(die)
            ids += self.write()

    def die_while_numbering(self):
        self.die_after("write")

    def die_with_the_streams(self):
        self.die_after("lock_streams")

    def die_after(self, step):
        really = getattr(numbering.Pass, step)

        def last(numbering, *args):
            really(numbering, *args)
            self.die()

        setattr(numbering.Pass, step, last)
        ids = []
        with transaction.atomic():
            transaction.on_commit(lambda: self.note("+", ids))
            ids += self.write()

    def end(self):
        connection.close()

    def die(self):
        os.kill(os.getpid(), signal.SIGKILL)

    def some(self):
        """Some users in any order."""
        return self.chance.sample(self.users, self.chance.randint(1, len(self.users)))

    def fields(self):
        return {"key": self.chance.choice(["", "", "a", "b"])}

    def note(self, sign, ids):
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
            Life(random.Random(f"{seed} {number}"), journal, [int(user) for user in users], until).live()
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    print(f"{number} lives")


if __name__ == "__main__":
    django.setup()

    from notifications import streams
    from notifications.api import notify
    from notifications.ids import uuid7
    from notifications.jobs.policies import DEFAULT_POLICY
    from notifications.jobs.transitions import outcomes, recording
    from notifications.models import Notification
    from notifications.streams import inbox, numbering
    from tests.data import rows
    from tests.data.shapes import position
    from tests.support.claims import claim_rows

    main(*sys.argv[1:])
