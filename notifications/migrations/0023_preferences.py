import django.core.validators
import django.db.models.deletion
from django.conf import settings
from django.db import migrations, models

import notifications.ids
from notifications.migrations._operations import CreateModel

#: What is muted was kept out of e-mails too.
COPY = """
INSERT INTO notifications_preference (user_id, category, channel, choice, changed_at)
SELECT user_id, category, '{channel}', 'off', created_at FROM notifications_mutedcategory WHERE true
ON CONFLICT DO NOTHING
"""
EMPTY = "DELETE FROM notifications_mutedcategory"
COPY_BACK = """
INSERT INTO notifications_mutedcategory (user_id, category, created_at)
SELECT user_id, category, changed_at FROM notifications_preference
WHERE channel = 'bell' AND choice = 'off' AND category <> '' ON CONFLICT DO NOTHING
"""


def user(model=models.ForeignKey, **options):
    return model(
        db_constraint=False,
        on_delete=django.db.models.deletion.DO_NOTHING,
        related_name="+",
        to=settings.AUTH_USER_MODEL,
        **options,
    )


class Migration(migrations.Migration):
    """Preferences replace muted categories.

    Their table stays until the next version: processes of the previous one still read it during a rolling deploy. What
    they write to it after this migration is not copied.
    """

    atomic = False

    dependencies = [
        ("notifications", "0022_deliveries"),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        CreateModel(
            name="Preference",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("user", user(db_index=False, verbose_name="user")),
                ("category", models.CharField(blank=True, max_length=100, verbose_name="category")),
                (
                    "channel",
                    models.CharField(
                        choices=[("bell", "in the bell"), ("email", "by e-mail")],
                        max_length=10,
                        verbose_name="channel",
                    ),
                ),
                (
                    "choice",
                    models.CharField(
                        choices=[
                            ("on", "each one"),
                            ("hourly", "every hour, together"),
                            ("daily", "every day, together"),
                            ("weekly", "every week, together"),
                            ("off", "never"),
                        ],
                        max_length=10,
                        verbose_name="choice",
                    ),
                ),
                ("changed_at", models.DateTimeField(verbose_name="changed")),
            ],
            options={
                "verbose_name": "preference",
                "verbose_name_plural": "preferences",
                "default_permissions": ("view",),
                "constraints": [
                    models.UniqueConstraint(
                        fields=("user", "category", "channel"), name="notifications_preference_key"
                    )
                ],
            },
        ),
        CreateModel(
            name="Reader",
            fields=[
                (
                    "user",
                    user(models.OneToOneField, primary_key=True, serialize=False, verbose_name="user"),
                ),
                ("paused_until", models.DateTimeField(blank=True, null=True, verbose_name="paused until")),
                (
                    "time_zone",
                    models.CharField(blank=True, default="", max_length=64, verbose_name="time zone"),
                ),
                (
                    "digest_hour",
                    models.PositiveSmallIntegerField(
                        default=8,
                        validators=[django.core.validators.MaxValueValidator(23)],
                        verbose_name="hour",
                    ),
                ),
                (
                    "digest_day",
                    models.PositiveSmallIntegerField(
                        default=0,
                        validators=[django.core.validators.MaxValueValidator(6)],
                        verbose_name="day",
                    ),
                ),
                (
                    "dead_address",
                    models.CharField(blank=True, default="", max_length=320, verbose_name="dead address"),
                ),
                (
                    "dead_error",
                    models.CharField(blank=True, default="", max_length=500, verbose_name="error"),
                ),
            ],
            options={"verbose_name": "reader", "verbose_name_plural": "readers", "default_permissions": ()},
        ),
        CreateModel(
            name="Digest",
            fields=[
                (
                    "id",
                    models.UUIDField(
                        default=notifications.ids.uuid7,
                        editable=False,
                        primary_key=True,
                        serialize=False,
                        verbose_name="ID",
                    ),
                ),
                ("user", user(db_index=False)),
                ("due_at", models.DateTimeField(verbose_name="due")),
                ("job", models.UUIDField(verbose_name="job")),
                ("is_closed", models.BooleanField(default=False)),
            ],
            options={
                "default_permissions": (),
                "constraints": [
                    models.UniqueConstraint(fields=("user", "due_at"), name="notifications_digest_key")
                ],
                "indexes": [models.Index(fields=["due_at"], name="notifications_digest_due")],
            },
        ),
        migrations.AlterField(
            model_name="delivery",
            name="reason",
            field=models.CharField(
                blank=True,
                choices=[
                    ("seen", "The notification had been seen."),
                    ("read", "The notification had been read."),
                    ("archived", "The notification had been archived or replaced by a newer one."),
                    ("deleted", "The notification had been deleted."),
                    ("off", "The user had switched it off."),
                    ("inactive", "The user is not active."),
                    ("no-address", "The user has no valid e-mail address."),
                    ("dead-address", "A mail server had refused the address for good."),
                ],
                default="",
                max_length=20,
                verbose_name="reason",
            ),
        ),
        migrations.RunSQL(COPY.format(channel="bell"), [EMPTY, COPY_BACK]),
        migrations.RunSQL(COPY.format(channel="email"), migrations.RunSQL.noop),
        migrations.RunSQL(
            "UPDATE notifications_delivery SET reason = 'off' WHERE reason = 'muted'",
            "UPDATE notifications_delivery SET reason = 'muted' WHERE reason = 'off'",
        ),
        migrations.SeparateDatabaseAndState(state_operations=[migrations.DeleteModel(name="MutedCategory")]),
    ]
