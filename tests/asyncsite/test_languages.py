"""The languages of the site: how one is chosen, and what is in it."""

import json

import pytest
from django.utils import translation

from asyncsite.forms import ReportForm
from asyncsite.models import Report
from asyncsite.summary import describe_outcomes
from asyncsite.tasks import build_notification, enqueue_report
from notifications.models import Job

pytestmark = [pytest.mark.django_db, pytest.mark.any_database]

WORDS = {"en": "Your reports", "de": "Ihre Berichte", "es": "Tus informes", "fr": "Vos rapports"}


@pytest.mark.parametrize("language", WORDS)
def test_the_language_that_the_browser_prefers(person, language):
    html = person.get("/reports/", HTTP_ACCEPT_LANGUAGE=f"{language}-XX,{language};q=0.9").content.decode()
    assert f'<html lang="{language}" dir="ltr">' in html
    assert f">{WORDS[language]}<" in html


def test_a_language_that_is_chosen_is_kept_in_a_cookie(person):
    response = person.post("/language/", {"language": "de", "next": "/check/"}, HTTP_ACCEPT_LANGUAGE="fr")
    assert (response.status_code, response["Location"]) == (302, "/check/")
    html = person.get("/reports/", HTTP_ACCEPT_LANGUAGE="fr").content.decode()
    assert f">{WORDS['de']}<" in html
    assert (
        '<button class="quiet" name="language" value="de" lang="de" aria-current="true">Deutsch</button>'
        in html
    )


def test_a_page_without_a_user_has_the_choice_too(client):
    html = client.get("/accounts/login/", HTTP_ACCEPT_LANGUAGE="es").content.decode()
    assert "Iniciar sesión" in html
    assert 'value="fr" lang="fr">Français</button>' in html


def test_the_title_and_the_notification_of_a_report_are_in_the_language_of_its_user(user):
    with translation.override("de"):
        enqueue_report(user, ["https://api.example.com/"] * 1200)
    job = Job.objects.get()
    assert (job.title, job.language) == ("1.200 URLs prüfen", "de")
    with translation.override("de"):
        assert Report.objects.get().title == "1.200 URLs prüfen"
        job.result = {"ok": 1200, "failed": 2, "refused": 0, "first": "api.example.com/: 404"}
        job.error = None
        fields = build_notification(job)
    assert (fields["title"], fields["body"]) == (
        "1.200 URLs prüfen: fertig",
        "2 fehlgeschlagen, zuerst: api.example.com/: 404. 1.200 von 1.202 bestanden",
    )


def test_the_title_of_a_notification_is_not_too_long_in_any_language(user):
    job = Job(title="x" * 200, result={"ok": 1, "failed": 0, "refused": 0, "first": ""})
    for language in WORDS:
        with translation.override(language):
            assert len(build_notification(job)["title"]) == 200
            assert len(build_notification(job)["group"]) == 100


def test_plural_forms():
    with translation.override("es"):
        assert describe_outcomes(ok=1, failed=2) == "1 correcta, 2 fallidas"
    with translation.override("fr"):
        assert describe_outcomes(ok=1, failed=2) == "1 réussi, 2 échoués"


def test_errors_of_a_form():
    with translation.override("fr"):
        form = ReportForm({"urls": "http://"})
        assert form.errors["urls"] == ["La ligne 1 n\u2019a pas de nom d\u2019hôte : http://"]


def test_the_etag_of_a_report_depends_on_the_language(person, make_report):
    url = make_report(ok=[12]).get_absolute_url() + "content/"
    english, german = (person.get(url, HTTP_ACCEPT_LANGUAGE=language) for language in ("en", "de"))
    assert english["ETag"] != german["ETag"]
    assert "Antwortzeiten" in german.content.decode()


def test_files_for_programs_are_the_same_in_all_languages(person, make_report):
    url = make_report(ok=[12], failed=1).get_absolute_url()
    english, german = (
        json.loads(person.get(f"{url}report.json", HTTP_ACCEPT_LANGUAGE=language).content)
        for language in ("en", "de")
    )
    assert english == german
    assert [call["outcome"] for call in german["calls"]] == ["ok", "failed"]
