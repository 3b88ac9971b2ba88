"""The URL of the output of a job, which is in the namespace of the core."""

from django.urls import path

from notifications.contrib.output import views

urlpatterns = [path("api/jobs/<uuid:id>/output/", views.job_output, name="api-job-output")]
