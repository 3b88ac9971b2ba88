"""Debian's Firefox, controlled by Playwright over WebDriver BiDi.

Playwright sets media features, a command that Firefox ESR does not know yet. So Playwright starts this module as its
browser: it starts Firefox, answers that command itself and passes all others on.
"""

import asyncio
import json
import re
import shlex
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest
from websockets.asyncio.client import connect
from websockets.asyncio.server import serve

from tests.support.requirements import find_program

#: Commands that are answered without Firefox.
UNKNOWN_COMMANDS = {"emulation.setMediaFeaturesOverride"}
LISTENING = re.compile(r"WebDriver BiDi listening on (ws://\S+)")


@contextmanager
def firefox(playwright, folder):
    """Start Firefox and yield Playwright's Browser. `folder` is a pathlib.Path for the program that starts it.

    Skips the test, in CI too, if Firefox is too old for Playwright: distributions do not have both of the same time.
    """
    path = find_program("firefox-esr", package="firefox-esr")
    program = folder / "firefox"
    command = shlex.join([sys.executable, "-m", __name__, path])
    root = shlex.quote(str(Path(__file__).parents[2]))
    program.write_text(f'#!/bin/sh\nPYTHONPATH={root} exec {command} "$@"\n')
    program.chmod(0o700)
    try:
        browser = playwright.firefox.launch(channel="moz-firefox", executable_path=program)
    except Exception as exc:
        if missing := re.search(r"Protocol error \(([\w.]+)\): unknown command", str(exc)):
            pytest.skip(f"This firefox-esr has no {missing[1]}, which Playwright needs: install a newer one.")
        raise
    yield browser
    browser.close()


async def relay(source, target, answer=None):
    """Pass messages on until one side closes, except those that `answer` has a response to."""
    async for message in source:
        if answer and (response := answer(message)):
            await source.send(response)
        else:
            await target.send(message)
    await target.close()


def answer_unknown(message):
    """Return the response to a command that Firefox does not know, None for others."""
    command = json.loads(message)
    if command["method"] not in UNKNOWN_COMMANDS:
        return None
    return json.dumps({"type": "success", "id": command["id"], "result": {}})


async def run(path, *arguments):
    """Run Firefox, and print the address of the proxy instead of its own. Return the exit code."""
    process = await asyncio.create_subprocess_exec(path, *arguments, stderr=asyncio.subprocess.PIPE)
    address = asyncio.get_running_loop().create_future()

    async def handle(client):
        async with connect(await address + client.request.path, max_size=None) as server:
            await asyncio.gather(relay(client, server, answer_unknown), relay(server, client))

    async with serve(handle, "127.0.0.1", 0, max_size=None) as proxy:
        port = proxy.sockets[0].getsockname()[1]
        async for line in process.stderr:
            text = line.decode(errors="replace")
            if found := LISTENING.search(text):
                address.set_result(found[1])
                text = text.replace(found[1], f"ws://127.0.0.1:{port}")
            print(text, end="", file=sys.stderr, flush=True)
        return await process.wait()


if __name__ == "__main__":
    sys.exit(asyncio.run(run(*sys.argv[1:])))
