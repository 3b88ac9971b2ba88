"""Extensions: what they add to the core's admin."""

import re

from django.http import HttpResponse

from notifications import api, extension
from notifications.admin import NotificationAdmin, filters
from notifications.extension.moved import describe_remedy
from notifications.models import Job, Notification
from tests.jobs import tasks


def test_the_admins_pages_of_notifications(user, admin_client, recorder):
    """A filter beside the list, which filters, a link above it, and a link on the page of each notification."""
    (id,) = api.notify(user, "Hello")
    pages = "/admin/notifications/notification/"
    page = admin_client.get(pages).text
    assert "Ada alone" in page and re.search(r'<a href="/of/\d+/"[^>]*>Write &amp; send</a>', page)
    assert "Hello" not in admin_client.get(f"{pages}?of=bob").text
    assert f'<a href="/of/{id}/">Its origin</a>' in admin_client.get(f"{pages}{id}/change/").text


def test_a_filter_in_place_of_one_of_the_core(user, admin_client, recorder):
    """It narrows what the list reads, and checks the rows."""
    for title in ("Old", "New", "Hidden"):
        api.notify(user, title)
    pages = "/admin/notifications/notification/"
    page = admin_client.get(pages)
    assert "By loudness" in page.text and "By level" not in page.text
    assert [row.title for row in page.context["cl"].result_list] == ["New", "Old"]
    Notification.objects.filter(title="Hidden").delete()
    page = admin_client.get(f"{pages}?level=loud")
    assert [row.title for row in page.context["cl"].result_list] == ["New"]


def test_a_filter_of_a_project_is_kept(user, admin_client, recorder, monkeypatch):
    """The extension's filter of the same parameter is left out: it would be shown, and have no effect."""

    class ProjectLevelFilter(filters.LevelFilter):
        title = "importance"

    monkeypatch.setattr(NotificationAdmin, "list_filter", (filters.UserFilter, ProjectLevelFilter))
    page = admin_client.get("/admin/notifications/notification/?level=error")
    assert page.status_code == 200
    assert "By importance" in page.text and "By loudness" not in page.text


def test_an_action_for_all_rows(admin_client, recorder, monkeypatch):
    """Not one for rows of the page. Without a function it is refused, and the message names the app to install."""
    monkeypatch.setattr(extension.hooks, "action_for_all", [recorder.action_for_all])
    jobs = [tasks.noop.enqueue().id for _ in range(2)]
    form = {"action": "cancel_jobs", "_selected_action": jobs[:1]}
    recorder.returned["action"] = lambda: HttpResponse("Done.")
    admin_client.post("/admin/notifications/job/", form)
    assert "action_for_all cancel_jobs" not in recorder.names()
    form["select_across"] = "1"
    assert admin_client.post("/admin/notifications/job/", form).text == "Done."
    assert ("action_for_all cancel_jobs", 0, False) in recorder.calls
    assert [str(job.pk) for job in Job.objects.filter(state="cancelled")] == jobs[:1]
    del recorder.returned["action"]
    for action in ("cancel_jobs", "reschedule_jobs"):
        page = admin_client.post("/admin/notifications/job/", {**form, "action": action}, follow=True)
        *_, message = page.context["messages"]
        assert describe_remedy("operations") in str(message)
    assert [str(job.pk) for job in Job.objects.filter(state="cancelled")] == jobs[:1]
