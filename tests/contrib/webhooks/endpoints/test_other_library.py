"""Webhooks are verified by the JavaScript library of Standard Webhooks, as a receiver in another language does it."""

import json
import subprocess

import pytest

from notifications.api import notify
from notifications.testing import run_jobs
from tests.support.npm import NODE_MODULES, require_node_modules
from tests.support.site import ROOT

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.any_database, pytest.mark.any_django]

#: Prints the verified events, or fails.
VERIFY = """
import { Webhook } from "standardwebhooks";
const { secret, requests } = JSON.parse(process.argv[1]);
const webhook = new Webhook(secret);
console.log(JSON.stringify(requests.map(({ body, headers }) => webhook.verify(body, headers))));
"""


def verify(secret, requests):
    sent = [
        {"body": one.body.decode(), "headers": {name.lower(): value for name, value in one.headers.items()}}
        for one in requests
    ]
    return subprocess.run(
        ["node", "--input-type=module", "-e", VERIFY, json.dumps({"secret": secret, "requests": sent})],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_it_verifies_what_is_sent(create, receiver, user):
    require_node_modules()
    assert (NODE_MODULES / "standardwebhooks").is_dir()
    endpoint = create()
    for title in ("Grüße", "Second"):
        notify(user, title)
    run_jobs()
    done = verify(endpoint.secret, receiver.requests)
    assert done.returncode == 0, done.stderr
    assert sorted(event["notification"]["title"] for event in json.loads(done.stdout)) == ["Grüße", "Second"]
    other = create(path="/other")
    refused = verify(other.secret, receiver.requests)
    assert refused.returncode and "No matching signature found" in refused.stderr
