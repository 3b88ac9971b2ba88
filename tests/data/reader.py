"""A reader process of the stress tests: follows the streams of all users, as a server does, and checks the ledger.

    python -m tests.data.reader STOP USER…

When the file STOP exists, it checks once more, prints the received rows as {"user": {"id": seq}}, and exits.
"""

import json
import os
import sys
import time

import django
from django.db import connection


def follow(user, cursor, received):
    """Read the changes after ``cursor`` into ``received``, as a client does. Returns the new cursor."""
    while True:
        missed = changes.read_missed({user: [cursor]})[user, cursor]
        assert not missed.reset, f"{user}: the head is below the cursor {cursor}."
        for row in missed.rows:
            assert cursor < row.seq <= missed.position.head
            assert row.seq > received.get(str(row.id), 0), f"{row.id} was read again with seq {row.seq}."
            received[str(row.id)] = row.seq
        if not missed.cut:
            return max(cursor, missed.position.head)
        cursor = missed.rows[-1].seq


def check_ledger(user):
    """Read the head, then the assigned seqs up to it: each must exist exactly once, without a gap above the head."""
    head, _ = position(user)
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT count(*), count(DISTINCT seq) FROM assigned_seq WHERE user_id = %s AND seq <= %s",
            [user, head],
        )
        assert cursor.fetchone() == (head, head), (
            f"{user}: not every seq up to the head {head} is assigned once."
        )
        cursor.execute("SELECT count(*), coalesce(max(seq), 0) FROM assigned_seq WHERE user_id = %s", [user])
        count, last = cursor.fetchone()
        assert count == last, f"{user}: seq {last} is assigned before a lower one."


def main(stop, *users):
    users = [int(user) for user in users]
    cursors = dict.fromkeys(users, 0)
    received = {user: {} for user in users}
    rounds = 0
    while True:
        is_last_round = os.path.exists(stop)
        for user in users:
            cursors[user] = follow(user, cursors[user], received[user])
            check_ledger(user)
        rounds += 1
        if is_last_round:
            break
        time.sleep(0.003)
    connection.close()
    print(f"{rounds} rounds", file=sys.stderr)
    print(json.dumps(received))


if __name__ == "__main__":
    django.setup()

    from notifications.streams import changes, positions
    from tests.data.shapes import position

    # On a busy machine it may fall far behind, and must still read every change.
    positions.MAX_ROWS_BEHIND = 10**9
    main(*sys.argv[1:])
