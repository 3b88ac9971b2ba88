"""An endpoint of the sample upstream whose responses a test holds back: ``Site.held_urls()`` and ``release()``."""

import asyncio
from pathlib import Path

from asyncsite import upstream


def add_gate(path):
    """Add ``/upstream/gate/NUMBER``, which responds as soon as the number in a file is greater."""
    file = Path(path)

    async def gate(send, subpath, query):
        # Another process writes the file.
        while not (file.exists() and int(file.read_text()) > int(subpath)):  # noqa: ASYNC110
            await asyncio.sleep(0.02)
        await upstream.send_response(send, 200, "released\n")

    upstream.ENDPOINTS["gate"] = gate
