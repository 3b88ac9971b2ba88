"""Modules of the project are imported before the app's own transactions: an import may take seconds."""

import sys
import threading
import uuid
from importlib import import_module

import pytest
from django.db import connection

from notifications.jobs.transitions.reaping import reap_jobs
from notifications.models import Job
from tests.jobs import tasks
from tests.support.claims import claim_rows

pytestmark = [pytest.mark.database_law, pytest.mark.django_db(transaction=True)]

MODULE = """
from django.db import connection
from notifications.api import policy, task

WAS_IN_TRANSACTION = connection.in_atomic_block

@task
@policy(concurrency_key="one", max_attempts=2)
def late():
    pass
"""


#: A module that takes long to import, until ``gate``.
SLOW = """
from tests.jobs.transitions import test_imports
test_imports.is_imported.set()
WAS_TIMELY = test_imports.gate.wait(20)
"""
is_imported, gate = threading.Event(), threading.Event()


@pytest.fixture(
    params=["there", "missing", "raise SystemExit", "import asyncio; raise asyncio.CancelledError"]
)
def module(request, tmp_path, monkeypatch):
    """The module of a task, which this process has not imported."""
    name = f"late_tasks_{uuid.uuid4().hex}"
    if request.param != "missing":
        text = MODULE if request.param == "there" else request.param
        (tmp_path / f"{name}.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    yield name
    sys.modules.pop(name, None)


def was_imported_outside(name):
    return name not in sys.modules or not sys.modules[name].WAS_IN_TRANSACTION


def test_to_claim_a_job_with_a_key(module):
    """Its policy says how many jobs of the key may run."""
    tasks.noop.using(concurrency_key="one").enqueue()
    Job.objects.update(task_path=f"{module}.late")
    assert len(claim_rows(uuid.uuid4(), 1)) == 1
    assert was_imported_outside(module)


def test_a_module_that_another_thread_imports(tmp_path, monkeypatch):
    """The claim waits for it outside of its transaction, so that others can write."""
    is_imported.clear(), gate.clear()
    (tmp_path / "slow_tasks.py").write_text(MODULE + SLOW)
    monkeypatch.syspath_prepend(tmp_path)
    tasks.noop.using(concurrency_key="one").enqueue()
    Job.objects.update(task_path="slow_tasks.late")
    claims = []

    def claim():
        claims.extend(claim_rows(uuid.uuid4(), 1))
        connection.close()

    threads = [threading.Thread(target=import_module, args=["slow_tasks"]), threading.Thread(target=claim)]
    threads[0].start()
    assert is_imported.wait(20)
    threads[1].start()
    threads[1].join(0.5)
    tasks.noop.enqueue()
    gate.set()
    for thread in threads:
        thread.join(20)
    assert len(claims) == 1
    assert sys.modules.pop("slow_tasks").WAS_TIMELY, "enqueue() waited for the transaction of the claim"


def test_to_queue_the_job_of_a_lost_worker_again(module, live_worker):
    tasks.noop.enqueue()
    claim_rows(live_worker(-60), 1)
    Job.objects.update(task_path=f"{module}.late", max_attempts=2)
    assert reap_jobs() == 1
    assert was_imported_outside(module)
    assert Job.objects.get().state == "queued"
