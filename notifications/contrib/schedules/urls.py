"""URLs of schedules, below those of the core."""

from django.urls import path

from notifications.contrib.schedules import views

urlpatterns = [
    path("schedules/", views.schedules_page, name="schedules"),
    path("schedules/<str:name>/", views.change, name="schedule-change"),
]
