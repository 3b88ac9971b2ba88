"""The composer: live preview and count, a test to oneself, a time to send, and languages of a message."""

import re
from datetime import timedelta

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone, translation

from notifications import times
from notifications.api import mark_read
from notifications.contrib.broadcasts.models import Broadcast
from notifications.contrib.deliveries.models import Delivery
from notifications.models import Job, Notification
from notifications.testing import run_jobs
from tests.contrib.broadcasts.test_composer import COMPOSER, LIST, MESSAGE, TO_EVERYBODY, hidden_fields, said

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.with_all_apps("a broadcast is delivered by e-mail"),
]

PREVIEW = f"{LIST}preview/"


@pytest.fixture
def staff(sign_in_staff):
    return sign_in_staff("add_notification", "withdraw_broadcast", "view_notification")


@pytest.fixture
def languages(settings):
    """Users have a language, in a field that tests do not need otherwise; the site is written in three."""
    settings.NOTIFICATIONS = {**settings.NOTIFICATIONS, "USER_LANGUAGE": "last_name"}
    settings.LANGUAGE_CODE = "en"
    settings.LANGUAGES = [("en", "English"), ("de", "German"), ("fr", "French")]


def count_of(page):
    return re.search(r"<p data-composer-count>(.*?)</p>", page)[1]


def at(moment):
    """Return a time as browsers send that of a field."""
    return timezone.localtime(moment).strftime("%Y-%m-%dT%H:%M")


def test_the_three_places_as_one_types(client, staff, user):
    """Bell, toast and inbox have the row of the message, also of one that cannot be sent yet."""
    page = client.post(PREVIEW, {**TO_EVERYBODY, "body": "For <b>an</b> hour.", "url": "not a link"}).text
    places = re.findall(r'class="(notifications-panel|notifications-toast|notifications-list)"', page)
    assert places == [
        *("notifications-panel", "notifications-list"),
        "notifications-toast",
        "notifications-list",
    ]
    assert page.count("Maintenance at 22:00") == page.count("For &lt;b&gt;an&lt;/b&gt; hour.") == 3
    assert page.count('data-level="warning"') == 3 and "not a link" not in page and "<html" not in page
    assert not Notification.objects.exists() and not Broadcast.objects.exists()


def test_each_text_has_its_own_direction(client, staff, languages):
    """That of the message may be another one than that of the page; an address is read from left to right."""
    text = client.get(COMPOSER).text
    fields = dict(re.findall(r'name="(title|body|url|title_de|body_de)"[^>]*? dir="(\w+)"', text))
    assert fields == {"title": "auto", "body": "auto", "url": "ltr", "title_de": "auto", "body_de": "auto"}


def test_the_count_of_each_audience(client, staff, user, make_user):
    make_user("gone", is_active=False)
    assert count_of(client.post(PREVIEW, TO_EVERYBODY).text) == "2 active users get it."
    assert (
        count_of(client.post(PREVIEW, {**MESSAGE, "audience_kind": "staff"}).text) == "1 active user gets it."
    )
    unknown = client.post(PREVIEW, {"audience_kind": "users", "users": "adda"}).text
    assert "There is no user with this name: adda." in count_of(unknown)
    assert count_of(client.post(PREVIEW, MESSAGE).text).startswith("Choose the recipients")


@pytest.fixture
def few_counted(set_bounds):
    """Users are counted up to two, while one types and before a confirmation."""
    set_bounds(counted=2)


def test_counts_are_bounded(client, staff, user):
    """While one types at 10,000, before a confirmation at 1,000,000: one more shows whether there are more."""
    with CaptureQueriesContext(connection) as queries:
        client.post(PREVIEW, TO_EVERYBODY), client.post(COMPOSER, TO_EVERYBODY)
    limits = [
        re.search(r"COUNT.*LIMIT (\d+)\) ", query["sql"]) for query in queries if "auth_user" in query["sql"]
    ]
    assert [limit[1] for limit in limits if limit] == ["10001", "1000001"]


def test_a_count_that_is_bounded(client, staff, user, make_user, few_counted, django_assert_max_num_queries):
    with django_assert_max_num_queries(12):
        page = client.post(PREVIEW, TO_EVERYBODY).text
    assert count_of(page) == "2 active users get it."
    make_user("bob")
    page = client.post(PREVIEW, TO_EVERYBODY).text
    assert count_of(page) == "More than 2 active users get it. The preview counts up to 2."


def test_a_preview_that_has_counted_all_it_may(client, staff, user, make_user, few_counted):
    page = client.post(COMPOSER, TO_EVERYBODY).text
    assert "Send to 2 users" in page and "are counted" not in page
    make_user("bob")
    page = client.post(COMPOSER, TO_EVERYBODY).text
    assert "Send to 2+ users" in page and "Only 2 are counted; all of them get it." in page


def test_others_get_no_preview(client, sign_in_staff):
    sign_in_staff("view_broadcast")
    assert client.post(PREVIEW, TO_EVERYBODY).status_code == 403
    assert client.get(PREVIEW).status_code == 403


def test_a_preview_is_posted(client, staff):
    """Its text may be longer than an address."""
    assert client.get(PREVIEW).status_code == 405


def test_a_test_to_oneself(client, staff, user):
    """From the form without recipients, and from the preview; both are shown again as they were."""
    page = client.post(COMPOSER, {**MESSAGE, "body": "For an hour.", "_test": "1"})
    assert said(page) == ["Sent to you alone. Look at the bell."] and "errornote" not in page.text
    assert 'value="Maintenance at 22:00"' in page.text
    fields = hidden_fields(client.post(COMPOSER, TO_EVERYBODY).text)
    page = client.post(COMPOSER, {**fields, "_test": "1"})
    assert hidden_fields(page.text) == fields
    rows = Notification.objects.all()
    assert [(row.user_id, row.title, row.level, row.broadcast) for row in rows] == [
        (staff.pk, "Maintenance at 22:00", "warning", None)
    ] * 2
    assert not Broadcast.objects.exists()


def test_a_test_of_a_message_with_errors(client, staff):
    page = client.post(COMPOSER, {**MESSAGE, "title": "", "_test": "1"})
    assert "This field is required." in page.text and not Notification.objects.exists()


def test_sent_at_its_time(client, staff, user, jobs_clock):
    """Not before; the preview, the page and the list say when. The job runs with the permission of that time."""
    moment = times.now() + timedelta(days=2)
    page = client.post(COMPOSER, {**TO_EVERYBODY, "send_at": at(moment)}).text
    assert "Schedule for 2 users" in page and "<dt>Send at</dt>" in page
    sent = client.post(COMPOSER, {**hidden_fields(page), "_send": "1"}, follow=True)
    assert said(sent)[0].startswith("It will be sent on ") and "To be sent on " in sent.text
    broadcast = Broadcast.objects.get()
    assert abs(broadcast.send_at - moment) < timedelta(minutes=1)
    assert Job.objects.get().run_after == broadcast.send_at
    run_jobs(raise_errors=True)
    assert not Notification.objects.exists()
    assert "To be sent on " in client.get(LIST).text
    jobs_clock.advance(timedelta(days=2, minutes=1))
    run_jobs(raise_errors=True)
    assert Notification.objects.filter(broadcast=broadcast.pk).count() == 2


@pytest.mark.parametrize("text", ["2020-01-01T10:00", "tomorrow"])
def test_a_time_that_is_over(client, staff, user, text):
    page = client.post(COMPOSER, {**TO_EVERYBODY, "send_at": text}).text
    assert 'href="#id_send_at"' in page and f'value="{text}"' in page


def test_withdrawn_before_its_time(client, staff, user, jobs_clock):
    """It is never sent, and its job ends at once."""
    page = client.post(COMPOSER, {**TO_EVERYBODY, "send_at": at(times.now() + timedelta(days=2))}).text
    client.post(COMPOSER, {**hidden_fields(page), "_send": "1"})
    broadcast = Broadcast.objects.get()
    address = f"{LIST}{broadcast.pk}/withdraw/"
    assert "It has not been sent yet, and will not be." in client.get(address).text
    client.post(address)
    run_jobs(raise_errors=True)
    broadcast.refresh_from_db()
    assert broadcast.state == "withdrawn"
    assert Job.objects.get(pk=broadcast.job).state == "cancelled"
    jobs_clock.advance(timedelta(days=3))
    run_jobs(raise_errors=True)
    assert not Notification.objects.filter(broadcast=broadcast.pk).exists()


GERMAN = {"title_de": "Wartung um 22:00", "body_de": "Eine Stunde."}


def test_each_reader_gets_the_own_language(client, staff, user, make_user, languages, settings):
    """That of the field, without its region if need be; the text of the site otherwise. E-mails too."""
    settings.NOTIFICATIONS = {**settings.NOTIFICATIONS, "DELIVERY": {"*": [{"email": 60}]}}
    for name, language in (("hanna", "de"), ("resi", "de-at"), ("claire", "fr"), ("none", "")):
        make_user(name, last_name=language, email=f"{name}@example.com")
    page = client.post(COMPOSER, {**TO_EVERYBODY, "body": "For an hour.", **GERMAN}).text
    assert "<dt>German</dt>" in page and "Wartung um 22:00" in page
    form = {**TO_EVERYBODY, **GERMAN}
    assert "Readers of German get the text in their language." in client.post(PREVIEW, form).text
    with translation.override("en"):
        client.post(COMPOSER, {**hidden_fields(page), "_send": "1"})
        run_jobs(raise_errors=True)
    rows = Notification.objects.exclude(broadcast=None).values_list("user__last_name", "title", "body")
    german = ("Wartung um 22:00", "Eine Stunde.")
    assert {language: tuple(text) for language, *text in rows} == {
        "de": german,
        "de-at": german,
        "fr": ("Maintenance at 22:00", "For an hour."),
        "": ("Maintenance at 22:00", "For an hour."),
    }
    by_user = dict(Delivery.objects.values_list("user__last_name", "language"))
    assert by_user["de-at"] == "de-at" and by_user["fr"] == "fr"


def test_a_test_to_oneself_is_in_the_own_language(client, staff, languages):
    type(staff).objects.filter(pk=staff.pk).update(last_name="de")
    client.post(COMPOSER, {**MESSAGE, **GERMAN, "_test": "1"})
    assert Notification.objects.get().title == "Wartung um 22:00"


def test_languages_are_read_by_one_query(client, staff, user, languages):
    client.post(COMPOSER, {**TO_EVERYBODY, **GERMAN, "_send": "1"})
    with CaptureQueriesContext(connection) as queries:
        run_jobs()
    sql = [query["sql"] for query in queries]
    assert len([1 for text in sql if '"last_name"' in text and f"IN ({staff.pk}, {user.pk})" in text]) == 1


def test_a_text_without_a_title_in_its_language(client, staff, user, languages):
    page = client.post(COMPOSER, {**TO_EVERYBODY, "body_de": "Eine Stunde."}).text
    assert "Write a title in this language too." in page and 'href="#id_title_de"' in page


def test_without_the_field_of_a_language_none_is_offered(client, staff):
    assert "id_title_de" not in client.get(COMPOSER).text


def test_the_page_of_a_withdrawal_counts_who_has_read_it(client, staff, user):
    client.post(COMPOSER, {**TO_EVERYBODY, "_send": "1"})
    run_jobs(raise_errors=True)
    mark_read(user)
    page = client.get(f"{LIST}{Broadcast.objects.get().pk}/withdraw/").text
    assert re.search(r"<dt>Read</dt><dd>1</dd>", page)


def test_fields_have_the_words_of_notify(client, staff):
    page = client.get(COMPOSER).text
    assert re.search(r"<label[^>]*>\s*Body:?\s*</label>", page) and not re.search(
        r"<label[^>]*>\s*Text:?\s*</label>", page
    )
