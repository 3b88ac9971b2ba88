from celery import group
from django.contrib.auth.decorators import login_required
from django.http import HttpResponse
from django.shortcuts import render

from .tasks import make_report


@login_required
def index(request):
    return render(request, "reports/index.html")


@login_required
def start(request):
    make_report.delay(request.user.pk, 2026)
    return HttpResponse("Started.")


@login_required
def start_all(request):
    group(make_report.s(request.user.pk, year) for year in (2024, 2025, 2026))()
    return HttpResponse("Started.")
