"""URLs of the app, relative to where the project includes them."""

from django.urls import path, re_path

from notifications.extension import hooks
from notifications.http import (
    api_views,
    health_views,
    page_views,
    stream_views,
    tag_views,
)
from notifications.http.openapi import openapi
from notifications.inbox import confirming, forms, inbox_page, pages
from notifications.streams.marking import VERBS

app_name = "notifications"

urlpatterns = [
    path("", inbox_page.inbox, name="inbox"),
    path("mark/", forms.mark, name="inbox-mark"),
    path("mark/filter/", forms.mark, name="inbox-mark-filter"),
    path("undo/", forms.undo, name="inbox-undo"),
    path("views/", forms.save_view, name="inbox-views"),
    path("snooze/", forms.snooze, name="snooze"),
    path("<uuid:id>/", pages.detail, name="notification"),
    path("<uuid:id>/actions/<int:number>/", confirming.confirm_action, name="action"),
    path("jobs/<uuid:id>/", pages.job_detail, name="job"),
    path("jobs/<uuid:id>/cancel/", page_views.job_cancel, name="job-cancel"),
    path("jobs/<uuid:id>/retry/", page_views.job_retry, name="job-retry"),
    path("api/sync/", stream_views.sync, name="api-sync"),
    path("api/events/", stream_views.events, name="api-events"),
    path("api/jobs/", api_views.job_list, name="api-jobs"),
    path("api/jobs/counts/", tag_views.job_counts, name="api-job-counts"),
    *(
        path(f"api/jobs/{change}/", tag_views.jobs_change, {"change": change}, name=f"api-jobs-{change}")
        for change in ("cancel", "retry")
    ),
    path("api/jobs/<uuid:id>/", api_views.job_detail, name="api-job"),
    path("api/jobs/<uuid:id>/cancel/", api_views.job_cancel, name="api-job-cancel"),
    path("api/jobs/<uuid:id>/retry/", api_views.job_retry, name="api-job-retry"),
    path("api/jobs/<uuid:id>/place/", api_views.job_place, name="api-job-place"),
    path("api/jobs/<uuid:id>/result/", api_views.job_result, name="api-job-result"),
    path("api/notifications/", api_views.notification_list, name="api-notifications"),
    *(
        path(
            f"api/notifications/{verb}/",
            api_views.notification_mark,
            {"verb": verb},
            name=f"api-notifications-{verb}",
        )
        for verb in VERBS
    ),
    path("api/notifications/seen/", api_views.notification_seen, name="api-notifications-seen"),
    path("api/health/live/", health_views.live, name="api-health-live"),
    path("api/health/ready/", health_views.ready, name="api-health-ready"),
    path("api/openapi.json", openapi, name="api-openapi"),
    *(pattern for module in hooks.find_modules("urls").values() for pattern in module.urlpatterns),
    re_path(r"^api/", api_views.not_found),
]
