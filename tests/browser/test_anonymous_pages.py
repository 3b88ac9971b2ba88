"""Pages of users who are not signed in: the names of the interface are there, and send nothing."""

import pytest
from django.contrib.auth.models import AnonymousUser
from django.template import Context, Template
from django.test import RequestFactory

from tests.support.example_page import DOCUMENT

pytestmark = pytest.mark.browser

#: Listen as a page of the project does. The answer is what its promise rejects with.
LISTEN = """async (id) => {
    const { job } = await notifications.ready;
    const handle = job(id);
    const heard = [];
    const removers = ["output", "question"].map((type) => handle.on(type, (detail) => heard.push(detail)));
    const refused = await handle.result.then(String, (error) => `${error.name}: ${error.message}`);
    await new Promise((resolve) => setTimeout(resolve, 500));
    removers.forEach((remove) => remove());
    return { heard, refused };
}"""


def render_tag():
    request = RequestFactory().get("/")
    request.user = AnonymousUser()
    return Template("{% load notifications %}{% notifications %}").render(Context({"request": request}))


def test_listeners_of_a_job(site_server, page):
    """Scripts for output and questions are loaded without an error. Listeners hear nothing; the handle says why."""
    requested = []
    page.on("request", lambda request: requested.append(request.url))
    page.route(f"{site_server.url}/example/", lambda route: route.fulfill(body=DOCUMENT.format(render_tag())))
    page.goto(f"{site_server.url}/example/")
    found = page.evaluate(LISTEN, "01a21519-1090-72b4-919d-2dedcaaf841e")
    assert found == {
        "heard": [],
        "refused": "RequestRefused: You are not signed in. Sign in and try again.",
    }
    assert any("/output" in url and ".js" in url for url in requested)
    assert not [url for url in requested if "/api/" in url]
