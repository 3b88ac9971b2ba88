"""The site's URLs, and a view that first reads and then writes."""

import uuid

from django.contrib.auth import get_user_model
from django.db import transaction
from django.http import HttpResponse
from django.urls import path
from django.views.decorators.csrf import csrf_exempt

from asyncsite.urls import urlpatterns as site_urlpatterns

User = get_user_model()


@csrf_exempt
def write(request):
    with transaction.atomic():
        count = User.objects.count()
        User.objects.create(username=uuid.uuid4().hex)
    User.objects.filter(username="other").update(first_name=str(count))
    return HttpResponse("written")


urlpatterns = [*site_urlpatterns, path("write/", write)]
