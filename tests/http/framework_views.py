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
from tests.support.core_alone import host_urls


class TokenAuthentication(BaseAuthentication):
    """Authenticate by a header: "Token ada" is the user ada."""

    def authenticate(self, request):
        kind, _, name = request.headers.get("Authorization", "").partition(" ")
        if kind != "Token":
            return None
        user = get_user_model().objects.filter(username=name).first()
        if user is None:
            raise AuthenticationFailed("No user has this token.")
        return user, None


@task
def make_export(year):
    return {"year": year}


class CountedTask:
    """The task of the examples, with a row for each call of enqueue()."""

    def enqueue(self, year):
        Group.objects.create(name=f"enqueued {year}, {Group.objects.count()}")
        if int(year) < 0:
            raise ZeroDivisionError
        return make_export.enqueue(int(year))


async def get_user_by_token(token):
    return await get_user_model().objects.filter(username=token).afirst()


drf = {"__name__": __name__, "export": CountedTask()}
ninja = drf | {"get_user_by_token": get_user_by_token}
exec(code("how-to/frameworks.md", "Django REST framework"), drf)
exec(code("how-to/frameworks.md", "Django Ninja"), ninja)

for view in (drf["export_view"].cls, drf["ExportView"]):
    view.authentication_classes = [TokenAuthentication, *view.authentication_classes]


class StreamParser(BaseParser):
    """A parser that reads the body as a stream, so that its bytes are gone."""

    media_type = "application/x-own"

    def parse(self, stream, media_type=None, parser_context=None):
        return json.load(stream)


class ExportByPut(drf["ExportView"]):
    """Read the whole body before accepted() is called."""

    parser_classes = [StreamParser, MultiPartParser]

    def put(self, request):
        assert request.data["year"]
        return self.post(request)


class LazyExportView(drf["ExportView"]):
    """Authenticate when request.user is first used, as DRF's documentation shows."""

    def perform_authentication(self, request):
        pass


urlpatterns = [
    path("drf/lazy/", LazyExportView.as_view()),
    path("drf/put/", ExportByPut.as_view()),
    path("drf/function/", drf["export_view"]),
    path("drf/class/", drf["ExportView"].as_view()),
    path("ninja/", ninja["api"].urls),
    path("", include(host_urls())),
]
