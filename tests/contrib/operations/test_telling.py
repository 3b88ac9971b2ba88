"""Those whom a failure affects are told of it, and that it is over: each once, whatever their number."""

import re
from html import unescape

import pytest
from django.contrib.auth import get_user_model

from notifications.contrib.broadcasts.models import Broadcast
from notifications.contrib.operations.models import AffectedUser, Incident
from notifications.models import Job, Notification
from notifications.testing import run_jobs
from tests.contrib.operations.test_night import Night
from tests.support.duties import run_duty

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.with_all_apps("the composer is of notifications.contrib.broadcasts"),
]

PAGE = "/admin/notifications_operations/overview/"
TELL = f"{PAGE}tell/"
COMPOSER = "/admin/notifications_broadcasts/broadcast/add/"


def make_people(count):
    model = get_user_model()
    made = model.objects.bulk_create(model(username=f"person-{n}", password="!") for n in range(count))
    return [user.pk for user in made]


def forms(page, text):
    """Return the method and the fields of the forms with a button of this text."""
    found = [
        form
        for form in re.findall(r"<form .*?</form>", page, re.DOTALL)
        if re.search(f">{text}</button>", form)
    ]
    return [dict(re.findall(r'name="(\w+)" value="([^"]*)"', form)) for form in found]


def tell(client, fields):
    """Follow a button to the composer, send what it proposes, and return the pages of the preview and after it."""
    response = client.get(TELL, fields, follow=True)
    [(address, _)] = response.redirect_chain
    assert address.startswith(f"{COMPOSER}?affected=") and len(address) < 120
    form = response.context["adminform"].form
    values = {name: form[name].value() or "" for name in form.fields}
    preview = client.post(COMPOSER, values)
    hidden = dict(re.findall(r'<input type="hidden" name="(\w+)"(?: value="([^"]*)")?', preview.text))
    hidden = {name: unescape(value) for name, value in hidden.items()}
    return preview, client.post(COMPOSER, {**hidden, "_send": "1"}, follow=True)


def said(response):
    return [str(message) for message in response.context["messages"]]


def told(people):
    """Return how many notifications of broadcasts each of these has."""
    rows = Notification.objects.filter(user__in=people, broadcast__isnull=False)
    return sorted(rows.values_list("user", flat=True))


def test_two_thousand_people_are_told_once(jobs_clock, admin_client, admin_user):
    """By the failure as the audience: the address has no names, the preview says how many, the row that it was done."""
    people = make_people(2_000)
    night = Night(jobs_clock, people)
    night.end_jobs(0, 2_000)
    run_duty("record failures")
    [fields] = forms(admin_client.get(PAGE).text, "Tell those affected")
    preview, _ = tell(admin_client, fields)
    assert "Send to 2,000 users" in preview.text and "Fetch orders does not work reliably" in preview.text
    assert not any(f"person-{n}" in preview.text for n in range(3))
    run_jobs()
    assert told(people) == people
    Notification.objects.filter(user__in=people[:120]).update(read_at=night.now)
    page = admin_client.get(PAGE).text
    assert re.search(r"Told at \d\d:\d\d by admin, 2,000 people, 120 read", page)
    assert forms(page, "Tell those affected") == []
    again, _ = tell(admin_client, {"incident": fields["incident"]})
    assert "No active user is among the recipients." in again.text and told(people) == people


def test_those_who_come_later_are_told_too(jobs_clock, admin_client):
    """And none of the others again. What was retried meanwhile changes nothing."""
    people = make_people(5)
    night = Night(jobs_clock, people[:3])
    night.end_jobs(0, 3)
    run_duty("record failures")
    [fields] = forms(admin_client.get(PAGE).text, "Tell those affected")
    response = admin_client.get(TELL, fields, follow=True)
    values = response.context["adminform"].form
    night.users = people
    night.end_jobs(0, 5)
    run_duty("record failures")
    Job.objects.filter(state="failed").update(state="succeeded")
    form = {name: values[name].value() or "" for name in values.fields}
    admin_client.post(COMPOSER, {**form, "_send": "1"}, follow=True)
    run_jobs()
    assert told(people) == people[:3], "those who were counted"
    late = admin_client.post(COMPOSER, {**form, "_send": "1"}, follow=True)
    assert said(late) == ["This notification was sent already. It is not sent again."]
    [fields] = forms(admin_client.get(PAGE).text, "Tell 2 more")
    tell(admin_client, fields)
    run_jobs()
    assert told(people) == people
    page = admin_client.get(PAGE).text
    [again] = forms(page, "Write to them again")
    assert "<summary>Tell again</summary>" in page and "5 people were told" in page
    tell(admin_client, {**again, "again": "1"})
    run_jobs()
    assert told(people) == sorted(people * 2)


def test_those_who_were_told_are_told_that_it_is_over(jobs_clock, admin_client):
    """By one press, once, and not those who know nothing of it."""
    people = make_people(5)
    night = Night(jobs_clock, people[:3])
    night.run(minutes=1, failing=1, per_minute=3)
    [fields] = forms(admin_client.get(PAGE).text, "Tell those affected")
    tell(admin_client, fields)
    night.users = people
    night.run(minutes=2, failing=1, per_minute=5)
    assert forms(admin_client.get(PAGE).text, "Tell them it is over") == []
    Job.objects.filter(state="failed").update(state="succeeded")
    night.run(minutes=6, failing=0, per_minute=3)
    page = admin_client.get(PAGE)
    assert re.search(r"over since \d\d:\d\d, lasted 2 min", page.text)
    [fields] = forms(page.text, "Tell them it is over")
    assert said(admin_client.post(TELL, fields, follow=True)) == ["3 people are told that it is over."]
    assert said(admin_client.post(TELL, fields, follow=True)) == ["They were told already that it is over."]
    run_jobs()
    ends = Notification.objects.filter(title="Fetch orders works again")
    assert sorted(ends.values_list("user", flat=True)) == people[:3]
    page = admin_client.get(PAGE).text
    assert "told that it is over" in page and forms(page, "Tell them it is over") == []


@pytest.mark.parametrize("id", ["", "x", "9" * 30, "0"])
def test_an_unknown_failure(admin_client, id):
    for send in (admin_client.get, admin_client.post):
        page = send(TELL, {"incident": id}, follow=True)
        assert said(page) == ["This failure is unknown. Choose one on this page."]


@pytest.mark.parametrize("value", ["1:begin:0:1", "x", "1:x:0:1", "1:begin:x:1", ":::", "1:begin:0:1:0"])
def test_an_audience_that_does_not_exist(admin_client, value):
    """The composer offers what can be chosen by hand."""
    page = admin_client.get(COMPOSER, {"affected": value})
    assert 'value="affected"' not in page.text
    form = {"title": "x", "level": "info", "audience_kind": "affected", "affected": value}
    assert admin_client.post(COMPOSER, {**form, "_send": "1"}).status_code == 200
    assert not Broadcast.objects.exists()


def test_who_was_affected_goes_with_the_user_and_the_time(jobs_clock, user):
    night = Night(jobs_clock, [user.pk])
    night.end_jobs(0, 1)
    run_duty("record failures")
    user.delete()
    assert not AffectedUser.objects.exists()
    assert Incident.objects.count() == 1
