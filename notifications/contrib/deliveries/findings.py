"""What ``doctor`` examines: whether the mail server answers, and the stored times of deliveries."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta

from django.db.models import F, Q, Value

from notifications import times
from notifications.contrib.deliveries import outages
from notifications.contrib.deliveries.digests import MAX_WINDOW
from notifications.contrib.deliveries.models import ChannelOutage, Delivery, Digest
from notifications.contrib.deliveries.preferences import MAX_PAUSE
from notifications.contrib.deliveries.rules import MAX_DELAY
from notifications.contrib.deliveries.sending import deliver_digest
from notifications.db.clock import StoredTime
from notifications.management.diagnosis.finding import OK, WARNING, Finding
from notifications.models import Job


def find_email(timeout: float) -> Iterable[Finding]:
    """Return the finding of ``check_email()``."""
    return [check_email()]


def check_email() -> Finding:
    """Check that the mail server has answered."""
    outage = outages.read(str(Delivery.Channel.EMAIL))
    if outage is None or outage.suspended_until is None:
        return Finding(check="e-mail", state=OK, message="The mail server answers, or no message was sent.")
    return Finding(
        check="e-mail",
        state=WARNING,
        message=f"The mail server has not answered {outage.timeouts} messages in a row. E-mails wait, and one a minute "
        "is tried.",
        remedy="Check the address and the port of the server, and whether this machine reaches it. When it answers, "
        "all are sent.",
        figures={"timeouts": outage.timeouts},
    )


def list_stored_times(now: datetime) -> Iterator[StoredTime]:
    """Yield the times of deliveries that gate something: see ``Extension.stored_times()``."""
    moment = Value(now, output_field=times.MomentField())
    # The end of a window by a fast clock. That of the digest becomes as far in the past as it lay ahead: a user has
    # one digest for each time, so they cannot all be set to now.
    yield StoredTime(
        model=Job,
        name="run_after",
        rows=Q(state=Job.State.QUEUED, task_path=deliver_digest.module_path),
        longest=MAX_WINDOW,
    )
    yield StoredTime(
        model=Digest,
        name="due_at",
        longest=MAX_WINDOW,
        changes={"due_at": moment - (F("due_at") - moment)},
    )
    # What is due is decided anew: that of a paused user waits again for the end of the pause.
    yield StoredTime(
        model=Delivery,
        name="due_at",
        rows=Q(state=Delivery.State.PENDING),
        longest=max(MAX_DELAY, MAX_PAUSE),
    )
    yield StoredTime(
        model=ChannelOutage, name="suspended_until", longest=timedelta(seconds=outages.MAX_TRY_SECONDS)
    )
