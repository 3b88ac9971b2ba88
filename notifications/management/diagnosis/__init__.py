"""The checks that ``notifications doctor`` asks, and alerts of those that have a label.

checking        the list of all checks, and what one finds; an extension adds some by its hook ``checks``
configuration   versions, settings, the WebSocket
database        connection, tables, numbers and counts
processes       doorbell, workers, a round trip
jobs            jobs that do not go on, hooks, duties, apps that are not installed
"""

from __future__ import annotations

import time
from collections.abc import Iterator

from django.core.checks import ERROR, Tags

from notifications.management.diagnosis.checking import Examination, FindingLine, ask, list_checks, make_line


def diagnose(*tags: str, timeout: float = 10.0, page: str | None = None) -> Iterator[FindingLine]:
    """Ask the checks of the core and of extensions that have these tags, one tag after the other.

    The options are those of ``Examination``. Yields what they find, as it is found.
    """
    checks, examination = list_checks(), Examination(timeout=timeout, page=page)
    for tag in tags or (Tags.database, "processes"):
        for check in [check for check in checks if getattr(check, "tag", "processes") == tag]:
            start = time.perf_counter()
            failed = False
            for message in ask(check, examination):
                yield make_line(check, message, time.perf_counter() - start)
                start = time.perf_counter()
                failed |= message.level >= ERROR
            if failed and tag == Tags.database:
                return
