"""Processes that kill or stop themselves at one of their SQL statements, which a signal from outside would rarely hit.

FAULT_AT_STATEMENT consists of the fault, "before" or "after", and the statement by number or pattern:
"SIGKILL before 17", "SIGKILL after INSERT INTO notifications_stream", "SIGSTOP after …" (with all its locks),
"LOSE_RESPONSE after …" (the next commit succeeds, and its response is lost), "KILL_BEFORE_COMMIT after …",
"KILL_AFTER_COMMIT after …". A pattern is searched in the statement and its parameters; "3x …" is its third match.
"""

import itertools
import os
import re
import signal

from django.db import OperationalError

#: Statements: of a claim, of an outcome, and those that insert into a table.
CLAIM = r"attempt ?= ?attempt ?\+ ?1"
OUTCOME = r"UPDATE notifications_job SET .*finished_at ?="
INSERT = r'INSERT INTO "?notifications_{}\b'


def change():
    from django.db.backends.signals import connection_created

    if value := os.environ.get("FAULT_AT_STATEMENT"):
        wrapper = make_wrapper(*value.split(" ", 2))
        connection_created.connect(
            lambda connection, **_: connection.execute_wrappers.append(wrapper), weak=False
        )


def make_wrapper(fault, when, statement):
    """Return a wrapper of database statements that causes the fault once."""
    number, once = itertools.count(1), iter([True])
    times, pattern = re.fullmatch(r"(?:(\d+)x )?(.*)", statement).groups()
    others = iter(range(1, int(times or 1)))

    def matches(sql, params):
        if statement.isdigit():
            return next(number) == int(statement)
        return re.search(pattern, f"{sql} {params}") and next(others, None) is None

    def wrapper(execute, sql, params, many, context):
        is_hit = matches(sql, params) and next(once, False)
        if is_hit and when == "before":
            cause(fault, context["connection"])
        result = execute(sql, params, many, context)
        if is_hit and when == "after":
            cause(fault, context["connection"])
        return result

    return wrapper


def cause(fault, connection):
    if fault == "LOSE_RESPONSE":
        lose_commit_response(connection)
    elif fault in ("KILL_BEFORE_COMMIT", "KILL_AFTER_COMMIT"):
        kill_at_commit(connection, is_before=fault == "KILL_BEFORE_COMMIT")
    else:
        os.kill(os.getpid(), getattr(signal, fault))


def lose_commit_response(connection):
    original = connection._commit

    def commit():
        connection._commit = original
        original()
        connection.connection.close()
        raise OperationalError("The response to COMMIT is lost.")

    connection._commit = commit


def kill_at_commit(connection, is_before):
    original = connection._commit

    def commit():
        if not is_before:
            original()
        os.kill(os.getpid(), signal.SIGKILL)

    connection._commit = commit
