"""verify_webhook() accepts what was signed with the secret, and refuses all else by one exception."""

import json
import time
from contextlib import suppress
from datetime import UTC, datetime

import pytest
from django.test import RequestFactory
from hypothesis import given, settings
from hypothesis import strategies as st

from notifications.contrib.webhooks import signing, verify_webhook
from notifications.exceptions import InvalidWebhook
from tests.contrib.webhooks.endpoints.receiver import signature

pytestmark = pytest.mark.nightly_on_postgres

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
EVENT = {"type": "payment.done", "data": {"name": "Zoë"}}
BODY = json.dumps(EVENT, ensure_ascii=False).encode()
#: What header values may hold when they arrive from a server: Latin-1.
HEADER_TEXT = st.text(st.characters(max_codepoint=255), max_size=120)


def make_request(
    body=BODY, *, secret=SECRET, id="msg_1", at=None, drop=(), content_type="application/json", **headers
):
    timestamp = str(int(time.time()) if at is None else at)
    values = {
        "webhook-id": id,
        "webhook-timestamp": timestamp,
        "webhook-signature": signature(secret, id, timestamp, body),
        **{name.replace("_", "-"): value for name, value in headers.items()},
    }
    values = {name: value for name, value in values.items() if name not in drop}
    return RequestFactory().post("/hook/", body, content_type=content_type, headers=values)


def test_example_of_the_specification():
    """The signature that standardwebhooks.com shows for its example."""
    body = b'{"test": 2432232314}'
    value = signature(SECRET, "msg_p5jXN8AQM9LWM0D4loKWxJek", "1614265330", body)
    assert value == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
    at = datetime.fromtimestamp(1614265330, UTC)
    headers = signing.sign([SECRET], "msg_p5jXN8AQM9LWM0D4loKWxJek", at, body.decode())
    assert headers["webhook-signature"] == value


def test_valid():
    assert verify_webhook(make_request(), SECRET) == EVENT


@pytest.mark.parametrize("others", ["v1,%s v1a,x", "v2,x,y", "", "v1,{wrong}"])
def test_one_of_several_signatures(others):
    """Those of other secrets, and of later versions of the specification, are passed over."""
    request = make_request()
    own = request.META["HTTP_WEBHOOK_SIGNATURE"]  # request.headers is cached
    others = others.replace("{wrong}", "A" * 43 + "=")
    request.META["HTTP_WEBHOOK_SIGNATURE"] = f"{others} {own} {others}"
    assert verify_webhook(request, SECRET) == EVENT


def test_own_headers():
    headers = signing.sign([SECRET], "msg_1", datetime.now(UTC), BODY.decode())
    request = RequestFactory().post("/hook/", BODY, content_type="application/json", headers=headers)
    assert verify_webhook(request, SECRET) == EVENT


REFUSED = {
    "another secret": {"secret": signing.new_secret()},
    "no id": {"drop": ["webhook-id"]},
    "no time": {"drop": ["webhook-timestamp"]},
    "no signature": {"drop": ["webhook-signature"]},
    "too old": {"at": int(time.time()) - 600},
    "too new": {"at": int(time.time()) + 100_000},
    "no number": {"at": "now"},
    "a fraction": {"at": "1.5"},
    "not a number": {"at": "nan"},
    "a huge number": {"at": "9" * 400},
    "bad base64": {"webhook_signature": "v1,%%%"},
    "short base64": {"webhook_signature": "v1,AAA"},
    "not ASCII": {"webhook_signature": "v1,\xe9\xe9"},
    "without a version": {"webhook_signature": "A" * 43 + "="},
    "many commas": {"webhook_signature": "v1,,,"},
    "no JSON": {"body": b"{"},
    "NaN": {"body": b"NaN"},
    "deep": {"body": b"[" * 100_000},
    "a long number": {"body": b"1" * 5_000},
    "another body": {"body": b'{"b": 1}', "webhook_signature": "v1," + "A" * 43 + "="},
    "large": {"body": b" " * 1_000_001},
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused(case):
    with pytest.raises(InvalidWebhook):
        verify_webhook(make_request(**REFUSED[case]), SECRET)


def test_body_that_is_not_utf_8():
    with pytest.raises(InvalidWebhook, match="not UTF-8"):
        verify_webhook(make_request(b"\xff"), SECRET)


def test_limits(settings):
    with pytest.raises(InvalidWebhook, match="larger than 10 bytes"):
        verify_webhook(make_request(), SECRET, max_bytes=10)
    settings.DATA_UPLOAD_MAX_MEMORY_SIZE = 10
    with pytest.raises(InvalidWebhook, match="larger than"):
        verify_webhook(make_request(), SECRET)


def test_length_that_is_wrong():
    """A server may pass a length on that is none."""
    for length in ("x", "-1", "9" * 5_000):
        request = make_request()
        request.META["CONTENT_LENGTH"] = length
        with suppress(InvalidWebhook):
            assert verify_webhook(request, SECRET) == EVENT


def test_body_that_was_read_before():
    """As the CSRF protection does with a form, whose type the sender chooses."""
    request = make_request(content_type="multipart/form-data; boundary=x")
    assert not request.POST
    with pytest.raises(InvalidWebhook, match="Exempt the view"):
        verify_webhook(request, SECRET)


@pytest.mark.parametrize("secret", ["", "whsec_", "whsec_%", "\xe9", None, 5])
def test_secret_that_is_none(secret):
    """An error of the project, which shows nothing of it."""
    with pytest.raises(ValueError, match="secret is no secret of a webhook"):
        verify_webhook(make_request(), secret)


@given(id=HEADER_TEXT, timestamp=HEADER_TEXT, signature=HEADER_TEXT, body=st.binary(max_size=200))
@settings(max_examples=300, deadline=None)
def test_hostile_requests(id, timestamp, signature, body):
    request = make_request(body)
    request.META |= {
        "HTTP_WEBHOOK_ID": id,
        "HTTP_WEBHOOK_TIMESTAMP": timestamp,
        "HTTP_WEBHOOK_SIGNATURE": signature,
    }
    with pytest.raises(InvalidWebhook):
        verify_webhook(request, SECRET)


@pytest.mark.long
@given(
    signatures=st.lists(st.from_regex(r"\Av[0-9]?a?,[A-Za-z0-9+/=,\xe9]{0,44}\Z"), max_size=12),
    id=HEADER_TEXT.filter(bool),
)
@settings(max_examples=300, deadline=None)
def test_hostile_signatures(signatures, id):
    """With a time that is right."""
    request = make_request()
    request.META |= {"HTTP_WEBHOOK_ID": id, "HTTP_WEBHOOK_SIGNATURE": " ".join(signatures)}
    with pytest.raises(InvalidWebhook):
        verify_webhook(request, SECRET)
