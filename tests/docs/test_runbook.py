"""The runbook: it has a section for each alert, and what it quotes is what commands and logs say."""

import re
import shlex
from datetime import timedelta
from io import StringIO

import pytest
from django.core.management import call_command

from notifications.contrib.operations.models import alert_kinds
from notifications.models import Job, Queue
from notifications.times import now
from tests.docs.pages import DOCS, blocks, tables
from tests.support.site import ROOT

PAGE = DOCS / "how-to/runbook.md"
#: Sentences that the page quotes from elsewhere: the browser.
OTHERS = {"notifications is not defined"}


def test_each_alert_has_a_section():
    headings = re.findall(r"^### (.+)$", PAGE.read_text(), re.M)
    assert sorted(headings) == sorted(str(label) for _, label in alert_kinds())


def test_quotes_are_in_the_source():
    """Those of the first columns, up to what differs from case to case. Those of one word are names of states."""
    sources = [*(ROOT / "notifications").rglob("*.py"), *(ROOT / "notifications/static").rglob("client.js")]
    # Adjacent literals of Python are one text.
    source = re.sub(r'"\s*\n\s*f?"', "", "\n".join(path.read_text() for path in sources))
    quotes = [
        re.split(r"…|\d", quote)[0].strip()
        for _, _, *rows in tables(PAGE)
        for row in rows
        for quote in re.findall(r"`([^`]+)`", row[0])
    ]
    assert len(quotes) > 30
    names = [
        quote.partition(":")[0].strip('"') if ":" in quote or '"' in quote else quote for quote in quotes
    ]
    assert [name for name in names if name not in OTHERS and name not in source] == []


@pytest.mark.django_db(transaction=True)
def test_samples_of_jobs_are_what_the_commands_print(user):
    """The first sample: three jobs of a user, of which one waits for its next attempt, and no worker is alive."""
    sample, *_ = blocks(PAGE, "console")
    ids = list(dict.fromkeys(re.findall(r"^[0-9a-f-]{36}", sample, re.M)))
    titles = {
        "queue_name": "default",
        "task_path": "exports.tasks.export",
        "backend": "default",
        "user": user,
        "max_attempts": 3,
    }
    later = now() + timedelta(hours=1)
    Queue.objects.create(name="imports", paused_at=now())
    for age, id, values in zip(
        (60, 61, 62),
        ids,
        (
            {"title": "Import of rows", "queue_name": "imports"},
            {"title": "Export 2025", "attempt": 1, "run_after": later, "due_at": later},
            {"title": "Export 2026"},
        ),
        strict=True,
    ):
        at = now() - timedelta(seconds=age)
        Job.objects.create(id=id, created_at=at, queued_at=at, **{**titles, **values})
    printed = ""
    for command in re.findall(r"^\$ python manage.py (.*)$", sample, re.M):
        out = StringIO()
        call_command(*shlex.split(command), stdout=out)
        printed += f"$ python manage.py {command}\n{out.getvalue()}"
    assert _without_times(printed).replace(f"({user.pk})", "(1)") == _without_times(sample)


def _without_times(text):
    return re.sub(r"\d{4}-\d\d-\d\dT[\d:.]+Z", "TIME", text)
