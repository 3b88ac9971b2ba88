"""The SQL statements of each way through the app, as numbers: what ``bench.guard`` compares of them."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

#: The first rounds read what the process then keeps in memory.
ROUNDS = 3
#: No e-mail is due while the benchmark runs.
E_MAIL = {"SITE_URL": "https://example.com", "DELIVERY": {"*": [{"email": 3600}]}}


def count_statements() -> dict[str, int]:
    """Return the number of statements of each way, on all threads of this process, which runs the jobs itself."""
    from django.conf import settings
    from django.contrib.auth import get_user_model
    from django.test import Client, override_settings

    user = get_user_model().objects.earliest("pk")
    user.email = "ada@example.com"
    user.save()
    client = Client(headers={"host": "127.0.0.1"})
    client.force_login(user)
    counts: dict[str, int] = {}
    with recorded_statements() as statements:
        for _ in range(ROUNDS):
            for name, act in ways(user, client).items():
                changed = settings.NOTIFICATIONS | (E_MAIL if "e-mail" in name else {})
                with override_settings(NOTIFICATIONS=changed):
                    before = len(statements)
                    act()
                    counts[name] = len(statements) - before
    return counts


def ways(user: Any, client: Any) -> dict[str, Callable[[], object]]:
    """Return what is done on each way, in an order in which each finds what the one before it has left."""
    from django.urls import reverse

    from bench.tasks import ask, nothing
    from notifications.api import notify
    from notifications.testing import run_jobs

    try:
        from notifications.contrib.questions.testing import answer_question
    except ImportError:  # the earlier revision
        from notifications.testing import answer_question

    def get(view: str) -> Callable[[], object]:
        def act() -> None:
            response = client.get(reverse(f"notifications:{view}"))
            assert response.status_code == 200, response

        return act

    def ask_a_question() -> None:
        ask.using(owner=user).enqueue(0)
        run_jobs()

    return {
        "enqueueing": lambda: nothing.using(owner=user).enqueue(0),
        "a job": run_jobs,
        "notify()": lambda: notify(user, "Export 7 is ready", url="/exports/7/"),
        "notify() with e-mail": lambda: notify(user, "Export 8 is ready", category="bench"),
        "a question": ask_a_question,
        "its answer": lambda: answer_question("yes", by=user),
        "the job after the answer": run_jobs,
        "the inbox page": get("inbox"),
        "the list of jobs": get("api-jobs"),
        "sync": get("api-sync"),
    }


@contextlib.contextmanager
def recorded_statements() -> Iterator[list[str]]:
    """Yield a list to which each statement is added. It needs new connections, and closes those of this thread."""
    from django.db import connections
    from django.db.backends.signals import connection_created

    statements: list[str] = []

    def record(execute, sql: str, params: Any, many: bool, context: dict) -> Any:
        statements.append(sql)
        return execute(sql, params, many, context)

    def add_wrapper(connection, **kwargs) -> None:
        connection.execute_wrappers.append(record)

    connections.close_all()
    connection_created.connect(add_wrapper)
    try:
        yield statements
    finally:
        connection_created.disconnect(add_wrapper)
        connections.close_all()
