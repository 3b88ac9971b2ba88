"""Secrets in path, query and headers of calls, and in results, reach no span, log line or page."""

import logging
from datetime import timedelta
from io import StringIO

import pytest
from aiohttp import web
from django.apps import apps
from django.contrib.admin.models import LogEntry
from django.core.management import call_command
from django.test import RequestFactory
from django.urls import NoReverseMatch, reverse
from django.utils import timezone
from opentelemetry import trace

from notifications import outbound
from notifications.api import accepted, notify, task
from notifications.contrib import webhooks
from notifications.contrib.deliveries.models import Delivery
from notifications.contrib.steps import astep
from notifications.contrib.webhooks import acallback
from notifications.contrib.webhooks.models import WebhookEndpoint
from notifications.models import Job, Notification
from notifications.outbound.circuits import circuits
from notifications.testing import run_jobs
from tests.contrib.webhooks.endpoints.receiver import Receiver
from tests.jobs import tasks
from tests.outbound.upstream import CannedServer
from tests.support.duties import run_duty
from tests.support.offenders import collect_offenders
from tests.support.push_service import push_service, vapid_key
from tests.tracing.test_spans import configure, exporter, provider  # noqa: F401 (fixtures)

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.nightly_on_postgres,
    pytest.mark.nightly_on_old_django,
]

SECRET = "s3cr3tNeverShown"
PATH = f"/hook/{SECRET}?token={SECRET}"
REFUSED = "10.0.0.1"
#: Where secrets are stored, because something is sent to them, or a task was given or has returned them.
STORED = {
    *("WebhookEndpoint.url", "PushSubscription.endpoint", "JobCallback.url"),
    *("Job.kwargs", "Job.result", "Step.result"),
}


@task
async def call(*, origin, token, method="GET", kind="hook"):
    """Call with secrets, and return them."""
    headers = {"Authorization": f"Bearer {token}", "X-Api-Key": token}
    response = await outbound.request(
        *(method, f"{origin}/{kind}/{token}?token={token}"),
        headers=headers,
        params={"key": token},
        json={"token": token},
        retries=1,
        deadline=5.0,
    )
    await astep("token", str, token)
    return {"token": token, "status": response.raise_for_status().status, "list": [{"api_key": token}]}


urls = []


@task
async def ask():
    reply = await acallback("bank")
    urls.append(reply.url)
    await reply.aresult()


def token_of(url):
    return url.rstrip("/").rpartition("/")[2]


class SecretReceiver(Receiver):
    """Takes, refuses, ends and redirects calls in turn. Its answers repeat the URL that was called."""

    async def hook(self, request):
        status = (204, 302, 500, 204, 400, 404, 503, 410)[len(self.requests) % 8]
        headers = {"Location": f"http://{REFUSED}{PATH}"}
        return web.Response(status=status, reason=SECRET, headers=headers, text=str(request.url))


@pytest.fixture
def receivers(settings):
    """Origins of a receiver, of one that does not speak HTTP, of a port that is closed, and of a refused address."""
    circuits.reset()
    urls.clear()
    receiver, garbage = SecretReceiver(), CannedServer(b"NOT HTTP\r\n\r\n")
    with push_service() as service, garbage:
        addresses = [receiver.address, garbage.address, "127.0.0.1:9"]
        settings.NOTIFICATIONS = {
            **settings.NOTIFICATIONS,
            "SITE_URL": "https://site.example",
            "WEBHOOKS": True,
            "CALLBACK_ORIGINS": [f"http://{address}" for address in addresses],
            "OUTBOUND_ALLOW": [*addresses, f"127.0.0.1:{service.port}"],
            "DELIVERY": {"*": [{"push": 0}, {"email": 0}]},
            "WEB_PUSH": {"private_key": vapid_key(), "subject": "mailto:a@site.example"},
        }
        yield receiver, service, [*settings.NOTIFICATIONS["CALLBACK_ORIGINS"], f"http://{REFUSED}"]
    receiver.close()


@pytest.mark.long
def test_no_secret_is_shown(
    receivers,
    monkeypatch,
    exporter,  # noqa: F811
    provider,  # noqa: F811
    caplog,
    user,
    client_of,
    admin_client,
):
    monkeypatch.setattr(trace, "get_tracer_provider", lambda: provider)
    caplog.set_level(logging.DEBUG)
    receiver, service, origins = receivers
    send_to_all(user, service, origins)
    for _ in range(2):  # with attempts that follow failed ones
        Delivery.objects.filter(state="pending").update(due_at=timezone.now() - timedelta(seconds=1))
        for channel in ("email", "push"):
            run_duty(f"enqueue deliveries by {channel}")
        Job.objects.filter(state="queued").update(run_after=None, due_at=None)
        circuits.reset()
        run_jobs()
    assert urls and all(
        client_of(user).post(url, "{", content_type="application/json").status_code == 400 for url in urls
    )

    assert len(receiver.requests) >= 8  # each answer was given
    made = exporter.get_finished_spans()
    called = {str(span.attributes.get("url.full", "")).removesuffix("/REDACTED") for span in made}
    assert called >= set(origins[:3])
    with collect_offenders() as offenders:
        for span in made:
            with offenders.row(f"the span {span.name}"):
                assert SECRET not in span.to_json()
        for record in caplog.records:
            if record.name == "aiohttp.access":  # of the receiver
                continue
            with offenders.row(f"the log line {record.msg}"):
                assert SECRET not in logging.Formatter().format(record)
                assert not any(token_of(url) in record.getMessage() for url in urls)
        with offenders.row("rows"):
            assert find_rows() == STORED
        for address, text in read_pages(admin_client, client_of(user), user):
            with offenders.row(address):
                assert SECRET not in text


def send_to_all(user, service, origins):
    """Have all senders call all receivers."""
    ask.enqueue()
    call.using(owner=user).enqueue(origin=origins[0], token=SECRET, kind="ok")
    for number in range(4):
        notify(user, f"Export {number} is ready")
    for origin in origins:
        for method in ("GET", "POST"):
            call.using(owner=user).enqueue(origin=origin, token=SECRET, method=method)
        service.add_device(user, endpoint=f"{origin}{PATH}")
        if REFUSED in origin:
            continue
        webhooks.create(f"{origin}{PATH}", owner=user)
        for _ in range(2):
            request = RequestFactory().post("/", headers={"Callback-URL": f"{origin}{PATH}"})
            request.user = user
            assert accepted(request, tasks.noop.enqueue).status_code == 202


def list_models():
    return [model for model in apps.get_models() if model.__module__.startswith("notifications.")]


def find_rows():
    """Return the fields of the app's rows, and of the log of the admin, in which the secret is stored."""
    found = set()
    for model in [*list_models(), LogEntry]:
        for row in model.objects.all():
            for field in model._meta.concrete_fields:
                if SECRET in str(field.value_from_object(row)):
                    found.add(f"{model.__name__}.{field.name}")
    return found


def list_jobs():
    """Return a job of each task, state and failures: the pages of all others repeat theirs."""
    found = {}
    for job in Job.objects.all():
        failures = job.attempts.order_by("number").values_list("exception_class_path", "traceback")
        found[job.task_path, job.state, *failures] = job
    return found.values()


def read_pages(admin_client, user_client, user):
    """Yield address and text of what is shown to staff who may see everything, to the user, and in a terminal."""
    pages, jobs = [], list_jobs()
    for model in list_models():
        name = f"admin:{model._meta.app_label}_{model._meta.model_name}"
        try:
            pages.append(reverse(f"{name}_changelist"))
            # That of a webhook shows its URL, to those who may see it.
            rows = {WebhookEndpoint: [], Job: jobs}.get(model, model.objects.all())
            pages += [reverse(f"{name}_change", args=[row.pk]) for row in rows]
        except NoReverseMatch:
            continue
    for page in pages:
        yield page, admin_client.get(page, follow=True).text
    for path in ("", "devices/", *(f"{row.pk}/" for row in Notification.objects.all())):
        text = user_client.get(f"/notifications/{path}").text
        yield path, text.replace(f"&quot;{SECRET}&quot;", "")  # the results of their own jobs
    shown = [["jobs", "show", str(job.pk)] for job in jobs]
    for arguments in (*shown, ["jobs", "list"], ["explain", "--user", user.username]):
        out = StringIO()
        call_command("notifications", *arguments, stdout=out)
        yield " ".join(arguments), out.getvalue()
