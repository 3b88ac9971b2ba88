"""{% job_output job %}: the output of a job in a page, before its script runs."""

import asyncio
import re

import pytest
from django.contrib.auth.models import AnonymousUser
from django.template import RequestContext, Template
from django.test import RequestFactory

from notifications.api import get_job, task
from notifications.contrib.output import output
from notifications.contrib.output.models import OutputChunk
from notifications.models import Job
from notifications.testing import run_jobs
from tests.contrib.output.test_views import small_parts  # noqa: F401 (a fixture)

pytestmark = pytest.mark.django_db


@task
def write(*texts):
    for text in texts:
        output(text)


def run(user, *texts):
    result = write.using(owner=user).enqueue(*texts)
    run_jobs()
    return result.id


def render(user, job, **context):
    request = RequestFactory().get("/")
    if user is not None:
        request.user = user
    html = Template("{% load notifications_output %}{% job_output job %}").render(
        RequestContext(request, {"job": job, **context})
    )
    return html.strip()


def text_of(html):
    return re.search(r"<pre[^>]*>(.*)</pre>", html, re.S)[1]


def test_the_text_that_there_is(user):
    """For a row, an id, its text, and what get_job() returns. It is never HTML."""
    id = run(user, "<b>First</b>\n", "second")
    for job in (Job.objects.get(id=id), id, str(id), get_job(id)):
        html = render(user, job)
        assert text_of(html) == "&lt;b&gt;First&lt;/b&gt;\nsecond"
        assert 'data-offset="0000000000000019"' in html
        assert "data-closed" in html and " hidden" not in html


def test_of_another_user_and_of_nobody(user, other_user):
    id = run(user, "secret")
    for reader in (other_user, AnonymousUser(), None):
        assert render(reader, id) == ""
    assert render(AnonymousUser(), run(None, "of no one")) == ""


def test_a_job_that_has_written_nothing(user):
    """The element is hidden, and its script knows whether something may follow."""
    queued = write.using(owner=user).enqueue()
    html = render(user, queued.id)
    assert " hidden>" in html and "data-closed" not in html
    assert "data-closed" in render(user, run(user))


def test_lines_of_the_app(user):
    """They are sentences, and one that is not whole yet is left to the script, with the offset before it."""
    id = run(user, "one")
    chunk = OutputChunk.objects.get()
    chunk.text = "one\n\x1eattempt 2\ntwo\n\x1econtinued\nthree\n\x1eatt"
    chunk.save()
    Job.objects.filter(id=id).update(state="running")
    html = render(user, id)
    assert re.findall(r">([^<>]+)</span>", html) == ["Attempt 2", "Continued"]
    assert "three" in html and "\x1e" not in html
    whole = len(chunk.text.removesuffix("\n\x1eatt"))
    assert f'data-offset="{whole:016d}"' in html
    Job.objects.filter(id=id).update(state="cancelled")
    assert "Stopped." in render(user, Job.objects.get(id=id))


def test_a_long_output(user, small_parts):  # noqa: F811
    """The first part is rendered, and without JavaScript there is a link to all of it."""
    id = run(user, "x" * 30_000)
    html = render(user, id)
    assert 10_000 <= len(text_of(html)) < 20_000
    assert f'<a href="/notifications/api/jobs/{id}/output/">The whole text</a>' in html
    assert "data-closed" not in html


def test_in_an_event_loop(user):
    """It makes no query, and the script reads from the start."""
    id = run(user, "text")

    async def render_in_loop():
        return render(user, id)

    html = asyncio.run(render_in_loop())
    assert 'data-offset="-1"' in html and " hidden>" in html
