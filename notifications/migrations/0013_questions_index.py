from django.db import migrations, models
from django.db.models import Q

from notifications.migrations._operations import AddIndex


class Migration(migrations.Migration):
    atomic = False

    dependencies = [
        ("notifications", "0012_receipts"),
    ]

    operations = [
        AddIndex(
            model_name="notification",
            index=models.Index(
                condition=Q(open_question__isnull=False),
                fields=["user", "raised"],
                name="notifications_n_question",
            ),
        ),
    ]
