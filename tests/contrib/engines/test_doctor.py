"""`manage.py notifications doctor` checks each engine: whether it answers, its processes, and what waits for it."""

import json
import threading
import time

import pytest

from notifications.management import pause_queue
from notifications.models import Job
from tests.commands.test_doctor import diagnose
from tests.contrib.engines.conftest import engine_process, idle_engine, wait_long  # noqa: F401 (fixtures)
from tests.jobs import tasks
from tests.jobs.conftest import live_worker  # noqa: F401 (fixture)
from tests.support.network import Proxy

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.database_law]


def test_processes_and_waiting_jobs_are_counted(idle_engine, engine_process):  # noqa: F811
    """No built-in worker is missing when an engine runs all jobs."""
    engine_process(load=2)
    engine_process(load=1)
    pause_queue("paused")
    tasks.noop.using(queue_name="paused").enqueue()
    for _ in range(3):
        tasks.noop.enqueue()
    wait_long()
    findings = diagnose("--timeout", "0.1", failed=["round trip"])
    assert findings["workers"]["state"] == "ok"
    figures = findings["engine"]["figures"]
    assert 60 <= figures.pop("oldest_waits_seconds") < 120
    assert figures == {
        "backend": "default",
        "engine": "tests.contrib.engines.idle_engine",
        "answers": True,
        "processes": 2,
        "running": 3,
        "queued": 4,
        "reasons": {"in_turn": 3, "paused": 1},
        "quarantined": 0,
        "due": 3,
        "untaken_queues": [],
    }
    assert (
        "2 processes work, 3 jobs running. 4 jobs waiting, 1 in paused queues, 3 may run"
        in findings["engine"]["message"]
    )


def test_quarantined_jobs_are_counted(idle_engine, engine_process):  # noqa: F811
    engine_process()
    for _ in range(3):
        tasks.noop.using(queue_name="reports").enqueue()
    Job.objects.update(executor="quarantined")
    wait_long()
    idle_engine.taken = {"default"}
    found = diagnose("--timeout", "0.1", failed=["engine", "round trip"])["engine"]
    assert (found["figures"]["quarantined"], found["figures"]["due"]) == (3, 3)
    assert found["figures"]["untaken_queues"] == ["reports"]
    assert "3 run one at a time in a process, because theirs was lost" in found["message"]


def test_idle_processes(idle_engine):  # noqa: F811
    """They have no rows. One that takes a queue in which jobs wait for long would work."""
    idle_engine.idle = True
    assert (
        "its processes are idle." in diagnose("--timeout", "0.1", failed=["round trip"])["engine"]["message"]
    )
    tasks.noop.using(queue_name="reports").enqueue()
    wait_long()
    found = diagnose("--timeout", "0.1", failed=["engine", "round trip"])["engine"]
    assert "no live process takes the jobs of default, reports." in found["message"]


def test_no_process_is_alive(idle_engine):  # noqa: F811
    """It is a warning while no job waits, and an error after one has waited."""
    findings = diagnose()
    assert findings["engine"]["state"] == "warning"
    assert findings["round trip"]["message"] == "Skipped: no process of Idle is alive."
    tasks.noop.enqueue()
    wait_long()
    assert diagnose(failed=["engine"])["engine"]["remedy"] == "Start a process of Idle."


def test_an_idle_engine_whose_processes_are_not_known(idle_engine):  # noqa: F811
    """RQ has a process for each job: a job that does nothing asks it, and one that waited for long is an error."""
    idle_engine.idle = None
    assert diagnose("--live")["ready"]["state"] == "ok"
    findings = diagnose("--timeout", "0.1", failed=["round trip"])
    assert findings["engine"]["state"] == "ok"
    assert "whether its workers are alive is known only while they run jobs." in findings["engine"]["message"]
    assert "by Idle" in findings["round trip"]["message"]
    wait_long()
    assert diagnose("--live", failed=["ready"])["ready"]["remedy"] == "Start a process of Idle."
    assert diagnose("--timeout", "0.1", failed=["engine", "round trip"])["engine"]["state"] == "error"


def test_a_probe_without_processes_of_the_engine(idle_engine, engine_process):  # noqa: F811
    """The remedy is the engine's."""
    found = diagnose("--live", failed=["ready"])["ready"]
    assert "no process of Idle is alive" in found["message"]
    assert found["remedy"] == "Start a process of Idle."
    engine_process()
    assert diagnose("--live")["ready"]["state"] == "ok"


def test_a_queue_that_no_process_takes(idle_engine, engine_process):  # noqa: F811
    engine_process()
    idle_engine.taken = {"mail"}
    tasks.noop.using(queue_name="reports").enqueue()
    wait_long()
    finding = diagnose("--timeout", "0.1", failed=["engine", "round trip"])["engine"]
    assert "no live process takes the jobs of reports." in finding["message"]
    assert finding["remedy"] == "Start a process of Idle that takes the queue reports."
    assert Job.objects.exclude(queue_name="reports").get().queue_name == "mail"


def test_an_engine_that_does_not_answer(idle_engine, engine_process):  # noqa: F811
    engine_process()
    idle_engine.error = ConnectionError("Connection\nrefused")
    findings = diagnose(failed=["engine"])
    assert "it does not answer: Connection refused." in findings["engine"]["message"]
    assert findings["round trip"]["message"] == "Skipped: Idle does not answer."


def test_an_engine_that_answers_never(idle_engine, engine_process, set_bounds):  # noqa: F811
    """The checks end all the same."""
    engine_process()
    set_bounds(checks=0.2)
    idle_engine.wait = threading.Event()
    try:
        assert "no answer within 0.2 s" in diagnose(failed=["engine"])["engine"]["message"]
    finally:
        idle_engine.wait.set()


def test_an_engine_that_cannot_be_set_up(idle_engine, settings):  # noqa: F811
    settings.TASKS = {"default": {**settings.TASKS["default"], "OPTIONS": {"engine": "no.such.engine"}}}
    finding = diagnose(failed=["engine"])["engine"]
    assert "'no.such.engine'" in finding["message"] and "TASKS['default']" in finding["remedy"]


def test_an_engine_beside_the_built_in_worker(idle_engine, engine_process, settings):  # noqa: F811
    """Each is checked, and each runs a job."""
    engine_process()
    default = settings.TASKS["default"]
    settings.TASKS = {"default": default, "local": {**default, "OPTIONS": {}}}
    findings = diagnose("--timeout", "0.1", failed=["round trip"])
    assert findings["workers"]["state"] == "warning"
    assert "by Idle" in findings["round trip"]["message"]


def test_celery(site, redis):
    """With a real worker, and without one."""
    pytest.importorskip("celery", reason="Celery is not installed (pip install celery).")
    site.use_celery(redis.url)
    site.start_celery("--pool", "solo", concurrency=1, queues="celery")
    findings = read(site.manage("notifications", "doctor", "--json"))
    assert "its processes are idle." in findings["engine"]["message"]
    assert f"127.0.0.1:{redis.port}" in findings["engine"]["message"]
    assert "by Celery" in findings["round trip"]["message"]
    assert {findings[name]["state"] for name in ("workers", "engine", "round trip")} == {"ok"}

    site.python("from tests.jobs.tasks import noop; noop.using(queue_name='reports').enqueue()")
    site.python("from tests.contrib.engines.conftest import wait_long; wait_long()")
    finding = site.start("doctor", "manage.py", "notifications", "doctor", "--json")
    finding.wait_until(lambda: not finding.running, what="the checks to end")
    engine = read(finding.output)["engine"]
    assert "no live process takes the jobs of reports." in engine["message"]
    assert engine["remedy"] == "Start one: celery -A asyncsite worker -Q reports"


@pytest.mark.nightly
def test_celery_with_a_broker_that_never_answers(site, redis):
    """It accepts connections. The command ends all the same."""
    pytest.importorskip("celery", reason="Celery is not installed (pip install celery).")
    with Proxy(redis.port) as proxy:
        proxy.stall(new=True)
        site.use_celery(f"redis://{proxy.address}/0")
        start = time.monotonic()
        doctor = site.start("doctor", "manage.py", "notifications", "doctor", "--json")
        doctor.wait_until(lambda: not doctor.running, what="the checks to end")
        assert time.monotonic() - start < 40
    assert "it does not answer" in read(doctor.output)["engine"]["message"]


def read(output):
    """Return the findings of the command's output by check."""
    lines = [line for line in output.splitlines() if line.startswith("{")]
    return {finding["check"]: finding for finding in map(json.loads, lines)}
