"""A WSGI server of the standard library below a script name: python -m tests.hosts.everything.wsgi PORT"""

import os
import sys
from socketserver import ThreadingMixIn
from wsgiref.simple_server import WSGIServer, make_server

from django.core.wsgi import get_wsgi_application

SCRIPT_NAME = "/app"


class Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True


def mount_below_script_name(application):
    """Set SCRIPT_NAME and remove it from the path, as a proxy does."""

    def serve(environ, start_response):
        environ["SCRIPT_NAME"] = SCRIPT_NAME
        environ["PATH_INFO"] = environ["PATH_INFO"].removeprefix(SCRIPT_NAME)
        return application(environ, start_response)

    return serve


if __name__ == "__main__":
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.hosts.everything.settings")
    application = mount_below_script_name(get_wsgi_application())
    make_server("127.0.0.1", int(sys.argv[1]), application, Server).serve_forever()
