"""Redis loses all messages while Celery's workers are busy: jobs that Celery runs run soon, observed tasks end soon.

FLUSH_JOBS=2000 python -m pytest tests/faults/test_flushed_broker.py -s      more jobs
"""

import os
import time
from collections import Counter

import pytest

from notifications.jobs import outcomes
from notifications.models import Job, Notification
from tests.contrib.celery.conftest import broker, celery_app, start_celery  # noqa: F401
from tests.faults.support.celery_site import CelerySite, wait_for_workers
from tests.support.waiting import FACTOR, wait_until

pytest.importorskip("celery", reason="Celery is not installed (pip install celery).")

PREFORK = ("--pool", "prefork", "--concurrency", "2")
JOBS, TASK_SECONDS = int(os.environ.get("FLUSH_JOBS", "200")), 0.1
#: Seconds within which all jobs have run, beyond the time that they take: 30, in CI twice as many, as all waits.
MAX_SECONDS = 30 * FACTOR


@pytest.mark.timeout(300)
@pytest.mark.parametrize("flushes", [(2,), (2, 12)], ids=["once", "twice"])
def test_jobs_run_soon_after_their_messages_were_lost(site, flushes):
    """Within half a minute of a free process. The second flush takes messages that were sent again."""
    celery_site = CelerySite(site, "celery-flush")
    try:
        wait_for_workers(celery_site.start_celery(*PREFORK), 2)
        # Each flush finds the jobs of another 10 seconds.
        count = JOBS * len(flushes)
        ids = celery_site.driver.call("enqueue", task="run_sync", args=[TASK_SECONDS], count=count)
        enqueued = time.monotonic()
        for seconds in flushes:
            time.sleep(max(enqueued + seconds - time.monotonic(), 0))
            left = celery_site.active()
            celery_site.lose_messages()
        flushed = time.monotonic()
        assert left > count / 4
        celery_site.wait_until_done(timeout=120)
        seconds = time.monotonic() - flushed
        dispatch_count = Counter(row["dispatch_count"] for row in celery_site.driver.call("rows", ids=ids))
        print(
            f"{left} of {count} jobs were left; all done {seconds:.1f} s later; handed over: {dict(dispatch_count)}"
        )
        celery_site.assert_invariants()
        assert seconds < MAX_SECONDS + left * TASK_SECONDS / 2
    finally:
        celery_site.close()


#: Observed tasks before the flush and after it, and how long each takes: the workers are busy for longer than the test.
TASKS, LATER_TASKS, OBSERVED_SECONDS = 40, 24, 4
#: Seconds within which the job of a lost message ends, by the docs about 45.
MAX_LOST_SECONDS = 55 * FACTOR


@pytest.mark.timeout(300)
@pytest.mark.parametrize("wait_seconds", [3, 27], ids=["before the first look", "after the first look"])
def test_observed_tasks_end_soon_after_their_messages_were_lost(
    start_celery,  # noqa: F811
    celery_app,  # noqa: F811
    broker,  # noqa: F811
    user,
    tmp_path,
    wait_seconds,
):
    from redis import Redis as Client

    from tests.contrib.celery import tasks

    ran = tmp_path / "ran"
    ran.touch()
    seconds = OBSERVED_SECONDS if wait_seconds < 10 else 3 * OBSERVED_SECONDS
    environment = {"CELERY_VISIBILITY_TIMEOUT": "3600", "OBSERVED_RAN": str(ran)}
    start_celery("--pool", "prefork", "--concurrency", 2, "--prefetch-multiplier", 4, environment=environment)
    ids = [tasks.sleep.delay(user.pk, seconds).id for _ in range(TASKS)]
    time.sleep(wait_seconds)
    with Client.from_url(broker.url) as client:
        lost = client.llen("celery")
        client.flushall()
    flushed = time.monotonic()
    later = [tasks.sleep.delay(user.pk, seconds).id for _ in range(LATER_TASKS)]
    failed = Job.objects.filter(id__in=ids, state="failed", seq__gt=0)
    wait_until(lambda: failed.count() == lost, timeout=120, every=0.5, what="the lost tasks to end")
    elapsed = time.monotonic() - flushed
    print(f"{lost} of {TASKS} messages were lost; their jobs ended within {elapsed:.1f} s")
    assert Job.objects.filter(id__in=later, state="queued").exists()  # the workers were busy
    assert {outcomes.error_type(job.error) for job in failed} == {"never-started"}
    active = Job.objects.filter(id__in=ids, state__in=["queued", "running"])
    wait_until(lambda: not active.exists(), timeout=120, every=0.5, what="the other tasks to end")
    ended = {line.partition(" ")[0] for line in ran.read_text().splitlines()}
    succeeded = {str(job.id) for job in Job.objects.filter(id__in=ids, state="succeeded")}
    assert succeeded == ended & set(ids) and len(succeeded) == TASKS - lost
    told = Counter(str(id) for id in Notification.objects.filter(user=user).values_list("job", flat=True))
    assert {id: told[id] for id in ids} == dict.fromkeys(ids, 1)
    assert elapsed < MAX_LOST_SECONDS
