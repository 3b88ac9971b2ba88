"""URLs of questions, below those of the core."""

from django.urls import path

from notifications.contrib.questions import views

urlpatterns = [
    path("jobs/<uuid:id>/questions/<uuid:wait>/", views.question_page, name="question"),
    path("api/jobs/<uuid:id>/answers/<uuid:wait>/", views.job_answer, name="api-job-answer"),
]
