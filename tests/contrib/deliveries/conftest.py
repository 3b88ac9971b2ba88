"""Notifications with deliveries, a real SMTP server, and a push service."""

from datetime import timedelta

import django
import pytest
from django.utils import timezone

from notifications.api import notify
from notifications.contrib.deliveries import digests
from notifications.contrib.deliveries.models import Delivery, Preference
from notifications.models import Job
from notifications.outbound.circuits import circuits
from notifications.testing import run_jobs
from tests.jobs.conftest import *  # noqa: F403 (fixtures)
from tests.support.duties import enqueue_deliveries
from tests.support.push_service import push_service, vapid_key
from tests.support.smtp_server import smtp_server

SITE_URL = "https://site.example"


def use_mail_backend(settings, name, **options):
    """Have Django send e-mails by one of its backends."""
    backend = f"django.core.mail.backends.{name}.EmailBackend"
    if django.VERSION >= (6, 1):
        settings.MAILERS = {"default": {"BACKEND": backend, "OPTIONS": options}}
    else:
        settings.EMAIL_BACKEND = backend
        for key, value in options.items():
            setattr(settings, f"EMAIL_{key.upper()}", value)


@pytest.fixture(autouse=True)
def outbox(settings):
    """What is sent goes to `mail.outbox`."""
    use_mail_backend(settings, "locmem")


@pytest.fixture
def set_throttle(monkeypatch):
    """set_throttle(minutes) joins the e-mails of that time."""
    return lambda minutes: monkeypatch.setattr(digests, "THROTTLE", timedelta(minutes=minutes))


@pytest.fixture
def configure(settings, set_throttle):
    """configure(steps of all categories, **other settings) sets NOTIFICATIONS. E-mails are not joined."""
    set_throttle(0)

    def configure(steps, **others):
        settings.NOTIFICATIONS = {
            **settings.NOTIFICATIONS,
            "SITE_URL": SITE_URL,
            "DELIVERY": {"*": steps},
            **others,
        }

    return configure


@pytest.fixture
def by_email(configure):
    """All notifications go by e-mail after ten minutes."""
    configure([{"email": 600}])


@pytest.fixture
def user(make_user):
    """Return the user "ada", with an address."""
    return make_user("ada", email="ada@users.example")


@pytest.fixture
def notified(user, by_email):
    """notified(title, **fields) notifies ada and returns the delivery."""

    def make(title="The export is ready", **fields):
        (id,) = notify(user, title, **fields)
        return Delivery.objects.get(notification=id)

    return make


def choose(user, choices):
    """Store what a user has chosen, by category and channel."""
    for (category, channel), choice in choices.items():
        fields = {"choice": choice, "changed_at": timezone.now()}
        Preference.objects.update_or_create(user=user, category=category, channel=channel, defaults=fields)


def read_choices(user):
    """Return what a user has chosen, by category and channel."""
    rows = Preference.objects.filter(user=user).values_list("category", "channel", "choice")
    return {(category, channel): choice for category, channel, choice in rows}


def send_due():
    """Do what the duty and the workers do with all that is due."""
    Delivery.objects.update(due_at=timezone.now() - timedelta(seconds=1))
    enqueue_deliveries()
    run_jobs()


def send_all():
    """The same, with the deliveries to further devices, which the jobs insert."""
    send_due()
    while Delivery.objects.filter(state="pending").exists():
        send_due()


def digest_jobs():
    """Return the jobs of digests that have not begun."""
    return Job.objects.filter(idempotency_key__startswith="queued ")


def send_digests():
    """Do what happens when the windows of all digests end."""
    now = timezone.now()
    Job.objects.filter(state="queued", run_after__isnull=False).update(run_after=now, due_at=now)
    run_jobs()


@pytest.fixture
def answer_mail(monkeypatch):
    """answer_mail(send) has the backend of Django's tests call ``send(email)``, which may raise, for each e-mail."""

    def answer(send):
        def send_messages(backend, messages):
            for email in messages:
                send(email)
            return len(messages)

        monkeypatch.setattr("django.core.mail.backends.locmem.EmailBackend.send_messages", send_messages)

    return answer


@pytest.fixture
def mailbox(settings):
    """What a real SMTP server has received, to which Django's backend sends."""
    with smtp_server() as mailbox:
        use_mail_backend(settings, "smtp", host="127.0.0.1", port=mailbox.port)
        yield mailbox


@pytest.fixture(scope="session")
def private_key():
    """A private key of VAPID."""
    return vapid_key()


@pytest.fixture
def push_to(configure, private_key):
    """push_to(*addresses, **WEB_PUSH) has all notifications go by push at once, to these hosts and ports only."""

    def push_to(*addresses, delay=0, **web_push):
        keys = {"private_key": private_key, "subject": "mailto:admin@site.example"}
        configure([{"push": delay}], WEB_PUSH={**keys, **web_push}, OUTBOUND_ALLOW=list(addresses))

    return push_to


@pytest.fixture
def service(push_to):
    """A push service to which all notifications go."""
    circuits.reset()
    with push_service() as service:
        service.address = f"127.0.0.1:{service.port}"
        push_to(service.address)
        yield service
