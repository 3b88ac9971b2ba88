"""Extensions: what they do with a request that ``accepted()`` takes, with answers, and what they say of their tasks."""

from functools import partial

import pytest
from django.db import connection

from notifications import api, extension, testing
from notifications.extension import Extension, OwnTask, calls
from notifications.http import Problem
from notifications.models import Job
from tests.extension import faulty
from tests.jobs import tasks
from tests.support.extensions import install

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.nightly_on_postgres]


class Shop(Extension):
    """Records the calls of its hooks: what they got, and whether a transaction is open."""

    name, label = "notifications.testing", "shop"
    tasks = {"tests.jobs.tasks.noop": OwnTask(is_harmless=True)}

    def __init__(self):
        super().__init__(self.name, testing)
        self.calls = []

    def record(self, *call):
        self.calls.append((*call, connection.in_atomic_block))

    def accept(self, request):
        value = request.headers.get("Shop")
        if value == "closed":
            raise Problem(422, "The shop is closed.")
        self.record("accept", value)
        return None if value is None else partial(self.take, value)

    def take(self, value, job, is_new):
        self.record("take", value, job.pk, is_new)
        return {"Shop": f"{value} it is"}


@pytest.fixture
def shop(monkeypatch):
    """An extension that is installed beside those of the app."""
    shop = Shop()
    install(monkeypatch, shop)
    return shop


def accept(rf, user, **headers):
    request = rf.post("/", headers=headers)
    request.user = user
    return api.accepted(request, lambda: tasks.noop.enqueue())


def test_a_request(shop, rf, user):
    response = accept(rf, user, Shop="open")
    job = Job.objects.get()
    assert (response.status_code, response["Shop"]) == (202, "open it is")
    assert shop.calls == [
        ("accept", "open", False),
        ("take", "open", job.pk, True, True),
    ]


def test_a_request_without_anything_for_it(shop, rf, user):
    assert "Shop" not in accept(rf, user)
    assert shop.calls == [("accept", None, False)]


def test_a_refused_request(shop, rf, user):
    response = accept(rf, user, Shop="closed")
    assert response.status_code == 422 and "The shop is closed." in response.text
    assert not Job.objects.exists()


def test_a_repeated_request(shop, rf, user):
    for _ in range(2):
        response = accept(rf, user, Shop="open", **{"Idempotency-Key": "a"})
    assert response["Shop"] == "open it is" and response["Idempotency-Replayed"] == "true"
    job = Job.objects.get()
    takes = [call for call in shop.calls if call[0] == "take"]
    assert takes == [("take", "open", job.pk, True, True), ("take", "open", job.pk, False, False)]


#: What means elsewhere that the database is away, which a request is refused for.
REFUSED = ("is refused by the database", "writes where nothing is written")


@pytest.mark.parametrize("fault", [fault for fault in faulty.FAULTS if fault not in REFUSED])
def test_a_hook_that_fails(rf, user, monkeypatch, fault):
    """Before the transaction or inside: no job is enqueued, and the error names it."""
    made = faulty.install(monkeypatch, "accept", fault=lambda request: faulty.FAULTS[fault])
    for _ in range(2):
        with pytest.raises(Exception) as caught:
            accept(rf, user)
        assert str(calls.hook_of(caught.value)) == "faulty.accept"
        assert not Job.objects.exists()
        made.fault = faulty.FAULTS[fault]


def test_what_is_true_of_tasks(shop):
    """Tasks of which nothing is true may be left out."""
    assert extension.hooks.own_tasks["tests.jobs.tasks.noop"].is_harmless
    assert not extension.hooks.own_tasks["tests.jobs.tasks.noop"].is_silent
    assert tasks.fail.module_path not in extension.hooks.own_tasks
