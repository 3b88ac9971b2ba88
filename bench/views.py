"""The views that benchmarks call: they enqueue an empty job, or save one row like a plain Django view."""

from __future__ import annotations

import time
from typing import Any

from django.http import HttpRequest, HttpResponse, JsonResponse
from django.views.decorators.csrf import csrf_exempt

from asyncsite.models import Report
from bench.tasks import nothing, time_of_end
from notifications.api import aaccepted, accepted


@csrf_exempt
def enqueue(request: HttpRequest) -> JsonResponse:
    called_at = time.time()
    result = time_of_end.using(owner=request.user).enqueue()
    return JsonResponse({"id": result.id, "called_at": called_at})


@csrf_exempt
def enqueue_accepted(request: HttpRequest) -> HttpResponse:
    return accepted(request, lambda: nothing.enqueue(0))


@csrf_exempt
async def aenqueue_accepted(request: HttpRequest) -> HttpResponse:
    return await aaccepted(request, lambda: nothing.enqueue(0))


@csrf_exempt
def row(request: HttpRequest) -> JsonResponse:
    return make_response(Report.objects.create(**make_fields(request.user)))


@csrf_exempt
async def arow(request: HttpRequest) -> JsonResponse:
    return make_response(await Report.objects.acreate(**make_fields(await request.auser())))


def make_fields(user: Any) -> dict[str, Any]:
    return {"owner": user, "title": "A report", "urls": [], "size": 0}


def make_response(report: Report) -> JsonResponse:
    return JsonResponse(
        {"id": report.pk, "title": report.title, "url": report.get_absolute_url()}, status=201
    )
