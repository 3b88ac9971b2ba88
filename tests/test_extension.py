"""Extensions: when the core calls their hooks, and what it does with what they return."""

import re
from datetime import timedelta
from uuid import UUID

import pytest
from django.apps import AppConfig, apps
from django.contrib import admin
from django.core.exceptions import ImproperlyConfigured
from django.db import OperationalError, connection, transaction
from django.http import HttpResponse
from django.template import Template
from django.utils import translation
from django.utils.html import format_html
from prometheus_client.core import GaugeMetricFamily

from notifications import api, extension, paths, testing, times, upkeep
from notifications.admin import NotificationAdmin, filters
from notifications.contrib.operations.alerts import episodes, evaluation
from notifications.contrib.operations.alerts.links import subject_url
from notifications.contrib.operations.metrics import exposition
from notifications.contrib.questions import reminders
from notifications.contrib.questions.testing import answer_question
from notifications.contrib.webhooks.models import JobCallback
from notifications.extension import (
    AlertKind,
    Extension,
    Hooks,
    RecordedTransaction,
    Topic,
    WaitKind,
    WorkerPart,
)
from notifications.extension.moved import describe_remedy
from notifications.ids import uuid7
from notifications.jobs import announcing
from notifications.jobs.transitions import manual, reaping, waiting
from notifications.management.diagnosis import diagnose
from notifications.management.diagnosis.finding import OK, Finding
from notifications.management.management_command import ManagementCommand, with_extensions
from notifications.management.subcommands.prune import PruneCommand
from notifications.models import (
    Attempt,
    Job,
    Notification,
    Stream,
    Wait,
    Worker,
)
from notifications.serializers import serialize_job
from notifications.streams import inbox, purging, snoozing
from notifications.streams.retention import prune
from notifications.testing import run_jobs, run_until_idle
from tests.contrib.questions import question_tasks
from tests.jobs import tasks, wait_tasks
from tests.jobs.conftest import LocalWorker, until_done


class RecordCommand(ManagementCommand):
    help = "record"


def find_records(timeout):
    yield Finding(check="record", state=OK, message=f"{timeout} {connection.in_atomic_block}")
    raise OperationalError("no such table: record")


class TooManyRecords(AlertKind):
    kind, label = "records", "Too many records"
    model, model_label = "notifications.Notification", "Notification"

    def find(self, now):
        return [("1", {"count": 3})]

    def describe(self, facts):
        return f"They are {facts['count']}."


class Recorder(Extension):
    """Records the calls of its hooks: name, number of rows, and whether a transaction is open."""

    name = "notifications.testing"
    label = "recorder"
    subcommands = {
        "record": "tests.test_extension.RecordCommand",
        "jobs cancel": "tests.test_extension.RecordCommand",
    }
    findings = {"record": "tests.test_extension.find_records"}

    def __init__(self):
        super().__init__(self.name, testing)
        self.calls, self.rows_left, self.jobs_left = [], [], []
        self.returned = {}
        self.kept = []

    def _record(self, hook, rows):
        self.calls.append((hook, len(rows), connection.in_atomic_block))
        return self.returned.get(hook, lambda rows: ())(rows)

    def names(self):
        return [hook for hook, _, _ in self.calls if hook != "prepare"]

    def duties(self, process):
        self._record("duties", ())
        return [upkeep.Duty("record", 0, lambda: self._record("record", ()), is_for_each_process=True)]

    def stored_names(self, job):
        self.calls.append(("stored_names", job, connection.in_atomic_block))
        return self.returned.get("names", {})

    def prepare(self):
        self._record("prepare", ())

    def rows_per_notification(self):
        return 1

    def rows_per_end(self):
        return 1

    def before_created(self, rows):
        if rows:
            self._record("before_created", rows)

    def on_created(self, rows, tx):
        self.language, self.now = tx.language_of(rows[0]), tx.now
        self.jobs = dict(tx.jobs)
        return self._record("on_created", rows)

    def on_attempts(self, outcomes, tx):
        self.states = [outcome.job.state for outcome in outcomes]
        tx.kept.setdefault(self.label, 0)
        return self._record("on_attempts", outcomes)

    def on_ends(self, outcomes, tx):
        self.states = [outcome.job.state for outcome in outcomes]
        tx.kept[self.label] = len(outcomes)
        return self._record("on_ends", outcomes)

    def on_answered(self, rows, job, at):
        self.answered = (job.id, at)
        return self._record("on_answered", rows)

    def on_retried(self, ids, *, from_start):
        self._record(f"on_retried {from_start}", ids)

    def last(self, tx):
        self._record("last", ())

    def after_commit(self, kept):
        self.kept.append((kept, connection.in_atomic_block))

    def may_raise(self, rows):
        self._record("may_raise", rows)
        return [row for row in rows if row.key != "stays"]

    def before_raised(self, rows, tx):
        tx.kept[self.label] = [row.key for row in rows]
        self._record("before_raised", rows)

    def on_raised(self, ids, tx):
        self.raised = (tx.kept[self.label], tx.now)
        self._record("on_raised", ids)

    def senders(self, rows):
        self._record("senders", rows)
        return self.returned.get("names", {})

    def topics(self, announced):
        return self._record("topics", announced)

    def delete_of_users(self, keys):
        self._record("delete_of_users", keys)
        return self.rows_left.pop() if self.rows_left else 0

    def delete_of_jobs(self, ids, limit):
        self._record("delete_of_jobs", ids)
        return bool(self.jobs_left and self.jobs_left.pop())

    def delete_of_notifications(self, ids, limit):
        self._record("delete_of_notifications", ids)
        return False

    def list_filters(self, model_admin, request):
        return [OfAda, Loudness] if model_admin.model is Notification else []

    def action_for_all(self, model_admin, request, name):
        self._record(f"action_for_all {name}", ())
        return self.returned.get("action")

    def on_workers_lost(self, workers, now):
        assert now - workers[0].lease_until > timedelta(minutes=59)
        self._record("on_workers_lost", workers)

    def list_links(self, model_admin, request):
        return [("Write & send", f"/of/{request.user.pk}/")]

    def alert_kinds(self):
        return [TooManyRecords()]

    def overview_sections(self, model_admin, request):
        return [{"template": Template("<h2>Of {{ section.reader }}</h2>"), "reader": request.user}]

    def metrics(self):
        self._record("metrics", ())
        return [GaugeMetricFamily("records", "Rows.", 3)]

    def origin_link(self, model_admin, row):
        return format_html('<a href="/of/{}/">Its origin</a>', row.pk)


class OfAda(admin.SimpleListFilter):
    title, parameter_name = "reader", "of"

    def lookups(self, request, model_admin):
        return [("ada", "Ada alone")]

    def queryset(self, request, queryset):
        return queryset.filter(user__username=self.value()) if self.value() else queryset


class Loudness(filters.KeysetFilter):
    """Takes the place of the core's filter by level, and has only the newest row read."""

    title, parameter_name = "loudness", "level"

    def lookups(self, request, model_admin):
        return [("loud", "Loud")]

    def queryset(self, request, queryset):
        return queryset

    def narrow(self, request, changelist, rows, slices_of):
        if not self.value():
            return rows, changelist.root_queryset
        return rows.filter(pk__in=list(rows.order_by("-id").values_list("pk", flat=True)[:1])), None

    def row_check(self):
        return lambda ids: (
            Notification.objects.filter(pk__in=ids).exclude(title="Hidden").values_list("pk", flat=True)
        )


@pytest.fixture
def recorder(transactional_db, monkeypatch):
    """An extension that is installed beside those of the app."""
    recorder, installed = Recorder(), extension.hooks
    monkeypatch.setattr(installed, "__dict__", Hooks([*installed.extensions, recorder]).__dict__)
    return recorder


def finish(job):
    """Run jobs, and return this one."""
    run_jobs()
    return Job.objects.get(id=job.id)


def test_the_end_of_a_job(user, recorder):
    """Its hooks run in one transaction, in this order, and what they keep is used after it."""
    job = tasks.noop.using(owner=user).enqueue()
    finish(job)
    assert recorder.names() == ["on_attempts", "before_created", "on_ends", "on_created", "last"]
    assert all(is_atomic for hook, _, is_atomic in recorder.calls if hook != "prepare")
    assert recorder.calls[0] == ("prepare", 0, False)
    assert recorder.states == ["succeeded"]
    assert recorder.jobs.keys() == {Notification.objects.get().id}
    assert recorder.kept == [(1, False)]


def test_rows_are_inserted(user, recorder):
    """With the outcome and its notification; jobs among them are claimed."""
    job = tasks.noop.using(owner=user).enqueue()
    callback = JobCallback(job=uuid7(), url="https://example.com/")
    attempt = Attempt(job_id=UUID(job.id), number=7, ended_at=times.now(), outcome="lost")
    recorder.returned = {
        "on_attempts": lambda outcomes: [attempt] if is_first(outcomes) else (),
        "on_ends": lambda outcomes: [callback, new_job()] if is_first(outcomes) else (),
    }

    def is_first(outcomes):
        return outcomes[0].job.id == UUID(job.id)

    run_jobs()
    assert JobCallback.objects.get().url == callback.url
    assert Attempt.objects.get().number == 7
    other = Job.objects.exclude(id=job.id).get()
    recorder.returned = {"on_created": lambda rows: [new_job()]}
    assert finish(other).state == "succeeded"
    api.notify(user, "Hello")
    assert Job.objects.filter(state="queued").count() == 1


def new_job():
    """Return an unsaved job."""
    job = tasks.noop.get_backend().prepare(tasks.noop, [], {})[0]
    job.created_at = job.queued_at = times.now()
    return job


def test_a_hook_that_raises(user, recorder):
    """Nothing of the transaction is stored."""

    def fail(outcomes):
        raise RuntimeError("No.")

    recorder.returned = {"on_ends": fail}
    job = tasks.noop.using(owner=user).enqueue()
    with pytest.raises(RuntimeError):
        run_jobs()
    assert Job.objects.get(id=job.id).state == "running"
    assert not Notification.objects.exists()
    assert recorder.kept == []


def test_a_transaction_that_is_repeated(user, recorder):
    """What was kept in the one that was rolled back is forgotten."""
    error = [OperationalError("database is locked")]

    def fail_once(rows):
        if error:
            raise error.pop()
        return ()

    recorder.returned = {"last": fail_once}
    finish(tasks.noop.using(owner=user).enqueue())
    assert recorder.names().count("on_ends") == 2
    assert recorder.kept == [(1, False)]


def test_an_attempt_that_is_retried(recorder):
    """Its job still has the state in which it ran. It does not end."""
    job = tasks.busy.enqueue(1)
    run_jobs()
    assert recorder.names() == ["on_attempts", "last"]
    assert recorder.states == ["running"]
    assert Job.objects.get(id=job.id).state == "queued"


def test_an_attempt_whose_worker_was_lost(recorder):
    worker = Worker.objects.create(
        id=uuid7(), concurrency=1, started_at=times.now(), lease_until=times.now() - timedelta(hours=1)
    )
    job = tasks.noop.enqueue()
    Job.objects.filter(id=job.id).update(
        state="running", worker=worker.id, attempt=1, max_attempts=2, fence=1, started_at=times.now()
    )
    assert reaping.reap_jobs() == 1
    assert recorder.names() == ["on_attempts", "last", "on_workers_lost"]
    assert recorder.calls[0] == ("prepare", 0, False)
    assert recorder.calls[-1] == ("on_workers_lost", 1, True)
    assert recorder.kept == [(0, False)]
    reaping.reap_jobs()
    assert recorder.names().count("on_workers_lost") == 1


def test_a_job_that_waits(user, recorder):
    """The notification of its question is like any other."""
    question_tasks.ask_sync.using(owner=user).enqueue()
    run_jobs()
    assert recorder.names() == ["on_attempts", "before_created", "on_created", "on_ends", "last"]
    assert recorder.states == ["waiting"]
    assert [job.state for job in recorder.jobs.values()] == ["waiting"]
    assert recorder.now == Wait.objects.get().created_at


def test_a_reminder_and_an_answer(user, recorder):
    """What the hooks need is imported before both transactions."""
    question_tasks.ask_sync.using(owner=user).enqueue(remind_hours=[1])
    run_jobs()
    recorder.calls.clear()
    Wait.objects.update(remind_at=times.now() - timedelta(hours=1))
    reminders.remind_of_due()
    assert recorder.calls[0] == ("prepare", 0, False)
    assert recorder.names() == ["before_created", "on_created"]
    recorder.calls.clear()
    recorder.returned = {"on_answered": lambda rows: [new_job()]}
    answer_question("yes", by=user)
    # The notification that the reminder has replaced is not answered.
    assert recorder.calls == [("prepare", 0, False), ("on_answered", 1, True)]
    wait = Wait.objects.get()
    assert recorder.answered == (wait.job, wait.ended_at)
    assert Job.objects.filter(state="queued").count() == 2


def test_a_job_that_is_retried_by_hand(recorder):
    job = tasks.fail.enqueue()
    run_jobs()
    recorder.calls.clear()
    manual.retry([Job.objects.get(id=job.id).id])
    manual.cancel([Job.objects.get(id=job.id).id])
    assert recorder.names() == ["on_retried False", "on_ends", "last"]
    manual.retry([Job.objects.get(id=job.id).id], from_start=True)
    assert recorder.names()[-1] == "on_retried True"


def test_names_in_a_job(recorder):
    """They are read once in an execution, after which a wait has no name of another kind."""
    recorder.returned["names"] = {"rest": "fax"}
    job = Job.objects.get(id=wait_tasks.pause_twice.enqueue(1).id)
    run_until_idle()
    read = [call for call in recorder.calls if call[0] == "stored_names"]
    assert read == [
        ("stored_names", job.id, False)
    ]  # not by the first execution, before which nothing was stored
    error = "The name 'rest' is that of a fax of this job, and cannot be that of a pause"
    assert error in Attempt.objects.get(job=job).traceback


def test_notify(make_user, recorder):
    """In chunks that have room for what is inserted with each; in a caller's transaction without numbers."""
    users = [make_user(f"user{number}") for number in range(51)]
    with translation.override("de"):
        api.notify(users, "Hello")
    assert recorder.names() == ["before_created", "on_created"] * 2
    assert [rows for hook, rows, _ in recorder.calls if hook == "on_created"] == [50, 1]
    assert (recorder.language, recorder.jobs) == ("de", {})
    recorder.calls.clear()
    with transaction.atomic():
        api.notify(users[0], "Hello")
        assert recorder.names() == ["before_created", "on_created"]


def test_duties(recorder):
    """They are made once for each process, which does them with those of the core, outside of a transaction."""
    process = upkeep.Upkeep(upkeep.Where.WORKER, seconds=0)
    assert recorder.names() == ["duties"]
    assert {"number pending changes", "enqueue deliveries", "record"} <= {
        duty.name for duty in process.duties
    }
    process.run_round()
    process.run_round()
    # Topics are read on a thread of their own.
    assert [call for call in recorder.calls if call[0] == "record"] == [("record", 0, False)] * 2


@pytest.mark.django_db(transaction=True)
def test_dispatch(monkeypatch, user):
    """Jobs of the built-in worker need none. A backend with an engine names the app that has them."""
    monkeypatch.setattr(extension.hooks, "dispatch", Hooks().dispatch)
    assert finish(tasks.noop.using(owner=user).enqueue()).state == "succeeded"
    with pytest.raises(
        ImproperlyConfigured, match=r'Add "notifications\.contrib\.engines" to INSTALLED_APPS'
    ):
        extension.hooks.dispatch.require("default")
    assert not extension.hooks.dispatch.unserved_jobs(Job.objects.all()).exists()
    assert extension.hooks.dispatch.label_of("default") == "default"


def test_subcommands(recorder):
    """In the order that the command has for them, the others last; verbs below the one that is named with them."""
    commands = {"doctor": PruneCommand, "prune": PruneCommand}
    found = with_extensions(commands, ("record", "prune"))
    assert (list(found)[:3], found["record"]) == (["record", "prune", "doctor"], RecordCommand)
    found = with_extensions({"list": PruneCommand, "cancel": PruneCommand}, (), below="jobs")
    assert (found["list"], found["cancel"], "record" in found) == (PruneCommand, RecordCommand, False)


def test_findings(recorder):
    """After those whose order is known. An error of the database is one more."""
    *_, alerts, duties, round_trip, record, error = diagnose(timeout=0.1)
    assert [alerts.check, duties.check, round_trip.check] == ["alerts", "duties", "round trip"]
    assert (record.check, record.message) == ("record", "0.1 False")
    assert (error.check, error.state) == ("database", "error") and "no such table" in error.message


def test_snoozed_notifications_that_may_not_return(user, recorder):
    """Those of all users at once, before the transaction. They stay archived, and are not asked about again."""
    api.notify(user, "Stays", key="stays")
    api.notify(user, "Returns", key="returns")
    past = times.now() - timedelta(seconds=1)
    Notification.objects.update(snoozed_until=past, archived_at=past)
    while snoozing.raise_due():
        pass
    assert [call for call in recorder.calls if call[0] == "may_raise"] == [("may_raise", 2, False)]
    assert Notification.objects.get(archived_at=None).key == "returns"
    assert not Notification.objects.filter(snoozed_until__isnull=False).exists()
    raising = [call for call in recorder.calls if call[0].endswith("_raised")]
    assert raising == [("before_raised", 1, True), ("on_raised", 1, True)]
    kept, now = recorder.raised
    assert kept == ["returns"] and now == Notification.objects.get(key="returns").returned_at


def test_topics(user, recorder):
    """They are read outside of a transaction. Readers are notified once that something is wrong, and of its end."""
    fields = {"read_readers": lambda: [user.pk], "describe": lambda before: {"title": f"Was {before}"}}
    announcer = announcing.Announcer()
    for state in ("full", "full", ""):
        recorder.returned["topics"] = lambda announced, state=state: [
            Topic(key="disk", state=state, **fields)
        ]
        announcer.run_round()
    assert [call for call in recorder.calls if call[0] == "topics"] == [
        ("topics", 0, False),
        ("topics", 1, False),
        ("topics", 1, False),
    ]
    titles = Notification.objects.filter(key="disk").order_by("id").values_list("title", flat=True)
    assert list(titles) == ["Was ", "Was full"]


def test_alert_kinds(user, recorder):
    """They are evaluated with the others. The page of the row is linked to."""
    evaluation.evaluate()
    (alert,) = episodes.open_alerts()
    assert (str(alert), alert.detail) == ("Too many records: 1", "They are 3.")
    assert subject_url(alert, paths.admin_list) == "/admin/notifications/notification/1/change/"
    extension.hooks.alert_kinds.pop("records")
    assert subject_url(alert, paths.admin_list) == ""
    assert episodes.open_alerts()[0].detail == "They are 3."


def test_overview_sections(admin_client, recorder):
    page = admin_client.get("/admin/notifications_operations/overview/").text
    assert page.count("<h2>Of admin</h2>") == 1


def test_metrics(recorder):
    text, _ = exposition("")
    assert b"\nrecords 3.0\n" in text
    assert recorder.calls == [("metrics", 0, False)]


def test_senders(user, user_client, make_user, recorder):
    """Of the rows of a page at once. One who is not known is the staff."""
    eve = make_user("eve", first_name="Eve", last_name="Adams")
    ids = [id for title in ("By Eve", "By a deleted user", "By a job") for id in api.notify(user, title)]
    recorder.returned["names"] = {ids[0]: eve.pk, ids[1]: None}
    recorder.calls.clear()
    user_client.get("/notifications/")
    assert recorder.calls == [("senders", 3, False)]
    pages = [user_client.get(f"/notifications/{id}/").text for id in ids]
    assert "Sent to several users by Eve Adams" in pages[0]
    assert "Sent to several users by the staff" in pages[1]
    assert "Sent to several users" not in pages[2]


def test_rows_of_deleted_users(make_user, recorder):
    """In the transactions that delete them, until none is left; their streams are deleted after that."""
    users = [make_user("ada"), make_user("eve")]
    api.notify(users, "Hello")
    recorder.calls.clear()
    recorder.rows_left = [3, 100]
    deleted = purging.purge([user.pk for user in users])
    assert recorder.calls == [("delete_of_notifications", 2, True), *[("delete_of_users", 2, True)] * 3]
    assert deleted == 2 + 100 + 3
    assert not Stream.objects.exists()


def test_rows_that_belong_to_jobs_and_notifications(user, recorder):
    """They are deleted in transactions of their own until none is left, and the jobs in the last one."""
    for delete in (lambda: purging.purge([user.pk]), lambda: prune(times.now() + timedelta(days=1))):
        finish(tasks.noop.using(owner=user).enqueue())
        recorder.calls.clear()
        recorder.jobs_left = [False, True, True]
        delete()
        assert [call for call in recorder.calls if "jobs" in call[0]] == [("delete_of_jobs", 1, True)] * 3
        assert not Job.objects.exists()


def test_the_admins_pages_of_notifications(user, admin_client, recorder):
    """A filter beside the list, which filters, a link above it, and a link on the page of each notification."""
    (id,) = api.notify(user, "Hello")
    pages = "/admin/notifications/notification/"
    page = admin_client.get(pages).text
    assert "Ada alone" in page and re.search(r'<a href="/of/\d+/"[^>]*>Write &amp; send</a>', page)
    assert "Hello" not in admin_client.get(f"{pages}?of=bob").text
    assert f'<a href="/of/{id}/">Its origin</a>' in admin_client.get(f"{pages}{id}/change/").text


def test_a_filter_in_place_of_one_of_the_core(user, admin_client, recorder):
    """It narrows what the list reads, and checks the rows."""
    for title in ("Old", "New", "Hidden"):
        api.notify(user, title)
    pages = "/admin/notifications/notification/"
    page = admin_client.get(pages)
    assert "By loudness" in page.text and "By level" not in page.text
    assert [row.title for row in page.context["cl"].result_list] == ["New", "Old"]
    Notification.objects.filter(title="Hidden").delete()
    page = admin_client.get(f"{pages}?level=loud")
    assert [row.title for row in page.context["cl"].result_list] == ["New"]


def test_a_filter_of_a_project_is_kept(user, admin_client, recorder, monkeypatch):
    """The extension's filter of the same parameter is left out: it would be shown, and have no effect."""

    class ProjectLevelFilter(filters.LevelFilter):
        title = "importance"

    monkeypatch.setattr(NotificationAdmin, "list_filter", (filters.UserFilter, ProjectLevelFilter))
    page = admin_client.get("/admin/notifications/notification/?level=error")
    assert page.status_code == 200
    assert "By importance" in page.text and "By loudness" not in page.text


def test_an_action_for_all_rows(admin_client, recorder, monkeypatch):
    """Not one for rows of the page. Without a function it is refused, and the message names the app to install."""
    monkeypatch.setattr(extension.hooks, "action_for_all", [recorder.action_for_all])
    jobs = [tasks.noop.enqueue().id for _ in range(2)]
    form = {"action": "cancel_jobs", "_selected_action": jobs[:1]}
    recorder.returned["action"] = lambda: HttpResponse("Done.")
    admin_client.post("/admin/notifications/job/", form)
    assert "action_for_all cancel_jobs" not in recorder.names()
    form["select_across"] = "1"
    assert admin_client.post("/admin/notifications/job/", form).text == "Done."
    assert ("action_for_all cancel_jobs", 0, False) in recorder.calls
    assert [str(job.pk) for job in Job.objects.filter(state="cancelled")] == jobs[:1]
    del recorder.returned["action"]
    for action in ("cancel_jobs", "reschedule_jobs"):
        page = admin_client.post("/admin/notifications/job/", {**form, "action": action}, follow=True)
        *_, message = page.context["messages"]
        assert describe_remedy("operations") in str(message)
    assert [str(job.pk) for job in Job.objects.filter(state="cancelled")] == jobs[:1]


def test_an_app_that_is_required():
    """The models of one that is not installed would get the label of the core."""
    extension.require("notifications.contrib.broadcasts")
    with pytest.raises(ImproperlyConfigured, match=r'Add "notifications\.contrib\.none" to INSTALLED_APPS'):
        extension.require("notifications.contrib.none")


def test_apps_whose_tables_belong_together(recorder, monkeypatch):
    """Checks and doctor look at those of all extensions."""
    monkeypatch.setattr(extension.installed, "extensions", lambda: [recorder])
    assert extension.list_apps() == [apps.get_app_config("notifications"), recorder]


def test_languages():
    """That of the job, else that of the reader, else that of the thread."""
    row, other = Notification(id=uuid7()), Notification(id=uuid7())
    tx = RecordedTransaction(jobs={row.id: Job(language="de")}, languages={row.id: "fr", other.id: "fr"})
    assert (tx.language_of(row), tx.language_of(other)) == ("de", "fr")
    assert tx.language_of(Notification(id=uuid7())) == translation.get_language()


def test_hooks_that_are_not_defined_are_not_called():
    class Silent(Extension):
        name, label = "notifications.testing", "silent"

    hooks = Hooks([Silent("notifications.testing", testing)])
    assert {name for name, value in vars(hooks).items() if value} == {"dispatch", "extensions", "wait_kinds"}
    assert list(hooks.wait_kinds) == ["pause"]


def test_django_finds_the_extension(tmp_path, monkeypatch):
    """And not the base class that its module imports, or it would have another label."""
    folder = tmp_path / "slack_messages"
    folder.mkdir()
    folder.joinpath("__init__.py").touch()
    folder.joinpath("apps.py").write_text(
        "from notifications.extension import Extension\n"
        'class Slack(Extension):\n    name = "slack_messages"\n    label = "slack"\n'
    )
    monkeypatch.syspath_prepend(tmp_path)
    config = AppConfig.create("slack_messages")
    assert (type(config).__name__, config.label) == ("Slack", "slack")


def test_installed_extensions(recorder, monkeypatch):
    """Those of INSTALLED_APPS, in their order."""
    monkeypatch.setattr(
        apps, "get_app_configs", lambda: [AppConfig("notifications.testing", testing), recorder]
    )
    assert extension.extensions() == [recorder]


class CountingPart(WorkerPart):
    """Counts the outcomes that it has held up."""

    def __init__(self, state):
        self.state = state
        self.outcomes, self.has_run, self.has_ended = [], False, False

    async def run(self):
        self.has_run = True
        await super().run()

    async def before_outcome(self, job):
        self.outcomes.append(job.id)

    def end(self):
        self.has_ended = True


def test_a_part_of_a_worker(transactional_db, monkeypatch):
    """It runs as long as the worker, and is asked before each outcome is recorded. Tasks reach it by the label."""
    parts = []

    class Counting(Extension):
        name, label = "notifications.testing", "counting"

        def worker_part(self, state):
            parts.append(CountingPart(state))
            return parts[-1]

    installed = extension.hooks
    hooks = Hooks([*installed.extensions, Counting("notifications.testing", testing)])
    monkeypatch.setattr(installed, "__dict__", hooks.__dict__)
    worker = LocalWorker()
    try:
        (row,) = until_done(tasks.has_part.enqueue("counting"))
    finally:
        worker.stop()
    [part] = parts
    assert row.result == "true"
    assert (part.outcomes, part.has_run, part.has_ended) == ([row.id], True, True)
    tasks.has_part.enqueue("counting")
    run_jobs()
    assert parts[1].state is None and not parts[1].has_run


class CountingKind(WaitKind):
    """Counts the waits of pauses, whose kind it takes over, and notifies of each."""

    kind = "pause"
    ends_by_time = "due"

    def __init__(self):
        self.opened_waits, self.ended_waits = [], []
        self.is_shown, self.reminders = False, 0

    def opened(self, waits, jobs):
        self.opened_waits += waits
        return [inbox.build_notification(jobs[wait.job].user_id, "It pauses.") for wait in waits]

    def ended(self, waits):
        assert connection.in_atomic_block
        self.ended_waits += [wait.how for wait in waits]
        rows = Notification.objects.filter(title="It pauses.")
        rows.update(read_at=times.now(), seq=None)
        return set(rows.values_list("user_id", flat=True))

    def is_shown_to(self, wait, user):
        return self.is_shown

    def page(self, job, id):
        return f"/naps/{job}/{id}/"

    def answer_path(self, job, id):
        return f"/api/naps/{id}/"

    def remind(self):
        assert not connection.in_atomic_block
        self.reminders += 1


@pytest.mark.parametrize("how", ["due", "cancelled"])
def test_a_kind_of_wait(user, recorder, monkeypatch, how):
    """Its notifications are like others, are numbered, and are closed with the wait."""
    kind = CountingKind()
    monkeypatch.setitem(extension.hooks.wait_kinds, "pause", kind)
    job = Job.objects.get(id=wait_tasks.pause_sync.using(owner=user).enqueue().id)
    run_jobs()
    assert len(kind.opened_waits) == 1
    assert recorder.names() == ["on_attempts", "before_created", "on_created", "on_ends", "last"]
    row = Notification.objects.get()
    assert row.seq == row.raised == 1
    job.refresh_from_db()
    assert (job.state, job.waiting) == ("waiting", None)
    if how == "cancelled":
        manual.cancel([job.id])
    else:
        Wait.objects.update(due_at=times.now())
        waiting.end_due_waits()
    assert kind.ended_waits == [how]
    row.refresh_from_db()
    assert row.read_at and row.seq > row.raised


def test_a_kind_of_wait_that_users_end(user, recorder, monkeypatch):
    """The item of its job has its links, and jobs that run inline remind of it."""
    kind = CountingKind()
    kind.is_shown = True
    monkeypatch.setitem(extension.hooks.wait_kinds, "pause", kind)
    job = Job.objects.get(id=wait_tasks.pause_sync.using(owner=user).enqueue().id)
    run_jobs()
    assert kind.reminders == 1
    job.refresh_from_db()
    wait = Wait.objects.get()
    links = {"answer": f"/api/naps/{wait.id}/", "page": f"/naps/{job.id}/{wait.id}/"}
    assert serialize_job(job)["waiting"]["links"] == links
    monkeypatch.delitem(extension.hooks.wait_kinds, "pause")  # its extension is not installed any more
    links = {"answer": None, "page": f"/notifications/jobs/{job.id}/"}
    assert serialize_job(job)["waiting"]["links"] == links


def test_a_wait_of_an_app_that_is_not_installed_any_more(user, recorder, monkeypatch):
    """It expires, and its job can be cancelled."""
    wait_tasks.pause_sync.using(owner=user).enqueue()
    run_jobs()
    Wait.objects.update(kind="fax", due_at=times.now())
    waiting.end_due_waits()
    assert Wait.objects.get().how == "expired"
