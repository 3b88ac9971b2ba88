"""The OpenAPI document matches the code: paths, methods, keys, choices and limits."""

import json
import re
from datetime import UTC, datetime
from functools import partial

import jsonschema_rs
import pytest
import schemathesis
from django.test import Client
from django.urls import include, re_path, reverse, set_script_prefix

from notifications import api, serializers, streams, urls, validators
from notifications.contrib import webhooks
from notifications.contrib.output.models import OutputChunk
from notifications.contrib.questions import question
from notifications.contrib.webhooks.models import WebhookAttempt, WebhookEndpoint
from notifications.extension import hooks
from notifications.http import encode_json
from notifications.http.openapi import DOCUMENT_FILE, make_document
from notifications.models import Job, Notification, uuid7
from notifications.testing import run_jobs
from tests.jobs import tasks
from tests.support.extensions import set_channels

NOW = datetime(2026, 1, 2, 3, 4, 5, 678, tzinfo=UTC)
DOCUMENT = make_document("/notifications/api")
SCHEMAS = DOCUMENT["components"]["schemas"]
API = "/notifications/api/"
#: What the sentences of the document say, and requests show.
PAGE_SIZE, MAX_PAGE_SIZE, MAX_MARKED, MAX_BEFORE = 50, 100, 1_000, 1_000
MAX_BODY_BYTES, RETRY_AFTER_SECONDS, MAX_WAIT_SECONDS, MAX_PART_KIB = 1_048_576, 1, 20, 240
#: Of the inbox: the paths of its marks.
VERBS = [
    path.split("/")[2]
    for path, methods in DOCUMENT["paths"].items()
    if path.startswith("/notifications/") and "post" in methods and "seen" not in path
]


def validator(name):
    """Return a validator for a schema of the document."""
    return jsonschema_rs.Draft202012Validator(
        {"$ref": f"#/components/schemas/{name}", "components": DOCUMENT["components"]}, validate_formats=True
    )


def notification(**fields):
    return Notification(
        **{"id": uuid7(), "raised": 3, "seq": 7, "title": "Hello", "created_at": NOW, "data": '{"a":1}'}
        | fields
    )


def job(**fields):
    defaults = {"id": uuid7(), "task_path": "app.task", "title": "Export", "version": 1, "state": "queued"}
    return Job(**defaults | {"max_attempts": 3, "attempt": 0, "created_at": NOW} | fields)


def operations():
    return [
        (path, method, operation)
        for path, methods in DOCUMENT["paths"].items()
        for method, operation in methods.items()
    ]


def test_document_is_valid():
    """It conforms to OpenAPI 3.1, and its references and links resolve."""
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
        for described in operation["responses"].values():
            assert {link["operationId"] for link in described.get("links", {}).values()} <= set(names)


def test_every_path_is_described():
    """The paths are those of the URLconf below api/."""
    paths = set()
    for pattern in urls.urlpatterns:
        if pattern.name and pattern.name.startswith("api-"):
            paths.add(re.sub(r"<uuid:(\w+)>", r"{\1}", str(pattern.pattern).removeprefix("api")))
    assert paths == set(DOCUMENT["paths"])


def test_paths_of_apps_that_are_not_installed(settings):
    """They are left out, also where the project is mounted below a path."""
    left = [pattern for pattern in urls.urlpatterns if pattern.name != "api-webhooks"]
    urlpatterns = [re_path("^notifications/", include((left, "notifications")))]
    settings.ROOT_URLCONF = type("Urls", (), {"urlpatterns": urlpatterns})
    try:
        for prefix in ("/", "/app/"):
            set_script_prefix(prefix)
            paths = make_document(f"{prefix}notifications/api")["paths"]
            assert DOCUMENT["paths"].keys() - paths.keys() == {"/webhooks/"}
    finally:
        set_script_prefix("/")


def test_every_method_is_described(user_client):
    """Other methods get 405."""
    for path, methods in DOCUMENT["paths"].items():
        url = "/notifications/api" + re.sub(r"{\w+}", str(uuid7()), path)
        for method in ("get", "post", "put", "patch", "delete", "options"):
            status = user_client.generic(method.upper(), url).status_code
            assert (status != 405) == (method in methods), (method, path)


def test_authentication_is_described(transactional_db):
    """Operations without security are public. POST and DELETE need a CSRF token."""
    for path, method, operation in operations():
        url = "/notifications/api" + re.sub(r"{\w+}", str(uuid7()), path)
        response = getattr(Client(), method)(url, content_type="application/json")
        public = operation.get("security") == []
        # There is no worker in this test.
        expected = 503 if path == "/health/ready/" else 200 if public else 204 if path == "/events/" else 401
        assert response.status_code == expected, path
        assert ({"session": [], "csrf": []} in operation.get("security", [])) == (method != "get")


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
def test_items_match_their_schemas(name, row):
    """Schemas have exactly the keys of the items, all of them required, also in nested objects."""
    item = json.loads(encode_json(serializers.serialize(row)))
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


def test_responses_match_their_schemas(user_client, user, settings):
    """Of each list, a mark, a webhook and a problem."""
    settings.NOTIFICATIONS = {**settings.NOTIFICATIONS, "WEBHOOKS": True}
    post = partial(user_client.post, content_type="application/json")
    webhooks = f"{API}webhooks/"
    created = post(webhooks, {"url": "https://hooks.example/"})
    webhook = f"{webhooks}{created.json()['id']}/"
    WebhookAttempt.objects.create(
        endpoint=created.json()["id"], job=uuid7(), event="job.failed", started_at=NOW, milliseconds=5
    )
    attempts = user_client.get(f"{webhook}attempts/")
    marked = user_client.post(
        "/notifications/api/notifications/read/",
        {"up_to": 0, "group": "x", "category": "", "level": "info", "after": 0},
        content_type="application/json",
    )
    responses = {
        "Jobs": user_client.get("/notifications/api/jobs/"),
        "Notifications": user_client.get("/notifications/api/notifications/?grouped=1&questions=1"),
        "Marked": marked,
        "Problem": user_client.get("/notifications/api/jobs/?state=x"),
        "Preferences": user_client.get("/notifications/api/preferences/"),
        "Webhooks": user_client.get(webhooks),
        "NewWebhook": created,
        "Webhook": post(webhook, {"enabled": False}),
        "WebhookSecret": post(f"{webhook}rotate/", {}),
        "WebhookAttempts": attempts,
    }
    assert list(SCHEMAS["WebhookAttempt"]["properties"]) == list(attempts.json()["items"][0])
    for name, response in responses.items():
        validator(name).validate(response.json())
        assert list(SCHEMAS[name]["properties"]) == list(response.json()), name


def walk(node, path=""):
    """Yield the path and the value of each key of the document."""
    for key, value in node.items() if isinstance(node, dict) else enumerate(node):
        yield f"{path}/{key}", value
        if isinstance(value, dict | list):
            yield from walk(value, f"{path}/{key}")


def values_of(keyword):
    """Return the values of a keyword of schemas by the name of the schema, parameter or property."""
    found = {}
    for path, value in walk(DOCUMENT):
        owner, _, key = path.rpartition("/")
        if key == keyword and not owner.endswith("/properties"):
            found[owner] = value
    return found


def test_limits_match_the_code():
    """No maximum is in the document that is not here."""
    schemas, parameters = "/components/schemas", "/components/parameters"
    assert values_of("maxLength") == {
        f"{schemas}/Error/properties/detail": 2_000,
        f"{schemas}/Notification/properties/category": validators.MAX_NAME_LENGTH,
        f"{schemas}/Notification/properties/title": validators.MAX_TITLE_LENGTH,
        f"{schemas}/Notification/properties/body": validators.MAX_BODY_LENGTH,
        f"{schemas}/Notification/properties/url": validators.MAX_URL_LENGTH,
        f"{schemas}/Job/properties/title": validators.MAX_TITLE_LENGTH,
        f"{schemas}/Job/properties/waiting/oneOf/1/properties/title": validators.MAX_TITLE_LENGTH,
        f"{schemas}/Job/properties/progress/oneOf/1/properties/message": 200,
        f"{schemas}/Job/properties/url": validators.MAX_URL_LENGTH,
        f"{schemas}/Answer/properties/value": 50,
        f"{schemas}/Answered/properties/name": validators.MAX_KEY_LENGTH,
        f"{schemas}/Question/properties/name": validators.MAX_KEY_LENGTH,
        f"{schemas}/Question/properties/title": validators.MAX_TITLE_LENGTH,
        f"{schemas}/Question/properties/body": validators.MAX_BODY_LENGTH,
        f"{schemas}/Question/properties/url": validators.MAX_URL_LENGTH,
        f"{parameters}/IdempotencyKey/schema": validators.MAX_KEY_LENGTH,
        **{
            f"{schemas}/{name}/properties/{field}": limit
            for name in ("Webhook", "NewWebhook", "WebhookCreation", "WebhookChanges")
            for field, limit in (
                ("url", validators.MAX_URL_LENGTH),
                ("description", 200),
            )
        },
    }
    for name in ("title", "body", "url", "category"):
        limit = SCHEMAS["Notification"]["properties"][name]["maxLength"]
        assert Notification._meta.get_field(name).max_length == limit
    assert values_of("maxItems") == {
        f"{schemas}/Mark/properties/ids": 200,
        f"{schemas}/Seen/properties/receipts": 50,
        **{
            f"{schemas}/{name}/properties/quiet_hours{part}": limit
            for name in ("Preferences", "PreferenceChanges")
            for part, limit in (("", 7), ("/items", 2))
        },
    }
    greatest = values_of("maximum")
    assert greatest.pop(f"{schemas}/Problem/properties/status") == 599
    assert greatest.pop(f"{schemas}/Rotation/properties/overlap") == 2_592_000
    for name in ("Preferences", "PreferenceChanges"):
        for field, limit in (("digest_hour", 23), ("digest_day", 6)):
            assert greatest.pop(f"{schemas}/{name}/properties/{field}") == limit
    assert values_of("maxProperties") == {f"{schemas}/PreferenceChanges/properties/categories": 100}
    assert set(greatest.values()) == {2**53 - 1}
    assert list(values_of("default").values()) == [PAGE_SIZE] * 3


@api.task
def ask(length):
    question("Title", name="name", choices={"x" * length: "X"})


def test_a_limit_is_accepted_and_no_more(user, user_client, settings):
    """The limits of fields without one in `validators`."""
    settings.NOTIFICATIONS = {**settings.NOTIFICATIONS, "WEBHOOKS": True}

    def post(path, **values):
        return user_client.post(f"{API}{path}", values, content_type="application/json").status_code

    def ask_value(length):
        job = ask.using(owner=user).enqueue(length)
        run_jobs()
        return 200 if Job.objects.get(pk=job.id).state == "waiting" else 422

    webhook = (
        f"webhooks/{webhooks.create('https://hooks.example/', owner=user, events=['job.cancelled']).id}/"
    )
    for limit, request in (
        (50, ask_value),
        (200, lambda n: post("webhooks/", url="https://hooks.example/", description="x" * n)),
        (2_592_000, lambda n: post(f"{webhook}rotate/", overlap=n)),
        (200, lambda n: post("notifications/read/", up_to=0, ids=[str(uuid7()) for _ in range(n)])),
        (
            50,
            lambda n: post(
                "notifications/seen/", up_to=0, receipts=[{"raised": 1, "received_ago_ms": 1}] * n
            ),
        ),
        (7, lambda n: post("preferences/", quiet_hours=[None] * n)),
        (23, lambda n: post("preferences/", digest_hour=n)),
        (6, lambda n: post("preferences/", digest_day=n)),
        (100, lambda n: post("preferences/", categories={f"c{i}": {"email": "off"} for i in range(n)})),
        (
            MAX_BODY_BYTES - len('{"up_to": 0, "group": ""}'),
            lambda n: post("notifications/read/", up_to=0, group="x" * n),
        ),
    ):
        assert (request(limit) < 400, request(limit + 1) < 400) == (True, False), limit


def test_numbers_in_sentences_hold(transactional_db, user, user_client):
    """Of pages, marks, places, waits and outputs."""
    Notification.objects.bulk_create(
        streams.build_notification(user.pk, "note") for _ in range(MAX_MARKED + 1)
    )
    streams.number([user.pk])
    for limit, count in (({}, PAGE_SIZE), ({"limit": MAX_PAGE_SIZE + 1}, MAX_PAGE_SIZE)):
        assert len(user_client.get(f"{API}notifications/", limit).json()["items"]) == count
    up_to = {"up_to": MAX_MARKED + 1, "level": "info"}
    for left, more in ((1, True), (0, False)):
        marked = user_client.post(f"{API}notifications/read/", up_to, content_type="application/json").json()
        assert (marked["unread"], marked["more"]) == (left, more)
    first, last = (Job.objects.get(pk=tasks.noop.using(owner=user).enqueue().id) for _ in range(2))
    Job.objects.filter(pk=last.pk).update(turn=9_000)
    columns = {
        field.attname: getattr(first, field.attname)
        for field in Job._meta.concrete_fields
        if field.name != "turn"
    }
    Job.objects.bulk_create(
        Job(**columns | {"id": uuid7(), "share_name": first.share_name or f"user:{user.pk}", "turn": turn})
        for turn in range(2, MAX_BEFORE + 2)
    )
    assert user_client.get(f"{API}jobs/{last.pk}/place/").json() == {"before": MAX_BEFORE}
    job = f"{API}jobs/{last.pk}/"
    response = user_client.get(job)
    assert response["Retry-After"] == str(RETRY_AFTER_SECONDS)
    response = user_client.get(f"{job}output/", {"live": "other", "offset": "-1"})
    assert response.json()["detail"] == "live must be long-poll or sse."
    line = "x" * 1023 + "\n"
    OutputChunk.objects.bulk_create(
        OutputChunk(job=last.pk, start=start * 1024, text=line, attempt=1, fence=1, created_at=NOW)
        for start in range(2 * MAX_PART_KIB)
    )
    assert len(user_client.get(f"{job}output/").content) == MAX_PART_KIB * 1024


def test_choices_match_the_code(db, settings):
    """No enum is in the document that is not here."""
    settings.NOTIFICATIONS = {**settings.NOTIFICATIONS, "WEBHOOKS": True}
    states, levels = list(Job.State.values), list(Notification.Level.values)
    choices = values_of("enum")
    for path in ("/paths/~/jobs//get/parameters/0/schema", "/components/schemas/Job/properties/state"):
        assert choices.pop(path.replace("~", "")) == states
    for channel, path in (
        ("email", "Preferences/properties/categories/items/properties/channels/additionalProperties"),
        *((channel, f"ChannelChoices/properties/{channel}") for channel in ("bell", *hooks.channels)),
    ):
        values = ["on", "hourly", "daily", "weekly", "off"] if channel == "email" else ["on", "off"]
        nullable = [None] if path.startswith("ChannelChoices") else []
        assert choices.pop(f"/components/schemas/{path}") == [*values, *nullable]
    for name in ("Webhook", "NewWebhook", "WebhookCreation", "WebhookChanges"):
        events = choices.pop(f"/components/schemas/{name}/properties/events/items")
        assert events == list(webhooks.create("https://hooks.example/").events)
        reasons = choices.pop(f"/components/schemas/{name}/properties/disabled_reason", None)
        assert reasons in (None, ["", *WebhookEndpoint.OffReason.values])
    [live] = [path for path in choices if path.startswith("/paths//jobs/{id}/output/")]
    assert choices.pop(live) == ["long-poll", "sse"]
    for path, choice in choices.items():
        values = ["on", "hourly", "daily", "weekly", "off"] if channel == "email" else ["on", "off"]
        nullable = [None] if path == "/components/schemas/Mark/properties/level" else []
        assert choice in ([*levels, *nullable], [0, 1]), path
    assert list(choices.values()).count([*levels, None]) == 1
    assert list(choices.values()).count(levels) == 3


def test_sentences_name_the_limits_of_the_code():
    """No number is in a description that is not here."""
    sentences = {
        value
        for path, value in walk(DOCUMENT)
        if path.rpartition("/")[2] in ("description", "summary") and isinstance(value, str)
    }
    wait = f"at most {MAX_WAIT_SECONDS}"
    marked = f"oldest first, at most {MAX_MARKED:,} in one request"
    expected = {
        f"Maximum number of items. Values over {MAX_PAGE_SIZE} are reduced to it.",
        f"Seconds until the next poll ({RETRY_AFTER_SECONDS}). Absent when the job is done.",
        f"The body has more than {MAX_BODY_BYTES} bytes.",
        "wait=N (RFC 7240): delay the response until there is a change, "
        f"at most N seconds ({wait}). Ignored by WSGI servers.",
        f"wait=N (RFC 7240): 200 if the job is done within N seconds ({wait}), otherwise 202. "
        "respond-async: 202 immediately.",
        "An equal request with the same key within 24 hours gets the same job. A different request gets 422.",
        *(f"{verb.capitalize()} notifications, {marked}" for verb in VERBS),
        "Count your jobs with a tag by their states, at most the newest 100,000 with it",
        "Cancel your jobs with a tag, at most 1,000 in one request",
        "Retry your jobs with a tag that failed or were cancelled, at most 1,000 in one request",
        "-1, which is the default, for the start, now for the end, or the Stream-Next-Offset of the last response.",
        "Wait for what follows, at most 20 s, or stream it as Server-Sent Events. Then offset is required.",
        f"Text from the offset on, at most about {MAX_PART_KIB} KiB, or events named data and control.",
        "Why a job failed (RFC 9457).",
        "An error response (RFC 9457).",
        "Entity tags that the client has, or *. 304 if one of them is current.",
        "The position of its last change, 0 while the job is active.",
        "1: unread notifications only. 0: read ones only.",
        "1: archived notifications only. Otherwise they are left out.",
        "1: questions of jobs only that are open. They are unread and not archived.",
        "1: one item for each group, its newest notification, described in groups.",
        "With grouped=1 only: the groups by the ids of the items that stand for them.",
        "0: ready without a live worker too.",
        f"The number, at most {MAX_BEFORE:,}; null if the job does not wait for its turn.",
        "gone: the server responded with status 410. failing: no event has reached it for days.",
    }
    assert {sentence for sentence in sentences if re.search(r"\d", sentence)} == expected


def test_verbs_match_the_code():
    """Each verb of the inbox has its path, with its name as the id of the operation."""
    for verb in VERBS:
        assert DOCUMENT["paths"][f"/notifications/{verb}/"]["post"]["operationId"] == verb


def test_file_is_served_but_for_what_the_project_chooses():
    document = json.loads(DOCUMENT_FILE.read_text())
    for made in (document, rest := json.loads(json.dumps(DOCUMENT))):
        del made["servers"], made["components"]["securitySchemes"]
        del made["components"]["schemas"]["ChannelChoices"]["properties"]  # the channels of installed apps
    assert document == rest


def test_channels_of_the_installed_apps(monkeypatch):
    """Also when other apps are installed later, as in tests of a project."""
    set_channels(monkeypatch, sms="extensions.sms.Sms")
    schemas = make_document("/notifications/api")["components"]["schemas"]
    assert schemas["ChannelChoices"]["properties"].keys() == {"bell", "sms"}


def test_document_is_public():
    """It has an ETag, and names the path at which the app is mounted."""
    user_client = Client()
    url = reverse("notifications:api-openapi")
    assert url == "/notifications/api/openapi.json"
    response = user_client.get(url)
    assert (response.status_code, response.headers["content-type"]) == (200, "application/json")
    assert response.json() == DOCUMENT and response.json()["servers"] == [{"url": "/notifications/api"}]
    again = user_client.get(url, headers={"if-none-match": response.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    assert user_client.head(url).status_code == 200
    refused = user_client.post(url)
    assert (refused.status_code, refused.headers["allow"]) == (405, "GET, HEAD")


def test_cookie_and_header_of_the_project(settings):
    settings.SESSION_COOKIE_NAME, settings.CSRF_HEADER_NAME = "sid", "HTTP_X_TOKEN"
    schemes = Client().get("/notifications/api/openapi.json").json()["components"]["securitySchemes"]
    assert (schemes["session"]["name"], schemes["csrf"]["name"]) == ("sid", "X-Token")
    assert schemes["csrf"]["description"].endswith("the value of the cookie csrftoken.")
