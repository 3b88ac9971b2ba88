"""The checks of ``notifications doctor``, which need a database and processes.

checking        registers checks, and runs one; an extension has its own in its module ``findings``
configuration   versions, settings, the WebSocket
database        connection, tables, numbers and counts
processes       doorbell, workers, a round trip
jobs            jobs that do not go on, duties, apps that are not installed
"""

from __future__ import annotations

import time
from collections.abc import Iterator

from django.core.checks import ERROR, Tags

from notifications.extension import hooks

# They register their checks, in this order whichever of them is imported first.
from notifications.management.diagnosis import configuration, database, jobs, processes  # noqa: F401
from notifications.management.diagnosis.checking import CHECKS, Finding, make_finding, run


def diagnose(*tags: str, timeout: float = 10.0, page: str | None = None) -> Iterator[Finding]:
    """Run the checks of the core and of extensions that have these tags, one tag after the other.

    The options are those of each check. Yields what they find, as it is found.
    """
    hooks.find_modules("findings")
    for tag in tags or (Tags.database, "processes"):
        for check in [check for check in CHECKS if check.tag == tag]:
            start = time.perf_counter()
            for message in run(check, timeout=timeout, page=page):
                yield make_finding(check, message, time.perf_counter() - start)
                start = time.perf_counter()
                if tag == Tags.database and message.level >= ERROR:
                    return
