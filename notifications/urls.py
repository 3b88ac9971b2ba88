"""Addresses of the app, relative to where the project mounts them."""

from django.urls import path, re_path

from notifications import following, pages, views
from notifications.inbox import VERBS
from notifications.openapi.view import openapi

app_name = "notifications"

urlpatterns = [
    path("", pages.inbox, name="inbox"),
    path("read/", pages.mark_read, name="inbox-read"),
    path("jobs/<uuid:id>/", pages.job, name="job"),
    path("jobs/<uuid:id>/cancel/", pages.cancel, name="job-cancel"),
    path("jobs/<uuid:id>/retry/", pages.retry, name="job-retry"),
    path("api/sync/", following.sync, name="api-sync"),
    path("api/events/", following.events, name="api-events"),
    path("api/jobs/", views.jobs, name="api-jobs"),
    path("api/jobs/<uuid:id>/", views.job, name="api-job"),
    path("api/jobs/<uuid:id>/cancel/", views.job_cancel, name="api-job-cancel"),
    path("api/jobs/<uuid:id>/retry/", views.job_retry, name="api-job-retry"),
    path("api/jobs/<uuid:id>/result/", views.job_result, name="api-job-result"),
    path("api/notifications/", views.notifications, name="api-notifications"),
    *(
        path(f"api/notifications/{verb}/", views.mark, {"verb": verb}, name=f"api-notifications-{verb}")
        for verb in VERBS
    ),
    path("api/openapi.json", openapi, name="api-openapi"),
    re_path(r"^api/", views.nothing),
]
