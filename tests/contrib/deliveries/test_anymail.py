"""E-mails by the HTTP API of a provider, with django-anymail and a real server in the place of Postmark's."""

import json

import django
import pytest
from aiohttp import web

from notifications.models import Job
from tests.contrib.deliveries.conftest import send_due
from tests.outbound.upstream import Upstream

pytest.importorskip("anymail", reason="django-anymail is not installed")
pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.nightly_on_postgres]


class Postmark(Upstream):
    """Answers `POST /email` with the next of `answers`, pairs of status and document, then as if it was sent."""

    def __init__(self):
        super().__init__()
        self.answers = []

    async def email(self, request):
        sent = {"ErrorCode": 0, "Message": "OK", "MessageID": "b7bc2f4a", "To": "ada@users.example"}
        status, document = self.answers.pop(0) if self.answers else (200, sent)
        return web.json_response(document, status=status)

    @property
    def messages(self):
        return [json.loads(request.body) for request in self.requests]


@pytest.fixture
def provider(settings):
    provider = Postmark()
    backend, options = (
        "anymail.backends.postmark.EmailBackend",
        {"server_token": "t", "api_url": provider.url()},
    )
    if django.VERSION >= (6, 1):
        settings.MAILERS = {"default": {"BACKEND": backend, "OPTIONS": options}}
    else:
        settings.EMAIL_BACKEND = backend
        settings.ANYMAIL = {f"POSTMARK_{name.upper()}": value for name, value in options.items()}
    yield provider
    provider.close()


def test_message(notified, provider):
    """It has both parts, and the headers by which programs recognize it and unsubscribe."""
    delivery = notified()
    send_due()
    [message] = provider.messages
    assert (message["To"], message["Subject"]) == ("ada@users.example", "The export is ready")
    assert "The export is ready" in message["TextBody"] and "The export is ready" in message["HtmlBody"]
    headers = {header["Name"]: header["Value"] for header in message["Headers"]}
    assert headers["Message-ID"] == f"<{delivery.id}@site.example>"
    assert headers["List-Unsubscribe-Post"] == "List-Unsubscribe=One-Click"
    assert headers["List-Unsubscribe"].startswith("<https://site.example/notifications/unsubscribe/")
    assert "\n" not in headers["List-Unsubscribe"]
    delivery.refresh_from_db()
    assert delivery.state == "sent"


@pytest.mark.parametrize("status", [408, 429, 500, 503])
def test_errors_that_may_pass(notified, provider, status):
    """It is tried again, with the same Message-ID."""
    delivery = notified()
    provider.answers = [(status, {"ErrorCode": 100, "Message": "Maintenance"})]
    send_due()
    delivery.refresh_from_db()
    job = Job.objects.get(pk=delivery.job)
    assert (delivery.state, job.state) == ("queued", "queued") and "Maintenance" in delivery.error
    assert (job.run_after - job.queued_at).total_seconds() <= 120
    Job.objects.update(run_after=None, due_at=None)
    send_due()
    delivery.refresh_from_db()
    ids = [header["Value"] for message in provider.messages for header in message["Headers"][:1]]
    assert delivery.state == "sent" and ids == [f"<{delivery.id}@site.example>"] * 2


@pytest.mark.parametrize(
    ("status", "code", "words"),
    [
        (401, 10, "Bad or missing API token"),
        (403, 0, "Not allowed"),
        (422, 300, "Invalid 'From' address: 'site'."),
    ],
)
def test_errors_that_stay(notified, provider, status, code, words):
    """It is not tried again, and the error of the provider is stored."""
    delivery = notified()
    provider.answers = [(status, {"ErrorCode": code, "Message": words})]
    send_due()
    delivery.refresh_from_db()
    assert delivery.state == "failed" and len(provider.requests) == 1
    assert Job.objects.get(pk=delivery.job).state == "failed"
    assert words in delivery.error


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (300, "Invalid 'To' address: 'ada@users.example'."),
        (
            406,
            "Found inactive addresses: ada@users.example. Inactive recipients have generated a hard bounce.",
        ),
    ],
)
def test_refused_address(notified, provider, code, words):
    """It is not tried again, although the error of Anymail has no status."""
    delivery = notified()
    provider.answers = [(422, {"ErrorCode": code, "Message": words})]
    send_due()
    delivery.refresh_from_db()
    assert delivery.state == "failed" and delivery.error.startswith("All message recipients were rejected")
    assert Job.objects.get(pk=delivery.job).state == "failed" and len(provider.requests) == 1


def test_provider_that_is_away(notified, provider):
    provider.close()
    delivery = notified()
    send_due()
    delivery.refresh_from_db()
    assert delivery.state == "queued" and "Connection" in delivery.error
