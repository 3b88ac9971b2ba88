"""`manage.py notifications jobs`: the output, the effect and the exit code of each subcommand."""

import json
import uuid
from datetime import UTC, datetime
from io import StringIO

import pytest
from django.contrib.auth import get_user_model
from django.core.management import CommandError, call_command
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import translation

from notifications.jobs import cancel
from notifications.management import pause_queue
from notifications.management.commands.notifications import Command
from notifications.models import Job, Queue, uuid7
from notifications.testing import run_jobs
from tests.contrib.output import output_tasks
from tests.jobs import tasks
from tests.jobs.conftest import longest_backoff  # noqa: F401 (an autouse fixture)
from tests.support.claims import claim_rows
from tests.support.driver import driver
from tests.support.statements import refused

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.nightly_on_old_django]


def run(*arguments):
    """Return what the command prints."""
    out = StringIO()
    call_command("notifications", "jobs", *map(str, arguments), stdout=out)
    return out.getvalue()


def run_json(*arguments):
    """Return the objects that the command prints with --json."""
    return [json.loads(line) for line in run(*arguments, "--json").splitlines()]


class TestEnqueue:
    def test_a_job_from_cron(self, user):
        """It runs with the arguments and belongs to the owner. With a key it is enqueued once."""
        arguments = [
            "enqueue",
            "tests.jobs.tasks.add",
            "--args",
            "[2]",
            "--kwargs",
            '{"b": 3}',
            "--owner",
            "ada",
        ]
        id = run(*arguments, "--key", "today").strip()
        assert run_json(*arguments, "--key", "today") == [{"id": id}]
        assert run_jobs() == 1
        job = Job.objects.get()
        assert (str(job.id), job.user, job.result) == (id, user, "5")
        assert f"User:         ada ({user.pk})" in run("show", id).splitlines()

    def test_once_until_it_begins(self):
        first, second = (run("enqueue", "tests.jobs.tasks.noop", "--queued-key", "index") for _ in range(2))
        assert first == second
        run_jobs()
        assert run("enqueue", "tests.jobs.tasks.noop", "--queued-key", "index") != first

    def test_later_in_another_queue(self):
        id = run(
            "enqueue", "tests.jobs.tasks.noop", "--queue", "mail", "--at", "2199-01-01T08:00+00:00"
        ).strip()
        job = Job.objects.get(id=id)
        assert (job.queue_name, job.run_after) == ("mail", datetime(2199, 1, 1, 8, tzinfo=UTC))
        run("enqueue", "tests.jobs.tasks.context_async", "--args", "[1]")

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (["tests.jobs.tasks.missing"], "missing"),
            (["tests.jobs.tasks.run"], "is not a task|missing|has no attribute|does not define"),
            (["tests.jobs.tasks.add", "--args", "[1]"], "missing a required argument: 'b'"),
            (["tests.jobs.tasks.add", "--args", "[1"], "is not JSON"),
            (["tests.jobs.tasks.add", "--args", "{}"], "is not a list"),
            (["tests.jobs.tasks.add", "--kwargs", "[]"], "is not an object"),
            (["tests.jobs.tasks.noop", "--owner", "nobody"], "'nobody'. Check the spelling of the username."),
            (["tests.jobs.tasks.noop", "--key", "ä"], "key"),
            (
                ["tests.jobs.tasks.noop", "--key", "a", "--queued-key", "b"],
                "takes key or queued_key, not both",
            ),
        ],
    )
    def test_nothing_is_enqueued(self, arguments, message):
        with pytest.raises(CommandError, match=message):
            run("enqueue", *arguments)
        assert not Job.objects.exists()


class TestList:
    def test_newest_first_with_errors(self, user):
        failed = tasks.fail_for_owner.using(owner=user, title="Import\nof rows").enqueue("No file")
        run_jobs()
        raised = tasks.fail.using(title="Export").enqueue()
        run_jobs()
        queued = tasks.noop.using(queue_name="mail").enqueue()
        pause_queue("mail")
        [attempt] = Job.objects.get(id=raised.id).attempts.all()
        assert run("list").splitlines() == [
            f"{queued.id}  queued     0/3  -  Noop | its queue is paused",
            f"{raised.id}  failed     1/3  -  Export | ValueError: It is broken ({attempt.location})",
            f"{failed.id}  failed     1/3  ada  Import of rows | No file",
        ]

    @pytest.mark.parametrize("option", [(), ("--json",)])
    def test_owners_by_one_query(self, user, other_user, option):
        """The names by which they log in; of an owner who does not exist the key alone."""
        for owner in (user, other_user, user, 99999, None):
            tasks.noop.using(owner=owner).enqueue()
        with CaptureQueriesContext(connection) as queries:
            printed = run("list", *option).splitlines()
        assert sum(get_user_model()._meta.db_table in query["sql"] for query in queries) == 1
        if option:
            found = [(json.loads(line)["user"], json.loads(line)["username"]) for line in printed]
            known = [(str(user.pk), "ada"), (str(other_user.pk), other_user.username), (str(user.pk), "ada")]
            assert found == [(None, None), ("99999", None), *known]
        else:
            owners = [line.split("  ")[-2] for line in printed]
            assert owners == ["-", "(99999)", "ada", other_user.username, "ada"]

    def test_filters(self, user):
        mine = tasks.noop.using(owner=user).enqueue().id
        run_jobs()
        mail = tasks.noop.using(queue_name="mail").enqueue().id
        assert mine in run("list", "--user", "ada") and mail not in run("list", "--user", "ada")
        assert mail in run("list", "--queue", "mail") and mine not in run("list", "--queue", "mail")
        assert mine in run("list", "--state", "succeeded")
        assert run("list", "--state", "failed") == ""
        assert len(run("list", "--limit", 1).splitlines()) == 1
        add = tasks.add.enqueue(1, 2).id
        assert run_json("list", "--task", "tests.jobs.tasks.add")[0]["id"] == add
        assert mine not in run("list", "--task", "tests.jobs.tasks.add")

    def test_what_failed_since_a_time(self):
        """Also a job that was created long before."""
        early, late = (tasks.fail.enqueue().id for _ in range(2))
        run_jobs()
        Job.objects.filter(id=early).update(finished_at="2026-05-01T01:59:59Z")
        Job.objects.filter(id=late).update(
            created_at="2026-01-01T00:00:00Z", finished_at="2026-05-01T02:00:00Z"
        )
        since = ("--finished-since", "2026-05-01T02:00+00:00")
        for arguments in (("--state", "failed", *since), since):
            assert [item["id"] for item in run_json("list", *arguments)] == [late]

    def test_json(self, user):
        """Each line is the item of the API with further fields for operators."""
        id = tasks.noop.using(owner=user, priority=7, concurrency_key="x").enqueue().id
        (item,) = run_json("list")
        assert (item["id"], item["state"], item["kind"]) == (id, "queued", "job")
        assert (item["user"], item["queue"], item["priority"], item["concurrency_key"]) == (
            str(user.pk),
            "default",
            7,
            "x",
        )
        assert item["queued_at"].endswith("Z")

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (["--limit", "0"], "--limit is 0"),
            (["--limit", str(10**20)], "It must be 1 to 1000000"),
            (["--user", "nobody"], "There is no user 'nobody'"),
        ],
    )
    def test_invalid_options(self, arguments, message):
        with pytest.raises(CommandError, match=message):
            run("list", *arguments)


class TestShow:
    def test_everything_about_a_job(self, user):
        """It shows the exception and traceback of each attempt, because the command is for staff."""
        id = tasks.busy_sync.using(owner=user, title="Report").enqueue(9).id
        for _ in range(2):
            run_jobs()
            Job.objects.filter(state="queued").update(run_after=None, due_at=None)
        text = run("show", id)
        for line in (
            "Title:        Report",
            "State:        failed, attempt 2 of 2",
            "Attempt 2: failed",
            "Busy: busy",
        ):
            assert line in text
        (shown,) = run_json("show", id)
        assert (shown["user"], shown["username"]) == (str(user.pk), "ada")
        assert [attempt["exception"] for attempt in shown["attempts"]] == ["tests.jobs.tasks.Busy"] * 2
        assert "Traceback" in shown["attempts"][0]["traceback"]

    def test_its_arguments_without_secrets(self):
        """As the admin shows them, in English whatever the language is."""
        id = tasks.add.enqueue({"token": "x7", "page": 2}, b="two\nlines\u2028").id
        lines = ['a = {"token": "•••", "page": 2}', 'b = "two\\nlines\u2028"']
        with translation.override("de"):
            text = run("show", id)
        assert text.replace("\u2028", " ").splitlines()[-3:] == [
            "Arguments",
            lines[0],
            lines[1].replace("\u2028", " "),
        ]
        assert run_json("show", id)[0]["arguments"] == lines
        assert "Arguments" not in run("show", tasks.noop.enqueue().id)

    def test_an_owner_who_does_not_exist(self):
        """A key is not looked up when a job is enqueued."""
        id = tasks.noop.using(owner=99999).enqueue().id
        assert "User:         no user has this key, so nobody is notified (99999)" in run("show", id)

    def test_an_unknown_job(self):
        with pytest.raises(CommandError, match=r"may have been pruned; `manage.py notifications jobs list`"):
            run("show", uuid.uuid4())


class TestOutput:
    def test_what_a_job_has_written(self, user):
        id = output_tasks.write.using(owner=user).enqueue("one\n", "two \x1b[31m").id
        run_jobs()
        assert run("output", id) == "one\ntwo \\u001b[31m"
        assert run_json("output", id) == [{"text": "one\ntwo \x1b[31m"}]

    def test_attempts(self, user):
        """Lines of the app have no control character."""
        id = output_tasks.fail_twice.using(owner=user).enqueue().id
        for _ in range(3):
            run_jobs()
            Job.objects.filter(state="queued").update(run_after=None, due_at=None)
        assert run("output", id) == "text 1\n--- attempt 2\ntext 2\n--- attempt 3\ntext 3"

    def test_an_unknown_job(self):
        with pytest.raises(CommandError, match=r"may have been pruned"):
            run("output", uuid.uuid4())

    def test_it_follows_until_the_job_is_done(self, site):
        """What another process writes, as it comes, and nothing twice; then it exits with 0."""
        with driver(site, "tests.browser.output_actions") as writer:
            job = writer.call("start_job")
            writer.call("write", id=job, text="first\n")
            following = site.start("output", "manage.py", "notifications", "jobs", "output", job)
            following.wait_for_line("first")
            writer.call("write", id=job, text="second\n")
            following.wait_for_line("second")
            writer.call("write", id=job, text="last")
            writer.call("end", id=job, state="succeeded")
        assert following.popen.wait(60) == 0
        assert following.output == "first\nsecond\nlast"


class TestCancelAndRetry:
    def test_cancel(self, user):
        queued, running = (tasks.noop.using(owner=user).enqueue().id for _ in range(2))
        Job.objects.filter(id=running).update(priority=1)
        claim_rows(uuid7(), 1)
        assert run("cancel", queued, running).splitlines() == [
            f"{queued} cancelled",
            f"{running} cancellation requested",
        ]
        assert Job.objects.get(id=queued).cancelled_by_other, "An operator is not the owner."
        assert run_json("cancel", running) == [{"id": running, "became": "asked"}]

    def test_retry(self, user):
        id = tasks.fail.using(owner=user).enqueue().id
        run_jobs()
        assert run("retry", id) == f"{id} queued again\n"
        assert Job.objects.get().state == "queued"

    def test_retry_of_what_ended_since_a_time(self, capsys):
        ids = [tasks.fail.enqueue().id for _ in range(3)]
        run_jobs()
        Job.objects.filter(id=ids[0]).update(finished_at="2026-05-01T01:59:59Z")
        Job.objects.filter(id=ids[1]).update(finished_at="2026-05-01T02:00:00Z")
        assert run("retry", "--finished-since", "2026-05-01T02:00+00:00") == "2 jobs queued again.\n"
        assert Job.objects.get(id=ids[0]).state == "failed"
        with pytest.raises(SystemExit):
            Command().run_from_argv(
                ["manage.py", "notifications", "jobs", "retry", "--finished-since", "2am"]
            )
        assert "'2am' is not a time. Write it as 2026-12-01T08:00." in capsys.readouterr().err

    def test_reschedule(self, user, settings):
        """To a time of TIME_ZONE, or with an offset, or now."""
        settings.TIME_ZONE = "Europe/Berlin"
        id = tasks.noop.using(owner=user).enqueue().id
        assert run("reschedule", id, "--at", "2100-01-01T08:30") == f"{id} to run at 2100-01-01T07:30:00Z\n"
        assert Job.objects.get().run_after == datetime(2100, 1, 1, 7, 30, tzinfo=UTC)
        at = "2100-01-01T08:30:00Z"
        assert run_json("reschedule", id, "--at", "2100-01-01T08:30+00:00") == [{"id": id, "run_after": at}]
        assert run("reschedule", "--queue", "default", "--at", at) == f"1 job to run at {at}.\n"
        assert run("reschedule", "--state", "queued", "--at", "now") == "1 job to run now.\n"
        with pytest.raises(CommandError, match="and run now if it waits for a time"):
            run("reschedule", id, "--at", "now")
        with pytest.raises(CommandError, match="Only queued jobs can be changed by reschedule"):
            run("reschedule", "--state", "failed", "--at", "now")
        assert run_jobs() == 1
        with pytest.raises(CommandError, match=r"is succeeded\. Only a queued job can be rescheduled\."):
            run("reschedule", id, "--at", at)

    @pytest.mark.parametrize(
        ("at", "error"),
        [
            ("2020-01-01", "is over. Name a later time, or now."),
            ("tomorrow", "is not a time"),
            ("9" * 10_000, "is not a time"),
            ("9999-12-31T23:59-12:00", "is not a time"),
        ],
    )
    def test_a_wrong_time(self, at, error, capsys):
        with pytest.raises(SystemExit):
            Command().run_from_argv(
                ["manage.py", "notifications", "jobs", "reschedule", "--queue", "mail", "--at", at]
            )
        message = capsys.readouterr().err
        assert error in message and len(message) < 2_000

    def test_jobs_in_other_states(self, user):
        """The error names each job that was not changed, with its state. Other jobs are, and the exit code is 1."""
        done, queued = tasks.noop.enqueue().id, None
        run_jobs()
        queued, missing = tasks.noop.enqueue().id, str(uuid.uuid4())
        for verb, id in (("cancel", done), ("retry", done), ("retry", queued), ("cancel", missing)):
            state = Job.objects.filter(id=id).values_list("state", flat=True).first() or "unknown"
            with pytest.raises(CommandError, match=rf"{id} is {state}\. Only a") as refused:
                run(verb, id)
            assert refused.value.returncode == 1
        with pytest.raises(CommandError, match=f"{done} is succeeded"):
            run("cancel", done, queued)
        assert Job.objects.get(id=queued).state == "cancelled"

    def test_a_retry_above_the_limit_of_active_jobs(self, user, settings):
        id = tasks.noop.using(owner=user).enqueue().id
        cancel([uuid.UUID(id)])
        tasks.noop.using(owner=user).enqueue()
        settings.NOTIFICATIONS = {**settings.NOTIFICATIONS, "ACTIVE_JOBS_PER_USER": 1}
        with pytest.raises(CommandError, match="Not all jobs were queued again: the owner has too many"):
            run("retry", id)


class TestQueues:
    def test_pause_and_resume(self):
        assert run("pause", "mail") == "Queue mail is paused.\n"
        assert Queue.objects.get().paused_at
        assert run("resume", "mail") == "Queue mail is resumed.\n"
        assert run_json("pause", "mail") == [{"queue": "mail", "paused": True}]

    def test_an_unknown_queue(self, settings):
        settings.TASKS = {"default": {**settings.TASKS["default"], "QUEUES": ["default"]}}
        with pytest.raises(
            CommandError, match=r"There is no queue 'mail'\. The queues in TASKS are: default"
        ):
            run("pause", "mail")


@pytest.mark.parametrize("arguments", [[], ["list", "--state", "done"], ["show", "7"], ["cancel"], ["dance"]])
def test_invalid_arguments(arguments, capsys):
    """It prints its usage and exits with 2, as each command of Django does."""
    with pytest.raises(SystemExit) as raised:
        Command().run_from_argv(["manage.py", "notifications", "jobs", *arguments])
    assert raised.value.code == 2
    assert "usage: manage.py notifications jobs" in capsys.readouterr().err


def test_a_database_error():
    is_away = refused("notifications_job")
    with is_away, pytest.raises(CommandError, match=r"Database error: The database is away\. Try again"):
        run("cancel", uuid.uuid4())


class TestStats:
    def test_figures_of_queues_and_tasks(self, user):
        tasks.noop.enqueue(), tasks.noop.using(queue_name="mail").enqueue(), tasks.fail.enqueue()
        run_jobs()
        heading, *lines = [line.split() for line in run("stats").splitlines()]
        assert heading[:3] == ["queue", "task", "ended"]
        assert [line[:3] for line in lines] == [["default", "all", "2"], ["mail", "all", "1"]]
        by_task = run_json("stats", "--by-task", "--queue", "default", "--last", "day")
        assert {(row["task"].rpartition(".")[2], row["failed"], row["failure_rate"]) for row in by_task} == {
            ("noop", 0, 0.0),
            ("fail", 1, 1.0),
        }
        assert by_task[0]["run"]["p95"] > 0

    def test_without_jobs(self):
        assert len(run("stats").splitlines()) == 1 and run_json("stats") == []


class TestTail:
    def test_it_follows_until_ctrl_c(self, site):
        """It prints jobs of other processes, of one queue, and exits with 0 after Ctrl-C."""
        site.environment["EMBEDDED_WORKER"] = "0"
        tail = site.start("tail", "manage.py", "notifications", "jobs", "tail", "--queue", "mail")
        tail.wait_for_line("Ctrl-C ends it.")
        site.python("from tests.jobs.tasks import *; noop.enqueue(); noop.using(queue_name='mail').enqueue()")
        tail.wait_for_line("queued")
        site.manage("run_jobs", "--until-idle")
        tail.wait_for_line("succeeded")
        tail.interrupt()
        assert tail.popen.wait(60) == 0
        assert "default" not in tail.output and "Traceback" not in tail.output
