"""A job is run again with other arguments, from a form of its task's parameters."""

import json
import re
import sys
from functools import wraps
from html import unescape

import pytest
from django.contrib.admin.models import LogEntry
from django.db.transaction import atomic
from django.utils.html import escape

from notifications.api import policy, requester
from notifications.models import Job
from notifications.testing import run_jobs
from tests.support.django_tasks import BaseTaskBackend, task

pytestmark = pytest.mark.django_db(transaction=True)

LIST = "/admin/notifications/job/"
RIGHTS = ("view_job", "view_job_arguments", "add_job")


@task
@policy(redact=("iban",))
def pay(customer, amount, *, currency="EUR", iban="", notes=None, token="t0p"):
    return {"paid": amount}


@task
def collect(first, /, second=2, *rest, size, **others):
    return [first, second, *rest, size, others]


@task
def do_nothing():
    pass


@task(takes_context=True)
def read_name(context, name):
    return name


def settle(amount):
    settled.append(amount)


settled = []


def for_tenant(function):
    """Add an argument, and leave one out."""

    @wraps(function)
    def wrapper(tenant, amount):
        return function(amount, "EUR")

    return wrapper


def logged(function):
    @wraps(function)
    def wrapper(*args, **kwargs):
        return function(*args, **kwargs)

    return wrapper


def signed(function):
    @wraps(function)
    def wrapper(*args, **kwargs):
        return function("tenant", *args, **kwargs)

    return wrapper


@task
@for_tenant
def bill(amount, currency):
    return [amount, currency]


@task
@logged
@policy(redact=("iban",))
def charge(customer, iban=""):
    return customer


@task
@logged
@for_tenant
def bill_logged(amount, currency):
    return [amount, currency]


@task
@for_tenant
@policy(redact=("iban",))
def bill_account(amount, iban):
    return amount


@task(takes_context=True)
@logged
def look_logged(context, name):
    return name


@task
@signed
def refund(tenant, customer, amount):
    return [tenant, customer, amount]


@task
@signed
@policy(redact=("iban",))
def transfer(tenant, iban, amount=1):
    return amount


@task
@logged
def listed(first, second=2, third=3):
    return first


@task
@atomic
def count(first, second=2):
    return first


@pytest.fixture
def staff(sign_in_staff):
    return sign_in_staff(*RIGHTS)


@pytest.fixture
def paid(user):
    job = pay.using(owner=user, title="Pay Ada", url="/orders/7/", priority=3).enqueue("Ada", 7, iban="DE99")
    run_jobs()
    return Job.objects.get(pk=job.id)


def address(job):
    return f"{LIST}{job.pk}/run/"


def token(text):
    return re.search(r'name="token" value="(\w+)"', text)[1]


def post(client, job, **arguments):
    """Send the form, with ``arguments`` in place of what it has."""
    text = client.get(address(job)).text
    fields = {
        name: unescape(value).removeprefix("\n")
        for name, value in re.findall(r'<textarea name="([^"]+)"[^>]*>(.*?)</textarea>', text, re.DOTALL)
    }
    fields |= {"token": token(text)} | {f"argument.{name}": value for name, value in arguments.items()}
    return client.post(address(job), fields)


def errors(response):
    """Return the errors by the labels of their fields, those of the form with the label ""."""
    text = unescape(response.text)
    found = {}
    for row in text.split('<div class="form-row')[1:]:
        label = re.search(r"<code>(.*?)</code>", row)[1]
        if problems := re.findall(r'<ul class="errorlist"[^>]*><li>(.*?)</li>', row):
            found[label] = problems
    head = text.partition('<div class="form-row')[0]
    if problems := re.findall(r'<ul class="errorlist nonfield"[^>]*><li>(.*?)</li>', head):
        found[""] = problems
    return found


@pytest.mark.parametrize("missing", [None, *RIGHTS])
def test_rights(client, sign_in_staff, paid, missing):
    """To run any arguments, and to see those that the job had."""
    sign_in_staff(*(name for name in RIGHTS if name != missing))
    status = 403 if missing else 200
    assert client.get(address(paid)).status_code == client.post(address(paid)).status_code == status
    if missing != "view_job":
        assert (address(paid) in client.get(f"{LIST}{paid.pk}/change/").text) is not missing
    assert Job.objects.count() == 1


def test_retrying_is_not_enough(client, sign_in_staff, paid):
    sign_in_staff("change_job", "view_job_arguments")
    assert client.get(address(paid)).status_code == 403


def test_a_form_needs_its_token_of_csrf(staff, client, paid):
    client.handler.enforce_csrf_checks = True
    assert client.post(address(paid), {"argument.customer": '"Bea"'}).status_code == 403


def test_a_new_job_with_the_same_owner(staff, client, user, paid):
    """With the title, the link, the queue and the priority; the earlier one stays as it is."""
    before = Job.objects.values().get(pk=paid.pk)
    text = client.get(address(paid)).text
    assert "Pay Ada" in text and f"for {user}, who" in text
    assert ">\n7</textarea>" in text and "By default &quot;EUR&quot;." in text
    response = post(client, paid, amount="8", notes='["späť", {"a": null}]')
    new = Job.objects.exclude(pk=paid.pk).get()
    assert response["Location"] == f"{LIST}{new.pk}/change/"
    assert json.loads(new.kwargs) == {
        "customer": "Ada",
        "amount": 8,
        "iban": "DE99",
        "notes": ["späť", {"a": None}],
    }
    assert (new.user_id, new.title, new.url, new.priority) == (user.pk, "Pay Ada", "/orders/7/", 3)
    assert (new.queue_name, new.state) == (paid.queue_name, "queued")
    assert Job.objects.values().get(pk=paid.pk) == before
    page = client.get(response["Location"]).text
    assert f'<a href="{LIST}{paid.pk}/change/">{paid.pk}</a>' in page and "A new job runs" in page
    assert str(paid.pk) in LogEntry.objects.get(object_id=str(new.pk)).change_message
    run_jobs()
    assert json.loads(Job.objects.get(pk=new.pk).result) == {"paid": 8}


def test_secrets_are_kept_and_not_shown(staff, client, paid):
    """An empty field keeps what is hidden, also within a value; a filled one replaces it."""
    text = client.get(address(paid)).text
    assert "DE99" not in text and "t0p" not in text and "hidden. Leave it empty" in text
    assert text.count("By default") == 2, "An empty field is not the default then."
    post(client, paid, notes='{"card": {"pin": "12-34-56"}, "size": 1}')
    new = Job.objects.exclude(pk=paid.pk).get()
    text = client.get(address(new)).text
    assert "12-34-56" not in text and "DE99" not in text
    post(client, new, amount="9", iban='"FR1"')
    newest = Job.objects.latest("created_at")
    arguments = json.loads(newest.kwargs)
    assert (arguments["iban"], arguments["notes"]["card"]) == ("FR1", {"pin": "12-34-56"})


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"amount": "seven"}, {"amount": "Line 1, column 1: this is not JSON."}),
        ({"amount": "NaN"}, {"amount": "JSON has no NaN."}),
        ({"amount": ""}, {"amount": "This field is required."}),
        ({"amount": "[" * 100_000}, {"amount": "A value is nested too deeply."}),
        ({"amount": "1" * 5000}, {"amount": "A number is too long."}),
        (
            {"customer": "Bea", "notes": "{'a': 1}"},
            {"customer": "Line 1, column ", "notes": "Line 1, column "},
        ),
        ({"customer": '"\\ud800"'}, {"": "surrogate"}),
    ],
)
def test_errors_stand_beside_their_fields(staff, client, paid, given, expected):
    """Below them. And nothing that was typed is lost."""
    response = post(client, paid, currency='"USD"', **given)
    assert not re.search(
        r'class="errorlist"[^>]*>(?:(?!<textarea|class="form-row).)*<label', response.text, re.DOTALL
    )
    found = errors(response)
    assert found.keys() == expected.keys(), found
    assert all(found[name][0].startswith(text) or text in found[name][0] for name, text in expected.items())
    text = unescape(response.text)
    assert all(value in text for value in ('"USD"', *given.values()))
    assert Job.objects.count() == 1


def test_values_that_python_takes_for_empty(staff, client, paid):
    post(client, paid, customer="null", amount="[]", notes='""')
    new = Job.objects.exclude(pk=paid.pk).get()
    assert json.loads(new.kwargs) | {"iban": ""} == {
        "customer": None,
        "amount": [],
        "notes": "",
        "iban": "",
    }


@pytest.fixture
def collected(user):
    result = collect.using(owner=user).enqueue(1, 2, 3, 4, size=5, color="red")
    return Job.objects.get(pk=result.id)


def stored(job):
    return json.loads(job.args), json.loads(job.kwargs)


def test_all_kinds_of_parameters(staff, client, collected):
    """Arguments by their places, more of them as a list, and others by name as an object."""
    text = unescape(client.get(address(collected)).text)
    assert "<code>*rest</code>" in text and "<code>**others</code>" in text and '{"color": "red"}' in text
    post(client, collected, first="10", rest="[30]", others='{"color": "blue"}')
    assert stored(Job.objects.latest("created_at")) == ([10, 2, 30], {"size": 5, "color": "blue"})
    post(client, collected, second="", rest="", others="")
    assert stored(Job.objects.latest("created_at")) == ([1], {"size": 5})


@pytest.mark.parametrize(
    ("given", "label", "error"),
    [
        ({"second": ""}, "*rest", "Fill in the fields before it too"),
        ({"rest": "{}"}, "*rest", "This must be a list"),
        ({"others": "[1]"}, "**others", "This must be an object"),
        ({"others": '{"size": 1, "first": 2}'}, "**others", "These have fields of their own: size."),
    ],
)
def test_errors_of_such_parameters(staff, client, collected, given, label, error):
    found = errors(post(client, collected, **given))
    assert list(found) == [label] and found[label][0].startswith(error)
    assert Job.objects.count() == 1


def test_the_context_is_no_argument(staff, client, user):
    job = Job.objects.get(pk=read_name.using(owner=user).enqueue("a").id)
    assert "argument.context" not in client.get(address(job)).text
    post(client, job, name='"b"')
    assert stored(Job.objects.latest("created_at")) == ([], {"name": "b"})


def test_arguments_that_the_task_does_not_take_any_more(staff, client, paid):
    Job.objects.filter(pk=paid.pk).update(args='["Ada", 7, 8]', kwargs='{"color": "red"}')
    assert "any more: 3, color" in client.get(address(paid)).text
    Job.objects.filter(pk=paid.pk).update(args="[")
    assert client.get(address(paid)).status_code == 200


def test_a_form_that_is_sent_twice(staff, client, paid):
    """It enqueues one job; with other arguments, as after the button Back, another one."""
    fields = {
        "token": token(client.get(address(paid)).text),
        "argument.customer": '"Bea"',
        "argument.amount": "1",
    }
    locations = [client.post(address(paid), fields)["Location"] for _ in range(2)]
    assert locations[0] == locations[1] and Job.objects.count() == 2
    client.post(address(paid), fields | {"argument.amount": "2"})
    assert Job.objects.count() == 3


@pytest.mark.parametrize("damaged", ["5", "null", "true", '"text"', '{"a": 1}'])
def test_damaged_arguments(staff, client, paid, damaged):
    """No field is filled in then."""
    Job.objects.filter(pk=paid.pk).update(args=damaged)
    assert "Ada" not in "".join(
        re.findall(r"<textarea.*?</textarea>", client.get(address(paid)).text, re.DOTALL)
    )
    post(client, paid, customer='"Bea"', amount="1")
    assert stored(Job.objects.latest("created_at")) == ([], {"customer": "Bea", "amount": 1})


def test_values_that_are_nested_deeply(staff, client, paid):
    value = "[" * 2000 + "]" * 2000
    response = post(client, paid, amount=value, customer='"Bea"')
    assert list(errors(response).values()) == [["A value is nested too deeply."]]
    assert value in unescape(response.text) and '"Bea"' in unescape(response.text)
    assert Job.objects.count() == 1


@pytest.mark.parametrize(
    ("task", "args", "kwargs", "fields", "again"),
    [
        (bill, [1], {"amount": 2}, ["tenant", "amount"], ([], {"tenant": 1, "amount": 2})),
        (bill_logged, [1], {"amount": 2}, ["tenant", "amount"], ([1], {"amount": 2})),
        (bill_account, ["DE99", 2], {}, ["tenant", "amount"], ([], {"tenant": "DE99", "amount": 2})),
        (look_logged, ["a"], {}, ["name"], (["a"], {})),
        (charge, ["Ada"], {"iban": "DE99"}, ["customer", "iban"], (["Ada"], {"iban": "DE99"})),
        (refund, ["Ada"], {"amount": 7}, ["*args", "**kwargs"], (["Ada"], {"amount": 7})),
        (transfer, ["DE99"], {}, ["*args", "**kwargs"], (["DE99"], {})),
        (count, [1], {}, ["first", "second"], ([], {"first": 1})),
    ],
)
def test_tasks_with_decorators(staff, client, task, args, kwargs, fields, again):
    """The fields are what ``enqueue()`` binds to. Of a wrapper that takes anything they are those of its function.

    That is if the arguments fit them; they are sent on as they were given then, because the wrapper may read them.
    """
    job = Job.objects.get(pk=task.enqueue(*args, **kwargs).id)
    text = client.get(address(job)).text
    assert re.findall(r"<label.*?><code>(.*?)</code>", text) == fields
    assert "DE99" not in text
    assert post(client, job).status_code == 302
    assert stored(Job.objects.latest("created_at")) == again


@pytest.mark.parametrize(
    ("task", "args", "text"),
    [
        (bill, [1, 2], "tenant = 1\namount = 2"),
        (bill_logged, [1, 2], "tenant = 1\namount = 2"),
        (bill_account, ["DE99", 2], "tenant = str\namount = int"),
        (look_logged, ["a"], 'name = "a"'),
        (refund, ["Ada", 7], '1 = "Ada"\n2 = 7'),
        (transfer, ["DE99"], "1 = str"),
        (count, [1, 3], "first = 1\nsecond = 3"),
        (listed, [1, 2, 3], "first = 1\nsecond = 2\nthird = 3"),
    ],
)
def test_how_they_are_shown(staff, client, task, args, text):
    """By the names by which they are taken, else by their places; hidden if the function may know a secret in them."""
    id = task.enqueue(*args).id
    assert f">{escape(text)}</pre>" in client.get(f"{LIST}{id}/change/").text


def test_optional_arguments_of_such_tasks(staff, client):
    """After one that is left out, the others are given by name."""
    job = Job.objects.get(pk=listed.enqueue(1, 2, 3).id)
    post(client, job, second="")
    assert stored(Job.objects.latest("created_at")) == ([1], {"third": 3})


@pytest.mark.parametrize(
    ("fields", "error"),
    [
        ({"task_path": "gone.tasks.pay"}, "This process cannot import the task of this job"),
        ({"task_path": "tests.admin.test_running_again.RIGHTS"}, "is not a task"),
    ],
)
def test_tasks_that_cannot_be_run(staff, client, paid, fields, error):
    Job.objects.filter(pk=paid.pk).update(**fields)
    for send in (client.get, client.post):
        response = send(address(paid), follow=True)
        assert response.redirect_chain == [(f"{LIST}{paid.pk}/change/", 302)]
        assert error in unescape(response.text)
    assert address(paid) in response.text
    assert Job.objects.count() == 1


def test_the_limit_of_the_owner_holds(staff, client, paid, settings):
    settings.NOTIFICATIONS = {**settings.NOTIFICATIONS, "ACTIVE_JOBS_PER_USER": 1}
    post(client, paid, amount="1")
    found = errors(post(client, paid, amount="2"))
    assert list(found) == [""] and Job.objects.count() == 2


def test_a_job_that_does_not_exist(staff, client):
    assert client.get(f"{LIST}{'0' * 32}/run/").status_code == 302
    assert client.get(f"{LIST}x/run/").status_code == 302


def test_a_task_without_arguments(staff, client):
    job = Job.objects.get(pk=do_nothing.enqueue().id)
    text = client.get(address(job)).text
    assert "The task takes no arguments." in text and "without an owner" in text
    post(client, job)
    assert Job.objects.count() == 2


BACKENDS = BaseTaskBackend.__module__.rpartition(".")[0]


@pytest.fixture
def backends(settings, monkeypatch):
    """Declare ``settle`` for a backend that executes it on ``enqueue()``; ``slow`` stores jobs."""
    settings.TASKS = {
        **settings.TASKS,
        "slow": {"BACKEND": "notifications.jobs.backend.JobBackend", "QUEUES": ["reports"]},
        "here": {"BACKEND": f"{BACKENDS}.immediate.ImmediateBackend", "QUEUES": []},
    }
    monkeypatch.setattr(sys.modules[__name__], "settle", task(backend="here")(settle))
    monkeypatch.setattr(sys.modules[__name__], "settled", [])


@pytest.fixture
def settlement(user, backends):
    with requester(user):
        result = settle.using(backend="slow", queue_name="reports").enqueue(1)
    return Job.objects.get(pk=result.id)


def test_the_backend_of_the_job(staff, client, settlement):
    """That of the task may be another one."""
    assert post(client, settlement, amount="2").status_code == 302
    new = Job.objects.latest("created_at")
    assert (new.backend, new.queue_name) == ("slow", "reports")
    assert stored(new) == ([], {"amount": 2}) and not settled


@pytest.mark.parametrize("backend", ["here", "gone"])
def test_backends_that_store_no_jobs(staff, client, settlement, backend):
    """Nothing is executed in the request."""
    fields = {"token": "1", "argument.amount": "2"}
    Job.objects.filter(pk=settlement.pk).update(backend=backend)
    for response in (
        client.get(address(settlement), follow=True),
        client.post(address(settlement), fields, follow=True),
    ):
        assert response.redirect_chain == [(f"{LIST}{settlement.pk}/change/", 302)]
        assert f"backend of this job, {backend}, stores no jobs" in unescape(response.text)
    assert Job.objects.count() == 1 and not settled


def test_a_queue_that_the_backend_does_not_have(staff, client, settlement):
    Job.objects.filter(pk=settlement.pk).update(queue_name="gone")
    found = errors(post(client, settlement, amount="2"))
    assert "gone" in found[""][0] and Job.objects.count() == 1
