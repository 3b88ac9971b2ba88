"""Redis loses all messages while Celery's workers are busy: jobs that Celery runs run soon.

FLUSH_JOBS=2000 python -m pytest tests/faults/test_flushed_broker.py -s      more jobs
"""

import os
import time

import pytest

from tests.support.faults.celery_site import CelerySite, wait_for_worker
from tests.support.waiting import FACTOR

pytestmark = pytest.mark.nightly

pytest.importorskip("celery", reason="Celery is not installed (pip install celery).")

PREFORK = ("--pool", "prefork", "--concurrency", "2")
JOBS, TASK_SECONDS = int(os.environ.get("FLUSH_JOBS", "200")), 0.1
#: Seconds within which all jobs have run, beyond the time that they take: 30, in CI twice as many, as all waits.
MAX_SECONDS = 30 * FACTOR


@pytest.mark.timeout(300)
@pytest.mark.parametrize("flushes", [(2,), (2, 12)], ids=["once", "twice"])
def test_jobs_run_soon_after_their_messages_were_lost(postgres_site, flushes):
    """Within half a minute of a free process. The second flush takes messages that were sent again."""
    celery_site = CelerySite(postgres_site, "celery-flush")
    try:
        wait_for_worker(celery_site.start_celery(*PREFORK))
        # Each flush finds the jobs of another 10 seconds.
        count = JOBS * len(flushes)
        celery_site.driver.call("enqueue", task="run_sync", args=[TASK_SECONDS], count=count)
        enqueued = time.monotonic()
        for seconds in flushes:
            time.sleep(max(enqueued + seconds - time.monotonic(), 0))
            left = celery_site.active()
            celery_site.lose_messages()
        flushed = time.monotonic()
        assert left > count / 4
        celery_site.wait_until_done(timeout=120)
        seconds = time.monotonic() - flushed
        print(f"{left} of {count} jobs were left; all done {seconds:.1f} s later")
        celery_site.assert_invariants()
        assert seconds < MAX_SECONDS + left * TASK_SECONDS / 2
    finally:
        celery_site.close()
