"""What ``manage.py doctor`` looks at: what can only be known by asking the database, the layer and the workers."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from django.db import DatabaseError, InterfaceError

from notifications.diagnosis import database, processes
from notifications.diagnosis.finding import ERROR, Finding


def diagnose(*, patience: float = 10.0, page: str | None = None) -> Iterator[Finding]:
    """Look at one thing after the other. Ends early where nothing behind it could be looked at.

    ``patience`` are the seconds that a job may take that does nothing. ``page`` is the origin of a page, such as
    ``https://example.com``: would it be let in?
    """
    looks = (
        database.clocks,
        database.numbers,
        database.counts,
        processes.layer,
        processes.workers,
        processes.outbound,
    )
    yield processes.versions()
    for look in (database.reach, database.migrated):
        finding = guarded(look)
        yield finding
        if finding.state == ERROR:
            return
    for look in looks:
        yield guarded(look)
    if page is not None:
        yield processes.admitted(page)
    yield guarded(lambda: processes.round_trip(patience))


def guarded(look: Callable[[], Finding]) -> Finding:
    """Look; a database that does not answer is a finding too."""
    try:
        return look()
    except (DatabaseError, InterfaceError) as exc:
        reason = " ".join(str(exc).split())[:300]
        return Finding(
            what="database",
            state=ERROR,
            words=f"It refuses: {reason}.",
            remedy="Look at DATABASES, at the database's own log, and at the disk.",
        )
