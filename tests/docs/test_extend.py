"""An extension as how-to/extend.md writes one, installed in the project of the quick start."""

import json
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from inspect import getdoc
from textwrap import dedent, indent
from threading import Thread

import pytest

from notifications.extension import WaitKind
from tests.docs.pages import DOCS, blocks
from tests.docs.project import Project
from tests.support.waiting import wait_until

pytestmark = pytest.mark.timeout(300)

PAGE = DOCS / "how-to/extend.md"
URLS = """
from django.contrib import admin
from django.urls import include, path
urlpatterns = [path("admin/", admin.site.urls), path("notifications/", include("notifications.urls"))]
"""
NOTIFY = """
from django.contrib.auth.models import User
from sms.models import Phone
from notifications.api import notify
ada, bob = User.objects.create_superuser("ada"), User.objects.create_superuser("bob")
Phone.objects.create(user=ada, number="+15550100")
[id] = notify(ada, "The disk is full")
notify(bob, "He has no phone")
print(id)
"""
READ = """
from django.contrib.auth.models import User
from django.test import Client
client = Client()
client.force_login(User.objects.get(username="ada"))
pages = [client.get(path).text for path in ("/notifications/{id}/", "/admin/notifications/notification/{id}/change/")]
print("Arrived at:" in pages[1])
from sms.operations import metrics
print(metrics()[0].name)
print(["SMS: sent to +15550100." in page and "The text message has arrived." in page for page in pages])
print("By SMS" in client.get("/notifications/preferences/").text)
from notifications.contrib.deliveries.models import Delivery
print(sorted(Delivery.objects.values_list("state", "reason")))
"""
RETRY = """
import time
from notifications.models import Job
while not Job.objects.filter(state="queued", attempt=1).update(run_after=None, due_at=None):
    time.sleep(0.1)
"""
PURGE = """
from django.contrib.auth.models import User
from sms.models import Receipt
print(Receipt.objects.count())
User.objects.get(username="ada").delete()
print(Receipt.objects.count())
"""


ENQUEUE = """
from django.contrib.auth.models import User
from signatures.apps import close_contract
print(close_contract.using(owner=User.objects.create_superuser("ada")).enqueue(7).id)
"""
SIGN_URL = """
from django.urls import path
from signatures.apps import sign
urlpatterns += [path("sign/<uuid:job>/", sign)]
"""
SIGN = """
from django.contrib.auth.models import User
from django.test import Client
client = Client()
client.force_login(User.objects.get(username="ada"))
print("Signature of contract 7" in client.get("/notifications/jobs/{id}/").text)
print(client.post("/sign/{id}/", {"place": "Bern"}).content.decode())
again = client.post("/sign/{id}/", {"place": "Basel"})
print(again.status_code, again.text)
"""
SHOW_NOTIFICATION = """
from django.contrib.auth.models import User
from notifications.api import notifications_of, unread_count
ada = User.objects.get(username="ada")
found = [row for row in notifications_of(ada) if row.title.startswith("Signature")]
print([(row.title, row.is_unread, [each["label"] for each in row.data.get("actions", ())]) for row in found])
"""
SHOW = """
from django.contrib.auth.models import User
from django.test import Client
client = Client()
client.force_login(User.objects.get(username="ada"))
print("signed" in client.get("/notifications/jobs/{id}/").text)
"""


ORDER_URL = """
from django.urls import path
from mysite.tasks import add
from notifications.api import accepted
def order(request):
    return accepted(request, lambda: add.using(owner=request.user).enqueue(1, 2))
urlpatterns += [path("order/", order)]
"""
ORDER = """
from django.contrib.auth.models import User
from django.db import transaction
from django.test import Client
from notifications.api import notify
ada, bob = User.objects.create_superuser("ada"), User.objects.create_superuser("bob")
client = Client()
client.force_login(ada)
first, second = [client.post("/order/", headers={"Idempotency-Key": "7"}).json()["id"] for _ in range(2)]
notify(bob, "It is Bob's")
try:
    with transaction.atomic():
        notify(ada, "It was not sent")
        raise ValueError
except ValueError:
    print(first == second, first)
"""
READ_LEDGER = """
import re
from html import unescape
from django.contrib.auth.models import User
from django.test import Client
from notifications.api import notify
ada = User.objects.get(username="ada")
client = Client()
print(client.get("/notifications/ledger/").url)
client.force_login(ada)
print('<a href="/notifications/ledger/">Ledger</a>' in client.get("/notifications/").text)
page = client.get("/notifications/ledger/").text
print(re.findall('notifications-main">([^<]*)', page), 'rel="next"' in page, "<notifications-bell" in page)
print('<a href="/notifications/">All notifications</a></div>' in page)
for number in range(30):
    notify(ada, f"N{number}")
def read(url):
    page = client.get(url).text
    links = dict(re.findall('<a[^>]* href="([^"]*)"[^>]* rel="(prev|next)"', page))
    found = re.findall('notifications-main">([^<]*)', page)
    return {rel: unescape(link) for link, rel in links.items()}, [found[0], found[-1], len(found)]
links, shown = read("/notifications/ledger/")
print(shown)
links, shown = read(links["next"])
print(shown)
print(read(links["prev"])[1])
print(client.get("/notifications/ledger/?after=x").status_code)
ada.delete()
from ledger.models import Entry
print(set(Entry.objects.values_list("user__username", flat=True)))
"""


@pytest.fixture
def gateway():
    """A server that takes text messages, and what it has received. The first one is refused for now."""
    messages, answers = [], [503]

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            messages.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.answer(answers.pop() if answers else 200)

        def do_GET(self):
            self.answer(200, b"arrived" if self.path.endswith(messages[-1]["id"]) else b"")

        def answer(self, status, body=b""):
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    Thread(target=server.serve_forever, daemon=True).start()
    yield f"127.0.0.1:{server.server_port}", messages
    server.shutdown()
    server.server_close()


@pytest.fixture
def project(tmp_path):
    project = Project(tmp_path)
    yield project
    project.close()


@pytest.mark.nightly
def test_page_step_by_step(project, gateway):
    address, messages = gateway
    apps, models, channel, receipts, settings, admin, _, operations, *_ = blocks(PAGE, "python")
    for block in (apps, models, channel, receipts, admin, operations):
        project.write(block)
    project.write(settings, gateway=("https://sms.example.com/messages", f"http://{address}/messages"))
    project.add_settings(f'ALLOWED_HOSTS = ["*"]\nNOTIFICATIONS["OUTBOUND_ALLOW"] = ["{address}"]\n')
    (project.folder / "sms/__init__.py").touch()
    (project.folder / "mysite/urls.py").write_text(URLS)
    project.manage("makemigrations", "sms")
    project.manage("migrate", "--verbosity", "0")
    assert "no issues" in project.manage("check")
    id = project.manage("shell", "--no-imports", "-c", NOTIFY).split()[-1]
    assert messages == []
    worker = project.start("manage.py", "run_jobs")
    wait_until(lambda: messages, what="the first attempt", timeout=60)
    project.manage("shell", "--no-imports", "-c", RETRY)
    arrived = "from sms.models import Receipt; print(Receipt.objects.exclude(arrived_at=None).exists())"
    wait_until(
        lambda: "True" in project.manage("shell", "--no-imports", "-c", arrived),
        what="the receipt",
        timeout=60,
    )
    worker.stop()
    first, second = messages
    assert first == second and (first["to"], first["text"]) == ("+15550100", "The disk is full")
    printed = project.manage("shell", "--no-imports", "-c", READ.replace("{id}", id)).splitlines()
    assert printed == [
        "True",
        "sms_messages_on_their_way",
        "[True, True]",
        "True",
        "[('sent', ''), ('skipped', 'no-address')]",
    ]
    assert project.manage("shell", "--no-imports", "-c", PURGE).split() == ["1", "0"]


@pytest.mark.nightly
def test_wait(project):
    """A stranger's wait: a task waits, a view ends it once, and the job goes on with the word of the kind."""
    app, settings = blocks(PAGE, "python", "A wait")
    assert len(app.splitlines()) <= 30
    _, of_kind = getdoc(WaitKind).split("    class Signature(WaitKind):\n")
    of_kind, _ = of_kind.split("\n\n``kind``")
    project.write(app, kind=('    kind, label = "signature", "Signature"\n', indent(dedent(of_kind), "    ")))
    project.write(settings)
    project.add_settings('ALLOWED_HOSTS = ["*"]\n')
    (project.folder / "signatures/__init__.py").touch()
    (project.folder / "mysite/urls.py").write_text(URLS + SIGN_URL)
    project.manage("migrate", "--verbosity", "0")
    assert "no issues" in project.manage("check")
    id = project.manage("shell", "--no-imports", "-c", ENQUEUE).split()[-1]
    worker = project.start("manage.py", "run_jobs")

    def job():
        return json.loads(project.manage("notifications", "jobs", "show", id, "--json"))

    wait_until(lambda: job()["state"] == "waiting", what="the wait", timeout=60)
    notified = "[('Signature of contract 7', {}, {})]"
    shown = project.manage("shell", "--no-imports", "-c", SHOW_NOTIFICATION).strip()
    assert shown == notified.format(True, ["Sign"])
    assert project.manage("shell", "--no-imports", "-c", SIGN.replace("{id}", id)).splitlines() == [
        "True",
        "Thank you.",
        "409 The wait 'contract' has ended before: signed.",
    ]
    wait_until(lambda: job()["state"] == "succeeded", what="the end of the job", timeout=60)
    worker.stop()
    assert project.results(id) == ['"signed in Bern"']
    shown = project.manage("shell", "--no-imports", "-c", SHOW_NOTIFICATION).strip()
    assert shown == notified.format(False, [])
    assert project.manage("shell", "--no-imports", "-c", SHOW.replace("{id}", id)).strip() == "True"


def test_rows_and_page(project):
    """A stranger's rows, stored with what they are about, and a page that lists them."""
    app, models = blocks(PAGE, "python", "Rows of your own")
    [urls] = blocks(PAGE, "python", "A page with a list")
    [template] = blocks(PAGE, "html", "A page with a list")
    assert max(len(block.splitlines()) for block in (app, urls)) <= 25
    for block in (app, models, urls):
        project.write(block)
    path = project.folder / template.split()[1]
    path.parent.mkdir(parents=True)
    path.write_text(template)
    project.add_settings('ALLOWED_HOSTS = ["*"]\nINSTALLED_APPS += ["ledger"]\n')
    (project.folder / "ledger/__init__.py").touch()
    (project.folder / "mysite/urls.py").write_text(URLS + ORDER_URL)
    project.manage("makemigrations", "ledger")
    project.manage("migrate", "--verbosity", "0")
    assert "no issues" in project.manage("check")
    is_same, id = project.manage("shell", "--no-imports", "-c", ORDER).split()
    assert is_same == "True"
    worker = project.start("manage.py", "run_jobs")
    project.wait_for(id, results=["3"])
    worker.stop()
    assert project.manage("shell", "--no-imports", "-c", READ_LEDGER).splitlines() == [
        "/accounts/login/?next=/notifications/ledger/",
        "True",
        "['Notified: Add 1 and 2', 'Succeeded: Add 1 and 2', 'Ordered: Add 1 and 2'] False True",
        "True",
        "['Notified: N29', 'Notified: N5', 25]",
        "['Notified: N4', 'Ordered: Add 1 and 2', 8]",
        "['Notified: N29', 'Notified: N5', 25]",
        "422",
        "{'bob'}",
    ]
