"""Those whom a failure affects are told of it, and that it is over: each once, whatever their number."""

import re
from datetime import timedelta
from html import unescape

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth import get_user_model
from django.contrib.auth.models import Permission

from notifications.contrib.broadcasts.models import Broadcast
from notifications.contrib.operations.models import AffectedUser, Incident
from notifications.models import Job, Notification
from notifications.testing import run_jobs
from tests.contrib.operations.test_night import Night, make_people, without_day
from tests.support.duties import run_duty

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.with_all_apps("the composer is of notifications.contrib.broadcasts"),
]

PAGE = "/admin/notifications_operations/overview/"
TELL = f"{PAGE}tell/"
COMPOSER = "/admin/notifications_broadcasts/broadcast/add/"


def forms(page, text):
    """Return the method and the fields of the forms with a button of this text."""
    found = [
        form
        for form in re.findall(r"<form .*?</form>", page, re.DOTALL)
        if re.search(f">{text}</button>", form)
    ]
    return [dict(re.findall(r'name="(\w+)" value="([^"]*)"', form)) for form in found]


def propose(client, fields):
    """Follow a button to the composer, and return what its form has."""
    response = client.get(TELL, fields, follow=True)
    [(address, _)] = response.redirect_chain
    assert address.startswith(f"{COMPOSER}?affected=") and len(address) < 160
    form = response.context["adminform"].form
    return {name: form[name].value() or "" for name in form.fields}


def send_proposed(client, fields):
    """Send what the composer proposes, and return the pages of the preview and after it."""
    preview = client.post(COMPOSER, propose(client, fields))
    hidden = dict(re.findall(r'<input type="hidden" name="(\w+)"(?: value="([^"]*)")?', preview.text))
    hidden = {name: unescape(value) for name, value in hidden.items()}
    return preview, client.post(COMPOSER, {**hidden, "_send": "1"}, follow=True)


def said(response):
    return [str(message) for message in response.context["messages"]]


def list_notified(people):
    """Return how many notifications of broadcasts each of these has."""
    rows = Notification.objects.filter(user__in=people, broadcast__isnull=False)
    return sorted(rows.values_list("user", flat=True))


@pytest.mark.nightly
@pytest.mark.nightly_on_postgres
def test_two_thousand_people_are_told_once(jobs_clock, admin_client, admin_user):
    """By the failure as the audience: the address has no names, the preview says how many, the row that it was done."""
    people = make_people(2_000)
    night = Night(jobs_clock, people)
    night.end_jobs(0, 2_000)
    run_duty("record failures")
    [fields] = forms(admin_client.get(PAGE).text, "Tell those affected")
    preview, _ = send_proposed(admin_client, fields)
    assert "Send to 2,000 users" in preview.text and "Fetch orders does not work reliably" in preview.text
    assert not any(f"person-{n}" in preview.text for n in range(3))
    run_jobs()
    assert list_notified(people) == people
    Notification.objects.filter(user__in=people[:120]).update(read_at=night.now)
    page = admin_client.get(PAGE).text
    assert re.search(r"Told at \d\d:\d\d by admin, 2,000 people, 120 read", page)
    assert forms(page, "Tell those affected") == []
    again, _ = send_proposed(admin_client, {"incident": fields["incident"]})
    assert "No active user is among the recipients." in again.text and list_notified(people) == people


def test_those_who_come_later_are_told_too(jobs_clock, admin_client):
    """And none of the others again. What was retried meanwhile changes nothing."""
    people = make_people(5)
    night = Night(jobs_clock, people[:3])
    night.end_jobs(0, 3)
    run_duty("record failures")
    [fields] = forms(admin_client.get(PAGE).text, "Tell those affected")
    form = propose(admin_client, fields)
    night.users = people
    night.end_jobs(0, 5)
    run_duty("record failures")
    Job.objects.filter(state="failed").update(state="succeeded")
    admin_client.post(COMPOSER, {**form, "_send": "1"}, follow=True)
    run_jobs()
    assert list_notified(people) == people[:3], "those who were counted"
    late = admin_client.post(COMPOSER, {**form, "_send": "1"}, follow=True)
    assert said(late) == ["This notification was sent already. It is not sent again."]
    assert Broadcast.objects.count() == 1, "what was stored of the second is rolled back"
    [fields] = forms(admin_client.get(PAGE).text, "Tell 2 more")
    send_proposed(admin_client, fields)
    run_jobs()
    assert list_notified(people) == people
    page = admin_client.get(PAGE).text
    [again] = forms(page, "Write to them again")
    assert "<summary>Tell again</summary>" in page and "5 people were told" in page
    send_proposed(admin_client, {**again, "again": "1"})
    run_jobs()
    assert list_notified(people) == sorted(people * 2)


def test_those_who_were_told_are_told_that_it_is_over(jobs_clock, admin_client):
    """By one press, once, and not those who know nothing of it."""
    people = make_people(5)
    night = Night(jobs_clock, people[:3])
    night.run(minutes=1, failing=1, per_minute=3)
    [fields] = forms(admin_client.get(PAGE).text, "Tell those affected")
    send_proposed(admin_client, fields)
    night.users = people
    night.run(minutes=2, failing=1, per_minute=5)
    assert forms(admin_client.get(PAGE).text, "Tell them it is over") == []
    Job.objects.filter(state="failed").update(state="succeeded")
    night.run(minutes=6, failing=0, per_minute=3)
    page = admin_client.get(PAGE)
    assert re.search(r"over since \d\d:\d\d, lasted 2 min", without_day(page.text))
    [fields] = forms(page.text, "Tell them it is over")
    LogEntry.objects.all().delete()
    assert said(admin_client.post(TELL, fields, follow=True)) == ["3 people are told that it is over."]
    [entry] = LogEntry.objects.all()
    assert entry.get_edited_object() == Broadcast.objects.latest("id") and entry.is_addition()
    assert entry.change_message == "Sent to 3 users. Those affected by a failure: shop.tasks.fetch_orders"
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


@pytest.fixture
def failing(jobs_clock):
    """A night in which a task has failed for three people."""
    night = Night(jobs_clock, make_people(3))
    night.end_jobs(0, 3)
    run_duty("record failures")
    return night


def chooses_affected(page):
    return 'value="affected"' in page.text


@pytest.mark.parametrize(
    "value", ["{id}:begin:0:9", "{id}:begin:0:9:0", "{id}:begin:0:9:\0", "x", ":::", "x" * 101, "\0"]
)
def test_an_audience_that_the_overview_has_not_signed(failing, admin_client, value):
    """The composer offers what can be chosen by hand."""
    value = value.format(id=Incident.objects.get().pk)
    assert not chooses_affected(admin_client.get(COMPOSER, {"affected": value}))
    form = {"title": "x", "level": "info", "audience_kind": "affected", "affected": value}
    assert admin_client.post(COMPOSER, {**form, "_send": "1"}).status_code == 200
    assert not Broadcast.objects.exists()


def test_the_link_of_one_user_is_of_no_use_to_another(failing, admin_client, client, make_user):
    """Nor to one who may not view the overview any more."""
    form = propose(admin_client, {"incident": Incident.objects.get().pk})
    other, staff = make_user("other", is_superuser=True, is_staff=True), make_user("staff", is_staff=True)
    client.force_login(other)
    assert not chooses_affected(client.get(COMPOSER, {"affected": form["affected"]}))
    codenames = ("add_notification", "view_overview")
    staff.user_permissions.set(Permission.objects.filter(codename__in=codenames))
    client.force_login(staff)
    form = propose(client, {"incident": Incident.objects.get().pk})
    assert chooses_affected(client.get(COMPOSER, {"affected": form["affected"]}))
    staff.user_permissions.remove(Permission.objects.get(codename="view_overview"))
    assert not chooses_affected(client.get(COMPOSER, {"affected": form["affected"]}))
    assert client.post(COMPOSER, {**form, "_send": "1"}).status_code == 200
    assert not Broadcast.objects.exists()


def test_it_is_not_sent_later(failing, admin_client):
    """The failure might be over by then, and "It is over" sent before it."""
    form = propose(admin_client, {"incident": Incident.objects.get().pk})
    later = {"send_at": f"{failing.now + timedelta(hours=5):%Y-%m-%dT%H:%M}", "_send": "1"}
    page = admin_client.post(COMPOSER, form | later, follow=True)
    assert "A message to those affected by a failure is sent at once. Leave it empty." in page.text
    assert not Broadcast.objects.exists()


def withdraw(client, broadcast=None):
    id = (broadcast or Broadcast.objects.latest("id")).pk
    client.post(f"/admin/notifications_broadcasts/broadcast/{id}/withdraw/")
    run_jobs()


def test_users_of_an_earlier_message_that_is_withdrawn_are_told_again(failing, admin_client):
    """Once more, and not those of the later one, nor anybody twice who was told by both."""
    people, fields = list(failing.users), {"incident": Incident.objects.get().pk}
    send_proposed(admin_client, fields)
    first = Broadcast.objects.get()
    failing.users = [*people, *make_people(2, "late")]
    failing.end_jobs(0, 5)
    run_duty("record failures")
    send_proposed(admin_client, fields)
    withdraw(admin_client, first)
    page = admin_client.get(PAGE).text
    assert len(forms(page, "Tell 3 more")) == 1 and "2 people were told" in page
    send_proposed(admin_client, fields)
    run_jobs()
    shown = Notification.objects.filter(broadcast__isnull=False, archived_at__isnull=True)
    assert sorted(shown.values_list("user", flat=True)) == sorted(failing.users)
    assert forms(admin_client.get(PAGE).text, "Tell 3 more") == []


def test_whose_message_was_withdrawn_is_not_told(failing, admin_client):
    """Those of earlier messages stay told."""
    [fields] = forms(admin_client.get(PAGE).text, "Tell those affected")
    send_proposed(admin_client, fields)
    withdraw(admin_client)
    page = admin_client.get(PAGE).text
    assert forms(page, "Tell those affected") == [fields] and "Told at" not in page
    send_proposed(admin_client, fields)
    failing.users = [*failing.users, *make_people(2, "late")]
    failing.end_jobs(0, 5)
    run_duty("record failures")
    send_proposed(admin_client, fields)
    withdraw(admin_client)
    page = admin_client.get(PAGE).text
    assert forms(page, "Tell 2 more") == [fields] and "3 people were told" in page
    send_proposed(admin_client, {**fields, "again": "1"})
    withdraw(admin_client)
    assert forms(admin_client.get(PAGE).text, "Tell 2 more") == [fields]


def test_that_it_is_over_can_be_told_again_if_that_was_withdrawn(failing, admin_client):
    send_proposed(admin_client, {"incident": Incident.objects.get().pk})
    failing.run(minutes=6, failing=0)
    [fields] = forms(admin_client.get(PAGE).text, "Tell them it is over")
    admin_client.post(TELL, fields)
    assert forms(admin_client.get(PAGE).text, "Tell them it is over") == []
    withdraw(admin_client)
    assert len(forms(admin_client.get(PAGE).text, "Tell them it is over")) == 1


def test_that_it_is_over_is_not_told_before(failing, admin_client):
    fields = {"incident": Incident.objects.get().pk}
    send_proposed(admin_client, fields)
    assert said(admin_client.post(TELL, fields, follow=True)) == ["This failure is not over yet."]
    assert Broadcast.objects.count() == 1 and Incident.objects.get().end_broadcast is None


def test_a_form_that_was_sent_already_tells_none_of_those_who_came_later(failing, admin_client):
    """A broadcast that exists is not recorded as one to them."""
    fields = {"incident": Incident.objects.get().pk}
    send_proposed(admin_client, fields)
    id = Broadcast.objects.get().pk
    failing.users = [*failing.users, *make_people(2, "late")]
    failing.end_jobs(0, 5)
    run_duty("record failures")
    form = propose(admin_client, fields)
    page = admin_client.post(COMPOSER, {**form, "broadcast": id, "_send": "1"}, follow=True)
    assert said(page) == ["This notification was sent already. It is not sent again."]
    assert len(forms(admin_client.get(PAGE).text, "Tell 2 more")) == 1


def test_deleted_users_are_not_counted(failing, admin_client):
    people = failing.users
    send_proposed(admin_client, {"incident": Incident.objects.get().pk})
    failing.users = [*people, *make_people(2, "late")]
    failing.end_jobs(0, 5)
    run_duty("record failures")
    assert len(forms(admin_client.get(PAGE).text, "Tell 2 more")) == 1
    get_user_model().objects.filter(username__startswith="late").delete()
    assert re.findall(r"Tell \d more", admin_client.get(PAGE).text) == []


def test_the_host_is_part_of_the_message_of_an_error(failing, sign_in_staff, client):
    """Which the overview has for those who may see tracebacks."""
    Job.objects.filter(state="failed").update(state="succeeded")
    staff = sign_in_staff("view_overview", "view_attempt")
    page = client.get(PAGE).text
    assert "fetch_orders" in page and "partner.example" not in page
    staff.user_permissions.add(Permission.objects.get(codename="view_traceback"))
    assert "partner.example" in client.get(PAGE).text


@pytest.mark.parametrize(
    "times",
    [
        {"since": "2026-11-01T00:00:00Z", "until": "9999-12-31T23:59:59.999999+00:00"},
        {"since": "9999-12-31T23:59:59-14:00"},
        {"since": "0001-01-01T00:00:00+14:00"},
        {"since": "2026-11-01T00:00:00Z", "until": "9999-12-31T23:59:59-14:00"},
    ],
)
def test_times_at_the_ends_of_the_calendar(failing, admin_client, times):
    page = admin_client.get(f"{PAGE}retry/", {"all": "1", **times}, follow=True)
    assert page.status_code == 200


def test_a_range_at_the_ends_of_the_calendar(admin_client):
    for end in ("9999-12-31T23:59:59-14:00", "0001-01-01T00:00:00+14:00"):
        assert admin_client.get(PAGE, {"from": end, "until": end}).status_code == 200


def test_a_message_at_the_end_of_the_calendar(admin_client, settings):
    settings.TIME_ZONE = "America/New_York"
    form = {"title": "x", "level": "info", "audience_kind": "everybody", "send_at": "9999-12-31T23:59"}
    assert admin_client.post(COMPOSER, form).status_code == 200


def test_who_was_affected_goes_with_the_user_and_the_time(jobs_clock, user):
    night = Night(jobs_clock, [user.pk])
    night.end_jobs(0, 1)
    run_duty("record failures")
    user.delete()
    assert not AffectedUser.objects.exists()
    assert Incident.objects.count() == 1


def count_shown():
    return Notification.objects.filter(broadcast__isnull=False, archived_at__isnull=True).count()


def test_whoever_has_another_message_stays_told(failing, admin_client):
    """Of a begin and two messages again any order of withdrawals leaves them told until the last is withdrawn."""
    incident = Incident.objects.get()
    fields = {"incident": incident.pk}
    for more in ({}, {"again": "1"}, {"again": "1"}):
        send_proposed(admin_client, {**fields, **more})
        run_jobs()
    first, second, third = Broadcast.objects.order_by("id")
    for broadcast in (first, third):
        withdraw(admin_client, broadcast)
        page = admin_client.get(PAGE).text
        assert "3 people were told" in page and forms(page, "Tell those affected") == []
    failing.run(minutes=6, failing=0)
    assert count_shown() == 3 and len(forms(admin_client.get(PAGE).text, "Tell them it is over")) == 1
    withdraw(admin_client, second)
    page = admin_client.get(PAGE).text
    assert count_shown() == 0 and forms(page, "Tell them it is over") == []
    assert len(forms(page, "Tell those affected")) == 1


def test_users_who_are_gone_count_as_told_no_more_when_a_message_is_withdrawn(failing, admin_client):
    send_proposed(admin_client, {"incident": Incident.objects.get().pk})
    run_jobs()
    get_user_model().objects.get(pk=failing.users.pop()).delete()
    withdraw(admin_client)
    page = admin_client.get(PAGE).text
    assert len(forms(page, "Tell those affected")) == 1 and "Tell again" not in page
    failing.run(minutes=6, failing=0)
    assert forms(admin_client.get(PAGE).text, "Tell them it is over") == []


def test_a_message_again_that_was_written_before_others_were_told_is_not_sent(failing, admin_client):
    """It would count those as not told."""
    fields = {"incident": Incident.objects.get().pk}
    send_proposed(admin_client, fields)
    form = propose(admin_client, {**fields, "again": "1"})
    failing.users = [*failing.users, *make_people(2, "late")]
    failing.end_jobs(0, 5)
    run_duty("record failures")
    send_proposed(admin_client, fields)
    admin_client.post(COMPOSER, {**form, "_send": "1"}, follow=True)
    assert Broadcast.objects.count() == 2 and "5 people were told" in admin_client.get(PAGE).text
