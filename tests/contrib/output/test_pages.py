"""The output of a job on its page in the admin."""

import re
from datetime import timedelta

import pytest
from django.contrib.auth.models import Permission
from django.db import connection
from django.test.utils import CaptureQueriesContext

from notifications.contrib.output import pages
from notifications.contrib.output.models import OutputChunk
from notifications.extension import Event
from notifications.models import Job
from notifications.testing import run_jobs
from tests.contrib.output import output_tasks


@pytest.mark.parametrize("may", [True, False])
def test_output_needs_a_permission(client, make_user, transactional_db, may, monkeypatch):
    """Its end is shown, in whole lines. The part of the page is there while the job has written nothing."""
    monkeypatch.setattr(pages, "MAX_ADMIN_BYTES", 100)
    staff = make_user("staff", is_staff=True)
    names = ["view_job", *["view_job_arguments"] * may]
    staff.user_permissions.set(Permission.objects.filter(codename__in=names))
    client.force_login(staff)
    result = output_tasks.write.enqueue("begin " * 4_000, "\n", "line\n" * 20, "<b>end</b>")
    url = f"/admin/notifications/job/{result.id}/change/"
    assert re.search(r'<div id="job-part-output" data-overview-part>\s*</div>', client.get(url).text)
    run_jobs()
    text = client.get(url).text
    shown = ">" + "line\n" * 20 + "&lt;b&gt;end&lt;/b&gt;</pre>"
    assert (shown in text) is may
    assert ("The end of it." in text) is may


def test_the_timeline_has_when_it_was_written(user, transactional_db):
    """From the first chunk to the last, in one query. A job that has written nothing has no such line."""
    result = output_tasks.write.using(owner=user).enqueue("line\n" * 10)
    job = Job.objects.get(pk=result.id)
    assert pages.describe_span(job, None) == []
    run_jobs()
    times = list(OutputChunk.objects.order_by("start").values_list("created_at", flat=True))
    assert pages.describe_span(job, None) == [Event(times[0], "Output, 50\xa0bytes", until=times[-1])]
    last = times[-1] + timedelta(minutes=1)
    for start, text in ((50, "é" * 10), (70, "end")):
        OutputChunk.objects.create(job=job.pk, start=start, text=text, attempt=1, fence=1, created_at=last)
    with CaptureQueriesContext(connection) as queries:
        [event] = pages.describe_span(job, user.pk)
    assert (event.text, event.at, event.until) == ("Output, 73\xa0bytes", times[0], last)
    assert len(queries) == 1
