import django.db.models.deletion
from django.db import migrations, models
from django.db.models.functions import Now

PROMISES = [
    ("overlap", "overlap: the former node runs it until the new one does"),
    ("strict", "strict: the new node gets it when the former one has stopped it"),
    ("at-once", "at once: both are told at once"),
]


class Migration(migrations.Migration):
    dependencies = [("checks", "0022_findings_left_out"), ("nodes", "0011_online")]
    operations = [
        migrations.AddField(
            "rule",
            "handover",
            models.CharField("hand-over", blank=True, choices=PROMISES, db_default="", default="", max_length=8),
        ),
        migrations.CreateModel(
            name="Handover",
            fields=[
                (
                    "config",
                    models.OneToOneField(
                        "checks.config",
                        django.db.models.deletion.DO_NOTHING,
                        db_constraint=False,
                        primary_key=True,
                        serialize=False,
                    ),
                ),
                ("promise", models.CharField(choices=PROMISES, max_length=8)),
                ("given", models.BigIntegerField()),
                ("since", models.DateTimeField(db_default=Now())),
                (
                    "source",
                    models.ForeignKey(
                        "nodes.node",
                        django.db.models.deletion.DO_NOTHING,
                        db_constraint=False,
                        related_name="handovers",
                    ),
                ),
            ],
        ),
    ]
