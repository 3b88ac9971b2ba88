"""The output of a job on its page in the admin."""

import re

import pytest
from django.contrib.auth.models import Permission

from notifications.contrib.output import pages
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
