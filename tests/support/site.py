"""The complete site as separate processes: web server, workers and commands, with its own database."""

import fcntl
import hashlib
import json
import os
import shutil
import sqlite3
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from contextlib import closing, contextmanager
from functools import cache, partial
from pathlib import Path
from tempfile import TemporaryFile

import django

from tests.support import fork_server
from tests.support.network import free_port
from tests.support.processes import Process, read_command_output

ROOT = Path(__file__).resolve().parent.parent.parent
#: Folders of migrated databases, and the seconds that one is kept when the code has changed.
TEMPLATES = ROOT / "var" / "test-databases"
TEMPLATE_SECONDS = 86_400
#: Seconds that a server or a worker may take to start: on a machine that is busy with other tests, over a minute.
START_TIMEOUT_SECONDS = 180.0
#: Seconds that a command may take.
COMMAND_TIMEOUT_SECONDS = 120
#: Environments of a site whose server is kept. The faults of a test are variables.
MAX_SERVERS = 3
#: The commands of ASGI servers: a port and an application follow.
SERVERS = {
    "daphne": ("-m", "daphne", "-b", "127.0.0.1", "-p"),
    "uvicorn": ("-m", "uvicorn", "--host", "127.0.0.1", "--port"),
}

CREATE_USERS = """
from django.contrib.auth import get_user_model
User = get_user_model()
User.objects.create_user("demo", password="demo")
User.objects.create_user("other", password="other")
User.objects.create_superuser("admin", password="admin")
"""


class Site:
    """One site. start_web() and start_worker() start its processes, close() stops all of them.

    `environment` and `notifications` (which override the NOTIFICATIONS setting) can be changed before a start.
    Users: demo/demo, other/other, and the superuser admin/admin. The embedded worker is enabled: set
    `environment["EMBEDDED_WORKER"] = "0"` before start_web() in a test that calls start_worker().
    `code` is the folder of the project and the app: another one has those of another commit.
    """

    def __init__(self, folder, database_url, *, code=ROOT):
        self.folder = Path(folder)
        self.code = code
        self.database_url = database_url
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.notifications = {}
        self._gate = self.folder / "gate"
        self.environment = {
            "DJANGO_SETTINGS_MODULE": "tests.site_settings",
            "DATABASE_URL": database_url,
            "DEBUG": "1",
            "SECRET_KEY": "the key of a site in a test",
            "HOST": "127.0.0.1",
            "PORT": str(self.port),
            "EMBEDDED_WORKER": "1",
            "PYTHONUNBUFFERED": "1",
            "TEST_GATE": str(self._gate),
            "EMAIL_URL": f"file://{self.folder}/mail",
        }
        self.web = None
        self.processes = []
        self._lock = threading.Lock()
        self._servers = []

    def start_web(self, server="daphne"):
        """Start a server at `url` and wait until it responds. After a kill it is started on the same port again."""
        self.launch_web(server)
        self.web.wait_until(self._responds, what=f"{self.url} to respond", timeout=START_TIMEOUT_SECONDS)
        return self.web

    def launch_web(self, server="daphne", application="asyncsite.asgi:application"):
        """Start one of SERVERS without waiting for it."""
        self.web = self.start("web", *SERVERS[server], self.port, application)
        return self.web

    def start_worker(self, *arguments):
        """Start `manage.py run_jobs` and wait until its row is in the table of workers."""
        before = self._workers()
        worker = self.start("worker", "manage.py", "run_jobs", *arguments)
        worker.wait_until(lambda: self._workers() - before, what="the worker's row")
        return worker

    def use_celery(self, broker_url):
        """Have Celery run the jobs, through this broker, in processes that are started from now on."""
        self.environment |= {"CELERY_BROKER_URL": broker_url, "EMBEDDED_WORKER": "0"}

    def start_celery(self, *arguments, concurrency=2, queues="celery,slow,paused"):
        """Start a Celery worker, and wait until it is ready. Its other processes have rows while they work."""
        before = self._workers()
        if "--pool" not in arguments and self.database_url.startswith("sqlite"):
            arguments = ("--pool", "threads")  # prefork is refused there
        options = (
            "--concurrency",
            concurrency,
            "-Q",
            queues,
            "--loglevel",
            "INFO",
            "-n",
            f"w{len(self.processes)}@%h",
        )
        worker = self.start("celery", "-m", "celery", "-A", "asyncsite", "worker", *options, *arguments)
        worker.wait_until(lambda: self._workers() - before, what="the row of the main process")
        return worker

    def change(self, *modules):
        """Have processes that are started from now on changed by these: see tests/support/changes.py."""
        before = self.environment.get("TEST_CHANGES", "")
        self.environment["TEST_CHANGES"] = " ".join([before, *modules])

    def use_backend(self, alias, **environment):
        """Have another backend of Tasks run the jobs, "db" or "rq", in processes that are started from now on."""
        self.environment |= {"TEST_ENGINE": f"alias:{alias}", "EMBEDDED_WORKER": "0", **environment}
        self.manage("migrate", "--verbosity", "0")

    def start(self, name, *arguments):
        """Start Python with these arguments in the site's environment and return its Process, which close() stops."""
        log = self.folder / f"{name}-{len(self.processes)}.log"
        start = partial(self.start_program, arguments)
        process = Process([sys.executable, *arguments], log=log, start=start)
        self.processes.append(process)
        return process

    def start_program(self, arguments, output, *, errors=None, input=None, environment=None):
        """Start Python with these files and return its Popen, or what is like one: see tests/support/fork_server.py."""
        environment = self.env() | (environment or {})
        if self.code != ROOT or not fork_server.can_start(arguments, environment):
            command = [sys.executable, *map(str, arguments)]
            files = {"stdin": input or subprocess.DEVNULL, "stdout": output, "stderr": errors or output}
            return subprocess.Popen(command, env=environment, cwd=self.code, **files)
        server = self._find_server(environment)
        start = server.start if server.is_started else partial(fork_server.start, environment=environment)
        return start(arguments, output=output, errors=errors, input=input)

    def manage(self, *arguments, input=None):
        """Run a management command and return its output; fail if its exit code is not 0."""
        with TemporaryFile() as given, TemporaryFile() as output, TemporaryFile() as errors:
            given.write((input or "").encode())
            given.seek(0)
            program = self.start_program(["manage.py", *arguments], output, errors=errors, input=given)
            try:
                code = program.wait(COMMAND_TIMEOUT_SECONDS)
            finally:
                program.kill()
            output.seek(0)
            errors.seek(0)
            texts = output.read().decode(), errors.read().decode()
        return read_command_output(["manage.py", *arguments], code, *texts)

    def python(self, code):
        """Run code in the site's `manage.py shell` and return its output."""
        return self.manage("shell", "--no-imports", "-c", code)

    def held_urls(self, count):
        """Return URLs of the web process that respond when release() lets them, within the 30 s of a report's call."""
        return [f"{self.url}/upstream/gate/{number}" for number in range(count)]

    def release(self, count=1000):
        """Let the first ones of the held URLs respond, also to later requests."""
        new = self._gate.with_suffix(".new")
        new.write_text(str(count))
        new.replace(self._gate)

    def rows(self, sql, parameters=()):
        """Return the rows of a query on the site's database as tuples, without Django. `?` marks a parameter.

        Works while Playwright runs in this thread, where Django's ORM refuses to run.
        """
        with self._connect() as execute:
            return execute(sql, parameters).fetchall()

    def write(self, statements):
        """Execute statements, each with its parameters, in one transaction, at whose end foreign keys are checked."""
        with self._connect() as execute:
            if not self.database_url.startswith("sqlite"):
                execute("SET CONSTRAINTS ALL DEFERRED", ())
            for sql, parameters in statements:
                execute(sql, parameters)

    @contextmanager
    def database_away(self):
        """Refuse connections to the database, and end those that there are. On SQLite its lock is held."""
        if self.database_url.startswith("sqlite"):
            with closing(
                sqlite3.connect(self._sqlite_file(), timeout=60, isolation_level=None)
            ) as connection:
                connection.execute("BEGIN IMMEDIATE")
                yield
                connection.execute("ROLLBACK")
            return
        import psycopg

        base, _, name = self.database_url.rpartition("/")
        with psycopg.connect(f"{base}/postgres", autocommit=True) as server:
            server.execute(f'ALTER DATABASE "{name}" WITH ALLOW_CONNECTIONS false')
            server.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", [name]
            )
            try:
                yield
            finally:
                server.execute(f'ALTER DATABASE "{name}" WITH ALLOW_CONNECTIONS true')

    @contextmanager
    def _connect(self):
        """Connect to the site's database and yield a function that executes a statement; commit at the end."""
        if self.database_url.startswith("sqlite"):
            with closing(sqlite3.connect(self._sqlite_file(), timeout=60)) as connection, connection:
                yield connection.execute
        else:
            import psycopg

            with psycopg.connect(self.database_url) as connection:
                yield lambda sql, parameters: connection.execute(sql.replace("?", "%s"), parameters or None)

    def tables(self):
        """Return the names of the tables of the site's database."""
        if self.database_url.startswith("sqlite"):
            sql = "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%'"
        else:
            sql = "SELECT tablename FROM pg_tables WHERE schemaname = 'public'"
        return [name for (name,) in self.rows(sql)]

    def log(self):
        """Return the output of all processes of this site."""
        return "\n".join(f"--- {process.log.name}\n{process.output}" for process in self.processes)

    def close(self):
        for process in reversed(self.processes):
            process.stop()
        with self._lock:
            while self._servers:
                self._servers.pop().stop()

    def _find_server(self, environment):
        """Return the server for this environment, which is started if there is none."""
        with self._lock:
            for server in self._servers:
                if server.environment == environment:
                    return server
            if len(self._servers) == MAX_SERVERS:
                self._servers.pop(0).stop()
            self._servers.append(fork_server.SiteServer(environment))
            return self._servers[-1]

    def env(self):
        inherited = {
            key: value for key, value in os.environ.items() if not key.startswith(("TEST_", "PYTEST_"))
        }
        return inherited | self.environment | {"TEST_NOTIFICATIONS": json.dumps(self.notifications)}

    def _sqlite_file(self):
        return self.database_url.removeprefix("sqlite:///")

    def _workers(self):
        return {id for (id,) in self.rows("SELECT id FROM notifications_worker")}

    def _responds(self):
        try:
            with urllib.request.urlopen(f"{self.url}/accounts/login/", timeout=30) as response:
                return response.status == 200
        except urllib.error.HTTPError as error:
            raise AssertionError(f"{error} at {self.url}/accounts/login/\n{self.log()}") from error
        except OSError:
            return False


def migrate(site):
    site.manage("migrate", "--verbosity", "0")
    site.close()


def create_users(site):
    site.python(CREATE_USERS)
    site.close()


@cache
def make_sqlite_template(*, users):
    """Return the path of a migrated database, with or without users, which is made once for this state of the code."""
    folder = TEMPLATES / fingerprint()
    migrated, filled = folder / "migrated.sqlite3", folder / "with_users.sqlite3"
    folder.mkdir(parents=True, exist_ok=True)
    os.utime(folder)  # remove_old_templates() of another run looks at it
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not filled.exists():
            new = Path(os.environ["TEST_DIR"]) / "template.sqlite3"
            site = Site(new.parent, f"sqlite:///{new}")
            migrate(site)
            shutil.copy(new, migrated)
            create_users(site)
            shutil.copy(new, folder / "copied")
            (folder / "copied").rename(filled)
            remove_old_templates()
    return filled if users else migrated


def fingerprint():
    """Return a name for the code that makes a migrated database with users."""
    code = hashlib.sha256(f"{sys.version} {django.get_version()} {CREATE_USERS}".encode())
    modules = [*ROOT.glob("notifications/**/*.py"), *ROOT.glob("asyncsite/**/*.py")]
    for path in sorted([*modules, ROOT / "tests/site_settings.py"]):
        code.update(str(path).encode() + path.read_bytes())
    return code.hexdigest()[:20]


def remove_old_templates():
    """Remove those that no run can be using any more."""
    for folder in TEMPLATES.iterdir():
        if folder.stat().st_mtime < time.time() - TEMPLATE_SECONDS:
            shutil.rmtree(folder, ignore_errors=True)


class Sites:
    """Create sites, each with a copy of one migrated database that has users."""

    def __init__(self, folder, postgres=None):
        self.folder = Path(folder)
        self.postgres = postgres
        self.count = 0
        if postgres:
            postgres.create("site_template")
            site = Site(self.folder, self._url("site_template"))
            migrate(site)
            create_users(site)
        else:
            self._template = make_sqlite_template(users=True)

    def make(self):
        self.count += 1
        name = f"site_{os.getpid()}_{self.count}"
        folder = self.folder / name
        folder.mkdir()
        if self.postgres:
            self.postgres.create(name, template="site_template")
        else:
            # The template has no open connection, and so no write-ahead log.
            shutil.copy(self._template, self.folder / f"{name}.sqlite3")
        return Site(folder, self._url(name))

    def _url(self, name):
        return self.postgres.url(name) if self.postgres else f"sqlite:///{self.folder / name}.sqlite3"
