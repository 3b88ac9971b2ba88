"""What holds whichever engine runs the jobs. Each engine's test class inherits it."""

import json
import time
from datetime import UTC, datetime, timedelta

import pytest

from tests.support.driver import driver
from tests.support.waiting import wait_until

#: Seconds for which a broker or the database is away.
AWAY_SECONDS = 3.0
#: For so long a job waits before a message for it is sent that does not follow a commit.
SEARCH_SECONDS = 2.0
#: That is longer than the time after which messages for waiting jobs are a minute apart.
MINUTE_SECONDS = 62.0


class EngineContract:
    """The tests. A subclass has `start(site, request)`, which starts what runs the site's jobs.

    `broker` is the name of a fixture with kill() and start(), of what carries the messages, "" without one.
    `takes_all_queues` says whether its processes do.
    """

    broker = ""
    takes_all_queues = True

    @pytest.fixture(scope="class")
    @classmethod
    def project(cls, request, sites):
        """Enqueues jobs in a process of its own, on a site whose engine is running."""
        site = sites.make()
        try:
            cls.start(site, request)
            with driver(site, "tests.contrib.engines.actions") as started:
                started.site = site
                yield started
        finally:
            site.close()

    @pytest.fixture(autouse=True)
    def log(self, project, request):
        """Show the end of the log of the site's processes when a test fails."""
        yield
        request.node.add_report_section("teardown", "site", project.site.log()[-20_000:])

    def test_jobs_run_once_and_notify(self, project):
        ids = project.call("enqueue", task="add", args=[1, 2], owner="demo", title="Sum", count=20)
        assert {row["result"] for row in ended(project, ids)} == {"3"}
        assert all(row["attempt"] == row["fence"] == 1 for row in project.call("rows", ids=ids))
        notified = project.call("notified_jobs", owner="demo")  # also of other tests of the class
        assert sorted(id for id in notified if id in ids) == sorted(ids)

    def test_lost_messages(self, project):
        """None arrives that was sent after a commit. Others follow, and each job runs once."""
        ids = [
            *project.call("enqueue_without_messages", task="noop_sync", count=10),
            *project.call("enqueue_without_messages", task="noop", count=10, queue_name="slow"),
        ]
        assert all(row["attempt"] == row["fence"] == 1 for row in ended(project, ids))

    def test_doubled_and_late_messages(self, project):
        """Dozens for each job, before and after it has run."""
        ids = project.call("enqueue", task="noop_sync", count=5)
        project.call("send_messages", count=60)
        assert all(row["attempt"] == row["fence"] == 1 for row in ended(project, ids))
        project.call("send_messages", count=20)
        ids += project.call("enqueue", task="noop", count=5)
        assert all(row["attempt"] == row["fence"] == 1 for row in ended(project, ids))

    def test_jobs_run_by_priority(self, project):
        """Whatever the order in which they were enqueued, and messages arrive."""
        project.call("pause", queue="slow")
        ids = [
            project.call("enqueue", task="noop_sync", queue_name="slow", priority=priority)[0]
            for priority in (0, 50, -50)
        ]
        project.call("resume", queue="slow")
        ended(project, ids)
        starts = project.call("starts", ids=ids)
        assert starts[1] <= starts[0] <= starts[2]

    def test_sync_task_runs(self, project):
        (row,) = ended(project, project.call("enqueue", task="noop_sync"))
        assert row["state"] == "succeeded"

    def test_rolled_back_job_never_runs(self, project):
        id = project.call("enqueue_and_roll_back", task="noop")
        ended(project, project.call("enqueue", task="noop", count=3))
        assert project.call("rows", ids=[id]) == []

    def test_failure_is_recorded(self, project):
        (id,) = project.call("enqueue", task="fail", args=["No paper"], owner="other")
        (row,) = ended(project, [id])
        assert row["state"] == "failed"
        assert project.call("attempts", id=id) == ["failed"]
        assert project.call("notified_jobs", owner="other") == [id]

    def test_job_is_retried(self, project):
        """Twice, with a delay that the engine does not know."""
        (id,) = project.call("enqueue", task="busy", args=[2, 0.1])
        (row,) = ended(project, [id])
        assert (row["state"], row["attempt"]) == ("succeeded", 3)
        assert project.call("attempts", id=id) == ["failed", "failed"]

    def test_failed_job_is_retried_by_hand(self, project):
        (id,) = project.call("enqueue", task="fail")
        ended(project, [id])
        assert project.call("retry", id=id) == [id]
        wait_until(lambda: ended(project, [id])[0]["attempt"] == 2, what="the second attempt")

    def test_job_for_later_wakes_a_process_when_it_is_due(self, project):
        """Not before, and not only when a search for what waits sends a message."""

        def begins_before_the_search():
            due = datetime.now(UTC) + timedelta(seconds=0.5)
            ids = [project.call("enqueue", task="noop", **delay)[0] for delay in ({"delay": 0.5}, {})]
            ended(project, ids)
            late = datetime.fromisoformat(project.call("starts", ids=ids)[0]) - due
            assert late >= timedelta(0)
            return late < timedelta(seconds=SEARCH_SECONDS)

        wait_until(begins_before_the_search, what="a job to begin without a search", timeout=60)

    def test_queued_job_is_cancelled_and_retried(self, project):
        """A cancellation that reached the engine does not keep a later retry from running."""
        project.call("pause", queue="slow")
        (id,) = project.call("enqueue", task="noop", queue_name="slow")
        assert project.call("cancel", id=id) == "cancelled"
        project.call("resume", queue="slow")
        project.call("retry", id=id)
        (row,) = ended(project, [id])
        assert row["state"] == "succeeded"

    def test_running_job_is_cancelled(self, project):
        (id,) = project.call("enqueue", task="hold")
        wait_until(lambda: states(project, [id]) == ["running"], what="the job to run")
        assert project.call("cancel", id=id) == "asked"
        (row,) = ended(project, [id])
        assert row["state"] == "cancelled"

    @pytest.mark.parametrize("task", ["pause_between", "pause_between_sync"])
    def test_job_goes_on_after_a_pause(self, project, task):
        """Another message wakes a process. Its step is executed once, and its attempt is counted once."""
        (id,) = project.call("enqueue", task=f"contrib.engines.tasks.{task}")
        (row,) = ended(project, [id])
        assert (row["state"], row["attempt"], row["fence"]) == ("succeeded", 1, 2)
        pids = json.loads(row["result"])
        assert len(pids) == 2

    def test_job_goes_on_with_an_answer(self, project):
        (id,) = project.call("enqueue", task="contrib.engines.tasks.ask", owner="demo")
        wait_until(lambda: states(project, [id]) == ["waiting"], what="the job to ask")
        project.call("answer", id=id, value="yes", user="demo")
        (row,) = ended(project, [id])
        assert (row["state"], row["attempt"], row["fence"]) == ("succeeded", 1, 2)
        assert json.loads(row["result"]) == ["yes", True]

    def test_output_is_stored(self, project):
        (id,) = project.call("enqueue", task="contrib.engines.tasks.write")
        (row,) = ended(project, [id])
        assert row["state"] == "succeeded"
        written = project.call("written", id=id)
        assert written == "Before. \n\x1econtinued\nBefore. After.", written

    def test_job_is_cancelled_in_a_pause(self, project):
        (id,) = project.call("enqueue", task="contrib.engines.tasks.pause_between", args=[3600])
        wait_until(lambda: states(project, [id]) == ["waiting"], what="the job to wait")
        assert project.call("cancel", id=id) == "cancelled"
        (row,) = ended(project, [id])
        assert row["state"] == "cancelled"

    def test_timeout_ends_a_job(self, project):
        (id,) = project.call("enqueue", task="slow")
        (row,) = ended(project, [id])
        assert row["state"] == "failed"
        assert project.call("attempts", id=id) == ["timed_out"]

    def test_paused_queue_waits(self, project):
        project.call("pause", queue="paused")
        (id,) = project.call("enqueue", task="noop", queue_name="paused")
        ended(project, project.call("enqueue", task="noop"))
        assert states(project, [id]) == ["queued"]
        project.call("resume", queue="paused")
        ended(project, [id])

    def test_concurrency_limit_holds(self, project):
        """One job of a key runs at a time, and the next one begins when it ends."""
        ids = project.call("enqueue", task="contrib.engines.tasks.one_at_a_time", count=4)
        most = 0

        def is_done():
            nonlocal most
            found = states(project, ids)
            most = max(most, found.count("running"))
            return found == ["succeeded"] * 4

        wait_until(is_done, what="all jobs to end", timeout=60)
        assert most <= 1

    def test_progress_is_stored(self, project):
        (id,) = project.call("enqueue", task="report_and_hold")
        wait_until(lambda: project.call("rows", ids=[id])[0]["progress_current"], what="progress")
        project.call("cancel", id=id)
        ended(project, [id])

    def test_parents_wait_for_children(self, project):
        """More of them than the engine runs at once."""
        ids = project.call("enqueue", task="contrib.engines.tasks.parent", args=[7], count=6)
        ids += project.call("enqueue", task="contrib.engines.tasks.parent_sync", args=[7], count=6)
        assert {row["result"] for row in ended(project, ids)} == {"7"}

    def test_job_of_a_killed_process_runs_again(self, project, tmp_path):
        path = tmp_path / "killed"
        (id,) = project.call("enqueue", task="contrib.engines.tasks.kill_process_once", args=[str(path)])
        (row,) = self.ended_with_restarts(project, [id])
        assert (row["result"], row["attempt"]) == ('"survived"', 2)

    def test_job_that_ends_its_process_spares_its_neighbors(self, project):
        """Each of them is lost with it once at most, and only the job itself fails."""
        killer, *neighbors = project.call("enqueue_end_of_process", neighbors=20)
        rows = self.ended_with_restarts(project, [killer, *neighbors])
        ends = {row["id"]: (row["state"], row["attempt"]) for row in rows}
        assert ends.pop(killer) == ("failed", 3)
        assert {state for state, _ in ends.values()} == {"succeeded"}
        assert {attempt for _, attempt in ends.values()} <= {1, 2}

    def test_process_that_is_killed_in_a_claim(self, project, tmp_path):
        """Once the claim is committed, before a job begins."""
        path, ids = tmp_path / "killed", []

        def is_killed():
            self.restart_ended(project.site)
            ids.extend(project.call("enqueue", task="contrib.engines.tasks.kill_in_claim", args=[str(path)]))
            return path.exists()

        wait_until(is_killed, what="a process to be killed", timeout=90, every=1)
        rows = self.ended_with_restarts(project, ids)
        assert {row["state"] for row in rows} == {"succeeded"}
        children = [id for row in rows for id in json.loads(row["result"])]
        assert {row["result"] for row in self.ended_with_restarts(project, children)} == {"7"}

    def test_process_that_is_killed_in_the_end(self, project, tmp_path):
        """The task has returned, and its outcome is not stored."""
        path = tmp_path / "killed"
        (id,) = project.call("enqueue", task="contrib.engines.tasks.kill_in_end", args=[str(path)])
        (row,) = self.ended_with_restarts(project, [id])
        assert (row["state"], row["attempt"]) == ("succeeded", 2) and path.exists()

    def test_process_that_stops_while_jobs_run(self, project):
        """They end within the grace period. What has not begun is left to others, and costs no attempt."""
        ids = [
            id
            for name in ("wait_beside", "wait_beside_sync")
            for id in project.call("enqueue", task=f"contrib.engines.tasks.{name}", count=4)
        ]
        wait_until(lambda: "running" in states(project, ids), what="a job to run")
        project.site.processes[-1].stop()
        rows = self.ended_with_restarts(project, ids)
        assert {(row["state"], row["attempt"]) for row in rows} == {("succeeded", 1)}

    def test_broker_that_is_away(self, project, request):
        """Enqueueing does not wait. Jobs of before, of meanwhile and of after it run once."""
        broker = self.find_broker(request)
        project.call("pause", queue="slow")
        ids = project.call("enqueue", task="noop_sync", count=5, queue_name="slow")
        broker.kill()
        started = time.monotonic()
        ids += project.call("enqueue", task="noop_sync", count=5)
        assert time.monotonic() - started < 5
        time.sleep(AWAY_SECONDS)
        broker.start()
        project.call("resume", queue="slow")
        ids += project.call("enqueue", task="noop_sync", count=5)
        rows = self.ended_with_restarts(project, ids)
        assert {(row["state"], row["attempt"]) for row in rows} == {("succeeded", 1)}

    def test_broker_that_is_away_for_a_minute(self, project, request):
        """What waits begins soon after it, without another job, although messages for it are a minute apart by then."""
        broker = self.find_broker(request)
        ended(project, project.call("enqueue", task="noop_sync"))
        broker.kill()
        ids = project.call("enqueue", task="noop_sync", count=5)
        time.sleep(MINUTE_SECONDS)
        broker.start()
        started = time.monotonic()
        rows = self.ended_with_restarts(project, ids)
        assert {(row["state"], row["attempt"]) for row in rows} == {("succeeded", 1)}
        assert time.monotonic() - started < 40

    def find_broker(self, request):
        if not self.broker:
            pytest.skip("It has no broker beside the database.")
        return request.getfixturevalue(self.broker)

    def test_database_that_is_away(self, project):
        """While jobs run. They go on, and others begin when it is back."""
        ids = project.call("enqueue", task="contrib.engines.tasks.wait_beside_sync", count=4)
        wait_until(lambda: "running" in states(project, ids), what="a job to run")
        with project.site.database_away():
            time.sleep(AWAY_SECONDS)
        project.call("reconnect")
        ids += project.call("enqueue", task="noop", count=3)
        rows = self.ended_with_restarts(project, ids)
        assert {(row["state"], row["attempt"]) for row in rows} == {("succeeded", 1)}
        self.replace_worker(project.site)

    def test_queue_that_no_process_takes(self, project):
        """`doctor` and the log of servers name it."""
        if self.takes_all_queues:
            pytest.skip("Its processes take all queues.")
        (id,) = project.call("enqueue", task="noop", queue_name="nobody")
        said, logged = project.call("describe_untaken", id=id)
        assert "no live process takes the jobs of nobody." in said
        assert "takes queue nobody: job" in logged
        project.call("cancel", id=id)

    def ended_with_restarts(self, project, ids):
        """Wait until these jobs are done, restart what does not restart by itself, and return their rows."""

        def done_rows():
            self.restart_ended(project.site)
            return find_ended(project, ids)

        return wait_until(done_rows, what="the jobs to end", timeout=150)

    def restart_ended(self, site):
        """Start a worker that has ended, if the engine does not."""

    def replace_worker(self, site):
        """Start another one in place of a worker that an outage of the database ends, after its jobs have ended."""

    def test_batch_ends_with_its_jobs(self, project):
        id = project.call("enqueue_batch", task="echo", arguments=[1, 2, 3], owner="demo")
        (row,) = ended(project, [id])
        assert row["result"] == '{"succeeded": 3, "failed": 0, "cancelled": 0}'
        assert "The batch" in project.call("titles", owner="demo")


def states(project, ids):
    """Return the states of these jobs, in the order of their ids."""
    return [row["state"] for row in project.call("rows", ids=ids)]


def ended(project, ids, timeout=60):
    """Wait until these jobs are done, and return their rows."""
    return wait_until(lambda: find_ended(project, ids), what="the jobs to end", timeout=timeout)


def find_ended(project, ids):
    """Return the rows of these jobs, or False if one is not done."""
    found = project.call("rows", ids=ids)
    is_done = len(found) == len(ids) and all(
        row["state"] not in ("queued", "running", "waiting") for row in found
    )
    return is_done and found
