"""Check the site, migrate its database and serve it. `make run` calls this."""

import errno
import signal
import socket
import tempfile
from pathlib import Path

from django.conf import settings
from django.contrib.auth import get_user_model
from django.contrib.auth.hashers import check_password
from django.core.management import call_command
from django.core.management.base import CommandError
from django.db import DatabaseError, connection

from asyncsite.environment import write_record
from asyncsite.migrating import migration_lock
from asyncsite.private_files import make_private_folder
from notifications.asgi import begin_serving
from notifications.management import ManagementCommand

#: Connections that the kernel queues until the server accepts them. With Twisted's 50, clients that all reconnect after
#: a restart are refused and retry a second later.
MAX_QUEUED_CONNECTIONS = 2048
UVICORN_OPTIONS = {
    "backlog": MAX_QUEUED_CONNECTIONS,
    "lifespan": "on",
    "log_config": None,  # Django's LOGGING configures it.
    "access_log": False,
    "server_header": False,
    "proxy_headers": False,  # Django trusts proxies by SECURE_PROXY_SSL_HEADER.
    "ws_max_size": 1024
    * 1024,  # As Daphne's. The protocol's own limit is lower and is answered with a close code.
    "ws_per_message_deflate": False,  # It would use more memory than the socket itself.
    "timeout_graceful_shutdown": 10,
}


class Command(ManagementCommand):
    help = "Migrate the database and serve the site on HOST and PORT. In development, create the users demo and admin."
    examples = ("", "PORT=8765", "SERVER=uvicorn EMBEDDED_WORKER=0")

    requires_system_checks = []  # They run in handle(), after problems with a clearer message.

    def handle(self, **options):
        servers = {"daphne": self.serve_by_daphne, "uvicorn": self.serve_by_uvicorn}
        if settings.SERVER not in servers:
            raise CommandError(f"SERVER is {settings.SERVER!r}: use {' or '.join(servers)}.")
        require_database_folder()
        listener = bind(settings.HOST, settings.PORT)
        self.prepare_database()
        if settings.DEBUG:
            write_record(settings.VAR_DIR)
        stop_at_hang_up()
        servers[settings.SERVER](listener)

    def prepare_database(self):
        try:
            with migration_lock(connection, self.write_line):
                self.check(databases=[connection.alias])
                if not settings.DEBUG:
                    refuse_development_passwords()
                call_command("migrate", verbosity=0, interactive=False)
                if settings.DEBUG:
                    create_development_users()
        except DatabaseError as error:
            reason = " ".join(str(error).split())
            raise CommandError(f"The database of DATABASE_URL cannot be used: {reason}.") from error

    def serve_by_daphne(self, listener):
        # Importing Daphne installs Twisted's asyncio reactor, which must precede every use of an event loop.
        from daphne.endpoints import build_endpoint_description_strings
        from daphne.server import Server

        from asyncsite.asgi import application

        begin_serving(restarts=True)
        endpoints = build_endpoint_description_strings(host=settings.HOST, port=settings.PORT)
        server = Server(
            application=application,
            endpoints=[f"{endpoint}:backlog={MAX_QUEUED_CONNECTIONS}" for endpoint in endpoints],
            ready_callable=self.announce,
            server_name=None,
            verbosity=0,
        )
        # A script that starts a process with & makes it ignore SIGINT, and Twisted does not change that.
        signal.signal(signal.SIGINT, signal.default_int_handler)
        listener.close()  # Daphne binds the address itself.
        server.run()
        if server.abort_start:
            raise CommandError(ADDRESS_TAKEN_LATER.format(settings.HOST, settings.PORT))

    def serve_by_uvicorn(self, listener):
        import uvicorn

        from asyncsite.asgi import application

        begin_serving(restarts=True)
        server = uvicorn.Server(uvicorn.Config(application, **UVICORN_OPTIONS))
        start = server.startup

        async def start_and_announce(sockets):
            await start(sockets)
            self.announce()

        server.startup = start_and_announce
        # uvicorn stops by these signals itself, and then raises them again for the previous handlers.
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: None)
        try:
            listener.listen(server.config.backlog)
        except OSError as error:
            raise CommandError(ADDRESS_TAKEN_LATER.format(settings.HOST, settings.PORT)) from error
        server.run([listener])

    def write_line(self, line):
        self.stdout.write(line)
        self.stdout.flush()

    def announce(self):
        self.write_line(f"The site is at {settings.SELF_URL}/")
        if settings.DEBUG:
            self.write_line(
                f"Sign in as demo (password demo), or at {settings.SELF_URL}/admin/ as admin (password admin)."
            )
            if folder := find_mail_folder():
                self.write_line(f"E-mails are stored in {folder}/, in place of being sent.")
            if not is_loopback(settings.HOST):
                self.write_line("These passwords are public: serve only a trusted network at this address.")
        if not settings.NOTIFICATIONS["EMBEDDED_WORKER"]:
            self.write_line("Jobs need a worker. Start it with: make worker")
        self.write_line("Press Ctrl-C to stop.")


def stop_at_hang_up():
    """Stop at SIGHUP as at SIGTERM, which the servers handle: the terminal was closed. Under nohup it is ignored."""
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        signal.signal(signal.SIGHUP, lambda *_: signal.raise_signal(signal.SIGTERM))


def require_database_folder():
    """Create var/, and raise CommandError if it or the folder of the SQLite file is not writable."""
    folders = [settings.VAR_DIR]
    if connection.vendor == "sqlite":
        folders.append(Path(settings.DATABASES["default"]["NAME"]).parent)
    for folder in folders:
        try:
            make_private_folder(settings.VAR_DIR)
            with tempfile.TemporaryFile(dir=folder):
                pass
        except OSError as error:
            raise CommandError(f"{folder} cannot be written: {error.strerror}.") from error


def bind(host, port):
    """Return a socket that is bound to an address and does not listen yet."""
    try:
        addresses = socket.getaddrinfo(
            host.strip("[]"), port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
    except socket.gaierror as error:
        raise CommandError(f"HOST is {host!r}, which is not an address: {error.strerror}.") from error
    family, kind, protocol, _, address = addresses[0]
    listener = socket.socket(family, kind, protocol)
    # A closed connection in TIME_WAIT does not occupy the port.
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind(address)
    except OSError as error:
        listener.close()
        raise CommandError(
            PORT_REMEDIES.get(error.errno, OTHER_PORT_REMEDY).format(host, port, error.strerror)
        ) from error
    return listener


ADDRESS_TAKEN_LATER = "Another process has taken {0}:{1} meanwhile. Start again."
OTHER_PORT_REMEDY = "{0}:{1} cannot be used: {2}."
PORT_REMEDIES = {
    errno.EADDRINUSE: "Port {1} of {0} is in use: stop the process that uses it, or set another one like PORT=8765.",
    errno.EACCES: "Port {1} needs more privileges: choose a port from 1024, like PORT=8000.",
    errno.EADDRNOTAVAIL: "HOST is {0}, which is not an address of this machine: use 127.0.0.1 or 0.0.0.0.",
}


def create_development_users():
    """Create the users demo and admin if they do not exist."""
    User = get_user_model()
    if not User.objects.filter(username="demo").exists():
        User.objects.create_user("demo", "demo@example.com", password="demo")
    if not User.objects.filter(username="admin").exists():
        User.objects.create_superuser("admin", "admin@example.com", password="admin")


def find_mail_folder():
    """Return the folder in which e-mails are stored, None if they are sent."""
    options = settings.MAIL_SETTINGS.get("MAILERS", {}).get("default", {}).get("OPTIONS", {})
    return options.get("file_path") or settings.MAIL_SETTINGS.get("EMAIL_FILE_PATH")


def refuse_development_passwords():
    """Raise CommandError if the users demo or admin can sign in with their development passwords.

    It runs before the migration, so that a refused start changes nothing. A new database has no users yet.
    """
    User = get_user_model()
    if User._meta.db_table not in connection.introspection.table_names():
        return
    users = User.objects.filter(username__in=["admin", "demo"], is_active=True)
    names = [
        user.username for user in users.order_by("username") if check_password(user.username, user.password)
    ]
    if names:
        passwords = " and ".join(f"{name} has the password {name}" for name in names)
        commands = " and ".join(f"manage.py changepassword {name}" for name in names)
        raise CommandError(
            f"The database is one of development: {passwords}. Change that with {commands}, then start again."
        )


def is_loopback(host):
    return host in ("localhost", "::1", "[::1]") or host.startswith("127.")
