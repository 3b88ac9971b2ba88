"""While a mail server does not answer, e-mails rest: one message at a time finds out when it does."""

from datetime import timedelta

import pytest
from django.core import mail
from django.template.backends.django import Template
from django.utils import timezone

from notifications.api import notify
from notifications.contrib.deliveries import emails, outages, preferences
from notifications.contrib.deliveries.models import ChannelOutage, Delivery
from notifications.models import Attempt, Job, Wait
from notifications.streams import marking
from notifications.testing import run_jobs, run_until_idle
from notifications.worker import job_runner
from tests.contrib.deliveries.conftest import choose, digest_jobs, send_all, send_digests, use_mail_backend
from tests.contrib.deliveries.test_resending import resend_by
from tests.support.duties import enqueue_deliveries
from tests.support.network import SilentProxy
from tests.support.statements import refused
from tests.support.waiting import wait_until

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.database_law,
    pytest.mark.nightly_on_postgres,
]


@pytest.fixture
def silent(mailbox, settings, set_bounds):
    """A mail server that takes connections and does not answer, until `silent.answer()`."""

    def answer():
        set_bounds(answers=60)
        proxy.may_answer.set()

    def fall_silent():
        set_bounds(answers=0.2)
        proxy.may_answer.clear()

    with SilentProxy(mailbox.port) as proxy:
        use_mail_backend(settings, "smtp", host="127.0.0.1", port=proxy.port)
        proxy.answer, proxy.fall_silent = answer, fall_silent
        fall_silent()
        yield proxy


@pytest.fixture
def made_due(user, by_email):
    """made_due(count) notifies ada so often, with an e-mail each, and has the deliveries due."""

    def make(count, **fields):
        for number in range(count):
            notify(user, f"note {number}", deliver=[{"email": 600}], **fields)
        Delivery.objects.update(due_at=timezone.now() - timedelta(seconds=1))

    return make


def enqueue_and_run():
    enqueue_deliveries()
    run_jobs()


def assert_connections(silent, count):
    """Assert how many connections the server had. It may notice the last one after the client has given it up."""
    wait_until(lambda: silent.connections >= count, what=f"{count} connections")
    assert silent.connections == count


def end_suspension():
    past = timezone.now() - timedelta(seconds=1)
    ChannelOutage.objects.update(suspended_until=past)
    Delivery.objects.filter(state="pending").update(due_at=past)


def states():
    return sorted(Delivery.objects.values_list("state", flat=True))


def test_no_attempt_is_made_while_it_is_suspended(made_due, silent):
    """The first three wait for their time-outs, the others stay pending, and get no job any more."""
    made_due(6)
    enqueue_and_run()
    assert_connections(silent, outages.MAX_TIMEOUTS)
    # The third has found that e-mail is suspended: its attempt is not counted either.
    assert states() == ["pending"] * 4 + ["queued"] * 2
    assert Job.objects.filter(state="queued", attempt=1).count() == 2
    made_due(1)
    jobs = Job.objects.count()
    enqueue_and_run()
    assert Job.objects.count() == jobs
    assert_connections(silent, outages.MAX_TIMEOUTS)
    assert states() == ["pending"] * 5 + ["queued"] * 2


def test_one_message_is_tried_after_a_suspension(made_due, silent):
    """Whether it times out again, or is answered: then all are sent, once each, and the outage is over."""
    made_due(6)
    enqueue_and_run()
    end_suspension()
    enqueue_and_run()
    assert_connections(silent, outages.MAX_TIMEOUTS + 1)
    assert ChannelOutage.objects.get().suspended_until > timezone.now()
    silent.answer()
    end_suspension()
    enqueue_and_run()  # the one that is tried
    assert not ChannelOutage.objects.exists()
    Job.objects.update(run_after=None, due_at=None)
    end_suspension()  # until then those wait that were due meanwhile
    enqueue_and_run()
    assert set(states()) == {"sent"}


def test_one_that_a_fast_clock_has_stored(made_due):
    """It is over, or nothing would be sent until that time."""
    tomorrow = timezone.now() + timedelta(days=1)
    ChannelOutage.objects.create(channel="email", timeouts=3, suspended_until=tomorrow)
    made_due(2)
    enqueue_and_run()
    assert states() == ["pending", "sent"] and not ChannelOutage.objects.exists()


def test_a_refusal_ends_an_outage(made_due, silent, mailbox):
    made_due(4)
    enqueue_and_run()
    silent.answer()
    mailbox.answer_to_recipient = "550 5.7.1 no"
    end_suspension()
    enqueue_and_run()
    assert not ChannelOutage.objects.exists()
    assert "failed" in states()


def test_answers_in_between_start_the_count_anew(made_due, answer_mail):
    """Two time-outs, an answer, and two time-outs are no outage."""
    results = [TimeoutError, TimeoutError, None, TimeoutError, TimeoutError]

    def send(email):
        if result := results.pop(0):
            raise result

    answer_mail(send)
    made_due(5)
    enqueue_and_run()
    assert ChannelOutage.objects.get().suspended_until is None and not results


def test_two_processes_try_one_message(made_due, silent):
    """Of two jobs that begin at the same moment after a rest, one tries."""
    made_due(4)
    enqueue_and_run()
    end_suspension()
    outage = outages.read("email")
    assert [outages.may_try(outage) for _ in range(2)] == [True, False]


def test_a_digest_waits_for_the_end_of_the_suspension(user, configure, made_due, silent):
    """The next one would be an hour away, or a week."""
    configure([{"email": 600}], CATEGORIES={"export": {"default": {"email": "hourly"}}})
    made_due(1, category="export")
    enqueue_and_run()
    for _ in range(outages.MAX_TIMEOUTS):
        outages.add_timeout("email")
    send_digests()
    for _ in range(3):
        (job,) = Job.objects.all()
        assert (job.state, silent.connections) == ("waiting", 0)
        Wait.objects.update(due_at=timezone.now() - timedelta(seconds=1))
        run_jobs()
    silent.answer()
    end_suspension()
    run_until_idle()
    assert states() == ["sent"] and not ChannelOutage.objects.exists()


def test_push_goes_on_while_email_is_suspended(user, service):
    for _ in range(outages.MAX_TIMEOUTS):
        outages.add_timeout("email")
    service.add_device(user)
    notify(user, "Hello")
    send_all()
    assert states() == ["sent"] and len(service.messages) == 1 and not mail.outbox


def test_threads_keep_their_connections(made_due, silent, start_worker, set_bounds):
    """For further messages, and until they are idle."""
    set_bounds(idle=0.5)
    silent.answer()
    made_due(12)
    enqueue_deliveries()
    start_worker()
    wait_until(lambda: set(states()) == {"sent"}, what="the e-mails to be sent")
    assert silent.connections < 12
    wait_until(lambda: not silent.open, what="the connections to be closed")


def test_a_connection_is_replaced(made_due, silent, start_worker, monkeypatch):
    """After as many messages as servers take by one, and when its server has closed it."""
    monkeypatch.setattr(job_runner, "MAX_EMAIL_THREADS", 1)
    monkeypatch.setattr(emails, "MAX_PER_CONNECTION", 2)
    monkeypatch.setattr(emails, "NOOP_SECONDS", 0)
    silent.answer()
    made_due(5)
    enqueue_deliveries()
    start_worker()
    wait_until(lambda: set(states()) == {"sent"}, what="the e-mails to be sent")
    assert_connections(silent, 3)
    silent.close_connections()
    made_due(1)
    enqueue_deliveries()
    wait_until(lambda: states() == ["sent"] * 6, what="the e-mail to be sent")
    assert_connections(silent, 4)
    assert not Attempt.objects.exists()


def test_a_timeout_counts_once_while_the_database_flickers(made_due, silent, short_pauses):
    """What is stored after it may be tried again and again."""
    made_due(1)
    with refused("UPDATE .notifications_deliveries_delivery. SET .error. =", times=3) as failures:
        enqueue_and_run()
    assert ChannelOutage.objects.get().timeouts == 1 and len(failures) == 3


def test_a_timeout_of_a_template_is_none_of_the_server(made_due, silent, monkeypatch):
    def fail(*args, **fields):
        raise TimeoutError("a cache")

    monkeypatch.setattr(Template, "render", fail)
    made_due(outages.MAX_TIMEOUTS)
    enqueue_and_run()
    assert not ChannelOutage.objects.exists()


def test_digests_get_their_members_while_email_is_suspended(configure, user, made_due, silent):
    """They would be in the next window otherwise, a week later. What is suspended does not keep them waiting."""
    configure([{"email": 600}], CATEGORIES={"export": {"default": {"email": "weekly"}}})
    for _ in range(outages.MAX_TIMEOUTS):
        outages.add_timeout("email")
    made_due(50 + 1)
    made_due(1, category="export")
    enqueue_and_run()
    assert digest_jobs().count() == 1 and silent.connections == 0
    assert states() == ["pending"] * (50 + 1) + ["queued"]


@pytest.mark.parametrize("change", ["pause", "choose a digest"])
def test_one_that_may_have_been_sent_is_sent_in_the_same_message(user, made_due, silent, change):
    """Although its user has paused everything meanwhile, or has chosen digests: programs recognize a second one."""
    made_due(1)
    for _ in range(outages.MAX_TIMEOUTS - 1):
        outages.add_timeout("email")
    enqueue_and_run()
    assert Delivery.objects.get().attempted_at and states() == ["pending"]
    if change == "pause":
        preferences.change_reader(user.pk, paused_until=timezone.now() + timedelta(days=3))
    else:
        choose(user, {("", "email"): "weekly"})
    silent.answer()
    end_suspension()
    enqueue_and_run()
    assert states() == ["sent"]


def test_a_resend_that_times_out_is_tried_again_as_such(user, made_due, silent, admin_client):
    """The duty would not send it, because the notification was read."""
    silent.answer()
    made_due(1)
    enqueue_and_run()
    marking.mark(user.pk, "read", 100)
    silent.fall_silent()
    for _ in range(outages.MAX_TIMEOUTS - 1):
        outages.add_timeout("email")
    assert resend_by(admin_client, Delivery.objects.get()) == ""
    run_jobs()
    assert states() == ["queued"] and Job.objects.filter(state="queued").count() == 1


def test_a_digest_that_is_tried_uses_up_no_attempts(configure, made_due, silent):
    """It may be the only message of a night in which the server does not answer."""
    configure([{"email": 600}], CATEGORIES={"export": {"default": {"email": "hourly"}}})
    made_due(1, category="export")
    enqueue_and_run()
    for _ in range(outages.MAX_TIMEOUTS):
        outages.add_timeout("email")
    end_suspension()
    send_digests()
    for tries in range(1, 10 + 2):
        assert_connections(silent, tries)
        end_suspension()
        Wait.objects.update(due_at=timezone.now() - timedelta(seconds=1))
        run_jobs()
    assert Job.objects.get().state == "waiting" and states() == ["queued"]


def test_a_message_that_cannot_be_made_ends_no_outage(made_due, silent, monkeypatch):
    """No server was asked."""
    for _ in range(outages.MAX_TIMEOUTS):
        outages.add_timeout("email")
    end_suspension()
    monkeypatch.setattr(Template, "render", lambda *args, **fields: 1 / 0)
    made_due(1)
    enqueue_and_run()
    assert states() == ["failed"] and ChannelOutage.objects.exists()
