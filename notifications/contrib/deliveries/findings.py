"""Check of the mail server."""

from __future__ import annotations

from collections.abc import Iterable

from notifications.deliveries import outages
from notifications.management.diagnosis.finding import OK, WARNING, Finding
from notifications.models import Delivery


def find_email(timeout: float) -> Iterable[Finding]:
    """Return the finding of ``check_email()``."""
    return [check_email()]


def check_email() -> Finding:
    """Check that the mail server has answered."""
    outage = outages.read(str(Delivery.Channel.EMAIL))
    if outage is None or outage.rests_until is None:
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
