"""The app in projects of other people: the bell of a page rings by the WebSocket, under a policy, without an error.

What cookiecutter-django generates is in a file, because its template is on no package index.
"""

import json
import re
from urllib.error import HTTPError
from urllib.parse import urljoin
from urllib.request import Request, urlopen

import pytest
from playwright.sync_api import expect

from tests.browser.parts import expect_unread, find_toasts, wait_until_live
from tests.docs.pages import DOCS, blocks, code
from tests.packaging.host_project import CREATE_USER, POLICY, HostProject
from tests.packaging.test_wheel import run
from tests.support.site import ROOT
from tests.support.waiting import FACTOR, wait_until

GENERATED = ROOT / "tests/packaging/cookiecutter_django.txt"
# The e-mail has a link for that.
VERIFY_ADDRESS = """
from allauth.account.models import EmailAddress
user = get_user_model().objects.get()
EmailAddress.objects.create(user=user, email=user.email, verified=True, primary=True)
"""


class Cookiecutter(HostProject):
    """What cookiecutter-django generates with use_async=n, on a developer's machine, with PostgreSQL."""

    packages = (
        *("django-environ", "django-allauth[mfa]", "django-crispy-forms", "crispy-bootstrap5", "whitenoise"),
        *("djangorestframework", "django-cors-headers", "drf-spectacular", "argon2-cffi", "Pillow"),
        *("django-debug-toolbar", "django-extensions"),
        "redis>=8",  # which it pins
    )
    extra = "daphne,redis"
    settings, urls, asgi = "config/settings/base.py", "config/urls.py", "config/asgi.py"
    tasks = "my_awesome_project.users.tasks"
    guide = DOCS / "how-to/cookiecutter-django.md"
    login, button, page, header = "/accounts/login/", "Sign In", "/", "nav.navbar"
    without = frozenset({"config/asgi.py", "config/websocket.py"})
    user = CREATE_USER + VERIFY_ADDRESS

    def generate(self):
        _, *parts = re.split(r"^=== (.+)\n", GENERATED.read_text(), flags=re.M)
        for name, text in zip(parts[::2], parts[1::2], strict=True):
            if name not in self.without:
                self.write(name, text)
        self.write("my_awesome_project/static/images/favicons/favicon.ico", "")
        self.postgres.create(self.folder.parent.name)
        self.env["DATABASE_URL"] = self.postgres.url(self.folder.parent.name)
        self.manage("makemigrations", "users", "-v0")

    def add_app(self):
        base, urls, sync, of_async, tokens = blocks(self.guide, "python")
        for block in (base, tokens):
            assert block.startswith(f"# {self.settings}, at the end\n")
            self.append(self.settings, block)
        assert urls.startswith(f"# {self.urls}, at the end\n")
        self.append(self.urls, urls)
        self.write(self.asgi, self.choose_asgi(sync, of_async))
        [bell] = blocks(self.guide, "html")
        base = "my_awesome_project/templates/base.html"
        text = (self.folder / base).read_text()
        below_brand = r"navbar-brand.*\n"
        changed, count = re.subn(below_brand, lambda line: line[0] + bell, text)
        assert count == 1
        self.write(base, changed)
        self.add_tasks("my_awesome_project/users/tasks.py")

    def choose_asgi(self, sync, of_async):
        return sync

    def check(self, page):
        """The debug toolbar stands beside the bell."""
        page.locator("#djDebugToolbar, #djShowToolBarButton").first.wait_for(state="attached")


class AsyncCookiecutter(Cookiecutter):
    """The same with use_async=y, which starts uvicorn."""

    extra = "uvicorn,redis"
    without = frozenset()
    command = ("-m", "uvicorn", "config.asgi:application", "--port", "{port}")

    def choose_asgi(self, sync, of_async):
        return of_async

    def add_app(self):
        super().add_app()
        self.replace(self.settings, '["daphne", "notifications",', '["notifications",')

    def check(self, page):
        """The project's own WebSockets still reach it."""
        super().check(page)
        assert (
            page.evaluate(
                """() => new Promise((resolve, reject) => {
                const socket = new WebSocket(`ws://${location.host}/echo/`);
                socket.onopen = () => socket.send("ping");
                socket.onmessage = ({ data }) => { socket.close(); resolve(data); };
                socket.onerror = () => reject(new Error("refused"));
            })"""
            )
            == "pong!"
        )


class Allauth(HostProject):
    """django-allauth signs people in, and Django REST framework programs, by tokens."""

    packages = ("django-allauth", "djangorestframework")
    login, button = "/accounts/login/", "Sign In"

    def add_app(self):
        super().add_app()
        self.append(self.settings, ALLAUTH_SETTINGS)
        self.append(self.settings, code("how-to/frameworks.md", "Tokens"))
        self.write("mysite/exports.py", "from mysite.tasks import add as export\n" + self.read_view())
        self.append(self.urls, ALLAUTH_URLS)

    def read_view(self):
        block = code("how-to/frameworks.md", "Django REST framework")
        return block.replace("export.enqueue(year)", "export.enqueue(year, 1)")

    def check(self, page):
        """A program that has a token enqueues a job, follows the link to it, and the person is notified."""
        key = self.manage("drf_create_token", "ada").split()[2]
        program = {"Authorization": f"Token {key}"}
        status, headers, _ = self.request("/exports/", program, data={"year": 2026})
        assert status == 202
        wait_until(
            lambda: self.request(headers["Location"], program)[2]["state"] == "succeeded",
            what="the job of the program to succeed",
        )
        assert self.request(headers["Location"], {"Authorization": "Token wrong"})[0] == 401
        expect(find_toasts(page).filter(has_text="Add 2026 and 1")).to_be_visible()

    def request(self, path, headers, data=None):
        """Return status, headers and JSON of a response; POST the data as JSON if there are any."""
        body = json.dumps(data).encode() if data else None
        headers = {**headers, "Accept": "application/json", "Content-Type": "application/json"}
        try:
            with urlopen(Request(urljoin(self.url, path), body, headers), timeout=60) as response:
                return response.status, response.headers, json.load(response)
        except HTTPError as error:
            return error.code, error.headers, None


ALLAUTH_SETTINGS = """
INSTALLED_APPS += ["allauth", "allauth.account", "rest_framework", "rest_framework.authtoken"]
MIDDLEWARE += ["allauth.account.middleware.AccountMiddleware"]
AUTHENTICATION_BACKENDS = [
    "django.contrib.auth.backends.ModelBackend",
    "allauth.account.auth_backends.AuthenticationBackend",
]
LOGIN_URL, LOGIN_REDIRECT_URL = "account_login", "/"
REST_FRAMEWORK = {"DEFAULT_AUTHENTICATION_CLASSES": ["rest_framework.authentication.TokenAuthentication"]}
"""
ALLAUTH_URLS = """
from mysite.exports import export_view
urlpatterns += [path("accounts/", include("allauth.urls")), path("exports/", export_view)]
"""


class DebugToolbar(HostProject):
    """The toolbar is on each page of the project, as its documentation installs it."""

    packages = ("django-debug-toolbar",)

    def add_app(self):
        super().add_app()
        self.append(self.settings, TOOLBAR_SETTINGS)
        self.append(self.urls, TOOLBAR_URLS)

    def check(self, page):
        """Its panels open, and the admin has the bell and the toolbar too."""
        page.locator("#djDebug").get_by_role("link", name="SQL").click()
        expect(page.locator("#SQLPanel")).to_contain_text("SELECT")
        page.goto(f"{self.url}/admin/")
        wait_until_live(page)
        expect(page.locator("#djDebug")).to_be_attached()


TOOLBAR_SETTINGS = """
INSTALLED_APPS += ["debug_toolbar"]
MIDDLEWARE = ["debug_toolbar.middleware.DebugToolbarMiddleware", *MIDDLEWARE]
INTERNAL_IPS = ["127.0.0.1"]
"""
TOOLBAR_URLS = """
from debug_toolbar.toolbar import debug_toolbar_urls
urlpatterns += debug_toolbar_urls()
"""


class Sentry(HostProject):
    """Its SDK is in server and worker, with traces and profiles; a file is in the place of its server."""

    packages = ("sentry-sdk",)

    def add_app(self):
        super().add_app()
        self.write("mysite/transport.py", SENTRY_TRANSPORT)
        self.append(self.settings, SENTRY_SETTINGS)

    def check(self, page):
        """A job that fails is on the bell, and an event with the task and the job."""
        _, job = self.enqueue("fail")
        expect(find_toasts(page).filter(has_text="failed")).to_be_visible()
        events = self.folder / "events.jsonl"
        wait_until(lambda: events.exists() and job in events.read_text(), what="the event")
        [event] = [event for event in map(json.loads, events.read_text().splitlines()) if event["job"] == job]
        assert event == {"transaction": "mysite.tasks.fail", "job": job, "type": "ValueError"}


SENTRY_TRANSPORT = """
import json
from sentry_sdk.transport import Transport


class File(Transport):
    def capture_envelope(self, envelope):
        event = envelope.get_event()
        if event and event.get("exception"):
            kept = {
                "transaction": event["transaction"],
                "job": event["tags"].get("job"),
                "type": event["exception"]["values"][-1]["type"],
            }
            with open("events.jsonl", "a") as file:
                file.write(json.dumps(kept) + "\\n")
"""
SENTRY_SETTINGS = """
import sentry_sdk
from mysite.transport import File
sentry_sdk.init("http://key@127.0.0.1/1", transport=File, send_default_pii=True, traces_sample_rate=1.0)
"""
# Its pages have inline scripts, and ask two other servers.
WAGTAIL_POLICY = (
    POLICY.replace("CSP.NONCE", "CSP.UNSAFE_INLINE")
    + """
WAGTAIL_ENABLE_UPDATE_CHECK = False
WAGTAIL_GRAVATAR_PROVIDER_URL = None
"""
)
COUNT_UPDATES = """
from notifications.models import Job
print(Job.objects.filter(task_path__startswith="modelsearch.", state="succeeded").count())
"""


class Wagtail(HostProject):
    """What `wagtail start` makes, with its tasks as jobs."""

    packages = ("wagtail",)
    settings, tasks = "mysite/settings/base.py", "home.tasks"
    login, button, page, header = "/admin/login/", "Sign in", "/admin/", ".notifications-in-wagtail"
    policy = WAGTAIL_POLICY

    def generate(self):
        run(self.python.parent / "wagtail", "start", "mysite", ".", cwd=self.folder)

    def add_app(self):
        settings, urls, asgi, *_ = blocks(DOCS / "how-to/wagtail.md", "python")
        self.append(self.settings, settings + code("how-to/install.md", "SQLite"))
        self.replace(self.urls, "urlpatterns = urlpatterns + [", f"{urls}\nurlpatterns = urlpatterns + [")
        self.write(self.asgi, asgi)
        self.add_tasks("home/tasks.py")

    def check(self, page):
        """Publishing a page updates the search index by a job, of which the editor is not notified."""
        before = self.count_updates()
        page.goto(f"{self.url}/admin/pages/3/edit/")
        page.get_by_role("button", name="More actions").click()
        page.get_by_role("button", name="Publish").click()
        page.get_by_text("has been published").first.wait_for()
        wait_until(lambda: self.count_updates() > before, what="the index to be updated")
        wait_until_live(page)
        expect_unread(page, 1)

    def count_updates(self):
        """Return how many updates of the search index have succeeded."""
        return int(self.shell(COUNT_UPDATES).split()[-1])


PROJECTS = {
    "cookiecutter-django": Cookiecutter,
    "cookiecutter-django, use_async": AsyncCookiecutter,
    "allauth and DRF": Allauth,
    "debug toolbar": DebugToolbar,
    "Sentry": Sentry,
    "Wagtail": Wagtail,
}


#: In which a job is enqueued, executed, and shown on an open page. A page without a connection polls every 15 s.
LIVE_SECONDS = 2

pytestmark = [pytest.mark.packaging, pytest.mark.browser, pytest.mark.timeout(600), pytest.mark.nightly]


@pytest.fixture(params=PROJECTS)
def project(request, tmp_path, wheel, postgres):
    project = PROJECTS[request.param](tmp_path, wheel, postgres)
    try:
        project.make()
        project.start()
        yield project
    finally:
        project.close()
        if project.process:
            print(project.process.output)


def test_the_bell_rings(project, page):
    """Migrate, check, sign in, enqueue: header, toast and panel have the job, which came in a frame."""
    frames = []
    page.on("websocket", lambda socket: socket.on("framereceived", lambda frame: frames.append(str(frame))))
    project.sign_in(page)
    wait_until_live(page)
    expect(page.locator(project.header).get_by_role("button", name="Notifications")).to_be_visible()
    expect_unread(page, 0)
    page.evaluate("addEventListener('notifications:toast', () => window.shownAt ??= Date.now() / 1000)")
    enqueued_at, _ = project.enqueue("add", 2, 3)
    expect(find_toasts(page)).to_contain_text("Add 2 and 3")
    expect_unread(page, 1)
    seconds = page.evaluate("window.shownAt") - enqueued_at
    print(f"Shown {seconds:.2f} s after it was enqueued.")
    assert seconds < LIVE_SECONDS * FACTOR
    assert any('"Add 2 and 3"' in frame for frame in frames), "It came by a poll."
    project.check(page)
