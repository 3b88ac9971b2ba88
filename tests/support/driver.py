"""Does what a site's own code does, in a process of its own, one JSON line at a time.

driver = Driver(site); driver.call("notify", user=1, title="Hello")      # in the tests
python -m tests.support.driver                                           # what it starts
"""

import json
import subprocess
import sys
import threading
import traceback
from contextlib import contextmanager
from importlib import import_module

from tests.support.site import ROOT


class Driver:
    """A process with a site's settings. `call()` one of the module's DEEDS; its error is one here."""

    def __init__(self, site, deeds="tests.support.deeds"):
        self.lock = threading.Lock()
        self.popen = subprocess.Popen(
            [sys.executable, "-m", "tests.support.driver", deeds],
            env=site.env(),
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def call(self, deed, **told):
        with self.lock:
            self.popen.stdin.write(json.dumps([deed, told]) + "\n")
            self.popen.stdin.flush()
            answer = json.loads(self.popen.stdout.readline() or '{"error": "The driver has ended."}')
        assert "error" not in answer, f"{deed} {told}\n{answer['error']}"
        return answer["value"]

    def stop(self):
        self.popen.stdin.close()
        self.popen.wait(60)
        self.popen.stdout.close()


@contextmanager
def driver(site, deeds="tests.support.deeds"):
    """A driver for the length of a block."""
    started = Driver(site, deeds)
    try:
        yield started
    finally:
        started.stop()


def serve(deeds):
    """Do what the lines of standard input say."""
    known = {deed.__name__: deed for deed in deeds}
    for line in sys.stdin:
        deed, told = json.loads(line)
        try:
            answer = {"value": known[deed](**told)}
        except Exception:
            answer = {"error": traceback.format_exc()}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    import django

    django.setup()
    serve(import_module(sys.argv[1]).DEEDS)
