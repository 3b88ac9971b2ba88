"""The OpenAPI document says what the code does: paths, methods, keys, choices and limits."""

import json
import re
from datetime import UTC, datetime

import jsonschema_rs
import pytest
import schemathesis
from django.test import Client
from django.urls import reverse

from notifications import serializers, urls, validators
from notifications.http import api_views, negotiation
from notifications.http.openapi.document import build_document
from notifications.ids import uuid7
from notifications.models import Job, Notification
from notifications.realtime import frames

NOW = datetime(2026, 1, 2, 3, 4, 5, 678, tzinfo=UTC)
DOCUMENT = build_document("/notifications/api")
SCHEMAS = DOCUMENT["components"]["schemas"]


def validator(name):
    """Of a schema of the document, with what it refers to."""
    return jsonschema_rs.Draft202012Validator(
        {"$ref": f"#/components/schemas/{name}", "components": DOCUMENT["components"]}, validate_formats=True
    )


def notification(**fields):
    return Notification(
        **{"id": uuid7(), "raised": 3, "seq": 7, "title": "Hello", "created_at": NOW, "data": '{"a":1}'}
        | fields
    )


def job(**fields):
    made = {"id": uuid7(), "task_path": "app.task", "title": "Export", "version": 1, "state": "queued"}
    return Job(**made | {"max_attempts": 3, "attempt": 0, "created_at": NOW} | fields)


def operations():
    return [
        (path, method, operation)
        for path, methods in DOCUMENT["paths"].items()
        for method, operation in methods.items()
    ]


def test_the_document_is_valid_openapi():
    """By the schema of OpenAPI 3.1, and each reference leads somewhere."""
    schemathesis.openapi.from_dict(DOCUMENT).validate()
    for schema in SCHEMAS.values():
        jsonschema_rs.meta.validate(schema)
    for pointer in re.findall(r'"\$ref": "#/([^"]+)"', json.dumps(DOCUMENT)):
        found = DOCUMENT
        for key in pointer.split("/"):
            found = found[key]
    names = [operation["operationId"] for _, _, operation in operations()]
    assert len(set(names)) == len(names)
    for _, _, operation in operations():
        for answered in operation["responses"].values():
            assert {link["operationId"] for link in answered.get("links", {}).values()} <= set(names)


def test_every_path_of_the_api_is_described():
    """And no other: what is below api/ in the addresses of the app."""
    there = set()
    for pattern in urls.urlpatterns:
        if pattern.name and pattern.name.startswith("api-"):
            there.add(re.sub(r"<uuid:id>", "{id}", str(pattern.pattern).removeprefix("api")))
    assert there == set(DOCUMENT["paths"])


def test_every_method_is_described(user_client):
    """The others answer 405 and say which there is."""
    for path, methods in DOCUMENT["paths"].items():
        address = "/notifications/api" + path.replace("{id}", str(uuid7()))
        for method in ("get", "post", "put", "patch", "delete", "options"):
            status = user_client.generic(method.upper(), address).status_code
            assert (status != 405) == (method in methods), (method, path)


def test_who_needs_to_be_signed_in():
    """All of them, but those that say so; and a session changes nothing without its CSRF token."""
    for path, method, operation in operations():
        address = "/notifications/api" + path.replace("{id}", str(uuid7()))
        response = getattr(Client(), method)(address, content_type="application/json")
        public = operation.get("security") == []
        expected = 200 if public else 204 if path == "/events/" else 401
        assert response.status_code == expected, path
        assert ({"session": [], "csrf": []} in operation.get("security", [])) == (method == "post")


@pytest.mark.parametrize(
    ("name", "row"),
    [
        ("Notification", notification()),
        ("Notification", notification(url="/a/", job=uuid7(), read_at=NOW, archived_at=NOW, level="error")),
        ("Job", job()),
        ("Job", job(state="running", progress_current=1, progress_total=2, started_at=NOW, run_after=NOW, url="/a/")),
        ("Job", job(state="running", progress_current=1)),
        ("Job", job(state="succeeded", seq=7, finished_at=NOW)),
        ("Job", job(state="failed", error='{"type":"about:blank","title":"Failed","detail":"So it is."}')),
    ],
    ids=range(7),
)  # fmt: skip
def test_items_are_as_described(name, row):
    """Exactly the keys that are sent, all of them required, here and in what is inside them."""
    item = json.loads(serializers.encode(serializers.serialize(row)))
    validator(name).validate(item)
    schema = SCHEMAS[name]
    assert list(schema["properties"]) == schema["required"] == list(item)
    links = schema["properties"].get("links")
    assert links is None or list(links["properties"]) == links["required"] == list(item["links"])
    if progress := item.get("progress"):
        described = schema["properties"]["progress"]["oneOf"][1]
        assert list(described["properties"]) == described["required"] == list(progress)
    if error := item.get("error"):
        assert list(SCHEMAS["Error"]["properties"]) == SCHEMAS["Error"]["required"] == list(error)


@pytest.mark.parametrize("jobs", [None, []])
def test_frames_are_as_described(jobs):
    frame = json.loads(frames.encode_unnumbered(frames.sync("e", None, 4, 2, [], jobs)))
    validator("Sync").validate(frame)
    assert [key for key in SCHEMAS["Sync"]["properties"] if jobs is not None or key != "jobs"] == list(frame)


def test_answers_are_as_described(user_client):
    """What each list, a mark and a problem hold."""
    marked = user_client.post(
        "/notifications/api/notifications/read/", {"up_to": 0}, content_type="application/json"
    )
    responses = {
        "Jobs": user_client.get("/notifications/api/jobs/"),
        "Notifications": user_client.get("/notifications/api/notifications/"),
        "Marked": marked,
        "Problem": user_client.get("/notifications/api/jobs/?state=x"),
    }
    for name, response in responses.items():
        validator(name).validate(response.json())
        assert list(SCHEMAS[name]["properties"]) == list(response.json()), name


def test_choices_and_limits_are_those_of_the_code():
    """As a reader of the document meets them."""
    job, note = SCHEMAS["Job"]["properties"], SCHEMAS["Notification"]["properties"]
    assert job["state"]["enum"] == ["queued", "running", "succeeded", "failed", "cancelled"]
    assert note["level"]["enum"] == ["info", "success", "warning", "error"]
    assert set(job["state"]["enum"]) == set(Job.State.values)
    assert set(note["level"]["enum"]) == set(Notification.Level.values)
    limits = {name: note[name]["maxLength"] for name in ("title", "body", "url", "category")}
    assert limits == {"title": 200, "body": 2000, "url": 1000, "category": 100}
    for name, most in limits.items():
        assert Notification._meta.get_field(name).max_length == most
    assert SCHEMAS["Mark"]["properties"]["ids"]["maxItems"] == api_views.MAX_IDS == 200
    assert SCHEMAS["Sync"]["properties"]["seq"]["maximum"] == validators.MAX_INTEGER == 2**53 - 1
    parameters = DOCUMENT["components"]["parameters"]
    assert parameters["IdempotencyKey"]["schema"]["maxLength"] == 200
    assert f"at most {negotiation.MAX_WAIT_SECONDS}" in parameters["Prefer"]["description"]
    [limit] = (one for one in DOCUMENT["paths"]["/jobs/"]["get"]["parameters"] if one.get("name") == "limit")
    assert (limit["schema"]["default"], limit["description"]) == (
        50,
        "Maximum number of items. Values over 100 are reduced to it.",
    )


def test_it_is_served_to_everybody():
    """With where it is mounted, and once to those who have it."""
    user_client = Client()
    address = reverse("notifications:api-openapi")
    assert address == "/notifications/api/openapi.json"
    response = user_client.get(address)
    assert (response.status_code, response.headers["content-type"]) == (200, "application/json")
    assert response.json() == DOCUMENT and response.json()["servers"] == [{"url": "/notifications/api"}]
    again = user_client.get(address, headers={"if-none-match": response.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    assert user_client.head(address).status_code == 200
    refused = user_client.post(address)
    assert (refused.status_code, refused.headers["allow"]) == (405, "GET, HEAD")


def test_it_names_the_cookie_and_the_header_of_the_project(settings):
    settings.SESSION_COOKIE_NAME, settings.CSRF_HEADER_NAME = "sid", "HTTP_X_TOKEN"
    schemes = Client().get("/notifications/api/openapi.json").json()["components"]["securitySchemes"]
    assert (schemes["session"]["name"], schemes["csrf"]["name"]) == ("sid", "X-Token")
    assert schemes["csrf"]["description"].endswith("the value of the cookie csrftoken.")
