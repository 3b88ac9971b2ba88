from django.db import migrations


class Migration(migrations.Migration):
    initial = True

    dependencies = [
        ("notifications", "0001_streams"),
    ]

    operations = [
        migrations.CreateModel(
            name="AskedQuestion",
            fields=[],
            options={
                "verbose_name": "question",
                "verbose_name_plural": "questions",
                "permissions": [("answer_question", "Can answer the questions of all jobs")],
                "proxy": True,
                "default_permissions": (),
                "indexes": [],
                "constraints": [],
            },
            bases=("notifications.wait",),
        ),
    ]
