from django.urls import path
from invitations import views

urlpatterns = [
    path("invite/", views.invite),
]
