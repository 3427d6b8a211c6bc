"""All that was there before the first release, for a database that has none of it."""

from django.db import migrations, models


class Migration(migrations.Migration):
    initial = True
    replaces = [
        ("clusteragent", "0001_webhook"),
        ("clusteragent", "0002_no_schedule"),
    ]
    dependencies = []

    operations = [
        migrations.CreateModel(
            name="Announcement",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("number", models.BigIntegerField(db_default=0)),
                ("told", models.JSONField(db_default={}, default=dict)),
                ("pending", models.JSONField(null=True)),
                ("then_told", models.JSONField(null=True)),
                ("attempts", models.PositiveIntegerField(db_default=0)),
                ("next_attempt", models.DateTimeField(null=True)),
            ],
            options={
                "constraints": [models.CheckConstraint(condition=models.Q(("id", 1)), name="announcement_is_one_row")],
            },
        ),
    ]
