"""Preferences decide whether, when and together with what an e-mail is sent."""

import re
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from email import message_from_bytes

import pytest
from django.core import mail
from django.db import IntegrityError, connection, transaction
from django.utils import timezone

from notifications.api import notify
from notifications.contrib.deliveries import (
    attempts,
    preferences,
    storing,
)
from notifications.contrib.deliveries.models import Delivery, Reader
from notifications.db import fair_atomic
from notifications.inbox import read_timeline
from notifications.jobs import cancel
from notifications.models import Job, Notification, uuid7
from notifications.testing import run_jobs, run_until_idle
from tests.contrib.deliveries.conftest import digest_jobs, send_digests, send_due
from tests.support.duties import enqueue_deliveries, run_duty
from tests.support.statements import refused

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.database_law,
    pytest.mark.nightly_on_postgres,
]

CATEGORIES = {
    "export": {"name": "Exports", "default": {"email": "daily"}},
    "security": {"name": "Security", "required": True},
    "silent": {"default": {"bell": "off"}},
}


@pytest.fixture
def categories(configure):
    configure([{"email": 600}], CATEGORIES=CATEGORIES)


#: Of one transaction that decides or stores deliveries: it may look up and store a few things for each reason.
MAX_STATEMENTS = 15


def read_states():
    return list(Delivery.objects.order_by("id").values_list("state", "reason"))


class Transaction:
    """What a transaction, or a statement outside of one, has changed and how many statements it had."""

    def __init__(self):
        self.rows = self.statements = 0


@contextmanager
def transactions_of(connection):
    """Yield a list to which the transactions of this thread are appended as they are committed."""
    found, commit = [], connection._commit
    current = Transaction()

    def end():
        nonlocal current
        found.append(current)
        current = Transaction()

    def count(execute, sql, params, many, context):
        result = execute(sql, params, many, context)
        if not sql.startswith(("BEGIN", "SAVEPOINT", "RELEASE", "SET ")):
            current.statements += 1
        if sql.startswith(("UPDATE", "INSERT", "DELETE")):
            current.rows += max(context["cursor"].rowcount, 0)
        if not connection.in_atomic_block:
            end()
        return result

    connection._commit = lambda: (commit(), end())
    try:
        with connection.execute_wrapper(count):
            yield found
    finally:
        del connection._commit


class TestChoices:
    def test_defaults_choices_and_required_ones(self, user, categories):
        choices = {(user.pk, "security", "email"): "off", (user.pk, "other", "email"): "weekly"}
        for category, channel, expected in (
            ("export", "email", "daily"),
            ("export", "bell", "on"),
            ("security", "email", "on"),
            ("silent", "bell", "off"),
            ("other", "email", "weekly"),
            ("", "email", "on"),
        ):
            assert preferences.choice_in_force(choices, user.pk, category, channel) == expected

    def test_default_is_not_stored(self, user, categories):
        """So that users who have chosen nothing follow a default that the project changes."""
        preferences.choose(user.pk, {("export", "email"): "daily", ("other", "email"): "on"})
        assert preferences.read_choices([user.pk]) == {}
        preferences.choose(user.pk, {("export", "email"): "on"})
        assert preferences.read_choices([user.pk]) == {(user.pk, "export", "email"): "on"}

    @pytest.mark.parametrize(
        "change",
        [
            {("a", "fax"): "on"},
            {("a", "bell"): "daily"},
            {("a", "email"): "x"},
            {("security", "email"): "off"},
        ],
    )
    def test_wrong_choice(self, user, categories, change):
        with pytest.raises(ValueError, match="cannot be"):
            preferences.choose(user.pk, {("b", "email"): "off", **change})
        assert preferences.read_choices([user.pk]) == {}

    @pytest.mark.parametrize(
        ("values", "message"),
        [
            ({"digest_hour": 24}, "hour is 24"),
            ({"digest_hour": True}, "hour is True"),
            ({"digest_day": -1}, "day is -1"),
            ({"time_zone": "Mars/Base"}, "no time zone 'Mars/Base'"),
            ({"time_zone": "../../etc/passwd"}, "no time zone"),
            ({"time_zone": "localtime"}, "no time zone 'localtime'"),
            ({"paused_until": datetime(2999, 1, 1, tzinfo=UTC)}, "at most 366 days"),
        ],
    )
    def test_wrong_value_for_all_categories(self, user, values, message):
        with pytest.raises(ValueError, match=message):
            preferences.change_reader(user.pk, **values)
        assert not Reader.objects.exists()

    def test_category_that_is_silent_by_default(self, user, categories):
        notify(user, "note", category="silent")
        assert Notification.objects.get().read_at is not None
        preferences.choose(user.pk, {("silent", "bell"): "on"})
        notify(user, "second", category="silent")
        assert Notification.objects.get(title="second").read_at is None

    def test_unmuting_what_is_silent_by_default(self, user, categories):
        preferences.mute(user.pk, "silent")
        preferences.unmute(user.pk, "silent")
        notify(user, "note", category="silent")
        assert Notification.objects.get().read_at is None

    def test_unmuting_restores_what_was_chosen_before(self, user, categories):
        """Also after the category was muted twice."""
        chosen = {("report", "email"): "weekly", ("report", "push"): "off"}
        preferences.choose(user.pk, chosen)
        preferences.mute(user.pk, "report")
        preferences.mute(user.pk, "report")
        assert set(preferences.read_choices([user.pk]).values()) == {"off"}
        preferences.unmute(user.pk, "report")
        assert preferences.read_choices([user.pk]) == {
            (user.pk, *key): value for key, value in chosen.items()
        }

    def test_declared_categories_do_not_count(self, user, configure):
        configure([{"email": 600}], CATEGORIES={f"c{n}": {} for n in range(preferences.MAX_CATEGORIES)})
        preferences.choose(user.pk, {(f"c{n}", "email"): "off" for n in range(preferences.MAX_CATEGORIES)})
        preferences.choose(user.pk, {("", "email"): "off", ("other", "email"): "off"})
        assert len(preferences.read_choices([user.pk])) == preferences.MAX_CATEGORIES + 2

    def test_required_category_is_not_muted(self, user, categories, settings):
        settings.NOTIFICATIONS = {**settings.NOTIFICATIONS, "CATEGORIES": {}}
        preferences.mute(user.pk, "security")
        settings.NOTIFICATIONS = {**settings.NOTIFICATIONS, "CATEGORIES": CATEGORIES}
        notify(user, "note", category="security")
        assert Notification.objects.get().read_at is None
        send_due()
        assert len(mail.outbox) == 1


class TestSending:
    def test_e_mails_are_off(self, notified, user):
        preferences.choose(user.pk, {("export", "email"): "off"})
        notified(category="export")
        send_due()
        assert (read_states(), mail.outbox) == ([("skipped", "off")], [])

    def test_preference_of_the_moment_of_sending(self, notified, user):
        """Switched off after the job was enqueued."""
        notified(category="export")
        Delivery.objects.update(due_at=timezone.now())
        enqueue_deliveries()
        preferences.choose(user.pk, {("export", "email"): "off"})
        run_jobs()
        assert (read_states(), mail.outbox) == ([("skipped", "off")], [])

    def test_digest_that_was_chosen_after_the_job_was_enqueued(self, notified, user):
        notified(category="export")
        Delivery.objects.update(due_at=timezone.now())
        enqueue_deliveries()
        preferences.choose(user.pk, {("export", "email"): "weekly"})
        run_jobs()
        enqueue_deliveries()
        assert mail.outbox == [] and Delivery.objects.get().job == digest_jobs().get().id

    def test_job_of_before_sends_nothing(self, notified, user):
        """One that was lost after it had postponed its delivery runs again beside the new one."""
        notified()
        Delivery.objects.update(due_at=timezone.now())
        enqueue_deliveries()
        first = Job.objects.get()
        Delivery.objects.update(state="pending", job=None)
        enqueue_deliveries()
        Job.objects.exclude(id=first.id).update(
            run_after=timezone.now() + timedelta(hours=1), due_at=timezone.now() + timedelta(hours=1)
        )
        run_jobs()
        assert mail.outbox == [] and read_states() == [("queued", "")]
        Job.objects.filter(state="queued").update(run_after=timezone.now(), due_at=timezone.now())
        run_jobs()
        assert len(mail.outbox) == 1

    def test_late_failure_leaves_what_was_postponed(self, notified, user, answer_mail):
        """A try that fails for good after another one has met a pause, and a look for abandoned ones."""
        delivery = notified()
        until = timezone.now() + timedelta(hours=1)

        def postpone_and_fail(email):
            Delivery.objects.filter(id=delivery.id).update(state="pending", due_at=until, job=None)
            raise ValueError("late")

        answer_mail(postpone_and_fail)
        send_due()
        delivery.refresh_from_db()
        assert (delivery.state, delivery.due_at) == ("pending", until)
        run_duty("fail abandoned deliveries")
        assert read_states() == [("pending", "")]

    @pytest.mark.parametrize("change", ["pause", "digest"])
    def test_what_may_have_been_sent_is_not_postponed(self, notified, user, mailbox, change):
        """It is sent again in the same message: in a digest it would be shown twice."""
        delivery = notified()
        mailbox.answer = lambda number: None if number == 1 else "250 OK"
        send_due()
        if change == "pause":
            preferences.change_reader(user.pk, paused_until=timezone.now() + timedelta(hours=1))
        else:
            preferences.choose(user.pk, {("", "email"): "daily"})
        run_until_idle()
        ids = [message_from_bytes(envelope.content)["Message-ID"] for envelope in mailbox.messages]
        assert ids == [f"<{delivery.id}@site.example>"] * 2 and read_states() == [("sent", "")]

    def test_muted_in_the_bell_only(self, notified, user):
        preferences.choose(user.pk, {("export", "bell"): "off"})
        delivery = notified(category="export")
        send_due()
        assert len(mail.outbox) == 1
        row = Notification.objects.get(id=delivery.notification)
        assert "Recorded as read, because its category is muted." in [
            event.text for event in read_timeline(row)
        ]

    def test_muted_row_has_no_delivery(self, user, by_email):
        preferences.mute(user.pk, "export")
        notify(user, "note", category="export")
        assert not Delivery.objects.exists()

    @pytest.mark.parametrize("is_enqueued", [False, True])
    def test_pause(self, notified, user, is_enqueued):
        """What is due in a pause waits for its end, and is decided anew then."""
        until = timezone.now() + timedelta(hours=1)
        delivery = notified()
        Delivery.objects.update(due_at=timezone.now())
        if is_enqueued:
            enqueue_deliveries()
        preferences.change_reader(user.pk, paused_until=until)
        enqueue_deliveries()
        run_jobs()
        delivery.refresh_from_db()
        assert (delivery.state, delivery.due_at, delivery.job) == ("pending", until, None)
        assert mail.outbox == []
        # Ending it earlier sends at once what has waited for its end, and no job of before is in the way.
        for until in (timezone.now() + timedelta(minutes=1), None):
            preferences.change_reader(user.pk, paused_until=until)
            delivery.refresh_from_db()
            assert delivery.due_at <= (until or timezone.now())
        enqueue_deliveries()
        run_jobs()
        assert len(mail.outbox) == 1

    def test_required_category_is_sent_in_a_pause(self, user, categories):
        preferences.change_reader(user.pk, paused_until=timezone.now() + timedelta(hours=1))
        notify(user, "note", category="security")
        send_due()
        assert len(mail.outbox) == 1


class TestDigests:
    def test_one_mail_of_what_is_open(self, user, categories):
        for number in range(3):
            notify(user, f"Export {number}", body="Ready", url=f"/exports/{number}/", category="export")
        preferences.choose(user.pk, {("note", "email"): "daily"})
        notify(user, "A note", category="note")
        read = Notification.objects.get(title="Export 1")
        send_due()
        assert mail.outbox == [] and digest_jobs().count() == 1
        assert set(Delivery.objects.values_list("state", "job")) == {("queued", digest_jobs().get().id)}
        Notification.objects.filter(pk=read.pk).update(read_at=timezone.now())
        send_digests()
        (email,) = mail.outbox
        assert email.subject == "A note and 2 more"
        assert [email.body.count(f"Export {number}") for number in range(3)] == [1, 0, 1]
        assert "https://site.example/exports/2/" in email.body and "A note" in email.body
        assert email.body.index("Exports") < email.body.index("Export 2") < email.body.index("A note")
        assert "List-Unsubscribe" in email.extra_headers
        assert sorted(read_states()) == [("sent", ""), ("sent", ""), ("sent", ""), ("skipped", "read")]
        send_digests()
        assert len(mail.outbox) == 1

    def test_nothing_is_left(self, user, categories):
        notify(user, "Export", category="export")
        send_due()
        Notification.objects.update(archived_at=timezone.now())
        send_digests()
        assert (mail.outbox, read_states()) == ([], [("skipped", "archived")])

    def test_opt_out_before_the_window_ends(self, user, categories):
        notify(user, "Export", category="export")
        send_due()
        preferences.choose(user.pk, {("export", "email"): "off"})
        send_digests()
        assert (mail.outbox, read_states()) == ([], [("skipped", "off")])

    def test_digest_is_unique(self, user, categories):
        notify(user, "Export", category="export")
        send_due()
        job = digest_jobs().get()
        job.pk = uuid7()
        with pytest.raises(IntegrityError):
            job.save(force_insert=True)

    @pytest.mark.parametrize("how", ["run early", "cancelled"])
    def test_what_comes_after_its_job_has_ended_is_sent_by_another(self, user, categories, how):
        """At the same time, the end of the window, and as another message."""
        notify(user, "Export 1", category="export")
        send_due()
        due_at = digest_jobs().get().run_after
        if how == "cancelled":
            cancel([digest_jobs().get().id])
        else:
            Job.objects.update(run_after=timezone.now(), due_at=timezone.now())
            run_jobs()
        notify(user, "Export 2", category="export")
        send_due()
        assert digest_jobs().get().run_after == due_at
        send_digests()
        run_duty("fail abandoned deliveries")
        mails = [["Export 1"], ["Export 2"]] if how == "run early" else [["Export 2"]]
        titles = [re.findall(r"Export \d", email.body) for email in mail.outbox]
        assert titles == mails
        assert len({email.extra_headers["Message-ID"] for email in mail.outbox}) == len(mails)
        assert [state for state, _ in read_states()] == ["sent" if how == "run early" else "failed", "sent"]

    def test_what_comes_while_its_job_runs_is_sent_by_another(self, user, categories, answer_mail):
        """The job has read what it sends, and would never send what is added to it."""

        def send_beside_another(email):
            if not mail.outbox:
                notify(user, "Export 2", category="export")
                send_due()
            mail.outbox.append(email)

        answer_mail(send_beside_another)
        notify(user, "Export 1", category="export")
        send_due()
        for _ in range(2):
            Job.objects.filter(state="queued").update(run_after=timezone.now(), due_at=timezone.now())
            run_jobs()
        assert [re.findall(r"Export \d", email.body) for email in mail.outbox] == [["Export 1"], ["Export 2"]]

    def test_one_that_another_process_inserts_at_the_same_moment(self, user, categories):
        """Its deliveries are in that digest after the next look."""
        notify(user, "Export", category="export")
        Delivery.objects.update(due_at=timezone.now())
        with refused("INSERT INTO .?notifications_job.? ", times=1, error=IntegrityError):
            enqueue_deliveries()
        assert (read_states(), Job.objects.count()) == ([("pending", "")], 0)
        enqueue_deliveries()
        assert (read_states(), Job.objects.count()) == ([("queued", "")], 1)

    def test_many(self, user, categories):
        """It shows the newest 50, and says how many more there are; all of them count as told."""
        for number in range(120):
            notify(user, f"Export <{number:03}>", category="export")
        send_due()
        send_digests()
        (email,) = mail.outbox
        assert email.subject == "Export <119> and 119 more"
        assert email.body.count("Export <") == 50 and "Export <119>" in email.body
        assert "70 more are in the inbox." in email.body
        ((html, _),) = email.alternatives
        assert "Export &lt;119&gt;" in html
        assert set(read_states()) == {("sent", "")}

    def test_bounds_of_transactions(self, user, categories):
        """However many are in a digest, a transaction changes at most 100 rows by as many statements."""
        most = []
        for count in (230, 500):
            for number in range(count):
                notify(user, f"Export {number:03}", category="export")
            send_due()
            with transactions_of(connection) as found:
                send_digests()
            assert sum(each.rows for each in found) > 2 * count
            assert max(each.rows for each in found) == 100
            most.append(max(each.statements for each in found))
        assert set(read_states()) == {("sent", "")}
        assert most[0] == most[1] <= MAX_STATEMENTS

    def test_short_transactions(self, user, categories, monkeypatch):
        """A neighbor writes between the transactions of a large digest, each of at most 100 rows, also at its end."""
        for number in range(230):
            notify(user, f"Export {number:03}", category="export")
        send_due()
        written = []

        def write_as_neighbor():
            Job.objects.filter(state="none").update(title="neighbor")
            connection.close()

        def count(execute, sql, params, many, context):
            result = execute(sql, params, many, context)
            if sql.startswith('UPDATE "notifications_deliveries_delivery"'):
                written.append(context["cursor"].rowcount)
            return result

        def run(work, **options):
            assert not connection.in_atomic_block
            with ThreadPoolExecutor(1) as neighbor:
                neighbor.submit(write_as_neighbor).result()
            with connection.execute_wrapper(count):
                return fair_atomic(work, **options)

        for module in (attempts, storing):
            monkeypatch.setattr(module, "fair_atomic", run)
        send_digests()
        assert set(read_states()) == {("sent", "")}
        assert written == [100, 100, 30] * 2

    def test_failed_one_is_retried_as_a_whole(self, user, categories, answer_mail):
        notify(user, "Export", category="export")
        send_due()
        sent = []

        def fail_once(email):
            sent.append(email.extra_headers["Message-ID"])
            if len(sent) == 1:
                raise ConnectionError("refused")

        answer_mail(fail_once)
        send_digests()
        assert read_states() == [("queued", "")]
        Job.objects.update(run_after=timezone.now(), due_at=timezone.now())
        run_jobs()
        assert sent[0] == sent[1] and read_states() == [("sent", "")]

    def test_rows_of_a_deleted_user(self, user, categories):
        notify(user, "Export", category="export")
        preferences.change_reader(user.pk, digest_hour=3)
        preferences.choose(user.pk, {("export", "bell"): "off"})
        send_due()
        user.delete()
        with connection.cursor() as cursor:
            for table in ("reader", "preference", "delivery"):
                cursor.execute(f"SELECT count(*) FROM notifications_deliveries_{table}")
                assert cursor.fetchone() == (0,), table


class TestPauseOfMany:
    """Hundreds of deliveries wait for the end of a pause, which is changed."""

    COUNT = 230

    @pytest.fixture
    def paused(self, user, by_email):
        """The end of the pause for which all deliveries wait."""
        until = timezone.now() + timedelta(hours=1)
        preferences.change_reader(user.pk, paused_until=until)
        for number in range(self.COUNT):
            notify(user, f"Export {number:03}")
        Delivery.objects.update(due_at=until)
        notify(user, "Not due yet")
        return until

    def test_bounds_of_transactions(self, user, paused):
        """They move a hundred at a time; what does not wait for the pause stays where it is."""
        with transactions_of(connection) as found:
            preferences.change_reader(user.pk, paused_until=None)
        assert [each.rows for each in found if each.rows > 1] == [100, 100, 30]
        assert max(each.statements for each in found) <= MAX_STATEMENTS
        assert Delivery.objects.filter(due_at__lte=timezone.now()).count() == self.COUNT
        assert Delivery.objects.filter(due_at__gt=timezone.now()).count() == 1

    def test_neighbor(self, user, other_user, paused, monkeypatch):
        """Between the transactions another request writes, which may change the pause again: the last end holds."""
        later, calls = timezone.now() + timedelta(hours=2), []

        def write_as_neighbor():
            calls.append(connection.in_atomic_block)
            preferences.change_reader(other_user.pk, digest_hour=len(calls))
            if len(calls) == 2:
                preferences.change_reader(user.pk, paused_until=later)
            connection.close()

        def run(work, **options):
            if threading.current_thread() is threading.main_thread():
                assert not connection.in_atomic_block
                with ThreadPoolExecutor(1) as neighbor:
                    neighbor.submit(write_as_neighbor).result()
            return fair_atomic(work, **options)

        monkeypatch.setattr(preferences, "fair_atomic", run)
        preferences.change_reader(user.pk, paused_until=None)
        assert calls == [False] * 3
        # The first hundred are found paused when they are decided, which is now.
        moved = Delivery.objects.filter(due_at=later).count()
        assert moved == self.COUNT - 100
        enqueue_deliveries()
        assert Delivery.objects.filter(due_at=later).count() == self.COUNT

    @pytest.mark.skipif(connection.vendor != "postgresql", reason="SQLite locks no rows.")
    def test_locked_row(self, user, paused):
        """One that is being decided is not waited for: its decision reads the new end."""
        row = Delivery.objects.filter(due_at=paused).earliest("id")
        locked, done = threading.Event(), threading.Event()

        def hold():
            with transaction.atomic():
                Delivery.objects.select_for_update().get(id=row.id)
                locked.set()
                done.wait(20)
            connection.close()

        with ThreadPoolExecutor(1) as holder:
            held = holder.submit(hold)
            locked.wait(20)
            preferences.change_reader(user.pk, paused_until=None)
            done.set()
            held.result()
        assert [each.id for each in Delivery.objects.filter(due_at=paused)] == [row.id]
