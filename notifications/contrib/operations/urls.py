"""The address that Prometheus reads."""

from django.urls import path

from notifications.contrib.operations import views

urlpatterns = [path("metrics/", views.metrics, name="metrics")]
