"""Extensions: what they do with a request that ``accepted()`` takes, with answers, and what they say of their tasks."""

import pytest
from django.db import connection

from notifications import api, extension, testing
from notifications.extension import Extension, OwnTask
from notifications.models import Job
from notifications.problems import Problem
from tests.jobs import tasks

pytestmark = pytest.mark.django_db(transaction=True)


class Shop(Extension):
    """Records the calls of its hooks: what they got, and whether a transaction is open."""

    name, label = "notifications.testing", "shop"
    own_tasks = {"tests.jobs.tasks.noop": OwnTask(is_harmless=True)}

    def __init__(self):
        super().__init__(self.name, testing)
        self.calls = []

    def record(self, *call):
        self.calls.append((*call, connection.in_atomic_block))

    def before_accepted(self, request):
        value = request.headers.get("Shop")
        if value == "closed":
            raise Problem(422, "The shop is closed.")
        self.record("before_accepted", value)
        return value

    def on_accepted(self, value, job):
        self.record("on_accepted", value, job.pk)

    def headers_of_accepted(self, value, job):
        self.record("headers_of_accepted", value, job.pk)
        return {"Shop": f"{value} it is"}


@pytest.fixture
def shop(monkeypatch):
    """An extension that is installed beside those of the app."""
    shop, installed = Shop(), extension.hooks
    loaded = extension.Hooks([*installed.extensions, shop])
    monkeypatch.setattr(installed, "__dict__", loaded.__dict__)
    return shop


def test_an_extension_that_only_refuses(rf, user, monkeypatch):
    """What it returns goes to no one, as the defaults of the other hooks do nothing."""

    class Gate(Extension):
        name, label = "notifications.testing", "gate"

        def before_accepted(self, request):
            return "open"

    monkeypatch.setattr(extension.hooks, "__dict__", extension.Hooks([Gate(Gate.name, testing)]).__dict__)
    assert accept(rf, user).status_code == 202
    assert Job.objects.count() == 1


def accept(rf, user, **headers):
    request = rf.post("/", headers=headers)
    request.user = user
    return api.accepted(request, lambda: tasks.noop.enqueue())


def test_a_request(shop, rf, user):
    response = accept(rf, user, Shop="open")
    job = Job.objects.get()
    assert (response.status_code, response["Shop"]) == (202, "open it is")
    assert shop.calls == [
        ("before_accepted", "open", False),
        ("on_accepted", "open", job.pk, True),
        ("headers_of_accepted", "open", job.pk, False),
    ]


def test_a_request_without_anything_for_it(shop, rf, user):
    assert "Shop" not in accept(rf, user)
    assert shop.calls == [("before_accepted", None, False)]


def test_a_refused_request(shop, rf, user):
    response = accept(rf, user, Shop="closed")
    assert response.status_code == 422 and "The shop is closed." in response.text
    assert not Job.objects.exists()


def test_a_repeated_request(shop, rf, user):
    for _ in range(2):
        response = accept(rf, user, Shop="open", **{"Idempotency-Key": "a"})
    assert response["Shop"] == "open it is" and response["Idempotency-Replayed"] == "true"
    assert [call[0] for call in shop.calls].count("on_accepted") == 1


def test_what_is_true_of_tasks(shop):
    """Tasks of which nothing is true may be left out."""
    assert extension.hooks.own_tasks["tests.jobs.tasks.noop"].is_harmless
    assert not extension.hooks.own_tasks["tests.jobs.tasks.noop"].is_silent
    assert tasks.fail.module_path not in extension.hooks.own_tasks
