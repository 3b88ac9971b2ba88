"""The upkeep of a server process, where no worker lasts."""

import pytest
from django.db import OperationalError

from notifications import upkeep
from notifications.contrib.engines.server import ServerUpkeep
from notifications.extension import Duty, Where
from tests.support.waiting import wait_until


@pytest.mark.django_db(transaction=True)
def test_a_duty_that_fails_keeps_no_other_from_running(monkeypatch):
    """After its error, which may be that of one table, it is the last one, and not always the first one."""
    failed, ran = [], []

    def fail():
        failed.append(True)
        raise OperationalError("canceling statement due to lock timeout")

    def list_duties(process):
        options = {"where": Where.ENGINE, "is_for_each_process": True}
        return [Duty("fails", 0.1, fail, **options), Duty("runs", 0.1, lambda: ran.append(True), **options)]

    monkeypatch.setattr(upkeep, "list_duties", list_duties)
    loop = ServerUpkeep()
    loop.wake()
    try:
        wait_until(lambda: len(ran) > 1 and len(failed) > 1, timeout=30, what="both duties")
    finally:
        loop.stop(60)
