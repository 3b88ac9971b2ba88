"""Large tables, and what the database says of a query: its plan, the scans in it, the pages that it reads."""

import re

from django.apps import apps
from django.db import connection

#: Streams; users with notifications and finished jobs; and the number of each per user.
STREAMS, USERS, ROWS_PER_USER = 20_000, 1_000, 100
#: Partial indexes of unnumbered, queued, pending or running rows, or jobs of batches. To read all of one is no scan.
SMALL_INDEXES = (
    r"notifications_(n|job)_unnumbered|notifications_job_(ready|scheduled|queued|keyed|limited|limit_share|running|waiting|batch)"
    r"|notifications_delivery_(due|job)"
)
#: Tables with one row per process, queue, broadcast, or problem and its reader, or a single row.
# Rings live a minute, and are read from the oldest one on. Calls are owed while a hook fails. The last is left empty.
SMALL_TABLES = "deliveries_channeloutage|worker|epoch|queue|broadcast|announcedstate|ring|owedcall|files_"
NUMBERS = {
    "sqlite": "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {}) ",
    "postgresql": "WITH n (i) AS (SELECT generate_series(1, {})) ",
}
ID = {"sqlite": "lower(hex(randomblob(16)))", "postgresql": "gen_random_uuid()"}
TIME = {
    "sqlite": "'2026-01-01 00:00:00+00:00'",
    "postgresql": "'2026-01-01 00:00:00+00:00'::timestamptz",
}


def insert_rows(streams, users, *names):
    """Insert rows of many users, who have no rows: no foreign key is checked. Of these tables, or of all."""
    vendor = connection.vendor
    id, time, user = ID[vendor], TIME[vendor], f"i % {users} + 1"
    raised = f"2 * (i / {users}) + 1"
    limit = "'partner:' || i"
    notification = {
        "user_id": user,
        "seq": raised,
        "raised": raised,
        "counted": "i % 2 = 0",
        "title": "'note'",
        "key": f"'k' || (i / {users})",
        "read_at": f"CASE WHEN i % 2 = 1 THEN {time} END",
    }
    job = {
        "user_id": user,
        "seq": f"2 * (i / {users}) + 2",
        "state": "'succeeded'",
        "title": "'work'",
        **dict.fromkeys(("attempt", "fence"), "1"),
        **dict.fromkeys(("task_path", "backend", "queue_name"), "'t'"),
        "finished_at": time,
        "worker": id,
    }
    unread = ROWS_PER_USER // 2
    stream = {"head": str(2 * ROWS_PER_USER), "unread": str(unread), "seen": "10", "unseen": str(unread - 2)}
    models = {model._meta.db_table: model for model in apps.get_models()}
    with connection.cursor() as cursor:
        # Narrow tables have more rows: PostgreSQL scans those of fewer when 100 of them are deleted.
        for table, given, count in (
            ("deliveries_preference", {}, streams),
            ("deliveries_reader", {}, streams),
            ("pendingmark", {}, streams),
            ("inboxviews", {}, streams),
            ("deliveries_throttle", {}, streams),
            ("notification", notification, users * ROWS_PER_USER),
            ("job", job, users * ROWS_PER_USER),
            ("attempt", {}, streams),
            ("jobtag", {}, 3 * streams),
            ("steps_step", {}, 3 * streams),
            ("steps_unfinishedstep", {"ended_at": time}, 3 * streams),
            ("wait", {"ended_at": time, "kind": "'pause'"}, 3 * streams),
            ("output_outputchunk", {"text": "'Checked.'"}, 3 * streams),
            ("deliveries_delivery", {"state": "'sent'"}, streams),
            ("operations_affecteduser", {"incident_id": "i"}, streams),
            ("deliveries_pushsubscription", {"endpoint": "'https://push.example/' || i"}, streams),
            ("webhooks_jobcallback", {"url": "'https://crm.example/'"}, 3 * streams),
            ("rates_limit", {"key": limit}, streams),
            ("webhooks_webhookendpoint", {"user_id": "i"}, streams),
            ("webhooks_webhookattempt", {}, streams),
            ("schedules_schedule", {"name": "'_' || i", "user_id": "i", "options": "'{}'"}, streams),
            (
                "schedules_tick",
                {"schedule_id": "'_' || i", "outcome": "'enqueued'", "job_state": "'succeeded'"},
                streams,
            ),
            ("seenmark", {}, streams),
            ("stream", stream, streams),
            ("ring", {"user_id": "i"}, streams // 4),
        ):
            if names and table not in names:
                continue
            fields = models[f"notifications_{table}"]._meta.concrete_fields
            values = {field.column: given.get(field.column) or value_of(field) for field in fields}
            columns = {column: value for column, value in values.items() if value}
            cursor.execute(
                f"INSERT INTO notifications_{table} ({', '.join(columns)}) {NUMBERS[vendor].format(count)} "
                f"SELECT {', '.join(columns.values())} FROM n"
            )
        cursor.execute("ANALYZE")


def value_of(field):
    """Return SQL of a column's default, or of any value of its type where it must have one; else None."""
    kind = field.get_internal_type()
    if field.null or field.has_db_default() or kind == "BigAutoField":
        return None
    if field.column == "user_id":
        return "i"
    if kind in ("UUIDField", "ForeignKey"):
        return ID[connection.vendor]
    if kind == "DateTimeField":
        return TIME[connection.vendor]
    if kind == "BooleanField":
        return "false"
    if kind in ("CharField", "TextField", "JSONField"):
        return f"'{field.get_default()}'"
    return str(field.get_default() if field.has_default() else 1)


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
