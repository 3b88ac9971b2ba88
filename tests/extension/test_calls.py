"""Hooks of extensions that fail: what the core does then, for every hook."""

import time
from contextlib import suppress
from datetime import timedelta
from inspect import isfunction
from pathlib import Path
from uuid import UUID

import pytest
from django.core.checks import run_checks
from django.core.exceptions import ImproperlyConfigured
from django.db import Error, connection, transaction

from notifications import api, extension, testing, times
from notifications.extension import (
    Channel,
    Check,
    Extension,
    JobSection,
    Setting,
    WaitKind,
    calls,
    hooks,
)
from notifications.extension.calls import Calls, call_of
from notifications.models import Job, Notification, OwedCall, Queue, Stream, Wait, uuid7
from notifications.streams import build_notification
from notifications.testing import run_jobs
from tests.extension import faulty
from tests.jobs import tasks
from tests.support.checks import doctor
from tests.support.duties import run_duty
from tests.support.extensions import install, load, set_channels, set_wait_kind

CALL_OWED = "call hooks that are owed"
#: The hooks of extensions, and the methods of what they add that are called in the same way.
HOOKS = extension.installed._HOOKS
METHODS = [
    *calls.METHODS_OF_CHANNELS,
    *(
        name
        for owner in (WaitKind, JobSection, Check)
        for name, method in vars(owner).items()
        if isfunction(method)
    ),
]
#: Hooks of pages and of reading.
READING = (
    *(
        "parts_of",
        "page_links",
        "page_data",
        "events_of",
        "steps_of",
        "time_zones_of",
    ),
    *("may_follow",),
    *("checks", "duties"),
    "after_commit",
)


def sleep(*args, **kwargs):
    time.sleep(3)


def blocked_calls():
    """Return how many calls follow one of the same extension about the same subject, which has failed."""
    failed = OwedCall.objects.filter(tries=1)
    return sum(
        OwedCall.objects.filter(extension=call.extension, subject=call.subject, tries=0).count()
        for call in failed
    )


pytestmark = [pytest.mark.usefixtures("forgotten_log"), pytest.mark.nightly_on_old_django]


@pytest.mark.parametrize("fault", [*faulty.FAULTS, "returns None", "sleeps"])
def test_every_hook(db, fault):
    """Each has one of three rules: owed and refused ones raise, marked with their names; others are left out."""
    fails = faulty.FAULTS.get(fault)
    functions = {"returns None": faulty.return_none, "sleeps": lambda *args: None}
    if fault == "sleeps":  # the core waits for it
        started = time.monotonic()
        assert call_of(sleep, "faulty", "on_ends")() == []
        assert time.monotonic() - started >= 3
    for name in (*HOOKS, *METHODS):
        assert sum(name in rule for rule in (calls.OWED, calls.REFUSED, calls.LEFT_OUT)) == 1, name
        call = call_of(fails or functions[fault], "faulty", name)
        if fails and name not in calls.LEFT_OUT:
            with pytest.raises(Exception) as caught, transaction.atomic():
                call()
            assert str(calls.hook_of(caught.value)) == f"faulty.{name}"
        elif name in calls.LEFT_OUT:
            left_out = calls.LEFT_OUT[name][0]
            assert call() == (left_out if fails else calls._EMPTY.get(name, left_out))()
            assert Job.objects.count() == 0  # the transaction goes on, also one of PostgreSQL
        elif not fails:
            assert call() == calls._EMPTY.get(name, calls._none)()


def test_the_documentation_has_the_rule_of_every_hook():
    """Owed, refused or left out: none is dropped without a word."""
    text = (
        Path("docs/how-to/extend.md").read_text().partition("## When a hook fails")[2].partition("*Owed*")[0]
    )
    rows = [line.split("|") for line in text.splitlines() if line.startswith("| `")]
    found = {(name, rule.strip()) for row in rows for name in row[1].split(",") for rule in row[2].split(",")}
    rules = {"owed": calls.OWED, "refused": calls.REFUSED, "left out": calls.LEFT_OUT}
    expected = {(f"`{name}`", rule) for rule, names in rules.items() for name in names}
    # These are called elsewhere, or with another name of what they return.
    expected |= {("`on_change`", "refused"), ("`before_outcome`", "left out"), ("`alert_kinds`", "left out")}
    assert {(name.strip(), rule) for name, rule in found} == expected
    documented = {name.strip(" `") for name, _ in found}
    assert documented >= {*HOOKS, *METHODS}


@pytest.mark.django_db(transaction=True)
def test_a_reading_hook_in_a_transaction(user):
    """On PostgreSQL what it has written before it fails is rolled back, and an error that it catches does no harm."""

    def write_and_fail():
        Queue.objects.create(name="of the hook")
        faulty.raise_database_error()

    def catch():
        with suppress(Error):
            faulty.raise_database_error()

    with transaction.atomic():
        Queue.objects.create(name="of the caller")
        for hook in (write_and_fail, catch):
            assert call_of(hook, "faulty", "page_links")() == []
        Queue.objects.create(name="later")
    kept = {"of the caller", "later"}
    assert set(Queue.objects.values_list("name", flat=True)) - {"of the hook"} == kept
    if connection.vendor == "postgresql":
        assert Queue.objects.count() == 2


@pytest.mark.django_db(transaction=True)
def test_one_of_several_hooks_that_prepare(user, monkeypatch):
    """In a transaction of a caller the others keep what they have written, and are not refused what they write."""

    class Writing(Extension):
        name = "notifications.testing"

        def __init__(self, label):
            self.label = label
            super().__init__(self.name, testing)

        def prepare(self):
            Queue.objects.create(name=self.label)

    class Failing(Writing):
        prepare = faulty.raise_database_error

    install(monkeypatch, Writing("first"), Failing("failing"), Writing("last"))
    with transaction.atomic():
        api.notify(user, "Hello")
    assert set(Queue.objects.values_list("name", flat=True)) == {"first", "last"}
    assert Notification.objects.get().title == "Hello"


class FaultyChannel(Channel):
    """One whose addresses and checks are out of order."""

    addresses = send = describe_addresses = find_wrong = faulty.raise_error


@pytest.mark.with_all_apps("deliveries have the page of channels")
@pytest.mark.django_db(transaction=True)
def test_a_channel_on_pages(user, client, monkeypatch, caplog):
    set_channels(monkeypatch, faulty=f"{__name__}.FaultyChannel", **hooks.channels)
    client.force_login(user)
    assert client.get("/notifications/preferences/").status_code == 200
    assert not [each for each in run_checks() if "faulty" in each.msg]
    assert "was left out: channel faulty.find_wrong" in caplog.text


class FaultyCheck(Check):
    """One of ``doctor``."""

    id, find = "faulty", faulty.raise_error


@pytest.mark.django_db(transaction=True)
def test_a_check_of_doctor(monkeypatch):
    """It is one more finding, and the checks after it are asked."""
    faulty.install(monkeypatch, "checks", fault=lambda: [FaultyCheck(), FaultyCheck()])
    assert [each["message"] for each in doctor("faulty")] == ["The check failed: RuntimeError: No."] * 2


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("fault", [*faulty.FAULTS, "returns None"])
def test_pages(user, client, admin_client, monkeypatch, caplog, fault):
    """The parts of an extension that fails are left out of them, and it is logged once a minute."""
    (id,) = api.notify(user, "Hello")
    tasks.noop.using(owner=user).enqueue()
    run_jobs()
    job = Job.objects.get()
    faulty.install(monkeypatch, *READING, fault=faulty.FAULTS.get(fault, faulty.return_none))
    client.force_login(user)
    for path in ("", f"{id}/", f"jobs/{job.pk}/", "api/notifications/"):
        assert client.get(f"/notifications/{path}").status_code == 200, path
    for path in ("notification/", f"notification/{id}/change/", "job/", f"job/{job.pk}/change/"):
        assert admin_client.get(f"/admin/notifications/{path}").status_code == 200, path
    lines = [record for record in caplog.records if "was left out: faulty.parts_of" in record.getMessage()]
    assert len(lines) == (fault != "returns None")


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("hook", ["before_created", "on_created"])
@pytest.mark.parametrize("fault", ["raises", "exits", "is async"])
def test_notify_in_a_transaction(user, monkeypatch, hook, fault):
    """It raises what the hook raised, at once, and the caller decides. A SystemExit does not end the process."""
    made = faulty.install(monkeypatch, hook, fault=faulty.FAULTS[fault])
    error = TypeError if fault == "is async" else RuntimeError
    with transaction.atomic():
        with pytest.raises(error) as caught, transaction.atomic():
            api.notify(user, "Hello")
        assert str(calls.hook_of(caught.value)) == f"faulty.{hook}"
        made.fault = None
        api.notify(user, "Hello again")
    assert Notification.objects.get().title == "Hello again"


@pytest.mark.django_db(transaction=True)
class TestAfterCommit:
    @pytest.fixture
    def kept(self, monkeypatch):
        kept = []

        class Keeping(Extension):
            name, label = "notifications.testing", "keeping"

            def on_created(self, rows, tx):
                tx.kept[self.label] = [*tx.kept.get(self.label, ()), *(row.title for row in rows)]
                return ()

            def after_commit(self, titles):
                kept.append((titles, transaction.get_connection().in_atomic_block))

        install(monkeypatch, Keeping(Keeping.name, testing))
        return kept

    def test_of_notify(self, user, kept):
        api.notify(user, "Hello")
        assert kept == [(["Hello"], False)]

    def test_in_the_transaction_of_a_caller(self, user, kept):
        """After its commit."""
        with transaction.atomic():
            api.notify(user, "Hello")
            assert not kept
        assert kept == [(["Hello"], False)]

    def test_after_a_rollback(self, user, kept):
        """Not of what was rolled back, also in part."""
        with pytest.raises(RuntimeError), transaction.atomic():
            api.notify(user, "Hello")
            raise RuntimeError
        with transaction.atomic():
            with pytest.raises(RuntimeError), transaction.atomic():
                api.notify(user, "Hello")
                raise RuntimeError
            api.notify(user, "Bye")
        assert kept == [(["Bye"], False)]


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("hook", ["on_created", "last"])
def test_a_hook_that_deletes_a_new_row(user, monkeypatch, hook):
    """The unread count is that of the rows that are left."""
    made = faulty.install(monkeypatch, hook)

    def delete(*args):
        Notification.objects.filter(title__contains="Spam").delete()
        return ()

    made.fault = delete
    api.notify(user, "Hello")
    if hook == "on_created":
        api.notify(user, "Spam")
        with transaction.atomic():
            api.notify(user, "Spam")
    tasks.noop.using(owner=user, title="Spam").enqueue()
    run_jobs()
    stream = Stream.objects.get(user=user)
    left = Notification.objects.count()
    assert (stream.unread, stream.unseen) == (left, left)
    assert doctor("unread")[0]["state"] == "ok"


@pytest.mark.django_db(transaction=True)
class TestEachByItself:
    """In the other transactions of the app, one at which a hook fails holds up no other."""

    def test_lost_jobs(self, user, monkeypatch):
        def fail(outcomes, tx):
            if any(outcome.job.title == "Bad" for outcome in outcomes):
                raise RuntimeError("No.")

        made = faulty.install(monkeypatch, "on_attempts", "on_ends", fault=fail)
        lost = {"state": "running", "worker": uuid7(), "attempt": 1, "fence": 1, "started_at": times.now()}
        for title in ("Bad", "Good"):
            for most in (1, 2):  # that fail, and that are queued again
                job = tasks.noop.using(owner=user, title=title).enqueue()
                Job.objects.filter(id=job.id).update(**lost, max_attempts=most)
        run_duty("take jobs from lost workers")
        assert sorted(Job.objects.values_list("state", flat=True)) == ["failed"] * 2 + ["queued"] * 2
        self.make_owed_calls(made)

    def make_owed_calls(self, made):
        """Make them with the fault, and then without."""
        run_duty(CALL_OWED)
        owed = list(OwedCall.objects.filter(tries=1))
        assert owed and OwedCall.objects.count() == len(owed) + blocked_calls()
        made.fault = None
        while OwedCall.objects.exists():
            OwedCall.objects.update(due_at=times.now())
            run_duty(CALL_OWED)

    def test_waits(self, user, monkeypatch):
        """Those of the kind go on too, and it closes their notifications later."""

        class Nap(WaitKind):
            kind, ends_by_time = "pause", "due"
            fault, closed = True, []

            def ended(self, waits):
                if self.fault and any(wait.job == bad for wait in waits):
                    raise RuntimeError("No.")
                self.closed += [wait.job for wait in waits]
                return set()

        kind = Nap()
        made = type("Napping", (faulty.Faulty,), {})()
        install(monkeypatch, made)
        set_wait_kind(monkeypatch, "pause", Calls(kind, WaitKind, "faulty"))
        bad, good = [Job.objects.get(id=tasks.nap.using(owner=user).enqueue().id).id for _ in range(2)]
        run_jobs()
        Wait.objects.update(due_at=times.now())
        run_duty("end waits that are due")
        assert [Job.objects.get(id=id).state for id in (bad, good)] == ["queued", "queued"]
        assert kind.closed == []
        self.make_owed_calls(kind)
        assert sorted(kind.closed) == sorted([bad, good])

    def test_notifications_of_waits(self, user, monkeypatch, forgotten_log, caplog):
        """What the database refuses of one is the fault of its kind. A hook for the others is that of its extension."""
        [first] = api.notify(user, "First")

        class Nap(WaitKind):
            kind, ends_by_time, fault = "pause", "due", True

            def opened(self, waits, jobs):
                rows = [build_notification(jobs[wait.job].user_id, "Nap") for wait in waits]
                if self.fault:
                    rows[0].id = first
                return rows

        kind = Nap()
        made = faulty.install(monkeypatch, "on_created")
        set_wait_kind(monkeypatch, "pause", Calls(kind, WaitKind, "faulty"))
        id = tasks.nap.using(owner=user).enqueue().id
        run_jobs()
        assert Job.objects.get(id=id).state == "waiting"
        assert set(OwedCall.objects.values_list("extension", "hook")) == {("faulty", "opened")}
        kind.fault, made.fault = None, faulty.raise_error
        OwedCall.objects.update(due_at=times.now())
        run_duty(CALL_OWED)
        assert "Hook failed, and is called again later: faulty.on_created" in caplog.text
        made.fault = None
        OwedCall.objects.update(due_at=times.now())
        run_duty(CALL_OWED)
        assert Notification.objects.filter(title="Nap").count() == 1

    def test_snoozed_notifications(self, user, monkeypatch):
        def fail(rows, tx):
            if any(row.key == "bad" for row in rows):
                raise RuntimeError("No.")

        made = faulty.install(monkeypatch, "before_raised", fault=fail)
        for key in ("bad", "good"):
            api.notify(user, key, key=key)
        past = times.now() - timedelta(seconds=1)
        Notification.objects.update(snoozed_until=past, archived_at=past)
        run_duty("raise snoozed notifications")
        assert Notification.objects.get(archived_at=None).key == "good"
        made.fault = None
        run_duty("raise snoozed notifications")
        assert Notification.objects.filter(archived_at=None).count() == 2

    def test_batches(self, user, monkeypatch):
        def fail(outcomes, tx):
            if any(outcome.job.title == "Bad" for outcome in outcomes):
                raise RuntimeError("No.")

        made = faulty.install(monkeypatch, "on_ends", fault=fail)
        ids = []
        for title in ("Bad", "Good"):
            with api.batch(owner=user, title=title) as batch:
                tasks.noop.enqueue()
            ids.append(batch.result.id)
        run_jobs()
        assert [Job.objects.get(id=id).state for id in ids] == ["succeeded", "succeeded"]
        assert set(OwedCall.objects.values_list("subject", flat=True)) == {UUID(ids[0])}
        self.make_owed_calls(made)


@pytest.mark.django_db(transaction=True)
def test_calls_about_one_subject_keep_their_order(user, monkeypatch):
    """Also if the first one, which was tried again, is due later than the next one."""
    made = faulty.install(monkeypatch, "on_attempts", "on_ends", fault=faulty.raise_error)
    tasks.noop.using(owner=user).enqueue()
    run_jobs()
    now = times.now()
    first, second = OwedCall.objects.order_by("id")
    assert first.subject == second.subject
    OwedCall.objects.filter(id=first.id).update(due_at=now - timedelta(seconds=1))
    OwedCall.objects.filter(id=second.id).update(due_at=now - timedelta(seconds=60))
    made.fault, made.calls = None, []
    for _ in range(2):
        run_duty(CALL_OWED)
    assert made.calls == [first.hook, second.hook] and not OwedCall.objects.exists()


def test_doctor(transactional_db, monkeypatch, set_bounds):
    """It names the hook of a call that fails again, and of an app that is not installed; their number too."""
    faulty.install(monkeypatch, "on_ends")
    assert doctor("hook")[0]["state"] == "ok"
    fields = {"hook": "on_ends", "due_at": times.now()}
    OwedCall.objects.create(extension="faulty", subject=uuid7(), **fields)
    assert doctor("hook")[0]["state"] == "ok"  # the duty is about to make it
    OwedCall.objects.create(extension="faulty", subject=uuid7(), tries=1, **fields)
    for _ in range(2):
        OwedCall.objects.create(extension="gone", subject=uuid7(), **fields)
    found = doctor("hook")
    assert {each["state"] for each in found} == {"error"}
    text = " ".join(each["message"] for each in found)
    assert "faulty.on_ends: 1 call fails" in text and "gone.on_ends: 2 calls fail" in text
    set_bounds(counted=3)
    assert "gone.on_ends: 1 call fails" in " ".join(each["message"] for each in doctor("hook"))


@pytest.mark.filterwarnings("ignore")  # the coroutine that no event loop has awaited
def conflicting(what):
    """Return two extensions that share a name."""

    class Fax(WaitKind):
        kind = "fax"

    shared = {
        "key of NOTIFICATIONS": {"settings": {"FAX": Setting("")}},
        "kind of wait": {"wait_kinds": (Fax(),)},
        "channel": {"channels": {"fax": "shop.Fax"}},
        "subcommand": {"subcommands": {"fax": "shop.Fax"}},
    }[what]
    kinds = [
        type(name, (Extension,), {"name": name, "label": name, **shared}) for name in ("fax_one", "fax_two")
    ]
    return [kind(kind.name, testing) for kind in kinds]


@pytest.mark.parametrize("what", ["key of NOTIFICATIONS", "kind of wait", "channel", "subcommand"])
def test_two_extensions_with_one_name(monkeypatch, what):
    """They are refused at the start, in place of one that silently replaces the other."""
    with pytest.raises(
        ImproperlyConfigured, match=rf"The {what} '(?i:fax)' is that of fax_one and of fax_two"
    ):
        load(monkeypatch, *extension.installed.extensions(), *conflicting(what))


def test_an_extension_with_a_name_of_the_core(monkeypatch):
    made = type(
        "Retaining", (Extension,), {"name": "one", "label": "one", "settings": {"RETENTION": Setting(1)}}
    )
    with pytest.raises(ImproperlyConfigured, match=r"'RETENTION' is that of the app itself and of one"):
        load(monkeypatch, made("one", testing))
