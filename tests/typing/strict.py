"""Code that pyright must accept in its strict mode: every name is fully known. It is never run."""
# pyright: strict, reportMissingTypeStubs=false

from __future__ import annotations

from django.http import HttpRequest, HttpResponse

from notifications.api import aaccepted, accepted
from tests.typing.accepted import check, export


def start_export(request: HttpRequest) -> HttpResponse:
    return accepted(request, lambda: export.enqueue(2026))


async def start_check(request: HttpRequest) -> HttpResponse:
    return await aaccepted(request, lambda: check.using(title="Check").enqueue("https://example.com"))
