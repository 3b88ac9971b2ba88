"""The URLs of the site and of the benchmarks."""

from django.urls import include, path

from bench import messages, views

urlpatterns = [
    path("bench/enqueue/", views.enqueue),
    path("bench/accepted/", views.enqueue_accepted),
    path("bench/aaccepted/", views.aenqueue_accepted),
    path("bench/row/", views.row),
    path("bench/arow/", views.arow),
    path("setup/", messages.setup),
    path("", include("asyncsite.urls")),
]
