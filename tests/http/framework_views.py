"""The views of docs/how-to/frameworks.md in a project with Django REST framework and Django Ninja."""

import json

from django.contrib.auth import get_user_model
from django.contrib.auth.models import Group
from django.urls import include, path
from rest_framework.authentication import BaseAuthentication
from rest_framework.exceptions import AuthenticationFailed
from rest_framework.parsers import BaseParser, MultiPartParser

from notifications.api import task
from tests.docs.pages import code


class TokenAuthentication(BaseAuthentication):
    """DRF finds the user by a header: "Token ada" is Ada's."""

    def authenticate(self, request):
        kind, _, name = request.headers.get("Authorization", "").partition(" ")
        if kind != "Token":
            return None
        user = get_user_model().objects.filter(username=name).first()
        if user is None:
            raise AuthenticationFailed("Nobody has this token.")
        return user, None


@task
def make_export(year):
    return {"year": year}


class Counted:
    """The task of the examples, which leaves a row for each time that it was asked for."""

    def enqueue(self, year):
        Group.objects.create(name=f"asked for {year}, {Group.objects.count()}")
        if int(year) < 0:
            raise ZeroDivisionError
        return make_export.enqueue(int(year))


async def person_with(token):
    return await get_user_model().objects.filter(username=token).afirst()


drf = {"__name__": __name__, "export": Counted()}
ninja = drf | {"person_with": person_with}
exec(code("how-to/frameworks.md", "Django REST framework"), drf)
exec(code("how-to/frameworks.md", "Django Ninja"), ninja)

for view in (drf["ask_for_export"].cls, drf["AskForExport"]):
    view.authentication_classes = [TokenAuthentication, *view.authentication_classes]


class Streamed(BaseParser):
    """A parser of a project's own: the body is gone once it has read it."""

    media_type = "application/x-own"

    def parse(self, stream, media_type=None, parser_context=None):
        return json.load(stream)


class AskByPut(drf["AskForExport"]):
    """Reads the whole body before it asks, which only here nobody keeps."""

    parser_classes = [Streamed, MultiPartParser]

    def put(self, request):
        assert request.data["year"]
        return self.post(request)


class AskLazily(drf["AskForExport"]):
    """Finds out who asks when somebody wants to know, as DRF's documentation has it."""

    def perform_authentication(self, request):
        pass


urlpatterns = [
    path("drf/lazy/", AskLazily.as_view()),
    path("drf/put/", AskByPut.as_view()),
    path("drf/function/", drf["ask_for_export"]),
    path("drf/class/", drf["AskForExport"].as_view()),
    path("ninja/", ninja["api"].urls),
    path("", include("asyncsite.urls")),
]
