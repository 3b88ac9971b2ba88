"""Answer the questions of jobs in tests."""

from __future__ import annotations

from typing import Any


def answer_question(value: str | dict[str, Any], *, name: str | None = None, by: Any = None) -> None:
    """Answer the open question of a job, as its addressees do. ``run_jobs()`` then goes on with the job.

    ``value``
        One of the choices, or the fields of the form, which checks them.
    ``name``
        The name of the question, if several are open.
    ``by``
        The user who answers. By default whether the user may answer is not checked, and nobody is named.

    Raises AssertionError unless exactly one such question is open, and what ``answer()`` raises.
    """
    from notifications.contrib.questions import answering
    from notifications.contrib.questions.models import AskedQuestion
    from notifications.db import database

    rows = AskedQuestion.objects.using(database()).filter(ended_at=None).order_by("id")
    found = [wait for wait in rows if name in (None, wait.name)]
    if len(found) != 1:
        names = ", ".join(wait.name for wait in rows) or "none"
        raise AssertionError(f"Not one but {len(found)} questions match. Open: {names}.")
    (wait,) = found
    answering.store_answer(wait, value, user=by, by_staff=by is None, via="test")
