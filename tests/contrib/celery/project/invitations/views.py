from django.contrib.auth.decorators import login_required
from django.http import HttpResponse
from post_office import mail


@login_required
def invite(request):
    mail.send("bob@example.com", "ada@example.com", subject="Join us", message="At noon.")
    return HttpResponse("Invited.")
