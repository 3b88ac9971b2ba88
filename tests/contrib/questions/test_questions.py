"""Questions: jobs that ask people, and wait for the first answer."""

import json
import re
from datetime import timedelta

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Group, Permission
from django.core.exceptions import PermissionDenied, ValidationError
from django.core.management import CommandError, call_command
from django.db import transaction
from django.utils import translation

from notifications.api import notify, policy, task
from notifications.contrib.questions import Question, answer, aquestion, question, questions
from notifications.contrib.questions.models import AskedQuestion
from notifications.contrib.questions.testing import answer_question
from notifications.contrib.steps import step
from notifications.exceptions import QuestionDoesNotExist, QuestionEnded
from notifications.jobs import cancel, retry
from notifications.models import Attempt, Job, Notification, PendingMark, Stream
from notifications.streams.marking import mark
from notifications.streams.marking_all import mark_all
from notifications.testing import clock, run_jobs, run_until_idle
from tests.contrib.questions import question_tasks
from tests.contrib.questions.question_tasks import APPROVAL, YES_NO
from tests.jobs.conftest import until_done, until_state
from tests.support.duties import run_duty

pytestmark = [
    pytest.mark.database_law,
    pytest.mark.django_db(transaction=True),
    pytest.mark.nightly_on_postgres,
]

DAY = timedelta(days=1)
#: Options that are wrong, beside the name, and choices where neither is given.
WRONG_OPTIONS = {
    "no choices": {"choices": {}},
    "a list": {"choices": ["yes"]},
    "a long label": {"choices": {"yes": "x" * 41}},
    "21 choices": {"choices": {str(n): "x" for n in range(21)}},
    "a number": {"choices": {1: "x"}},
    "large choices": {"choices": {"ä" * 48 + str(n): "ä" * 40 for n in range(10, 29)}},
    "default without expires": {"default": "no"},
    "a wrong url": {"url": "javascript:alert(1)"},
    "initial without a form": {"initial": {"amount": 5}},
    "initial of another type": {"form": APPROVAL, "initial": ["amount"]},
    "initial of no field": {"form": APPROVAL, "initial": {"price": 5}},
    "initial that is no JSON": {"form": APPROVAL, "initial": {"reason": object()}},
    "initial that is large": {"form": APPROVAL, "initial": {"reason": "x" * 65_536}},
    "choices and a form": {"choices": YES_NO, "form": APPROVAL},
    "a form that is missing": {"form": "tests.contrib.questions.forms.Missing"},
    "a form that is none": {"form": "tests.jobs.tasks.noop"},
    "a form with files": {"form": "tests.contrib.questions.forms.Upload"},
    "danger that is no choice": {"danger": ["delete"]},
    "danger as a string": {"danger": "yes"},
    "a reminder of another type": {"remind": [60]},
    "reminders in the wrong order": {"remind": [2 * DAY, DAY]},
    "11 reminders": {"remind": [n * DAY for n in range(1, 12)]},
    "a reminder after the end": {"remind": [DAY], "expires": DAY},
    "no permission": {"to": "everybody"},
    "a permission that does not exist": {"to": "notifications.ship_order"},
    "no one": {"to": []},
    "101 users": {"to": list(range(1, 102))},
}


@task
@policy(max_attempts=1)
def ask_wrongly(kind):
    match kind:
        case "in a transaction":
            with transaction.atomic():
                return question("Ship?", name="ship", choices=YES_NO)
        case "name twice":
            step("ship", question_tasks.call, "ship")
        case "101 questions":
            return questions([Question("Ship?", str(n), YES_NO) for n in range(101)])
        case "no question":
            return questions(["Ship?"])
    options = WRONG_OPTIONS.get(kind, {})
    choices = {} if "form" in options else {"choices": YES_NO}
    return question("Ship?", name="ship", **choices | options)


@task
@policy(max_attempts=1)
def ask_for_choice(choices):
    return question("Ship?", name="ship", choices=choices)


@pytest.fixture(autouse=True)
def calls(jobs_clock):
    question_tasks.calls.clear()
    return question_tasks.calls


def ask(owner=None, task=question_tasks.ask_sync, **arguments):
    """Enqueue a job and run it until it waits. Returns its row."""
    result = task.using(owner=owner).enqueue(**arguments)
    run_jobs()
    return Job.objects.get(id=result.id)


def traceback_of(job):
    return Attempt.objects.get(job=job).traceback


def path(wait):
    return f"/notifications/api/jobs/{wait.job}/answers/{wait.id}/"


def page(wait):
    return f"/notifications/jobs/{wait.job}/questions/{wait.id}/"


def post(client, wait, value="yes"):
    return client.post(path(wait), json.dumps({"value": value}), content_type="application/json")


def item_of(client, job):
    return client.get(f"/notifications/api/jobs/{job.id}/").json()["waiting"]


def unread(user):
    return Stream.objects.get(user=user).unread


class TestQuestion:
    def test_a_job_goes_on_with_the_answer(self, worker, user, calls):
        result = question_tasks.ask.using(owner=user).enqueue()
        job = until_state(result, "waiting")
        answer(job.id, "ship", "yes", user=user)
        (job,) = until_done(result)
        assert (job.state, job.result, job.attempt) == ("succeeded", '"yes"', 1)
        assert calls == ["begin", "begin"]
        assert not Attempt.objects.exists()

    def test_inline(self, user):
        job = ask(user)
        assert job.state == "waiting"
        answer_question("no", by=user)
        assert run_jobs() == 1
        job.refresh_from_db()
        assert (job.state, job.result) == ("succeeded", '"no"')

    def test_the_notification(self, user):
        job = ask(user)
        wait = AskedQuestion.objects.get()
        row = Notification.objects.get(user=user)
        assert (row.title, row.body, row.url, row.job) == ("Ship?", "To the new address.", page(wait), job.id)
        assert row.seq and row.read_at is None and unread(user) == 1
        data = json.loads(row.data)
        assert data["question"]["links"] == {"answer": path(wait), "page": page(wait)}
        assert data["actions"][0] == {"label": "Ship", "post": path(wait) + "?value=yes"}
        seq = row.seq
        answer(job, "ship", "yes", user=user, via="Firefox on Linux")
        row.refresh_from_db()
        assert row.seq > seq and row.read_at and unread(user) == 0
        assert row.body == "You answered “Ship”.\nTo the new address."
        data = json.loads(row.data)
        assert "actions" not in data
        ended = data["question"]["ended"]
        assert (ended["how"], ended["by"], ended["with"]) == ("answered", "ada", "Firefox on Linux")
        assert (ended["value"], ended["label"]) == ("yes", "Ship")

    def test_its_end_is_in_the_language_of_who_ends_it(self, user, other_user):
        """Others read it in that of the job."""
        ask(user, to=[user.pk, other_user.pk])
        with translation.override("de"):
            answer_question("yes", by=user)
        own, other = (Notification.objects.get(user=each).body for each in (user, other_user))
        assert own.startswith("Sie haben mit „Ship“ geantwortet.\n")
        assert other.startswith("ada answered “Ship”.\n")
        for by, words in ((user.pk, "Der Job wurde abgebrochen."), (other_user.pk, "The job was cancelled.")):
            job = ask(user)
            with translation.override("de"):
                cancel([job.id], by=by)
            assert Notification.objects.get(job=job.id, title="Ship?").body.startswith(words)

    def test_marks_do_not_change_it_until_it_is_answered(self, user, other_user):
        job = ask(user, to=[user.pk, other_user.pk])
        notify(user, "Other")
        ids = list(Notification.objects.filter(user=user).values_list("id", flat=True))
        head = Stream.objects.get(user=user).head
        assert mark(user.pk, "read", head, ids).changed.keys() == {Notification.objects.get(title="Other").id}
        mark(user.pk, "archive", head, ids)
        mark_all(user.pk, "read", head)
        mark_all(user.pk, "archive", head)
        row = Notification.objects.get(user=user, job=job.id)
        assert (row.read_at, row.archived_at, unread(user)) == (None, None, 1)
        assert not PendingMark.objects.exists()
        answer_question("yes", by=other_user)
        row.refresh_from_db()
        assert row.read_at and row.open_question is None and unread(user) == 0
        mark(user.pk, "archive", Stream.objects.get(user=user).head, ids)
        row.refresh_from_db()
        assert row.archived_at

    def test_the_item(self, user, user_client):
        job = ask(user)
        wait = AskedQuestion.objects.get()
        item = item_of(user_client, job)
        assert (item["kind"], item["title"], item["choices"]) == ("question", "Ship?", question_tasks.YES_NO)
        assert item["links"] == {"answer": path(wait), "page": page(wait)}

    def test_the_item_of_an_owner_who_was_not_asked(self, user, other_user, user_client):
        job = ask(user, to=other_user.pk)
        assert item_of(user_client, job) is None
        assert not Notification.objects.filter(user=user).exists()

    def test_several_go_on_when_all_are_answered(self, user):
        job = ask(user, question_tasks.ask_several, names=["a", "b"])
        assert Notification.objects.count() == 2
        answer_question("no", name="b")
        job.refresh_from_db()
        assert (job.state, json.loads(job.waiting)["title"]) == ("waiting", "a?")
        answer_question("yes", name="a")
        run_jobs()
        job.refresh_from_db()
        assert job.result == '["yes","no"]'

    @pytest.mark.long
    def test_100_open_questions(self, user):
        names = [str(number) for number in range(100)]
        job = ask(user, question_tasks.ask_several, names=names)
        assert unread(user) == 100
        for name in names:
            answer_question("yes", name=name)
        run_jobs()
        job.refresh_from_db()
        assert (job.state, unread(user)) == ("succeeded", 0 + bool(job.user_id))  # the end of the job

    def test_it_is_not_asked_twice_after_a_restart_of_the_wait(self, user):
        """One of two questions is answered, then the job runs again for another reason."""
        job = ask(user, question_tasks.ask_several, names=["a", "b"])
        answer_question("yes", name="a")
        Job.objects.filter(id=job.id).update(state="queued", waiting=None)
        run_jobs()
        job.refresh_from_db()
        assert (job.state, Notification.objects.count(), AskedQuestion.objects.count()) == ("waiting", 2, 2)
        answer_question("no", name="b")
        run_jobs()
        job.refresh_from_db()
        assert job.result == '["yes","no"]'


class TestEnds:
    @pytest.mark.parametrize(("default", "state"), [("no", "succeeded"), (None, "failed")])
    def test_it_expires(self, user, default, state):
        job = ask(user, expires_ms=1000, default=default)
        clock.advance(timedelta(seconds=2))
        run_jobs()
        job.refresh_from_db()
        assert job.state == state
        wait = AskedQuestion.objects.get()
        assert wait.how == "expired"
        row = Notification.objects.get(url=page(wait))
        assert row.read_at and json.loads(row.data)["question"]["ended"]["how"] == "expired"
        if default:
            assert job.result == '"no"'
        else:
            assert "QuestionExpired: The question 'ship' was not answered in time." in traceback_of(job)
            text = "No answer to “Ship?” in time."
            assert json.loads(job.error)["detail"] == text
            assert Notification.objects.get(key=f"job:{job.id}").body == text

    def test_an_answer_after_its_time(self, user):
        """The duty that ends it has not come to it yet."""
        job = ask(user, expires_ms=1000, default="no")
        clock.advance(timedelta(seconds=2))
        with pytest.raises(QuestionEnded):
            answer_question("yes")
        job.refresh_from_db()
        assert (job.state, AskedQuestion.objects.get().how) == ("queued", "expired")

    def test_cancel_and_retry(self, user):
        job = ask(user)
        cancel([job.id], by=user.pk)
        row = Notification.objects.get()
        assert row.read_at and row.seq and unread(user) == 0
        assert json.loads(row.data)["question"]["ended"]["how"] == "cancelled"
        with pytest.raises(QuestionEnded):
            answer(job, "ship", "yes", user=user)
        retry([job.id])
        with pytest.raises(QuestionDoesNotExist):
            answer(job, "ship", "yes", user=user)
        run_jobs()
        answer_question("yes")
        run_jobs()
        job.refresh_from_db()
        assert job.result == '"yes"'

    def test_an_answer_survives_a_retry(self, user, calls):
        job = ask(user)
        answer_question("yes")
        cancel([job.id])
        retry([job.id])
        run_jobs()
        job.refresh_from_db()
        assert job.result == '"yes"'


class TestWrongUses:
    @pytest.mark.parametrize(
        ("kind", "error"),
        [
            ("no choices", "choices has 0 answers. It must have 1 to 20"),
            ("21 choices", "choices has 21 answers"),
            ("a list", "choices must be a dict of labels by value"),
            ("a long label", "choices['yes'] has 41 characters"),
            ("a number", "A value of choices must be a string, not int"),
            ("large choices", "The choices have"),
            ("default without expires", "default needs expires"),
            ("choices and a form", "Pass either choices or form."),
            (
                "a form that is missing",
                "form is 'tests.contrib.questions.forms.Missing', which cannot be imported",
            ),
            ("a form that is none", "which is no subclass of django.forms.Form"),
            ("a form with files", "The form 'tests.contrib.questions.forms.Upload' takes files"),
            ("a wrong url", "url"),
            ("initial without a form", "initial needs form"),
            ("initial of another type", "initial must be a dict of values by field, not list"),
            ("initial of no field", "initial has 'price', which is no field of the form"),
            ("initial that is no JSON", "is not JSON serializable"),
            ("initial that is large", "At most 65536 are allowed"),
            ("danger that is no choice", "danger has 'delete', which is none of the choices"),
            (
                "danger as a string",
                "danger must be a list of values of choices, or a dict of sentences by value, not str",
            ),
            ("a reminder of another type", "remind[0] must be a timedelta, not int"),
            ("reminders in the wrong order", "remind must have its times in ascending order"),
            ("11 reminders", "remind has 11 times. At most 10 are allowed."),
            ("a reminder after the end", "remind[0] is not before expires"),
            ("no permission", "to is 'everybody', which is no permission"),
            ("a permission that does not exist", "to is 'notifications.ship_order', a permission that does"),
            ("no one", "to is empty. Pass users, a group or a permission"),
            ("101 users", "to has 101 users"),
            ("in a transaction", "question() was called inside a transaction"),
            pytest.param(
                *("name twice", "The name 'ship' was used before in this attempt"),
                marks=pytest.mark.with_all_apps("the other name is that of a step"),
            ),
            ("101 questions", "questions() takes at most 100 questions, not 101"),
            ("no question", "questions() takes a list of Question"),
        ],
    )
    def test_each_fails_the_job(self, user, admin_user, worker, kind, error):
        """None is asked of staff instead."""
        (job,) = until_done(ask_wrongly.using(owner=user).enqueue(kind))
        assert job.state == "failed"
        assert error in traceback_of(job)
        assert not AskedQuestion.objects.exists()

    def test_choices_in_another_script_are_not_large(self, user):
        """They count as they are stored, in UTF-8."""
        choices = {"ä" * 48 + str(number): "ä" * 40 for number in range(10, 20)}
        assert ask(user, ask_for_choice, choices=choices).state == "waiting"

    def test_too_many_notifications(self, make_user):
        users = [make_user(f"user{number}").pk for number in range(101)]
        job = ask(None, to=users)
        assert "to has 101 users" in traceback_of(job)

    async def test_outside_of_a_job(self):
        with pytest.raises(RuntimeError, match=r"aquestion\(\) was called outside of a job"):
            await aquestion("Ship?", name="ship", choices={"yes": "Ship"})

    def test_outside_of_a_job_sync(self):
        with pytest.raises(RuntimeError, match=r"question\(\) was called outside of a job"):
            question("Ship?", name="ship", choices={"yes": "Ship"})

    @pytest.mark.parametrize("value", [None, [], {}, 1, "maybe"])
    def test_an_answer_that_is_no_choice(self, user, value):
        job = ask(user)
        with pytest.raises(ValidationError, match="value must be one of 'yes', 'no'"):
            answer(job, "ship", value, user=user)
        assert AskedQuestion.objects.get().ended_at is None


class TestAddressees:
    @pytest.fixture
    def staff(self, make_user):
        staff = make_user("eve")
        staff.user_permissions.add(Permission.objects.get(codename="answer_question"))
        return staff

    def test_a_group(self, user, other_user, make_user):
        group = Group.objects.create(name="shop")
        gone = make_user("gone", is_active=False)
        group.user_set.add(user, other_user, gone)
        job = ask(user, question_tasks.ask_staff_of, kind="group", key=group.pk)
        assert {row.user_id for row in Notification.objects.all()} == {user.pk, other_user.pk}
        answer_question("yes", by=other_user)
        for row in Notification.objects.all():
            assert row.read_at and json.loads(row.data)["question"]["ended"]["by"] == "bob"
        assert unread(user) == unread(other_user) == 0
        run_jobs()
        job.refresh_from_db()
        assert job.state == "succeeded"

    def test_a_permission(self, user, other_user):
        other_user.user_permissions.add(Permission.objects.get(codename="view_job"))
        ask(user, question_tasks.ask_staff_of, kind="permission", key="notifications.view_job")
        assert [row.user_id for row in Notification.objects.all()] == [other_user.pk]

    @pytest.mark.parametrize("is_owned", [True, False])
    def test_gone_ones_are_replaced_by_staff(self, user, staff, is_owned):
        type(user).objects.filter(pk=user.pk).update(is_active=False)
        ask(user if is_owned else None)
        assert [row.user_id for row in Notification.objects.all()] == [staff.pk]
        answer_question("yes", by=staff)

    def test_nobody_is_left(self):
        job = ask(None)
        assert "There is no active user who could answer" in traceback_of(job)

    def test_rights(self, user, other_user, staff):
        job = ask(user)
        with pytest.raises(PermissionDenied):
            answer_question("yes", by=other_user)
        type(user).objects.filter(pk=user.pk).update(is_active=False)
        with pytest.raises(PermissionDenied):  # checked anew
            answer_question("yes", by=user)
        assert AskedQuestion.objects.get().ended_at is None
        answer(job, "ship", "yes", user=staff)


class TestApi:
    def test_the_first_answer_wins(self, user, other_user, client_of):
        ask(user, to=[user.pk, other_user.pk])
        wait = AskedQuestion.objects.get()
        response = post(client_of(user, headers={"User-Agent": "curl/8.14.1"}), wait)
        assert response.status_code == 200
        assert (response.json()["ended"]["by"], response.json()["ended"]["with"]) == ("ada", "curl")
        response = post(client_of(other_user), wait, "no")
        assert response.status_code == 409
        assert response.json()["detail"].startswith("ada answered “Ship”, ")
        assert json.loads(AskedQuestion.objects.get().value) == "yes"
        own, other = (Notification.objects.get(user=each).body for each in (user, other_user))
        assert own.startswith("You answered “Ship”.\n")
        assert other.startswith("ada answered “Ship”.\n")

    def test_refusals(self, user, other_user, client_of, settings):
        job = ask(user)
        wait = AskedQuestion.objects.get()
        client = client_of(user)
        assert post(client_of(other_user), wait).status_code == 404
        for value in ("perhaps", 1, None, ["yes"]):
            response = post(client, wait, value)
            assert response.status_code == 422
            assert response.json()["errors"][0]["field"] == "value"
        assert client.put(path(wait)).status_code == 405
        protected = client_of(user, enforce_csrf_checks=True)
        assert post(protected, wait).status_code == 403
        assert protected.post(page(wait), {"value": "yes"}).status_code == 403
        assert AskedQuestion.objects.get().ended_at is None
        cancel([job.id])
        assert post(client, wait).status_code == 410
        settings.NOTIFICATIONS = {**settings.NOTIFICATIONS, "RETENTION": timedelta(microseconds=1)}
        run_duty("prune old rows")
        assert post(client, wait).status_code == client.get(page(wait)).status_code == 404

    def test_the_page(self, user, other_user, client_of):
        ask(user, to=[user.pk, other_user.pk])
        wait = AskedQuestion.objects.get()
        client = client_of(user)
        text = client.get(page(wait) + "?value=yes").content.decode()
        assert "Ship?" in text and 'value="yes"' in text
        assert AskedQuestion.objects.get().ended_at is None  # no GET answers
        assert client.post(page(wait), {"value": "perhaps"}).status_code == 422
        response = client.post(page(wait), {"value": "no"}, follow=True)
        assert response.status_code == 200
        assert "You answered “Keep”" in response.content.decode()
        response = client_of(other_user).post(page(wait), {"value": "yes"}, follow=True)
        assert response.status_code == 200
        assert "ada answered “Keep”" in response.content.decode()

    def test_the_page_of_its_notification_leads_to_it_while_it_is_open(self, user, other_user, client_of):
        """In the pane there are its buttons. Afterwards it is the page of the question that leads to the other one."""
        ask(user, to=[user.pk, other_user.pk])
        wait, row, client = AskedQuestion.objects.get(), Notification.objects.get(user=user), client_of(user)
        own = f"/notifications/{row.pk}/"
        assert client.get(own)["Location"] == page(wait)
        link = f'action="/notifications/jobs/{wait.job}/cancel/"'
        assert link in client.get(page(wait)).text and link not in client_of(other_user).get(page(wait)).text
        pane = client.get(own, {"part": "pane"})
        assert "question" not in pane.context and f'href="{page(wait)}"' in pane.text
        answer(wait.job, "ship", "yes", user=user)
        assert client.get(page(wait))["Location"] == own
        text = client.get(own).text
        assert f'value="archive.{row.pk}"' in text and page(wait) not in text

    def test_the_page_of_the_job_answers_too(self, user, other_user, client_of):
        """Of several questions it shows the first. It is not loaded again while its reader types."""
        job = ask(user, question_tasks.ask_several, names=["a", "b"])
        client = client_of(user)
        for name, other in (("a", "b"), ("b", "a")):
            wait = AskedQuestion.objects.get(name=name)
            text = client.get(f"/notifications/jobs/{job.id}/").content.decode()
            assert f'action="{page(wait)}"' in text and 'value="yes"' in text
            assert f'action="{page(AskedQuestion.objects.get(name=other))}"' not in text
            assert 'http-equiv="refresh"' not in text
            # The answers come first, and nothing asks the reader to leave.
            assert (
                text.index('value="yes"') < text.index(f"/{job.id}/cancel/") and "leave this page" not in text
            )
            assert client.post(page(wait), {"value": "yes"}).status_code == 303
        text = client.get(f"/notifications/jobs/{job.id}/").content.decode()
        assert 'value="yes"' not in text
        # There it says who has answered.
        assert all(f'href="{page(wait)}"' in text for wait in AskedQuestion.objects.filter(job=job.id))
        of_others = ask(user, to=other_user.pk)
        text = client.get(f"/notifications/jobs/{of_others.id}/").content.decode()
        assert 'value="yes"' not in text and page(AskedQuestion.objects.get(job=of_others.id)) not in text
        assert "leave this page" in text

    @pytest.mark.with_all_apps("the job has a step")
    def test_the_page_of_a_job_that_asks_says_each_thing_once(self, user, client_of):
        """Its question is no step, it has no progress while it waits, and its button names what it cancels."""
        job = ask(user, question_tasks.ask_about_draft, to=user.pk, argument="")
        main = client_of(user).get(f"/notifications/jobs/{job.id}/").text.partition("<main")[2]
        assert main.count("Send it?") == 1 and main.count("Page 3 · 3 of 7") == 1 and "a step" in main
        assert re.findall(r"(?:<button[^>]*>|<span>)([^<]+)</", main)[:3] == ["Ship", "Keep", "Cancel job"]
        assert "notifications-band" not in main and "<progress" not in main and ">Waiting" not in main
        assert f'<notifications-job job="{job.id}"' in main
        pane = client_of(user).get(f"/notifications/{Notification.objects.get().pk}/?part=pane").text
        assert pane.count("Send it?") == 1 and "<progress" not in pane and ">Cancel job<" in pane

    @pytest.mark.parametrize(
        ("task", "arguments", "links"),
        [
            (question_tasks.ask_by_form, {}, ["Open the form"]),
            (question_tasks.ask_about, {"url": None}, ["Choice 0", "Choice 1"]),
            (question_tasks.ask_about, {"url": None, "count": 9}, ["Answer"]),
        ],
    )
    def test_the_page_of_its_notification_links_to_it_once(self, user, client_of, task, arguments, links):
        ask(user, task, **arguments)
        text = client_of(user).get(f"/notifications/{Notification.objects.get().pk}/?part=pane").text
        actions = text.partition('<div class="notifications-confirm">')[2].partition("</div>")[0]
        assert re.findall(r"<a [^>]*>([^<]+)</a>", actions) == links

    def test_the_page_is_for_addressees(self, user, other_user, client_of):
        ask(user)
        wait = AskedQuestion.objects.get()
        assert client_of(other_user).get(page(wait)).status_code == 404
        assert client_of(other_user).post(page(wait), {"value": "yes"}).status_code == 404

    def test_staff_answer_from_the_admin_and_it_is_logged(self, user, client_of, admin_user):
        """An addressee's answer is not logged. The owner's page of the job leads to the question too."""
        job = ask(user)
        wait = AskedQuestion.objects.get()
        assert page(wait) in client_of(user).get(f"/notifications/jobs/{job.id}/").content.decode()
        client = client_of(admin_user)
        admin_page = f"/admin/notifications/job/{job.id}/change/"
        assert page(wait) in client.get(admin_page).content.decode()
        assert client.post(page(wait), {"value": "yes"}).status_code == 303
        [entry] = LogEntry.objects.filter(user=admin_user)
        assert (entry.object_id, entry.change_message) == (str(job.id), "Answered “Ship?” by “Ship”.")
        assert page(wait) not in client.get(admin_page).content.decode()
        ask(user)
        answered = AskedQuestion.objects.get(ended_at=None)
        assert client_of(user).post(page(answered), {"value": "yes"}).status_code == 303
        assert LogEntry.objects.count() == 1


class TestCommand:
    def test_it_answers(self, user, capsys):
        job = ask(user)
        call_command("notifications", "jobs", "answer", str(job.id), "yes")
        assert AskedQuestion.objects.get().ended_with == "manage.py"
        with pytest.raises(CommandError, match="has no such open question"):
            call_command("notifications", "jobs", "answer", str(job.id), "yes")

    def test_refusals(self, user):
        job = ask(user, question_tasks.ask_several, names=["a", "b"])
        with pytest.raises(CommandError, match="Add --name: a, b"):
            call_command("notifications", "jobs", "answer", str(job.id), "yes")
        with pytest.raises(CommandError, match="value must be one of 'yes', 'no'"):
            call_command("notifications", "jobs", "answer", str(job.id), "perhaps", name="a")
        call_command("notifications", "jobs", "answer", str(job.id), "yes", name="a")
        assert AskedQuestion.objects.get(name="a").how == "answered"


def test_run_until_idle_lets_questions_expire(user):
    job = ask(user, expires_ms=86_400_000, default="no")
    run_until_idle()
    job.refresh_from_db()
    assert job.result == '"no"'
