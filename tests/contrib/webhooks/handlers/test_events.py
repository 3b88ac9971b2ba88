"""The jobs of handlers are inserted in the transaction of the event."""

import json
from datetime import timedelta
from uuid import UUID

import pytest
from django.contrib.auth import get_user_model
from django.db import connection, transaction
from django.utils import timezone

from notifications import times
from notifications.api import anotify, batch, notify
from notifications.contrib.operations.models import Alert
from notifications.contrib.questions.testing import answer_question
from notifications.contrib.webhooks import events as handler_events
from notifications.contrib.webhooks import handlers
from notifications.jobs import cancel, retry
from notifications.jobs.transitions import running
from notifications.jobs.transitions.recording import finish_jobs
from notifications.models import Job, Notification, Stream, Wait, uuid7
from notifications.serializers import serialize
from notifications.signals import job_finished
from notifications.streams import rings
from notifications.testing import run_jobs, run_until_idle
from notifications.worker import SignalQueue, record_loop
from tests.contrib.questions import question_tasks
from tests.contrib.webhooks.handlers import tasks as handler_tasks
from tests.contrib.webhooks.handlers.conftest import PATH
from tests.jobs import tasks, wait_tasks
from tests.jobs.conftest import until_done
from tests.support.claims import claim_rows
from tests.support.django_tasks import task_enqueued, task_finished, task_started
from tests.support.duties import run_duty
from tests.support.outcomes import succeeded
from tests.support.statements import preceded
from tests.support.waiting import wait_until

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.database_law,
    pytest.mark.with_all_apps("the events are those of jobs of all apps"),
]


def handlers_jobs(name="handle"):
    return Job.objects.filter(task_path=f"{PATH}.{name}").order_by("id")


def events():
    """Return the events of the jobs of all handlers."""
    rows = Job.objects.filter(task_path__startswith=PATH).order_by("id")
    return [json.loads(row.args)[0] for row in rows]


def types():
    return sorted(event["type"] for event in events())


def make_lost(task, **fields):
    """Enqueue a job, and have it run on a worker that is lost, in its last attempt."""
    id = task.using(**fields).enqueue().id
    Job.objects.filter(id=id).update(
        state="running", worker=uuid7(), fence=1, attempt=9, started_at=timezone.now()
    )
    return id


def test_event_of_a_worker(start_worker, user, declare):
    """With what the job and its notification are after the transaction, but for their numbers."""
    declare("handle")
    start_worker()
    result = tasks.add.using(owner=user, title="Sum").enqueue(1, 2)
    until_done(result)
    wait_until(lambda: len(handler_tasks.events) == 2, what="the handlers to run")
    job, notification = Job.objects.get(id=result.id), Notification.objects.get()
    by_type = {event["type"]: event for event in handler_tasks.events}
    assert set(by_type) == {"job.succeeded", "notification.created"}
    ended, created = by_type["job.succeeded"], by_type["notification.created"]
    assert set(ended) == {"type", "id", "at", "user", "job", "notification"}
    assert (ended["id"], created["id"]) == (f"{job.id}:{job.fence}", str(notification.id))
    assert (ended["user"], created["user"]) == (user.pk, user.pk)
    assert ended["at"] == serialize(job)["finished_at"]
    assert created["at"] == serialize(notification)["created_at"]
    assert {**ended["job"], "seq": 0} == {**serialize(job), "seq": 0}
    unnumbered = {"seq": None, "raised": None}
    assert ended["notification"] | unnumbered == serialize(notification) | unnumbered
    assert created["job"] == ended["job"] and created["notification"] == ended["notification"]
    assert "args" not in ended["job"] and "result" not in ended["job"]


def test_a_question_and_its_answer(user, declare, monkeypatch):
    """Each time that a job waits, and each notification that is answered, in their transactions."""
    declare("handle_too")
    woken = []
    monkeypatch.setattr(rings, "ring_new_jobs", lambda jobs, queue: woken.extend(jobs))
    question_tasks.ask_sync.using(owner=user).enqueue()
    run_jobs()
    wait_tasks.pause_sync.enqueue()
    run_jobs()
    job, other = Job.objects.filter(state="waiting").order_by("id")
    row = Notification.objects.get()
    by_type = {event["type"]: event for event in events() if event["user"]}
    assert set(by_type) == {"job.waiting", "notification.created"}
    waiting = by_type["job.waiting"]
    assert waiting["id"] == f"{job.id}:{job.fence}:waiting" and waiting["notification"] is None
    assert waiting["job"] == serialize(job) and waiting["job"]["waiting"]["kind"] == "question"
    assert [event["job"]["id"] for event in events() if not event["user"]] == [str(other.id)]
    answer_question("yes", by=user)
    answered = events()[-1]
    wait = Wait.objects.get(kind="question")
    assert (answered["type"], answered["id"]) == ("notification.answered", f"{row.id}:answered")
    assert answered["at"] == times.format_time(wait.ended_at)
    assert answered["notification"]["data"]["question"]["ended"]["value"] == "yes"
    assert answered["notification"]["read_at"] and answered["job"] is None
    woken_ids = [job.id for job in woken if job.task_path.endswith("handle_too")]
    assert woken_ids == [job.id for job in handlers_jobs("handle_too")]


def test_an_expired_question_is_not_answered(user, declare, jobs_clock):
    declare({"notification.answered": ["handle_too"]})
    question_tasks.ask_sync.using(owner=user).enqueue(expires_ms=1_000, default="no")
    run_until_idle()
    assert Wait.objects.get().how == "expired" and events() == []


def test_jobs_of_handlers(user, declare):
    """They have no owner, and what their task and its policy say."""
    declare("handle")
    notify(user, "Hello")
    job = handlers_jobs().get()
    assert (job.user_id, job.state, job.seq, job.executor) == (None, "queued", 0, "sync")
    assert (job.title, job.concurrency_key) == ("Handle notification.created", f"crm:{user.pk}")
    assert (job.backend, job.queue_name, job.max_attempts) == ("default", "default", 3)
    run_jobs(raise_errors=True)
    assert [event["notification"]["title"] for event in handler_tasks.events] == ["Hello"]
    assert Notification.objects.count() == 1


@pytest.mark.parametrize("in_transaction", [False, True])
def test_notify(declare, in_transaction):
    """One job for each of many users, in the transaction of its notification."""
    declare({"notification.created": ["handle_too", "handle_with_context"], "job.failed": ["handle"]})
    model = get_user_model()
    users = model.objects.bulk_create(model(username=f"user{number}") for number in range(250))
    if in_transaction:
        with transaction.atomic():
            notify(users, "Hello")
    else:
        notify(users, "Hello")
    assert Job.objects.count() == 500
    ids = sorted(str(row.id) for row in Notification.objects.all())
    assert sorted(event["id"] for event in events()) == sorted([*ids, *ids])
    assert {(event["job"], event["type"]) for event in events()} == {(None, "notification.created")}
    assert not Notification.objects.filter(seq=None).exists()


def test_transactions_have_as_many_rows_with_handlers(make_user, declare, set_rows_per_transaction):
    """SQLite's lock is not held for longer, by notify() and by broadcasts."""
    declare({"notification.created": ["handle", "handle_too", "handle_with_context"]})
    set_rows_per_transaction(8, jobs_per_notification=3.0)
    users, rows = [make_user(f"user{number}") for number in range(5)], []

    def count():
        rows.append(Notification.objects.count() + Job.objects.count())

    with preceded("INSERT INTO .?notifications_notification", count, times=None):
        notify(users, "Hello")
    count()
    assert rows == [0, 8, 8 + 8, 8 + 8 + 4]


def test_groups_of_outcomes_have_as_many_rows_with_handlers(start_worker, declare, monkeypatch, set_bounds):
    """But in the first group of a process, which does not know how many jobs follow. Jobs of handlers have none."""
    declare({"job.succeeded": ["handle", "handle_too"], "notification.created": ["handle"]})
    finish_jobs([succeeded(Job.objects.get(id=make_lost(tasks.noop)))])
    finish, sizes = record_loop.finish_jobs, []

    def count(group):
        if any(outcome.job.task_path == tasks.noop.module_path for outcome in group):
            sizes.append(len(group))
        return finish(group)

    monkeypatch.setattr(record_loop, "finish_jobs", count)
    set_bounds(rows=5)
    results = [tasks.noop.enqueue() for _ in range(20)]
    start_worker()
    for result in results:
        until_done(result)
    assert max(sizes) <= 2


def test_version_after_progress(user, declare):
    """It is that of the row, which progress has raised while the job ran."""
    declare("handle_too")
    job = Job.objects.get(id=make_lost(tasks.noop, owner=user))
    job.progress_current, job.progress_total = 1, 2
    running.store_progress([job])
    finish_jobs([succeeded(job)])
    assert {event["job"]["version"] for event in events()} == {Job.objects.get(id=job.id).version}


def test_rollback(user, declare):
    declare("handle")
    with transaction.atomic():
        notify(user, "undone")
        transaction.set_rollback(True)
    with transaction.atomic():
        notify(user, "kept")
        with transaction.atomic():
            notify(user, "undone too")
            transaction.set_rollback(True)
    assert [event["notification"]["title"] for event in events()] == ["kept"]


async def test_anotify(event_loop_database, user, declare):
    declare("handle")
    await anotify(user, "Hello")
    assert await handlers_jobs().acount() == 1


def test_failure_before_the_commit(user, declare):
    """Neither the outcome, nor the notification, nor the job of the handler is stored."""
    declare("handle")
    job = tasks.noop.using(owner=user).enqueue()

    def fail():
        if handlers_jobs().exists():
            raise RuntimeError("before the commit")

    with preceded("UPDATE|INSERT|DELETE", fail, times=None), pytest.raises(RuntimeError):
        run_jobs()
    assert Job.objects.get(id=job.id).state == "running"
    assert not Notification.objects.exists() and not handlers_jobs().exists()


def test_attempt_that_another_one_follows(user, declare):
    """It is no event."""
    declare("handle_too")
    tasks.busy.using(owner=user).enqueue(1)
    run_until_idle()
    assert types() == ["job.succeeded", "notification.created"]


def test_handlers_have_the_share_of_the_owner(user, declare):
    """What the jobs of one owner have handlers do stands in the turns of that owner; they own it not."""
    declare("handle")
    for owner in (user, None):
        tasks.noop.using(owner=owner).enqueue()
    run_jobs()
    shares = handlers_jobs().values_list("user", "share_name")
    assert set(shares) == {(None, f"user:{user.pk}"), (None, f"task:{PATH}.handle")}


def test_job_without_an_owner(declare):
    declare("handle_too")
    tasks.fail.enqueue()
    run_jobs()
    [event] = events()
    assert (event["type"], event["user"], event["notification"]) == ("job.failed", None, None)
    assert event["job"]["error"]["type"] == "task-failed"


def test_cancelled_by_hand(user, make_user, declare):
    """Silently by its owner, with a notification by another user."""
    declare("handle_too")
    jobs = [UUID(tasks.noop.using(owner=user).enqueue().id) for _ in range(2)]
    cancel(jobs[:1], by=user.pk)
    assert types() == ["job.cancelled"]
    cancel(jobs[1:], by=make_user("staff").pk)
    assert types() == ["job.cancelled", "job.cancelled", "notification.created"]


def test_retried_by_hand(user, declare):
    """Each end is an event with an id of its own."""
    declare({"job.failed": ["handle_too"], "job.cancelled": ["handle_too"]})
    job = UUID(tasks.fail.using(owner=user).enqueue().id)
    run_jobs()
    retry([job])
    run_jobs()
    retry([job])
    cancel([job])
    ids = [event["id"] for event in events()]
    assert len(set(ids)) == 3 and {id.partition(":")[0] for id in ids} == {str(job)}


def test_two_handlers_get_the_same_event(user, declare):
    declare({"notification.created": ["handle", "handle_too", "handle"]})
    notify(user, "Hello")
    first, second = events()
    assert first == second


def test_task_that_is_imported_by_two_paths(user, settings):
    paths = [
        f"{PATH}.handle_too",
        f"{__name__}.handler_tasks.handle_too",
        f"{PATH}.same",
    ]
    settings.NOTIFICATIONS = {**settings.NOTIFICATIONS, "HANDLERS": {"notification.created": paths}}
    notify(user, "Hello")
    assert len(events()) == 1


def test_reaped(user, declare):
    declare("handle_too")
    make_lost(tasks.noop, owner=user)
    run_duty("take jobs from lost workers")
    assert types() == ["job.failed", "notification.created"]
    assert events()[0]["job"]["error"]["type"] == "worker-lost"


def test_batch(user, declare):
    """An event for each of its jobs, and for the batch."""
    declare("handle_too")
    with batch(owner=user, title="All") as b:
        tasks.noop.enqueue()
        tasks.fail.enqueue()
    run_jobs()
    assert types() == ["job.failed", "job.failed", "job.succeeded", "notification.created"]
    [about] = [event for event in events() if event["id"] == f"{b.id}:0"]
    assert (about["job"]["title"], about["notification"]["job"]) == ("All", str(b.id))


def test_announcement(make_user, declare):
    declare({"notification.created": ["handle_too"]})
    make_user("operator", is_superuser=True)
    now = timezone.now()
    Alert.objects.create(kind="no_worker", subject="", opened_at=now, seen_at=now, facts="{}")
    run_duty("announce problems")
    assert types() == ["notification.created"] * Notification.objects.count() != []


def test_handlers_raise_no_events(user, declare):
    """Neither by their ends nor by what they notify, or they would enqueue themselves without end."""
    declare("notify_again")
    notify(user, "Hello")
    assert run_jobs(limit=10) == 1
    assert len(handler_tasks.events) == 1
    assert [row.title for row in Notification.objects.order_by("id")] == ["Hello", "from a handler"]


@pytest.mark.parametrize("on_signal_thread", [False, True])
@pytest.mark.parametrize("signal", [task_enqueued, task_started, task_finished, job_finished])
def test_receiver_that_notifies_of_the_jobs_of_handlers(user, declare, signal, on_signal_thread):
    """It raises no event either."""
    declare({"notification.created": ["fail"]})

    def receive(**kwargs):
        if len(received) < 10:
            received.append(notify(user, "A job of a handler"))

    received = []
    queue = SignalQueue() if on_signal_thread else None
    signal.connect(receive)
    if queue:
        queue.use_on_this_thread()
    try:
        notify(user, "Hello")
        assert run_jobs(limit=10) == 1
        if queue:
            queue.wait(10)
    finally:
        if queue:
            queue.end()
        signal.disconnect(receive)
    assert len(received) == 1 and handlers_jobs("fail").count() == 1


def test_handler_that_fails(user, declare):
    declare("fail")
    notify(user, "Hello")
    assert run_jobs(limit=10) == 1
    job = handlers_jobs("fail").get()
    assert (job.state, Notification.objects.count()) == ("failed", 1)
    retry([job.id])
    assert run_jobs(limit=10) == 1
    assert handler_tasks.events[0] == handler_tasks.events[1], "The same event, with the same id."


def test_title_that_cannot_be_made(user, declare, caplog):
    """The notification and the job are stored, with the options of the task."""
    declare({"notification.created": ["handle_badly"]})
    notify(user, "Hello")
    job = handlers_jobs("handle_badly").get()
    assert (job.title, job.priority, job.queue_name) == ("handle_badly", 7, "crm")
    assert "of a handler's job cannot be made" in caplog.text


def test_worker_is_woken(start_worker, user, declare):
    """As by enqueue(), after the commit, and not within the second of a poll."""
    declare({"notification.created": ["handle_too"]})
    start_worker()
    for _ in range(3):
        started = timezone.now()
        notify(user, "Hello")
        wait_until(
            lambda: not handlers_jobs("handle_too").exclude(state="succeeded").exists(), what="the job"
        )
        if timezone.now() - started < timedelta(seconds=0.7):
            return
    raise AssertionError("The worker is not woken.")


def test_engine(with_engine, user, declare):
    """The built-in worker leaves the jobs to the engine of their backend."""
    declare({"notification.created": ["handle"], "job.cancelled": ["handle_too"]})
    notify(user, "Hello")
    cancel([UUID(tasks.noop.enqueue().id)])
    assert claim_rows(uuid7(), 10) == []
    run_jobs()  # as the engine's processes do
    assert {handlers_jobs(name).get().state for name in ("handle", "handle_too")} == {"succeeded"}


def test_task_enqueued_is_sent_after_the_commit(user, declare):
    declare({"notification.created": ["handle_too"]})
    received = []

    def receive(task_result, **kwargs):
        received.append((task_result.task.name, connection.in_atomic_block))

    task_enqueued.connect(receive)
    try:
        with transaction.atomic():
            notify(user, "Hello")
            assert not received
    finally:
        task_enqueued.disconnect(receive)
    assert received == [("handle_too", False)]


def test_modules_are_imported_before_the_transaction(user, settings, tmp_path, monkeypatch):
    """And not again for the next event."""
    (tmp_path / "late_handlers.py").write_text(
        "from django.db import connection\n"
        "from notifications.api import task\n"
        "assert not connection.in_atomic_block\n"
        "@task\ndef handle(event): pass\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    events = ["job.succeeded", "job.cancelled", "job.failed"]
    settings.NOTIFICATIONS = {
        **settings.NOTIFICATIONS,
        "HANDLERS": {event: ["late_handlers.handle"] for event in events},
    }
    cancel([UUID(tasks.noop.using(owner=user).enqueue().id)])
    assert Job.objects.filter(task_path="late_handlers.handle").count() == 1
    monkeypatch.setattr(handlers, "find_project_task", None)
    cancel([UUID(tasks.noop.using(owner=user).enqueue().id)])
    assert Job.objects.filter(task_path="late_handlers.handle").count() == 2


def test_numbers_are_written_at_once(user, declare):
    """Handlers change nothing about how outcomes are numbered."""
    declare("handle_too")
    tasks.noop.using(owner=user).enqueue()
    run_jobs()
    assert Stream.objects.get(user=user).head == 2
    ended = min(events(), key=lambda event: event["type"])
    assert (ended["job"]["seq"], ended["notification"]["seq"]) == (1, 2)


def test_without_handlers_nothing_is_built(user, monkeypatch):
    monkeypatch.setattr(handler_events, "_make_event", None)
    tasks.noop.using(owner=user).enqueue()
    run_jobs()
    notify(user, "Hello")
    assert Job.objects.count() == 1


class TestInsideATestCase:
    """As in a project's TestCase: everything is one transaction that is rolled back."""

    pytestmark = pytest.mark.django_db(transaction=False)

    def test_jobs_run(self, db, user, declare):
        declare("handle")
        tasks.noop.using(owner=user).enqueue()
        assert run_jobs() == 3
        assert [event["type"] for event in handler_tasks.events] == ["job.succeeded", "notification.created"]
