"""The jobs of webhooks are inserted in the transaction of the event, for the endpoints that are on then."""

import json
from uuid import UUID

import pytest
from django.contrib.auth import get_user_model
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext

from notifications.api import batch, notify
from notifications.contrib import webhooks
from notifications.contrib.webhooks.models import WebhookEndpoint
from notifications.jobs import cancel, notifying
from notifications.models import Job, Notification
from notifications.serializers import serialize
from tests.jobs import tasks
from tests.support.statements import preceded
from tests.support.threads import run_in_threads

INSERT = "INSERT INTO .?notifications_notification"
SEND = "notifications.contrib.webhooks.sending.send"
pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.database_law]

URL = "https://hooks.example/jobs"


@pytest.fixture(autouse=True)
def none_before():
    notifying.jobs_added.update(notifications=0, ends=0)


def events():
    rows = Job.objects.filter(task_path=SEND).order_by("id")
    return [json.loads(row.args)[0] for row in rows]


def received():
    """Return the types of events with their endpoints."""
    return sorted((event["type"], UUID(event["endpoint"])) for event in events())


def test_end_of_a_job(user):
    """With the event that handlers get, and the id of the endpoint, but no secret and no URL."""
    endpoint = webhooks.create(URL, owner=user)
    result = tasks.noop.using(owner=user, title="Export").enqueue()
    cancel([UUID(result.id)], by=user.pk)
    [row] = Job.objects.filter(task_path=SEND)
    [event] = json.loads(row.args)
    job = Job.objects.get(id=result.id)
    assert event.pop("endpoint") == str(endpoint.id)
    assert event.pop("job") | {"seq": 0} == serialize(job) | {"seq": 0}
    assert event == {
        "type": "job.cancelled",
        "id": f"{job.id}:{job.fence}",
        "at": serialize(job)["finished_at"],
        "user": user.pk,
        "notification": None,
    }
    assert (row.user_id, row.queue_name, row.concurrency_key) == (
        None,
        "deliveries",
        f"send:{user.pk}",
    )
    assert (row.title, row.max_attempts) == ("Webhook: job.cancelled", 9)
    assert endpoint.secret not in str(vars(row)) and URL not in str(vars(row))


def test_events_of_its_owner_or_of_all(user, other_user):
    own, of_other, of_site = (
        webhooks.create(URL, owner=owner, events=["notification.created"]).id
        for owner in (user, other_user, None)
    )
    notify([user, other_user], "Hello")
    assert received() == sorted(
        ("notification.created", endpoint) for endpoint in (own, of_site, of_other, of_site)
    )
    about = {(event["endpoint"], event["user"]) for event in events()}
    assert (str(own), other_user.pk) not in about and (str(of_other), user.pk) not in about


def test_only_its_events_while_it_is_on(user):
    endpoint = webhooks.create(URL, owner=user, events=["job.cancelled"])
    notify(user, "Hello")
    assert events() == []
    for change, count in ((webhooks.turn_off, 0), (webhooks.turn_on, 1), (webhooks.turn_off, 1)):
        change(endpoint.id)
        cancel([UUID(tasks.noop.using(owner=user).enqueue().id)])
        assert len(events()) == count


def test_job_without_an_owner(user):
    """The endpoints of the site get its end."""
    webhooks.create(URL, owner=user)
    site = webhooks.create(URL)
    with batch() as b:
        tasks.noop.enqueue()
    cancel([b.id])
    assert set(received()) == {("job.cancelled", site.id)} and len(events()) == 2
    assert {event["user"] for event in events()} == {None}


@pytest.mark.parametrize("in_transaction", [False, True])
def test_many_users(in_transaction):
    """In chunks, each as large as without them."""
    model = get_user_model()
    users = model.objects.bulk_create(model(username=f"user{number}") for number in range(250))
    webhooks.create(URL)
    own = [webhooks.create(URL, owner=user).id for user in users[::50]]
    if in_transaction:
        with transaction.atomic():
            notify(users, "Hello")
    else:
        notify(users, "Hello")
    assert len(events()) == 250 + len(own)
    assert {UUID(event["endpoint"]) for event in events()} > set(own)
    assert not Notification.objects.filter(seq=None).exists()


def test_transactions_have_as_many_rows(make_user, set_rows_per_transaction):
    """SQLite's lock is not held for longer, but by the first chunk after the endpoints were created."""
    set_rows_per_transaction(8)
    for _ in range(3):
        webhooks.create(URL)
    notify(make_user("first"), "Hello")
    users, before = [make_user(f"user{number}") for number in range(5)], []
    with preceded(INSERT, lambda: before.append(Notification.objects.count()), times=None):
        notify(users, "Hello")
    assert before == [1, 1 + 2, 1 + 2 + 2] and Notification.objects.count() == 1 + 5


def test_rollback(user):
    webhooks.create(URL, owner=user)
    with transaction.atomic():
        notify(user, "undone")
        assert len(events()) == 1
        transaction.set_rollback(True)
    assert events() == []


def test_endpoint_of_another_process(user):
    """It gets the next event after its commit: nothing is remembered."""
    notify(user, "before")
    run_in_threads(lambda: webhooks.create(URL, owner=user))
    notify(user, "after")
    assert [event["notification"]["title"] for event in events()] == ["after"]
    run_in_threads(lambda: WebhookEndpoint.objects.all().delete())
    notify(user, "later")
    assert len(events()) == 1


def test_events_of_the_jobs_of_webhooks(user, settings):
    """There are none, or each webhook would cause the next one, without end."""
    webhooks.create(URL)
    settings.NOTIFICATIONS = {
        **settings.NOTIFICATIONS,
        "HANDLERS": {event: ["tests.jobs.tasks.noop"] for event in webhooks.endpoints_of(None)[0].events},
    }
    with batch(owner=user):
        job = tasks.noop.enqueue()
    cancel([UUID(job.id)])
    before = len(events())
    cancel(Job.objects.filter(task_path=SEND).values_list("id", flat=True))
    cancel(Job.objects.filter(task_path="tests.jobs.tasks.noop").values_list("id", flat=True))
    assert len(events()) == before > 0


def test_cost_without_endpoints(user):
    """One short query of a chunk."""
    notify(user, "warm")
    with CaptureQueriesContext(connection) as queries:
        notify(user, "Hello")
    assert sum("webhook" in query["sql"] for query in queries) == 1
