"""The timeline of a job's page, while the page is open."""

import re

import pytest
from playwright.sync_api import expect

from tests.browser.parts import visit, wait_until_live

pytestmark = pytest.mark.browser

ENQUEUE = """
from django.contrib.auth import get_user_model
from tests.contrib.steps.step_tasks import wait_for_files
user = get_user_model().objects.get(username="demo")
print(wait_for_files.using(owner=user, title="Ship").enqueue({folder!r}, ["charge", "label"]).id)
"""


def test_steps_are_shown_as_they_begin_and_end(site, new_page, tmp_path):
    """By what rings for them: while a step lasts, nothing is read."""
    site.environment["EMBEDDED_WORKER"] = "0"
    site.start_web()
    site.start_worker()
    page = new_page(viewport={"width": 1280, "height": 900})
    job = site.python(ENQUEUE.format(folder=str(tmp_path))).strip()
    parts = []
    page.on("request", lambda request: "part=timeline" in request.url and parts.append(request.url))
    visit(page, site.url, f"/notifications/jobs/{job}/")
    wait_until_live(page)
    steps = page.locator("[data-job-timeline] [data-kind=step]")
    expect(steps).to_have_text([re.compile("^charge")])
    expect(steps).to_have_attribute("data-open", "")
    page.wait_for_timeout(2_500)
    read = len(parts)
    page.wait_for_timeout(2_500)
    assert len(parts) == read <= 2
    (tmp_path / "charge").touch()
    expect(steps).to_have_text([re.compile(r"^charge[\d.]+\ss"), re.compile("^labelRunning")])
    assert len(parts) <= read + 3
    (tmp_path / "label").touch()
    expect(page.get_by_text("Succeeded")).to_be_visible()
    expect(steps.last).to_have_text(re.compile(r"^label\d"))
