"""Workers are killed while their jobs make files: each that has succeeded has its own, and no other object stays."""

import os
import signal
import time
from datetime import timedelta
from io import StringIO
from pathlib import Path
from random import random

import pytest
from django.core.files.base import ContentFile
from django.core.files.storage import FileSystemStorage

from notifications.api import policy, progress, task
from notifications.contrib.files import add_file
from notifications.contrib.steps import step
from tests.support.driver import driver
from tests.support.duties import run_duty
from tests.support.faults.engine import ROUNDS, TIMEOUT_SECONDS, Engine, canonical
from tests.support.faults.statement_faults import INSERT
from tests.support.waiting import wait_until

MODULE = "tests.faults.test_files"
WORKERS, JOBS_PER_ROUND, MAX_LIFE_SECONDS = 2, 6, 3.0
FILES = "SELECT job, path, name, size FROM notifications_files_resultfile"
OBJECTS = "SELECT count(*) FROM notifications_files_storedobject"
#: Statements that insert an object before it is written, and a file with the outcome.
OBJECT, FILE = INSERT.format("files_storedobject"), INSERT.format("files_resultfile")
#: Of each file.
LINES = 3_000


class KillingStorage(FileSystemStorage):
    """A storage that kills its process at a point, with a probability: "half 1.0", "any 0.02"."""

    def save(self, name, content, max_length=None):
        kill_at("save")
        text = content.read()
        half = Path(self.path(name))
        half.parent.mkdir(parents=True, exist_ok=True)
        half.write_bytes(text[: len(text) // 2])
        kill_at("half")
        half.unlink()
        path = super().save(name, ContentFile(text), max_length=max_length)
        kill_at("saved")
        return path

    def delete(self, name):
        kill_at("delete")
        super().delete(name)
        kill_at("deleted")


def kill_at(point):
    chosen, _, share = os.environ.get("FAULT_AT_STORAGE", "").partition(" ")
    if chosen in (point, "any") and random() < float(share):
        os.kill(os.getpid(), signal.SIGKILL)


def change():
    """Change a process: it stores in the folder of its site."""
    from django.conf import settings

    storage = {"BACKEND": f"{__name__}.KillingStorage", "OPTIONS": {"location": os.environ["FAULT_OBJECTS"]}}
    settings.STORAGES["notifications_files"] = storage


@task(takes_context=True)
@policy(max_attempts=1_000)
def make_files(context):
    """Make three files, of which one takes the place of another."""
    progress(0, 1, "started")
    lines = [f"{context.task_result.id} {number}\n" for number in range(LINES)]
    step("one", add_file, "step.txt", lines)
    add_file("rows.txt", [f"{context.attempt}"])
    add_file("rows.txt", lines)


def enqueue(count):
    from django.contrib.auth import get_user_model

    owner = get_user_model().objects.get_or_create(username="demo")[0]
    return [make_files.using(owner=owner).enqueue().id for _ in range(count)]


def tidy():
    """Do the duty for all objects now."""
    from django.utils import timezone

    from notifications.contrib.files.models import StoredObject

    StoredObject.objects.update(check_at=timezone.now() - timedelta(seconds=1))
    run_duty("remove files")


def prune(jobs):
    """Delete these jobs that are done, with the files of each."""
    from django.core.management import call_command
    from django.utils import timezone

    from notifications.models import Job

    Job.objects.filter(id__in=jobs).update(finished_at=timezone.now() - timedelta(days=1_000))
    call_command("notifications", "prune", stdout=StringIO())


@pytest.fixture
def objects(site):
    return site.folder / "objects"


@pytest.fixture
def engine(site, objects):
    engine = Engine(site, "files", FAULT_OBJECTS=str(objects))
    site.change(MODULE)
    yield engine
    engine.close()


def start_worker(engine, point="", fault=""):
    engine.site.environment["FAULT_AT_STORAGE"] = point
    return engine.start_worker("--concurrency", "4", fault=fault)


def call(engine, action, point="", **arguments):
    """Call a function of this module in a process of its own, which may be killed at a point of the storage."""
    engine.site.environment["FAULT_AT_STORAGE"] = point
    with driver(engine.site, MODULE) as site_code:
        try:
            return site_code.call(action, **arguments)
        except AssertionError as error:
            assert point and "The driver has ended." in str(error), error


def assert_stored(engine, objects, jobs):
    """Check that each of these jobs has its files, and that nothing else stays."""
    for _ in range(2):  # a late write is removed by the second
        call(engine, "tidy")
    assert engine.site.rows(OBJECTS)[0][0] == len(engine.site.rows(FILES))
    found = {}
    for job, path, name, size in engine.site.rows(FILES):
        text = (objects / path).read_text()
        assert len(text) == size and text.splitlines()[-1] == f"{canonical(job)} {LINES - 1}"
        found.setdefault(canonical(job), []).append(name)
    assert found.keys() == set(jobs) and {tuple(sorted(names)) for names in found.values()} <= {
        ("rows.txt", "step.txt")
    }
    paths = {path for _, path, _, _ in engine.site.rows(FILES)}
    assert {str(each.relative_to(objects)) for each in objects.rglob("*") if each.is_file()} == paths
    return len(paths)


@pytest.mark.nightly_names(
    "*[answer-*", "*[before-*", "*[after-a-*", "*[after-the-commit*", "*[after-the-row-*", "*[half-*"
)
@pytest.mark.parametrize(
    ("point", "fault"),
    [
        pytest.param("save 1", "", id="before-the-object"),
        pytest.param("half 1", "", id="half-of-the-object"),
        pytest.param("saved 1", "", id="after-the-object"),
        pytest.param("delete 1", "", id="before-a-removal"),
        pytest.param("deleted 1", "", id="after-a-removal"),
        pytest.param("", f"SIGKILL before {OBJECT}", id="before-the-row-of-the-object"),
        pytest.param("", f"KILL_AFTER_COMMIT after {OBJECT}", id="after-the-row-of-the-object"),
        pytest.param("", f"SIGKILL before {FILE}", id="before-the-outcome"),
        pytest.param("", f"KILL_BEFORE_COMMIT after {FILE}", id="before-the-commit"),
        pytest.param("", f"KILL_AFTER_COMMIT after {FILE}", id="after-the-commit"),
        pytest.param("", f"LOSE_RESPONSE after {FILE}", id="answer-of-the-commit-lost"),
    ],
)
def test_killed_at(engine, objects, point, fault):
    jobs = call(engine, "enqueue", count=2)
    worker = start_worker(engine, "" if point.startswith("delete") else point, fault)
    if "LOSE" not in fault and not point.startswith("delete"):
        wait_until(lambda: not worker.running, timeout=TIMEOUT_SECONDS, what="the worker to be killed")
        assert worker.popen.returncode == -9, worker.output
        start_worker(engine)
    engine.wait_until_all_done(jobs)
    if point.startswith("delete"):
        call(engine, "tidy", point)
    assert_stored(engine, objects, jobs)


@pytest.mark.nightly
@pytest.mark.timeout(300 + 30 * ROUNDS)
def test_kills_at_random_points(engine, objects):
    workers = [start_worker(engine, "any 0.03") for _ in range(WORKERS)]
    jobs, pruned, kills = set(), set(), 0
    for _ in range(ROUNDS or 3):
        jobs |= set(call(engine, "enqueue", count=JOBS_PER_ROUND))
        call(engine, "tidy", "any 0.1")
        victim = engine.rng.choice(workers)
        until = time.monotonic() + MAX_LIFE_SECONDS * engine.rng.random()
        while victim.running and time.monotonic() < until:
            time.sleep(0.005)
        victim.kill()
        done = {canonical(job) for job, *_ in engine.site.rows(FILES)} - pruned
        chosen = engine.rng.sample(sorted(done), min(len(done), 2))
        call(engine, "prune", jobs=chosen)
        pruned |= set(chosen)
        kills += sum(not worker.running for worker in workers)
        workers = [worker if worker.running else start_worker(engine, "any 0.03") for worker in workers]
    start_worker(engine)
    engine.wait_until_done()
    for worker in workers:
        worker.kill()
    count = assert_stored(engine, objects, jobs - pruned)
    print(f"{count} files of {len(jobs)} jobs, {len(pruned)} pruned, {kills} workers killed")
