"""What is asked of the measured site: a job that does nothing, and beside it a row as any Django view saves it."""

from __future__ import annotations

import time
from typing import Any

from django.http import HttpRequest, HttpResponse, JsonResponse
from django.views.decorators.csrf import csrf_exempt

from asyncsite.models import Report
from bench.tasks import nothing
from notifications.api import aaccepted, accepted


@csrf_exempt
def ask(request: HttpRequest) -> JsonResponse:
    asked_at = time.time()
    result = nothing.using(owner=request.user).enqueue(0)
    return JsonResponse({"id": result.id, "asked_at": asked_at})


@csrf_exempt
def ask_accepted(request: HttpRequest) -> HttpResponse:
    return accepted(request, lambda: nothing.enqueue(0))


@csrf_exempt
async def aask_accepted(request: HttpRequest) -> HttpResponse:
    return await aaccepted(request, lambda: nothing.enqueue(0))


@csrf_exempt
def row(request: HttpRequest) -> JsonResponse:
    return said(Report.objects.create(**columns(request.user)))


@csrf_exempt
async def arow(request: HttpRequest) -> JsonResponse:
    return said(await Report.objects.acreate(**columns(await request.auser())))


def columns(user: Any) -> dict[str, Any]:
    return {"owner": user, "title": "A report", "urls": [], "size": 0}


def said(report: Report) -> JsonResponse:
    return JsonResponse(
        {"id": report.pk, "title": report.title, "url": report.get_absolute_url()}, status=201
    )
