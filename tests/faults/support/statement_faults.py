"""Processes that kill or stop themselves at one of their SQL statements, which a signal from outside would rarely hit.

FAULT_AT_STATEMENT consists of the fault, "before" or "after", and the statement by number or pattern:
"SIGKILL before 17", "SIGKILL after INSERT INTO notifications_stream", "SIGSTOP after …" (with all its locks),
"LOSE_RESPONSE after …" (the next commit succeeds, and its response is lost).
"""

import itertools
import os
import re
import signal

from django.apps import AppConfig
from django.db import OperationalError

#: Statements: of a claim, of an outcome, and those that insert into a table.
CLAIM = r"attempt ?= ?attempt ?\+ ?1"
OUTCOME = r"UPDATE notifications_job SET .*finished_at ?="
INSERT = r'INSERT INTO "?notifications_{}\b'


class StatementFaults(AppConfig):
    name = "tests.faults.support.statement_faults"
    label = "fault_at_statement"

    def ready(self):
        from django.db.backends.signals import connection_created

        if value := os.environ.get("FAULT_AT_STATEMENT"):
            wrapper = make_wrapper(*value.split(" ", 2))
            connection_created.connect(
                lambda connection, **_: connection.execute_wrappers.append(wrapper), weak=False
            )


def make_wrapper(fault, when, statement):
    """Return a wrapper of database statements that causes the fault once."""
    number, once = itertools.count(1), iter([True])

    def is_statement(sql):
        matches = next(number) == int(statement) if statement.isdigit() else re.search(statement, sql)
        return matches and next(once, False)

    def wrapper(execute, sql, params, many, context):
        is_hit = is_statement(sql)
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
