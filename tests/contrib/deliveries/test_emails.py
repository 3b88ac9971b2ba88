"""The e-mails themselves, as a mail server receives them, and what follows from its answers."""

import email.policy
import re
from datetime import UTC, datetime
from email.parser import BytesParser
from html import unescape

import pytest
from django.apps import apps
from django.core.mail.backends.locmem import EmailBackend
from django.test import Client
from django.utils import timezone, translation

from notifications import times
from notifications.api import batch, notify
from notifications.contrib.deliveries import emails, preferences
from notifications.contrib.deliveries.models import Delivery, Preference, Reader
from notifications.inbox import read_timeline
from notifications.models import Job, Notification, Wait
from notifications.testing import run_jobs, run_until_idle
from tests.contrib.deliveries.conftest import choose, send_digests, send_due
from tests.contrib.questions import question_tasks
from tests.jobs import tasks
from tests.support.duties import run_duty
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.nightly_on_postgres]


def parts(envelope):
    """Return a message, its text, and its HTML."""
    message = BytesParser(policy=email.policy.default).parsebytes(envelope.content)
    text, html = (message.get_body([kind]).get_content().replace("\r\n", "\n") for kind in ("plain", "html"))
    return message, text, html


def test_headers_and_both_parts(notified, mailbox):
    delivery = notified(
        "Größe: 5 < 6\u2028 & more", body="Line 1\n<script>alert(1)</script>", url="/exports/1/?a=1&b=2"
    )
    send_due()
    (envelope,) = mailbox.messages
    assert envelope.rcpt_tos == ["ada@users.example"]
    message, text, html = parts(envelope)
    assert message["Subject"] == "Größe: 5 < 6 & more"
    assert message["To"] == "ada@users.example" and message["Cc"] is message["Bcc"] is None
    assert message["Message-ID"] == f"<{delivery.id}@site.example>"
    assert message["Auto-Submitted"] == "auto-generated"
    assert "https://site.example/exports/1/?a=1&b=2\n" in text
    assert "Line 1\n<script>alert(1)</script>" in text
    assert 'href="https://site.example/exports/1/?a=1&amp;b=2"' in html
    assert "Line 1<br>&lt;script&gt;" in html and "<script" not in html
    assert "prefers-color-scheme: dark" in html


def test_the_row_of_an_email(notified, mailbox):
    """It has what a row of the inbox has: the symbol of its level, or its actor, and the time."""
    delivery = notified("{actor} commented", actor={"name": "Ada Lovelace", "image": "/media/ada.png"})
    send_due()
    notified("Stopped", level="error")
    send_due()
    created_at = Notification.objects.get(pk=delivery.notification).created_at
    _, text, first = parts(mailbox.messages[0])
    _, _, second = parts(mailbox.messages[1])
    assert "Ada Lovelace commented" in text
    assert '<img src="https://site.example/media/ada.png" alt="AL" width="32" height="32"' in first
    assert f"{times.format_short(created_at)}<" in first
    assert (
        "color: #b3261e" in second
        and 'class="disc error"' in second
        and ">✕</div>" in second
        and "<img" not in second
    )


@pytest.mark.with_all_apps("a question shows the steps and the output of its job")
def test_a_question(user, make_user, mailbox, by_email):
    """It says which job asks, what it has done, who else is asked, until when, and what happens without an answer."""
    Reader.objects.create(user=user, time_zone="Asia/Tokyo")
    bea = make_user("bea", first_name="Bea")
    task = question_tasks.ask_about_draft.using(owner=user, title="Order 7 & 8")
    job = task.enqueue([user.pk, bea.pk], "a secret argument")
    run_jobs()
    question_tasks.ask_sync.using(owner=user).enqueue(expires_ms=86_400_000, default="no", url="/orders/8/")
    run_jobs()
    send_due()
    found = {message["Subject"]: (text, html) for message, text, html in map(parts, mailbox.messages)}
    text, html = found["Send it?"]
    page = f"https://site.example/notifications/jobs/{job.id}/"
    wait = Wait.objects.get(job=job.id)
    assert (
        f"Job: Order 7 & 8 {page}\nProgress: Page 3 · 3 of 7\n"
        "Without an answer: The job waits, without a time limit.\nAlso asked: Bea\nSteps: a step\n"
        "Latest output: \nDear customer,\n<b>no</b>.\n"
    ) in text
    assert (
        f'href="{page}"' in html
        and "Order 7 &amp; 8" in html
        and re.findall(r'<a href="([^"]*)"[^>]*>(Ship|Keep)</a>', html)
        == [(f"{page}questions/{wait.id}/", "Ship"), (f"{page}questions/{wait.id}/", "Keep")]
        and ">Answer</a>" not in html
        and ">?</div>" in html
    )
    assert "Dear customer,\n&lt;b&gt;no&lt;/b&gt;.</pre>" in html and "a secret argument" not in text + html
    text, html = found["Ship?"]
    assert "About: View details https://site.example/orders/8/\n" in text
    assert re.search('<a class="link" href="https://site.example/orders/8/"[^>]*>View details</a>', html)
    with timezone.override("Asia/Tokyo"):
        due_at = times.format_short(Wait.objects.get(title="Ship?").due_at)
    assert due_at.endswith(" JST") and f"Answer until: {due_at}\n" in text
    assert "Without an answer: The job goes on with “Keep”.\n" in text


@pytest.mark.parametrize(
    ("language", "this_year", "last_year"),
    [
        ("en", "Nov 28, 14:02 UTC", "Nov 28, {} 14:02 UTC"),
        ("de", "28. November, 14:02 UTC", "28. November {} 14:02 UTC"),
        ("fr", "28 novembre, 14:02 UTC", "28 novembre {} 14:02 UTC"),
        ("es", "28 de noviembre, 14:02 UTC", "28 de noviembre de {} 14:02 UTC"),
    ],
)
def test_times_are_written_as_people_do(language, this_year, last_year):
    year = times.now().year
    with translation.override(language), timezone.override(UTC):
        assert times.format_short(datetime(year, 11, 28, 14, 2, tzinfo=UTC)) == this_year
        assert times.format_short(datetime(year - 1, 11, 28, 14, 2, tzinfo=UTC)) == last_year.format(
            f"{year - 1},"
        )


def test_a_digest_begins_with_what_waits_and_what_failed(user, mailbox, configure):
    """Its subject is the first of what waits. What people have caused is called after them, as in the inbox."""
    configure([{"email": 0}], CATEGORIES={"": {"default": {"email": "hourly"}}})
    choose(user, {(key, "email"): "hourly" for key in ("job", "comments", "")})
    tasks.fail_for_owner.using(owner=user, title="Import").enqueue("Line 4 has no price.\n\nNor has line 5.")
    run_jobs()
    for name in ("Ada", "Linus"):
        notify(user, f"{name} commented", actor=name, group="plan", category="comments")
    notify(user, "Welcome")
    (asked,) = notify(user, "Ship it?")
    Notification.objects.filter(pk=asked).update(open_question=asked)
    send_due()
    send_digests()
    (envelope,) = mailbox.messages
    message, text, html = parts(envelope)
    assert message["Subject"] == "Ship it? and 4 more"
    lines = [line.removeprefix("- ") for line in text.splitlines() if re.match(r"- |\w[\w ]*$", line)]
    assert lines == [
        *(
            "Waiting for you",
            "Ship it?",
            "Failed",
            "Import",
            "Comments",
            "Linus and 1 other",
            "Others",
            "Welcome",
        ),
    ]
    assert "  Line 4 has no price. Nor has line 5.\n" in text
    assert ">1 question, 1 failed · Import · Linus and 1 other · Welcome</div>" in html and ">L</div>" in html


def test_the_subject_says_what_came_of_a_job(user, mailbox, by_email):
    """Unless its task has given its end a title."""
    tasks.fail_for_owner.using(owner=user, title="Import").enqueue("Line 4 has no price.\nNor has line 5.")
    tasks.echo.using(owner=user, title="Export").enqueue(None)
    tasks.echo.using(owner=user, title="Count").enqueue([1, 2])
    tasks.told.using(owner=user).enqueue("36 of 40 passed.")
    with batch(owner=user, title="Check 2 sites"):
        tasks.noop.enqueue()
        tasks.fail.enqueue()
    run_jobs()
    send_due()
    assert sorted(parts(envelope)[0]["Subject"] for envelope in mailbox.messages) == [
        "Check 2 sites: 1 of 2 done, 1 failed",
        "Count: 2 rows",
        "Export: Succeeded",
        "Import failed: Line 4 has no price",
        "succeeded: Told 36 of 40 passed.",
    ]
    html = {message["Subject"].partition(":")[0]: html for message, _, html in map(parts, mailbox.messages)}
    texts = [text for _, text, _ in map(parts, mailbox.messages)]
    assert ["Import\n\nFailed · Line 4 has no price." in text for text in texts].count(True) == 1
    assert [subject for subject in html if ">Failed</strong> · Line 4 has no price." in html[subject]] == [
        "Import failed"
    ]
    assert {subject for subject in html if ">See what failed</a>" in html[subject]} == {
        "Check 2 sites",
        "Import failed",
    }


@pytest.mark.parametrize("end", ["\r\n", "\n", "\r", "\u2028", "\x0b", "\x85"])
def test_headers_in_a_subject(notified, mailbox, end):
    """A title has no line ends for a header, whatever it is made of."""
    notified(f"Ready{end}Bcc: all@users.example{end}{end}Body")
    send_due()
    (envelope,) = mailbox.messages
    assert envelope.rcpt_tos == ["ada@users.example"]
    message, _, _ = parts(envelope)
    assert message["Subject"] == "Ready Bcc: all@users.example Body" and message["Bcc"] is None


def rows():
    """Return all rows of this app."""
    return {
        model: list(model.objects.order_by("pk").values())
        for model in apps.get_models()
        if model.__module__.startswith("notifications.")
    }


def links_of(envelope):
    """Return the links of an e-mail, in its headers and in both parts, without the address of the site."""
    message, text, html = parts(envelope)
    found = re.findall(r'https://[^\s"<>]+', f"{message['List-Unsubscribe']} {text} {unescape(html)}")
    return sorted({url.removeprefix("https://site.example") for url in found})


@pytest.mark.parametrize(
    "kind",
    ["notification", "digest", pytest.param("question", marks=pytest.mark.with_all_apps("a job asks"))],
)
def test_links_change_nothing(user, mailbox, configure, kind):
    """Scanners open each link of an e-mail twice, also signed in, and first with HEAD."""
    configure([{"email": 600}], CATEGORIES={"export": {"default": {"email": "hourly"}}})
    if kind == "question":
        question_tasks.ask_sync.using(owner=user).enqueue()
        run_jobs()
    else:
        category = "export" if kind == "digest" else ""
        for name in ("first", "second")[: 1 + (kind == "digest")]:
            actions = [{"label": "Delete", "post": "/exports/1/delete/"}]
            notify(
                user,
                f"The {name} export is ready",
                url=f"/notifications/?q={name}",
                category=category,
                actions=actions,
            )
    send_due()
    if kind == "digest":
        send_digests()
    (envelope,) = mailbox.messages
    links = links_of(envelope)
    # Of the inbox, the preferences and unsubscribing; of two notifications, or of one and its action, or of a question,
    # whose choices lead to its page, and its job.
    assert len(links) == 5
    assert all(link.startswith("/") for link in links)
    client = Client()
    client.force_login(user)
    client.get("/notifications/")  # the first page creates the epoch
    before = rows()
    for each in (client, Client()):
        for link in links * 2:
            for method in (each.head, each.get):
                assert method(link).status_code in (200, 302), link
    assert rows() == before


def test_address_of_the_site_that_is_not_ascii(notified, mailbox, configure):
    delivery = notified()
    configure([{"email": 600}], SITE_URL="https://Exämple.com:8443")
    send_due()
    message, text, _ = parts(mailbox.messages[0])
    assert message["Message-ID"] == f"<{delivery.id}@xn--exmple-cua.com>"
    assert "https://Exämple.com:8443/notifications/" in text
    assert (
        message["List-Unsubscribe"]
        .strip()
        .startswith("<https://xn--exmple-cua.com:8443/notifications/unsubscribe/")
    )


def test_backend_that_sends_nothing(notified, monkeypatch):
    """As SMTP with `fail_silently` does: it is tried again."""
    delivery = notified()
    monkeypatch.setattr(EmailBackend, "send_messages", lambda self, messages: 0)
    send_due()
    delivery.refresh_from_db()
    assert delivery.state == "queued" and "has sent nothing" in delivery.error


def test_link_of_another_site_and_of_none(notified, mailbox):
    notified("A", url="https://elsewhere.example/x")
    notified("B")
    send_due()
    texts = {parts(envelope)[0]["Subject"]: parts(envelope)[1] for envelope in mailbox.messages}
    assert "https://elsewhere.example/x" in texts["A"]
    assert "https://site.example/notifications/\n" in texts["B"]


def test_the_main_button_is_the_first_action_of_what_has_no_page(user, mailbox, by_email):
    """And what is dangerous is red, and never the main one."""
    actions = [
        {"label": "Approve", "post": "/a/"},
        {"label": "Delete", "post": "/d/", "danger": "All is lost."},
    ]
    for url in ("", "/check/"):
        notify(user, f"Request{url}", actions=actions, url=url)
    send_due()
    pattern = r'<td class="(button|choice)".*?>(\w+)</a>'
    found = [re.findall(pattern, parts(mail)[2]) for mail in mailbox.messages]
    choices = ("choice", "Delete")
    assert found == [
        [("button", "Approve"), choices],
        [("button", "Open"), ("choice", "Approve"), choices],
    ]
    assert re.search(r'class="failed" style="color: #b3261e;[^"]*">Delete</a>', parts(mailbox.messages[0])[2])


def test_language(notified, mailbox):
    with translation.override("de"):
        notified("Der Export ist fertig")
    send_due()
    _, text, html = parts(mailbox.messages[0])
    assert '<html lang="de" dir="ltr">' in html
    with translation.override("de"):
        expected = translation.gettext("All notifications")
    assert expected != "All notifications" and expected in html and expected in text


def test_templates_of_the_project(notified, mailbox, settings, tmp_path):
    """They are overridden by name."""
    (tmp_path / "notifications").mkdir()
    (tmp_path / "notifications/email.txt").write_text("Dear {{ user.username }}: {{ notification.title }}")
    settings.TEMPLATES = [{**settings.TEMPLATES[0], "DIRS": [tmp_path]}]
    notified("Ready")
    send_due()
    assert parts(mailbox.messages[0])[1].strip() == "Dear ada: Ready"


def test_time_zone_of_the_user(notified, user, mailbox, settings, tmp_path):
    """Times in templates of the project are the user's."""
    (tmp_path / "notifications").mkdir()
    (tmp_path / "notifications/email.txt").write_text("{{ notification.created_at|date:'H:i T' }}")
    settings.TEMPLATES = [{**settings.TEMPLATES[0], "DIRS": [tmp_path]}]
    preferences.change_reader(user.pk, time_zone="Asia/Tokyo")
    id = notified().notification
    Notification.objects.filter(pk=id).update(created_at=datetime(2026, 5, 1, 22, 30, tzinfo=UTC))
    send_due()
    assert parts(mailbox.messages[0])[1].strip() == "07:30 JST"


@pytest.mark.parametrize("answer", ["451 Try again", "421 Busy"])
def test_answers_that_pass(notified, mailbox, answer):
    """It is tried again later, and then sent."""
    delivery = notified()
    mailbox.answer = lambda number: answer if number < 3 else "250 OK"
    send_due()
    assert Delivery.objects.get().state == "queued" and not mailbox.messages
    run_until_idle()
    delivery.refresh_from_db()
    assert delivery.state == "sent" and len(mailbox.messages) == 1 and mailbox.tries == 3


def test_answer_that_does_not_pass(notified, mailbox):
    """It is stored, and nothing is tried again."""
    delivery = notified()
    mailbox.answer_to_recipient = "550 5.1.1 No such user"
    send_due()
    run_until_idle()
    delivery.refresh_from_db()
    assert delivery.state == "failed" and "5.1.1 No such user" in delivery.error
    job = Job.objects.get()
    assert (mailbox.tries, job.state, job.attempt) == (0, "failed", 1)


def test_server_that_stays_away(notified, mailbox):
    """It is tried for hours. After the last attempt it has failed, and says why."""
    delivery = notified()
    mailbox.answer = lambda number: "451 Try again"
    send_due()
    assert any("451" in event.text for event in read_timeline(Notification.objects.get()))
    run_until_idle()
    run_duty("fail abandoned deliveries")
    delivery.refresh_from_db()
    assert delivery.state == "failed" and "451" in delivery.error
    assert mailbox.tries == 10


@pytest.mark.parametrize("step", ["greeting", "ehlo", "mail"])
def test_refusals_that_are_not_about_the_message(notified, mailbox, step):
    """They are tried again: the server has refused the site, for now."""
    delivery = notified()
    mailbox.refuse[step] = "554 5.7.1 Not from here"
    send_due()
    delivery.refresh_from_db()
    assert (delivery.state, delivery.error) == ("queued", "554 5.7.1 Not from here")
    mailbox.refuse.clear()
    run_until_idle()
    delivery.refresh_from_db()
    assert delivery.state == "sent" and len(mailbox.messages) == 1


def test_connection_that_breaks_after_the_message_was_taken(notified, mailbox):
    """It is sent again, with the same Message-ID: the answer is lost, and a lost e-mail would be worse."""
    delivery = notified()
    mailbox.answer = lambda number: None if number == 1 else "250 OK"
    send_due()
    run_until_idle()
    wait_until(lambda: len(mailbox.messages) == 2, what="the second message")
    first, second = (parts(envelope)[0]["Message-ID"] for envelope in mailbox.messages)
    assert first == second
    delivery.refresh_from_db()
    assert delivery.state == "sent"


def test_key_of_a_provider(notified, mailbox, monkeypatch):
    """Who takes a key gets the same one in each attempt, others none."""
    notified("first")
    send_due()
    monkeypatch.setattr(emails, "IDEMPOTENCY_HEADERS", {"127.0.0.1": "Resend-Idempotency-Key"})
    delivery = notified("second")
    mailbox.answer = lambda number: None if number == 2 else "250 OK"
    send_due()
    Job.objects.update(run_after=timezone.now(), due_at=timezone.now())
    run_jobs()
    keys = [parts(envelope)[0]["Resend-Idempotency-Key"] for envelope in mailbox.messages]
    assert keys == [None, f"{delivery.id}@site.example", f"{delivery.id}@site.example"]


class ApiError(Exception):
    """An error as those of django-anymail."""

    def __init__(self, status_code):
        self.status_code = status_code


@pytest.mark.parametrize("character", ["日", "\U0001f600", '"', "\x01"])
def test_long_header_for_unsubscribing(notified, mailbox, character):
    """Programs that fold or encode it would break the link: RFC 8058 forbids that."""
    category = character * 100
    notified(category=category)
    send_due()
    raw = mailbox.messages[0].content.replace(b"\r\n ", b" ")
    (line,) = re.findall(rb"^List-Unsubscribe: (.*)\r\n", raw, re.M)
    link = line.strip().decode("ascii")
    assert link.startswith("<https://site.example/") and link.endswith("/>") and " " not in link
    assert max(map(len, mailbox.messages[0].content.split(b"\r\n"))) < 998
    assert b"\r\nList-Unsubscribe-Post: List-Unsubscribe=One-Click\r\n" in raw
    Client().post(link[1:-1].removeprefix("https://site.example"), {"List-Unsubscribe": "One-Click"})
    assert Preference.objects.get().category == category


def refuse_recipient(mailbox, answer):
    mailbox.answer_to_recipient = answer


def refuse_message(mailbox, answer):
    mailbox.answer = lambda number: answer


@pytest.mark.parametrize("refuse", [refuse_recipient, refuse_message])
@pytest.mark.parametrize(
    ("answer", "is_dead"),
    [
        ("550 5.1.1 No such user", True),
        ("550 5.1.10 Null MX", True),
        ("550 No such user", False),
        ("552 5.2.2 Mailbox full", False),
        ("550 5.1.12 Unknown", False),
        ("451 5.1.1 Try later", False),
    ],
)
def test_dead_address(notified, mailbox, user, answer, is_dead, refuse):
    """Nothing more is sent to it; to another address of the user it is, and to this one after another try."""
    notified("first")
    refuse(mailbox, answer)
    send_due()
    assert [reader.dead_addresses for reader in Reader.objects.all()] == [
        {"email": "ada@users.example"}
    ] * is_dead
    refuse(mailbox, "250 OK")
    second = notified("second")
    send_due()
    second.refresh_from_db()
    expected = ("skipped", "dead-address") if is_dead else ("sent", "")
    assert (second.state, second.reason) == expected
    if is_dead:
        assert Delivery.objects.get(state="failed").error == answer
        type(user).objects.update(email="ada@new.example")
        third = notified("third")
        send_due()
        third.refresh_from_db()
        assert (third.state, third.address) == ("sent", "ada@new.example")
