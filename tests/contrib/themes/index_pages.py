"""Save pages of Wagtail often, run the index tasks that follow at once, and print what became of them, as JSON.

With the argument "checks" only print the warnings about their policies.
"""

import json
import sys

import django


def main():
    django.setup()
    if "checks" in sys.argv:
        from django.core.checks import run_checks

        print(json.dumps([message.msg for message in run_checks() if message.id == "notifications.W039"]))
        return
    from django.contrib.auth import get_user_model
    from django.core.management import call_command
    from wagtail.models import Page

    from notifications.api import requester
    from notifications.models import Job, Notification

    call_command("migrate", verbosity=0)
    editor = get_user_model().objects.create_superuser("root", "root@users.example", "secret")
    root = Page.get_first_root_node()
    with requester(editor):
        for number in range(25):
            page = root.add_child(instance=Page(title=f"Page {number}", slug=f"page-{number}"))
            for _ in range(2):
                page.save()
    jobs = Job.objects.filter(task_path__startswith="modelsearch.")
    queued = jobs.count()
    call_command("run_jobs", "--until-idle", "--concurrency", "20", verbosity=0)
    succeeded = jobs.filter(state="succeeded").count()
    print(json.dumps([queued, succeeded, Notification.objects.count()]))


if __name__ == "__main__":
    main()
