"""A process of the crowd: follows all users, as a server does, and looks at every number while it is given.

    python -m tests.data.reader STOP USER…

Ends when the file STOP is there, after a last look, and prints what it holds: {"user": {"id": seq}}.
"""

import json
import os
import sys
import time

import django
from django.db import connection


def follow(user, cursor, held):
    """Read on from ``cursor``, as a client is told, and return the new one."""
    while True:
        missed = changes.read_missed({user: [cursor]})[user, cursor]
        assert not missed.reset, f"{user}: the head went back below {cursor}."
        for row in missed.rows:
            assert cursor < row.seq <= missed.position.head
            assert row.seq > held.get(str(row.pk), 0), f"{row.pk} came again as {row.seq}."
            held[str(row.pk)] = row.seq
        if not missed.cut:
            return max(cursor, missed.position.head)
        cursor = missed.rows[-1].seq


def look_at_the_ledger(user):
    """Head first, then the numbers up to it: all of them are there, each once."""
    head, _ = position(user)
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT count(*), count(DISTINCT seq) FROM given WHERE user_id = %s AND seq <= %s", [user, head]
        )
        assert cursor.fetchone() == (head, head), f"{user}: not every number up to the head {head} is there."
        cursor.execute("SELECT count(*), coalesce(max(seq), 0) FROM given WHERE user_id = %s", [user])
        count, last = cursor.fetchone()
        assert count == last, f"{user}: {last} is there before one that precedes it."


def main(stop, *users):
    users = [int(user) for user in users]
    cursors = dict.fromkeys(users, 0)
    held = {user: {} for user in users}
    looks = 0
    while True:
        last = os.path.exists(stop)
        for user in users:
            cursors[user] = follow(user, cursors[user], held[user])
            look_at_the_ledger(user)
        looks += 1
        if last:
            break
        time.sleep(0.003)
    connection.close()
    print(f"{looks} looks", file=sys.stderr)
    print(json.dumps(held))


if __name__ == "__main__":
    django.setup()

    from notifications.streams import changes
    from tests.data.shapes import position

    # However far it falls behind on a busy machine, it reads everything.
    changes.MAX_ROWS_BEHIND = 10**9
    main(*sys.argv[1:])
