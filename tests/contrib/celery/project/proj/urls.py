from django.urls import path
from invitations.views import invite
from reports import views

urlpatterns = [
    path("", views.index),
    path("start/", views.start),
    path("start-all/", views.start_all),
    path("invite/", invite),
]
