"""Questions that are answered by a Django form, and choices that are confirmed."""

import json
import re
from decimal import Decimal

import pytest
from django.contrib.auth import get_user_model
from django.core.exceptions import ValidationError
from django.core.management import CommandError, call_command
from django.test import Client
from django.utils.dateparse import parse_date, parse_datetime

from notifications import times
from notifications.api import policy, task
from notifications.contrib.questions import open_questions, question
from notifications.contrib.questions.models import AskedQuestion
from notifications.contrib.questions.testing import answer_question
from notifications.extension import Fact, hooks
from notifications.models import Attempt, Job, Notification
from notifications.testing import run_jobs
from tests.contrib.questions import forms, question_tasks

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.nightly_on_postgres]


@task
@policy(max_attempts=1)
def ask_with_initial(form, **initial):
    """``due`` and ``at`` are parsed, ``amount`` is a decimal, ``person`` a user, ``others`` all users."""
    for name, parse in (("due", parse_date), ("at", parse_datetime), ("amount", Decimal)):
        if name in initial:
            initial[name] = parse(initial[name])
    if "person" in initial:
        users = get_user_model()._default_manager.order_by("pk")
        initial |= {"person": users.get(pk=initial["person"]), "others": users.all()}
    return question("Approve?", name="approve", form=f"tests.contrib.questions.forms.{form}", initial=initial)


FIELDS = {"amount": "12.50", "due": "2027-01-31", "approved": "on", "reason": "Paid twice."}
CLEANED = {"amount": "12.50", "due": "2027-01-31", "approved": True, "reason": "Paid twice."}


@pytest.fixture(autouse=True)
def frozen(jobs_clock):
    return jobs_clock


def ask(owner, task=question_tasks.ask_by_form, **arguments):
    result = task.using(owner=owner).enqueue(**arguments)
    run_jobs()
    return Job.objects.get(id=result.id)


def result_of(job):
    run_jobs()
    job.refresh_from_db()
    return job.state, job.result and json.loads(job.result)


def page():
    wait = AskedQuestion.objects.get()
    return f"/notifications/jobs/{wait.job}/questions/{wait.id}/"


def path():
    wait = AskedQuestion.objects.get()
    return f"/notifications/api/jobs/{wait.job}/answers/{wait.id}/"


def post_json(client, fields):
    return client.post(path(), json.dumps(fields), content_type="application/json")


def data():
    return json.loads(Notification.objects.latest("id").data)


class TestForm:
    def test_the_page(self, user, user_client):
        job = ask(user)
        shown = user_client.get(page()).content.decode()
        assert 'name="amount"' in shown and "In euros." in shown and "Send the answer" in shown
        assert 'name="amount"' in user_client.get(f"/notifications/jobs/{job.id}/").content.decode()
        response = user_client.post(page(), FIELDS)
        assert (response.status_code, response["Location"]) == (303, page())
        assert result_of(job) == ("succeeded", CLEANED)
        shown = user_client.get(page(), follow=True).content.decode()
        assert 'dir="auto">You answered.\nOf the invoice.</p>' in shown
        note = Notification.objects.get(user=user, url=page())
        assert note.body == "You answered.\nOf the invoice." and note.read_at
        # All who were asked are told that it was answered; the fields are for the job.
        assert json.loads(note.data)["question"]["ended"]["value"] is None and "12.50" not in note.data

    def test_the_page_with_wrong_fields(self, user, user_client):
        job = ask(user)
        response = user_client.post(page(), {**FIELDS, "amount": "1001", "reason": "<b>kept</b>"})
        shown = response.content.decode()
        assert response.status_code == 422
        assert "less than or equal to 1000" in shown and "&lt;b&gt;kept&lt;/b&gt;" in shown
        assert result_of(job) == ("waiting", None)

    def test_the_api(self, user, user_client):
        job = ask(user)
        fields = {"amount": 12.5, "due": None, "approved": True}
        wrong = post_json(user_client, {**fields, "amount": 1001, "due": "soon"})
        assert wrong.status_code == 422
        assert {error["field"] for error in wrong.json()["errors"]} == {"amount", "due"}
        response = post_json(user_client, fields)
        assert response.status_code == 200 and response.json()["ended"]["how"] == "answered"
        assert post_json(user_client, fields).status_code == 409
        cleaned = {"amount": "12.5", "due": None, "approved": True, "reason": ""}
        assert result_of(job) == ("succeeded", cleaned)

    @pytest.mark.parametrize("due", [5, 2026.5, ["2026-01-01"], {"a": 1}, True])
    def test_a_type_that_no_browser_sends(self, user, user_client, due):
        """Django's date fails at it, which is no defect of the form."""
        job = ask(user)
        response = post_json(user_client, {"amount": 1, "due": due, "approved": True})
        assert response.status_code == 422
        assert [error["field"] for error in response.json()["errors"]] == ["due"]
        assert result_of(job) == ("waiting", None)

    def test_a_value_is_no_answer(self, user, user_client):
        ask(user)
        assert post_json(user_client, {"value": "yes"}).status_code == 422

    def test_the_item_and_the_notification(self, user, user_client):
        job = ask(user)
        item = user_client.get(f"/notifications/api/jobs/{job.id}/").json()["waiting"]
        assert (item["choices"], item["links"]["page"]) == (None, page())
        assert data()["question"]["choices"] is None
        assert data()["actions"] == [{"label": "Open the form", "url": page()}]

    def test_the_label_is_in_the_language_of_the_job(self, user):
        from django.utils import translation

        with translation.override("de"):
            ask(user)
        assert data()["actions"][0]["label"] == "Formular öffnen"

    def test_the_command(self, user):
        job = ask(user)
        for value, problem in [
            ("yes", "Pass its fields as a JSON object"),
            ("[1]", "Pass its fields as a JSON object"),
            ('{"amount": 2000}', "The form has refused the answer. amount: "),
        ]:
            with pytest.raises(CommandError, match=problem):
                call_command("notifications", "jobs", "answer", str(job.id), value)
        call_command("notifications", "jobs", "answer", str(job.id), '{"amount": 5, "approved": true}')
        assert result_of(job)[1]["amount"] == "5"

    def test_in_tests(self, user):
        job = ask(user)
        with pytest.raises(ValidationError, match="less than or equal"):
            answer_question({**FIELDS, "amount": "1001"}, by=user)
        answer_question(FIELDS, by=user)
        assert result_of(job) == ("succeeded", CLEANED)

    def test_instances_are_stored_as_keys(self, user, other_user):
        job = ask(user, form="tests.contrib.questions.forms.Person")
        answer_question({"person": user.pk, "others": [user.pk, other_user.pk]}, by=user)
        keys = json.loads(json.dumps([user.pk, other_user.pk], default=str))
        assert result_of(job) == ("succeeded", {"person": keys[0], "others": keys})

    def test_a_class(self, user):
        ask(user, is_class=True)
        assert json.loads(AskedQuestion.objects.get().details)["form"] == question_tasks.APPROVAL

    def test_only_who_was_asked(self, user, other_user, client_of):
        ask(user)
        assert client_of(other_user).post(page(), FIELDS).status_code == 404
        assert post_json(client_of(other_user), FIELDS).status_code == 404

    def test_a_post_needs_the_token(self, user):
        ask(user)
        client = Client(enforce_csrf_checks=True)
        client.force_login(user)
        assert client.post(page(), FIELDS).status_code == 403


class TestInitial:
    def test_its_page_and_that_of_the_job(self, user, user_client):
        initial = {"amount": "12.50", "due": "2027-01-31", "approved": True, "reason": "<b>Paid</b>"}
        job = ask(user, ask_with_initial, form="Approval", **initial)
        for path in (page(), f"/notifications/jobs/{job.id}/"):
            shown = user_client.get(path).content.decode()
            assert 'value="12.50"' in shown and 'value="2027-01-31"' in shown
            assert re.search(r'<input[^>]*name="approved"[^>]*checked', shown)
            assert "&lt;b&gt;Paid&lt;/b&gt;</textarea>" in shown
        assert user_client.post(page(), FIELDS).status_code == 303
        assert result_of(job) == ("succeeded", CLEANED)

    def test_widgets_format_types(self, user, user_client, settings):
        """A decimal in the language of the reader, which is read back as it was, and a time in the time zone."""
        settings.TIME_ZONE = "Europe/Berlin"
        at = "2027-01-31T10:00:00+00:00"
        job = ask(user, ask_with_initial, form="Delivery", amount="1.250", at=at, window=at)
        shown = user_client.get(page(), headers={"Accept-Language": "de"}).content.decode()
        assert 'value="1,250"' in shown and 'value="2027-01-31T11:00"' in shown
        assert re.search(r'name="window_1"[^>]*value="11:00:00"|value="11:00:00"[^>]*name="window_1"', shown)
        assert 'value="Ring twice."' in shown  # that of the form
        assert user_client.get(path()).json()["initial"]["amount"] == "1.250"
        assert job.state == "waiting"

    def test_instances(self, user, other_user, user_client):
        ask(user, ask_with_initial, form="Person", person=other_user.pk)
        shown = user_client.get(page()).content.decode()
        assert re.search(rf'<option value="{other_user.pk}" selected>', shown)
        assert shown.count("selected>") == 3

    def test_what_was_sent_is_shown_in_its_place(self, user, user_client):
        ask(user, ask_with_initial, form="Approval", reason="First")
        shown = user_client.post(page(), {"reason": "Second"}).content.decode()
        assert "Second" in shown and "First" not in shown

    def test_the_api(self, user, user_client, other_user, client_of):
        job = ask(user, ask_with_initial, form="Approval", amount="12.50", due="2027-01-31")
        response = user_client.get(path())
        wait = AskedQuestion.objects.get()
        assert response.json() == {
            "id": str(wait.id),
            "job": str(job.id),
            "name": "approve",
            "title": "Approve?",
            "body": "",
            "choices": None,
            "danger": [],
            "initial": {"amount": "12.50", "due": "2027-01-31"},
            "url": None,
            "created_at": times.format_time(wait.created_at),
            "expires_at": None,
            "links": {"answer": path(), "page": page()},
            "ended": None,
        }
        [info] = open_questions(user)
        assert info.initial == response.json()["initial"]
        assert client_of(other_user).get(path()).status_code == 404
        answer_question({"amount": "5", "approved": True}, by=user)
        ended = user_client.get(path()).json()["ended"]
        assert (ended["how"], ended["by"], ended["value"]) == ("answered", "ada", None)

    def test_values_that_the_form_cannot_show(self, user):
        job = ask(user, ask_with_initial, form="Delivery", window="soon")
        assert job.state == "failed" and not AskedQuestion.objects.exists()


class TestSubject:
    """``url``: what a question is about."""

    URL = "/orders/7/?a=1&b=2"

    def test_the_pages(self, user, user_client):
        job = ask(user, question_tasks.ask_about, url=self.URL)
        shown = user_client.get(page()).content.decode()
        link = (
            r'<a class="notifications-quiet" href="/orders/7/\?a=1&amp;b=2"><svg.*?</svg><span>View details<'
        )
        assert re.search(link, shown) and "About" not in shown
        shown = user_client.get(f"/notifications/jobs/{job.id}/").content.decode()
        assert re.search(
            r"<dt>About</dt><dd><bdi><a href=\"/orders/7/\?a=1&amp;b=2\">View details</a>", shown
        )
        answer_question("0", by=user)
        assert "View details" not in user_client.get(page()).content.decode()

    def test_the_notification(self, user, user_client):
        """Its buttons are those of bell, toast and inbox."""
        ask(user, question_tasks.ask_about, url=self.URL)
        assert data()["actions"][-1] == {"label": "View details", "url": self.URL}
        assert len(data()["actions"]) == 3 and data()["question"]["url"] == self.URL
        note = Notification.objects.get()
        assert note.url == page()  # where the row leads
        inbox = user_client.get("/notifications/").content.decode()
        assert 'href="/orders/7/?a=1&amp;b=2"' in inbox and "View details" in inbox

    def test_by_a_form(self, user):
        ask(user, question_tasks.ask_about, url=self.URL, form="tests.contrib.questions.forms.Approval")
        assert [action["label"] for action in data()["actions"]] == ["Open the form", "View details"]

    def test_with_three_choices(self, user, user_client):
        """There is no room beside them, so that only the page has it."""
        ask(user, question_tasks.ask_about, url=self.URL, count=3)
        assert [action["label"] for action in data()["actions"]] == ["Choice 0", "Choice 1", "Choice 2"]
        assert data()["question"]["url"] == self.URL
        assert "View details" in user_client.get(page()).content.decode()

    def test_with_many_choices(self, user):
        ask(user, question_tasks.ask_about, url=self.URL, count=4)
        assert "actions" not in data()

    def test_another_site(self, user, user_client):
        ask(user, question_tasks.ask_about, url="https://shop.example/7")
        shown = user_client.get(page()).content.decode()
        assert 'href="https://shop.example/7" rel="noopener noreferrer"><svg' in shown
        assert user_client.get(path()).json()["url"] == "https://shop.example/7"
        assert open_questions(user)[0].url == "https://shop.example/7"

    def test_the_e_mail_and_the_push_message(self, user):
        """A push message has no links, so it does not name one."""
        ask(user, question_tasks.ask_about, url=self.URL)
        note = Notification.objects.get()
        fact = Fact("About", "View details", url=self.URL)
        assert fact in hooks.read_facts(note, user, "email")
        assert fact not in hooks.read_facts(note, user, "push")


class TestFormThatFails:
    """Nothing is lost: the question stays open, and its log says why."""

    def test_one_that_a_deploy_has_removed(self, user, user_client, monkeypatch, caplog):
        job = ask(user)
        monkeypatch.delattr(forms, "Approval")
        for response in (user_client.get(page()), user_client.post(page(), FIELDS)):
            assert response.status_code == 503
            assert "The question stays open" in response.content.decode()
        assert post_json(user_client, FIELDS).status_code == 503
        response = user_client.get(f"/notifications/jobs/{job.id}/")
        assert response.status_code == 200 and "The question stays open" in response.content.decode()
        with pytest.raises(CommandError, match="The question stays open"):
            call_command("notifications", "jobs", "answer", str(job.id), json.dumps(FIELDS))
        assert "The form of a question failed: tests.contrib.questions.forms.Approval" in caplog.text
        monkeypatch.undo()
        assert user_client.post(page(), FIELDS).status_code == 303
        assert result_of(job) == ("succeeded", CLEANED)

    def test_one_that_raises(self, user, user_client, caplog):
        job = ask(user, form="tests.contrib.questions.forms.Failing")
        assert user_client.post(page(), {"text": "x"}).status_code == 503
        assert post_json(user_client, {"text": "x"}).status_code == 503
        assert "A defect of the project." in caplog.text
        assert result_of(job) == ("waiting", None)

    def test_one_that_cannot_be_rendered(self, user, user_client, caplog):
        """Its choices are read then. The page of the job is shown all the same."""
        job = ask(user, form="tests.contrib.questions.forms.FailingChoices")
        for response in (user_client.get(page()), user_client.post(page(), {})):
            assert response.status_code == 503 and "The question stays open" in response.content.decode()
        response = user_client.get(f"/notifications/jobs/{job.id}/")
        assert response.status_code == 200 and "The question stays open" in response.content.decode()
        assert "The table is gone." in caplog.text

    def test_an_answer_that_is_too_large(self, user, user_client):
        ask(user, form="tests.contrib.questions.forms.Delivery")
        answer = {"amount": "1", "at": "2027-01-31T10:00", "note": "x" * 65_536}
        response = user_client.post(page(), answer)
        assert response.status_code == 422 and "At most 65536 are allowed" in response.content.decode()


class TestDanger:
    def test_its_button_is_confirmed(self, user, user_client):
        job = ask(user, question_tasks.ask_danger)
        keep, delete = data()["actions"]
        assert keep["post"] == path() + "?value=keep"
        consequence = "The answer “Delete” cannot be taken back."
        assert delete == {"label": "Delete", "post": path() + "?value=delete", "danger": consequence}
        inbox = user_client.get("/notifications/").content.decode()
        assert f'data-answer="{path()}?value=delete" data-danger="{consequence}"' in inbox
        shown = user_client.get(page()).content.decode()
        assert f'value="delete" data-danger="{consequence}"' in shown
        shown = user_client.get(page() + "?confirm=delete").content.decode()
        assert 'name="confirmed"' in shown and 'value="keep"' not in shown
        assert f"<h2>{consequence}</h2>" in shown and "autofocus>Cancel</a>" in shown
        assert result_of(job) == ("waiting", None)
        response = user_client.post(page(), {"value": "delete", "confirmed": "1"})
        assert response.status_code == 303
        assert result_of(job) == ("succeeded", "delete")

    def test_with_a_sentence_of_the_task(self, user, user_client):
        ask(user, question_tasks.ask_danger, sentence="All shops close for a minute.")
        assert data()["actions"][1]["danger"] == "All shops close for a minute."
        assert user_client.get(path()).json()["danger"] == ["delete"]
        shown = user_client.get(page() + "?confirm=delete").content.decode()
        assert "<h2>All shops close for a minute.</h2>" in shown

    def test_on_the_page_it_is_asked_once_more(self, user, user_client):
        job = ask(user, question_tasks.ask_danger)
        response = user_client.post(page(), {"value": "delete"})
        assert response.status_code == 200 and 'name="confirmed"' in response.content.decode()
        assert result_of(job) == ("waiting", None)
        user_client.post(page(), {"value": "keep"})
        assert result_of(job) == ("succeeded", "keep")

    def test_an_unknown_value_in_the_query(self, user, user_client):
        ask(user, question_tasks.ask_danger)
        shown = user_client.get(page() + "?confirm=%00<script>").content.decode()
        assert 'value="keep"' in shown and "confirmed" not in shown


def test_no_attempt_fails(user):
    ask(user)
    assert not Attempt.objects.exists()
