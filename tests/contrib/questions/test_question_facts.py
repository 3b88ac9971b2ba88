"""What is said of a question: its job, until when it can be answered and by whom, and who has answered it."""

import json
import re
from datetime import timedelta
from html import unescape

import pytest
from django.template import Context, Template
from django.utils import timezone

from notifications.contrib.questions.models import AskedQuestion
from notifications.contrib.questions.testing import answer_question
from notifications.db import database
from notifications.extension import hooks
from notifications.jobs import cancel
from notifications.models import Job, Notification
from notifications.testing import run_jobs
from tests.contrib.questions import question_tasks

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.nightly_on_postgres]

DAY_MS = 86_400_000


@pytest.fixture(autouse=True)
def frozen(jobs_clock):
    return jobs_clock


def ask(owner, task=question_tasks.ask_sync, **arguments):
    result = task.using(owner=owner, title="Order 7").enqueue(**arguments)
    run_jobs()
    return Job.objects.get(id=result.id)


def page(job):
    return f"/notifications/jobs/{job.id}/questions/{AskedQuestion.objects.get(job=job.id).id}/"


def facts_on(text):
    """Return the facts on a page, as text, by their labels."""
    found = re.findall(r"<div><dt>(.*?)</dt><dd.*?>(.*?)</dd></div>", text)
    return {label: unescape(re.sub("<.*?>", "", value)) for label, value in found}


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({}, "The job waits, without a time limit."),
        ({"expires_ms": DAY_MS}, "The question expires, and the job may fail."),
        ({"expires_ms": DAY_MS, "default": "no"}, "The job goes on with “Keep”."),
        ({"expires_ms": DAY_MS, "default": "later"}, "The job goes on with its default."),
    ],
)
def test_what_happens_without_an_answer(user, user_client, arguments, expected):
    """With the time, and the name of its time zone: the reader may be in another one."""
    job = ask(user, **arguments)
    found = facts_on(user_client.get(page(job)).text)
    assert found["Without an answer"] == expected
    assert ("Answer until" in found) is ("expires_ms" in arguments)
    if "expires_ms" in arguments:
        assert found["Answer until"].endswith(f" {timezone.localtime().tzname()}")
    assert facts_on(user_client.get(f"/notifications/jobs/{job.id}/").text)["Without an answer"] == expected


@pytest.mark.with_all_apps("a question shows the steps and the output of its job")
def test_the_job_and_who_else_is_asked(user, make_user, user_client, client_of):
    """The owner gets a link to the job, and its steps. Others see neither, but whom it asks besides."""
    others = [make_user(name, first_name=name.title()) for name in ("bea", "carl", "dora", "emil")]
    job = ask(user, question_tasks.ask_about_draft, to=[user.pk, others[0].pk], argument="a secret argument")
    text = user_client.get(page(job)).text
    assert f'<a href="/notifications/jobs/{job.id}/">Order 7</a>' in text
    assert ">a step</span>" in text and "Timeline" in text and "a step&#x27;s result" not in text
    assert facts_on(text) | {"Progress": "Page 3 · 3 of 7", "Also asked": "Bea"} == facts_on(text)
    text = client_of(others[0]).get(page(job)).text
    assert facts_on(text)["Also asked"] == user.username
    assert facts_on(text)["Job"] == "Order 7" and f'/{job.id}/">' not in text and "a step" not in text
    job = ask(user, to=[one.pk for one in others])
    assert facts_on(client_of(others[0]).get(page(job)).text)["Also asked"] == "Carl, Dora, Emil"
    more = [make_user(f"user{number}") for number in range(3)]
    job = ask(user, to=[one.pk for one in (*others, *more)])
    assert facts_on(client_of(others[0]).get(page(job)).text)["Also asked"] == "Carl, Dora, Emil and 3 others"


@pytest.mark.with_all_apps("a question shows the steps and the output of its job")
def test_the_number_of_statements_does_not_depend_on_the_rows(user, make_user, django_assert_max_num_queries):
    """Those of an e-mail, which says the most: of the question, the rights, the job, the names, steps and output."""
    job = ask(
        user,
        question_tasks.ask_about_draft,
        to=[user.pk, *(make_user(f"u{n}").pk for n in range(9))],
        argument="",
    )
    row = Notification.objects.get(user=user, job=job.id)
    with django_assert_max_num_queries(8, using=database()):
        facts = {fact.label: fact for fact in hooks.read_facts(row, user, "email")}
    assert facts["Steps"].text == "a step"
    assert facts["Latest output"].text == "Dear customer,\n<b>no</b>." and facts["Latest output"].is_verbatim
    answer_question("yes", by=user)
    row.refresh_from_db()
    assert hooks.read_facts(row, user, "email") == []


def test_facts_need_the_right_to_answer(user, other_user):
    """A notification that is withdrawn within minutes says no more of the job."""
    ask(user, to=[other_user.pk])
    row = Notification.objects.get(user=other_user)
    assert hooks.read_facts(row, other_user, "push")
    type(other_user).objects.filter(pk=other_user.pk).update(is_active=False)
    assert hooks.read_facts(row, other_user, "push") == []


def test_who_has_answered_in_every_place(user, other_user, user_client, client_of, admin_user, jobs_clock):
    """The name of who has, or "You" to that person: on pages of question, job and notification, and in the admin."""
    job = ask(user, to=[user.pk, other_user.pk])
    answer_question("yes", by=user)
    name = user.username
    for client, words in ((user_client, "You answered"), (client_of(other_user), f"{name} answered")):
        reader = user if client is user_client else other_user
        row = Notification.objects.get(user=reader, open_question=None, job=job.id)
        response = client.get(page(job))
        assert (response.status_code, response["Location"]) == (302, f"/notifications/{row.pk}/")
        text = client.get(response["Location"]).text
        assert f"{words} “Ship”." in text and page(job) not in text
        assert ("Order 7" in text) is (client is user_client)
        history = text[
            text.index('<ol class="notifications-history">', text.index("How you were notified")) :
        ]
        assert f"<li><span>{words} “Ship”, test.</span>" in history and "Read." not in history
        assert words in client.get("/notifications/?view=inbox").text
    assert "You answered · " in user_client.get(f"/notifications/jobs/{job.id}/").text
    admin_page = f"/admin/notifications/job/{job.id}/change/"
    assert f"{name} answered: " in client_of(admin_user).get(admin_page).text
    ask(admin_user)
    answer_question("no", by=admin_user)
    later = Job.objects.exclude(id=job.id).get()
    assert "You answered: " in client_of(admin_user).get(f"/admin/notifications/job/{later.id}/change/").text
    for reader, words in ((admin_user, "You answered"), (user, f"{name} answered")):
        row = Notification.objects.filter(user=reader, open_question=None).earliest("id")
        text = client_of(admin_user).get(f"/admin/notifications/notification/{row.pk}/change/").text
        assert f" · {words} " in text  # of the timeline; the body says so too


def test_the_step_of_a_question_that_has_expired(user, user_client, frozen):
    """It does not look like one that was answered."""
    job = ask(user, expires_ms=DAY_MS)
    frozen.advance(timedelta(days=2))
    run_jobs()
    assert '<span class="notifications-note" dir="auto">No answer in time · ' in (
        user_client.get(f"/notifications/jobs/{job.id}/").text
    )


def test_the_step_of_a_question_of_a_cancelled_job(user, user_client):
    """It has no tick, which would say that it was answered."""
    job = ask(user)
    cancel([job.id], by=user.pk)
    text = user_client.get(f"/notifications/jobs/{job.id}/").text
    step = text.partition("notifications-ticks")[2].partition("</ol>")[0]
    error, success = (
        Template(f"{{% load notifications %}}{{% notifications_icon '{name}' %}}").render(Context())
        for name in ("error", "success")
    )
    assert error in step and success not in step
    assert '<span class="notifications-note" dir="auto">Cancelled · ' in step
    row = Notification.objects.get(user=user)
    assert row.body == "The job was cancelled.\nTo the new address."
    for part in ("", "?part=pane"):  # They say it in the line of the job.
        text = user_client.get(f"/notifications/{row.pk}/{part}").text.partition("<details")[0]
        assert '<p class="notifications-text" dir="auto">To the new address.</p>' in text
        assert ">Cancelled</strong> by you" in text and "The job was cancelled." not in text
    for ended in (True, {"how": 1, "label": 2}, {}):  # data of the project
        Notification.objects.filter(pk=row.pk).update(data=json.dumps({"question": {"ended": ended}}))
        assert "The job was cancelled." in user_client.get(f"/notifications/{row.pk}/").text


def test_a_pane_shows_the_facts(user, user_client):
    job = ask(user, expires_ms=timedelta(days=2) // timedelta(milliseconds=1))
    row = Notification.objects.get(user=user)
    text = user_client.get(f"/notifications/{row.pk}/?part=pane").text
    assert facts_on(text).keys() == {"Job", "Answer until", "Without an answer"}
    assert text.count(f'<a href="/notifications/jobs/{job.id}/">') == 1
