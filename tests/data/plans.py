"""Large tables, and what the database says of a query: its plan, the scans in it, the pages that it reads."""

import re

from django.db import connection

#: Streams; users with notifications and finished jobs; and the number of each per user.
STREAMS, USERS, ROWS_PER_USER = 20_000, 1_000, 100
#: Partial indexes of unnumbered, queued, pending or running rows, or jobs of batches. To read all of one is no scan.
SMALL_INDEXES = (
    r"notifications_(n|job)_unnumbered|notifications_job_(ready|delayed|queued|keyed|dispatched|running|waiting|batch)"
    r"|notifications_delivery_(due|job)"
)
#: Tables with one row per process, queue, broadcast, or problem and its reader, or a single row.
SMALL_TABLES = "deliveries_channeloutage|worker|epoch|queue|broadcast|announcedstate"
NUMBERS = {
    "sqlite": "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {}) ",
    "postgresql": "WITH n (i) AS (SELECT generate_series(1, {})) ",
}
ID = {"sqlite": "lower(hex(randomblob(16)))", "postgresql": "gen_random_uuid()"}


def insert_rows(streams, users, *names):
    """Insert rows of many users, who have no rows: no foreign key is checked. Of these tables, or of all."""
    notice = {
        "id": ID[connection.vendor],
        "user_id": f"i % {users} + 1",
        "seq": f"2 * (i / {users}) + 1",
        "raised": f"2 * (i / {users}) + 1",
        "counted": "i % 2 = 0",
        "level": "'info'",
        "category": "''",
        "title": "'note'",
        "body": "''",
        "url": "''",
        "data": "'{}'",
        "key": f"'k' || (i / {users})",
        "created_at": "'2026-01-01 00:00:00+00:00'",
        "read_at": "CASE WHEN i % 2 = 1 THEN '2026-01-01 00:00:00+00:00' END",
    }
    if connection.vendor == "postgresql":
        notice["created_at"] += "::timestamptz"
        notice["read_at"] += "::timestamptz"
    created, new_id = notice["created_at"], ID[connection.vendor]
    job = {
        "id": new_id,
        "user_id": f"i % {users} + 1",
        "seq": f"2 * (i / {users}) + 2",
        "state": "'succeeded'",
        "title": "'work'",
        **dict.fromkeys(("version", "attempt", "max_attempts", "fence"), "1"),
        "priority": "0",
        "cancelled_by_other": "false",
        **dict.fromkeys(("task_path", "backend", "queue_name"), "'t'"),
        **dict.fromkeys(("args", "kwargs"), "'[]'"),
        **dict.fromkeys(("progress_message", "url", "language", "trace"), "''"),
        **dict.fromkeys(("idempotency_key", "idempotency_hash", "concurrency_key"), "''"),
        **dict.fromkeys(("created_at", "queued_at", "finished_at"), created),
        "worker": new_id,
    }
    attempt = {
        "job_id": new_id,
        "number": "1",
        "ended_at": created,
        **dict.fromkeys(("outcome", "exception_class_path", "traceback"), "''"),
    }
    step = {
        "job": new_id,
        "name": "'charge'",
        "result": "'1'",
        "attempt": "1",
        **dict.fromkeys(("started_at", "ended_at"), created),
    }
    unfinished_step = {column: value for column, value in step.items() if column != "result"} | {"fence": "1"}
    wait = {
        **dict.fromkeys(("id", "job"), new_id),
        "name": "'cool-down'",
        "kind": "'pause'",
        "is_awaited": "true",
        **dict.fromkeys(("title", "ended_with"), "''"),
        "details": "'{}'",
        "attempt": "1",
        **dict.fromkeys(("created_at", "ended_at"), created),
        "how": "'due'",
    }
    output_chunk = {
        "job": new_id,
        "start": "0",
        "text": "'Checked.'",
        **dict.fromkeys(("attempt", "fence"), "1"),
        "created_at": created,
    }
    limit = {
        "key": "'partner:' || i",
        "name": "'partner'",
        "bucket": "'' || i",
        **dict.fromkeys(("busy_until", "closed_until", "used"), "0"),
        "used_at": created,
        "corrected_by": "''",
    }
    release = {"job": new_id, "limit_id": "'partner:' || i", "fence": "1", "released_at": created}
    callback = {"job": new_id, "url": "'https://crm.example/'"}
    stream = {
        "user_id": "i",
        "head": str(2 * ROWS_PER_USER),
        "floor": "0",
        "unread": str(ROWS_PER_USER // 2),
        "seen": "10",
        "unseen": str(ROWS_PER_USER // 2 - 2),
        "guard": "0",
    }
    delivery = {
        **dict.fromkeys(("id", "notification"), new_id),
        "user_id": "i",
        "channel": "'email'",
        "state": "'sent'",
        **dict.fromkeys(("address", "language", "reason", "error"), "''"),
        "due_at": created,
    }
    preference = {
        "user_id": "i",
        "category": "'muted'",
        "channel": "'bell'",
        "choice": "'off'",
        "changed_at": created,
    }
    reader = {
        "user_id": "i",
        "time_zone": "''",
        "dead_addresses": "'{}'",
        **dict.fromkeys(("digest_hour", "digest_day"), "0"),
    }
    throttle = {"id": new_id, "user_id": "i", "channel": "'email'", "ends_at": created}
    digest = {
        **dict.fromkeys(("id", "job"), new_id),
        "user_id": "i",
        "channel": "'email'",
        "due_at": created,
        "is_closed": "false",
    }
    endpoint = {
        "id": new_id,
        "user_id": "i",
        **dict.fromkeys(("url", "description", "secret", "previous_secret", "off_reason"), "''"),
        "events": "'job.failed'",
        "created_at": created,
    }
    webhook_attempt = {
        **dict.fromkeys(("id", "endpoint", "job"), new_id),
        **dict.fromkeys(("event", "error"), "''"),
        "started_at": created,
        "milliseconds": "1",
    }
    device = {
        "id": new_id,
        "user_id": "i",
        "endpoint": "'https://push.example/' || i",
        **dict.fromkeys(("p256dh", "auth", "name", "language"), "''"),
        **dict.fromkeys(("created_at", "seen_at"), created),
    }
    seen_mark = {"id": new_id, "user_id": "i", "up_to": "0", "browser": "''", "at": created}
    pending = {"user_id": "i", "moment": created, "verb": "''", "level": "''", "after": "0", "up_to": "0"}
    with connection.cursor() as cursor:
        # Narrow tables have more rows: PostgreSQL scans those of fewer when 100 of them are deleted.
        for table, columns, count in (
            ("deliveries_preference", preference, streams),
            ("deliveries_reader", reader, streams),
            ("deliveries_digest", digest, streams),
            ("pendingmark", pending, streams),
            ("inboxviews", {"user_id": "i", "views": "'[]'"}, streams),
            ("deliveries_throttle", throttle, streams),
            ("notification", notice, users * ROWS_PER_USER),
            ("job", job, users * ROWS_PER_USER),
            ("attempt", attempt, streams),
            ("steps_step", step, 3 * streams),
            ("steps_unfinishedstep", unfinished_step, 3 * streams),
            ("wait", wait, 3 * streams),
            ("output_outputchunk", output_chunk, 3 * streams),
            ("deliveries_delivery", delivery, streams),
            ("deliveries_pushsubscription", device, streams),
            ("webhooks_jobcallback", callback, 3 * streams),
            ("rates_limit", limit, streams),
            ("rates_release", release, 3 * streams),
            ("webhooks_webhookendpoint", endpoint, streams),
            ("webhooks_webhookattempt", webhook_attempt, streams),
            ("seenmark", seen_mark, streams),
            ("stream", stream, streams),
            ("ring", {"user_id": "i"}, streams // 4),
        ):
            if names and table not in names:
                continue
            numbers = NUMBERS[connection.vendor].format(count)
            cursor.execute(
                f"INSERT INTO notifications_{table} ({', '.join(columns)}) {numbers} "
                f"SELECT {', '.join(columns.values())} FROM n"
            )
        cursor.execute("ANALYZE")


def pages_read(sql, params=None):
    """Return how many pages a query reads on PostgreSQL, or how many steps SQLite's virtual machine takes."""
    if params is None:
        sql = sql.replace(
            "%%", "%"
        )  # Django logs a query without parameters as it was before they were put in.
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            cursor.execute(f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {sql}", params)
            plan = cursor.fetchone()[0][0]["Plan"]
            return plan["Shared Hit Blocks"] + plan["Shared Read Blocks"]
        steps = []
        connection.connection.set_progress_handler(lambda: steps.append(1), 10)
        try:
            cursor.execute(sql, params)
            cursor.fetchall()
        finally:
            connection.connection.set_progress_handler(None, 10)
        return len(steps) * 10


def can_scan(sql):
    return (
        re.match(r"\s*(SELECT|UPDATE|DELETE|WITH)", sql) and "notifications_" in sql and "WHERE 0" not in sql
    )


def explain(sql):
    keyword = "EXPLAIN QUERY PLAN" if connection.vendor == "sqlite" else "EXPLAIN"
    with connection.cursor() as cursor:
        cursor.execute(f"{keyword} {sql}")
        return "\n".join(str(row[-1]) for row in cursor.fetchall())


def scans_of(plan):
    """Return the lines of a plan that scan a whole table or a whole index of one."""
    if connection.vendor == "sqlite":
        scans = re.findall(rf"SCAN (?:r|notifications_(?!{SMALL_TABLES})\w+)\b.*", plan)
        return [line for line in scans if not re.search(SMALL_INDEXES, line)]
    scans = re.findall(rf"Seq Scan on notifications_(?!{SMALL_TABLES}).*", plan)
    indexed = re.findall(rf"(Index.* Scan.* using (\S+) on notifications_(?!{SMALL_TABLES}).*)\n?(.*)", plan)
    return scans + [
        line for line, name, below in indexed if "Cond:" not in below and not re.search(SMALL_INDEXES, name)
    ]
