"""`notifications watch` prints a user's stream, and `notifications new_epoch` begins a new epoch."""

import io
import json
import re

import pytest
from django.core.management import CommandError, call_command

from notifications.api import notify
from notifications.inbox import read_numbered_position
from notifications.jobs.transitions import running
from notifications.models import uuid7
from notifications.streams import marking
from notifications.testing import run_jobs
from tests.jobs import tasks
from tests.support.claims import claim_rows

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.database_law]


def watch(*args):
    """Return the output of one catch-up, and the position at which to resume."""
    out, err = io.StringIO(), io.StringIO()
    call_command("notifications", "watch", "ada", "--once", *args, stdout=out, stderr=err)
    return out.getvalue(), re.search(r"--since (\S+)$", err.getvalue().strip())[1]


def test_notifications_are_shown_and_resumed(user):
    """With the position that it prints at its end, the next call shows only later changes."""
    notify(user, "First", body="two\nlines", url="/a/", level="success")
    out, since = watch()
    assert out.split() == ["1", "notification", "success", "First", "|", "two", "lines", "|", "/a/"]
    notify(user, "Second")
    marking.mark(user.pk, "read", 1)
    out, since = watch("--since", since)
    assert [line.split()[:4] for line in out.splitlines()] == [
        ["2", "notification", "info", "Second"],
        ["3", "notification", "read", "First"],
    ]
    assert watch("--since", since)[0] == ""


def test_jobs_are_shown(user):
    """Active jobs are shown with their progress, finished ones with their state."""
    tasks.fail.using(owner=user, title="Broken").enqueue()
    run_jobs()
    tasks.noop.using(owner=user, title="Half").enqueue()
    (job,) = claim_rows(uuid7(), 1)
    job.progress_current, job.progress_total, job.progress_message = 3, 6, "so far"
    running.store_progress([job])
    out, _ = watch("--since", f"{read_numbered_position(user.pk).epoch}:0")
    assert re.search(r"^ +1  job +failed +Broken \| ", out, re.M)
    assert re.search(r"^ +-  job +running +Half \| 3 of 6 so far$", out, re.M)


def test_json(user):
    """Each line is a sync frame of the protocol."""
    notify(user, "First")
    frame = json.loads(watch("--json")[0])
    assert (frame["op"], frame["reset"], [item["title"] for item in frame["items"]]) == (
        "sync",
        True,
        ["First"],
    )


def test_a_position_of_an_earlier_epoch(user):
    """It starts again from a snapshot."""
    notify(user, "First")
    out, since = watch()
    before = read_numbered_position(user.pk).epoch
    call_command("notifications", "new_epoch", stdout=io.StringIO())
    assert read_numbered_position(user.pk).epoch != before
    out, position = watch("--since", since)
    assert "First" in out
    assert position.startswith(read_numbered_position(user.pk).epoch)


@pytest.mark.parametrize("since", ["", "x", "x:", ":1", "x:y", "x:-1", "x:" + "9" * 5000])
def test_an_invalid_position_is_refused(user, since):
    """The error has the expected format."""
    with pytest.raises(CommandError, match="EPOCH:SEQ"):
        watch("--since", since)


def test_an_unknown_user(db):
    with pytest.raises(CommandError, match="There is no user 'nobody'"):
        call_command("notifications", "watch", "nobody")


@pytest.mark.smoke
def test_it_follows_the_stream_until_ctrl_c(site):
    """It shows a notification of another process, and exits with 0 after Ctrl-C."""
    watching = site.start("watch", "manage.py", "notifications", "watch", "demo")
    site.manage("notify", "demo", "Now")
    watching.wait_for_line("Now")
    watching.interrupt()
    assert watching.popen.wait(60) == 0
    assert "Resume with: manage.py notifications watch demo --since " in watching.output
    assert "Traceback" not in watching.output
