"""The project `everything` as processes: databases, server, worker, and the sessions of its users."""

import fcntl
import json
import os
import re
import shutil
import sqlite3
import sys
from contextlib import asynccontextmanager, closing
from pathlib import Path

import aiohttp

from tests.support.network import free_port, is_listening
from tests.support.processes import Process, run
from tests.support.site import ROOT

CREATE_USERS = """
from django.contrib.auth import get_user_model
users = get_user_model().objects
for number in range(30):
    users.create_user(f"person{number}", password="secret")
users.create_superuser("boss", password="secret")
users.create_superuser("operator", password="secret")
"""
#: In one process: the start of each takes longer than its work.
PREPARE = f"""
from django.core.management import call_command
call_command("migrate", run_syncdb=True, verbosity=0)
call_command("migrate", database="app", verbosity=0)
call_command("collectstatic", interactive=False, verbosity=0)
{CREATE_USERS}
"""
APPLICATION = "tests.hosts.everything.asgi:application"
# Requests on loopback are faster, however busy the machine is.
REQUEST_TIMEOUT = aiohttp.ClientTimeout(60)


class Host:
    """A copy of the project with the users person0 to person29 and the superusers boss and operator.

    Their password is "secret".
    """

    def __init__(self, folder, key="uuid"):
        self.folder, self.key, self.is_in_development = Path(folder), key, False
        self.port = free_port()
        self.origin = f"http://127.0.0.1:{self.port}"
        self.worker = ""
        self.processes = []
        self.user_count = 0

    def prepare(self):
        self.manage("shell", "--no-imports", "-c", PREPARE)

    def start_daphne(self):
        self.worker = "embedded"
        self.serve("-m", "daphne", "-b", "127.0.0.1", "-p", self.port, APPLICATION)

    def start_uvicorn(self):
        self.worker = "embedded"
        self.serve("-m", "uvicorn", "--host", "127.0.0.1", "--port", self.port, APPLICATION)

    def start_wsgi(self):
        self.serve("-m", "tests.hosts.everything.wsgi", self.port)
        self.start("-m", "django", "run_jobs")

    def serve(self, *arguments):
        self.start(*arguments).wait_until(lambda: is_listening(self.port), what="the server to listen")

    def start(self, *arguments):
        log = self.folder / f"process-{len(self.processes)}.log"
        self.processes.append(Process([sys.executable, *arguments], log=log, env=self.env(), cwd=ROOT))
        return self.processes[-1]

    def manage(self, *arguments):
        return run(sys.executable, "-m", "django", *arguments, env=self.env(), cwd=ROOT)

    def env(self):
        excluded_prefixes = ("TEST_", "DATABASE_URL", "DEBUG", "SECRET_KEY", "EMBEDDED_WORKER")
        inherited = {key: value for key, value in os.environ.items() if not key.startswith(excluded_prefixes)}
        return inherited | {
            "DJANGO_SETTINGS_MODULE": "tests.hosts.everything.settings",
            "HOST_FOLDER": str(self.folder),
            "HOST_KEY": self.key,
            "HOST_WORKER": self.worker,
            "HOST_DEBUG": str(int(self.is_in_development)),
            "PYTHONUNBUFFERED": "1",
        }

    def rows(self, alias, sql, *parameters):
        with closing(sqlite3.connect(self.folder / f"{alias}.sqlite3", timeout=20)) as connection:
            return connection.execute(sql, parameters).fetchall()

    def log(self):
        return "\n".join(process.output for process in self.processes)

    def close(self):
        for process in reversed(self.processes):
            process.stop()

    @asynccontextmanager
    async def signed_in_session(self, name=None):
        """Open a signed-in session, of another user each time unless ``name`` is given."""
        if name is None:
            name = f"person{self.user_count}"
            self.user_count += 1
        async with self.anonymous_session() as session:
            await session.sign_in(name)
            yield session

    @asynccontextmanager
    async def anonymous_session(self):
        """Open a session without a user."""
        jar = aiohttp.CookieJar(unsafe=True)  # keeps cookies of IP addresses too
        async with aiohttp.ClientSession(self.origin, cookie_jar=jar, timeout=REQUEST_TIMEOUT) as http:
            yield BrowserSession(self, http)


class BrowserSession:
    """An HTTP session. `get` and `post` return (status, headers, text) and follow no redirects."""

    def __init__(self, host, http):
        self.host, self.http, self.name, self.token = host, http, None, {}

    async def sign_in(self, name):
        self.name = name
        await self.get("/app/en/sign-in/")
        status, headers, text = await self.post("/app/en/sign-in/", {"username": name, "password": "secret"})
        assert (status, headers["Location"]) == (302, "/app/en/"), text
        await self.get("/app/en/")

    async def get(self, path, **headers):
        status, response_headers, text = await self.request("GET", path, headers=header_names(headers))
        if match := re.search(r'(?:name="csrfmiddlewaretoken" value|data-csrf-token)="(\w+)"', text):
            self.token = {"X-Office-Token": match[1]}
        return status, response_headers, text

    async def post(self, path, data=None, **headers):
        return await self.request("POST", path, data=data, headers=self.token | header_names(headers))

    async def request(self, method, path, **data):
        async with self.http.request(method, path, allow_redirects=False, **data) as response:
            return response.status, response.headers, await response.text()

    async def json(self, path, **headers):
        status, _, text = await self.get(path, **headers)
        assert status == 200, (status, text)
        return json.loads(text)

    def socket(self):
        return self.http.ws_connect(
            "/app/ws/notifications/", headers={"Origin": self.host.origin}, protocols=["notifications.v1"]
        )


def header_names(headers):
    return {name.replace("_", "-"): value for name, value in headers.items()}


def create_host(folder, key):
    """Return a host whose files are copied from those that the first process of this test run has created."""
    template = Path(os.environ["TEST_DIR"]) / f"everything-{key}"
    template.mkdir(exist_ok=True)
    with open(template / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (template / "done").exists():
            Host(template, key).prepare()
            (template / "done").touch()
    shutil.copytree(template, folder, dirs_exist_ok=True)
    return Host(folder, key)
