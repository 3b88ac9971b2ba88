"""The main process of a Celery worker does the upkeep while no job runs, as no other process may last."""

import pytest

from tests.support.duties import leave_work

pytest.importorskip("celery", reason="Celery is not installed (pip install celery).")

from notifications.contrib.celery.main_process import MainProcess


@pytest.mark.django_db(transaction=True)
def test_it_does_the_upkeep(set_bounds, user):
    set_bounds(duties=0.1)
    wait = leave_work(user)
    process = MainProcess(["celery"])
    process.wake()
    try:
        wait()
    finally:
        process.stop(20)
