import django.contrib.postgres.fields
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("checks", "0035_ends_of_handovers"),
    ]

    operations = [
        migrations.CreateModel(
            name="ClusterHistory",
            fields=[
                (
                    "pk",
                    models.CompositePrimaryKey(
                        "step", "time", blank=True, editable=False, primary_key=True, serialize=False
                    ),
                ),
                ("step", models.PositiveSmallIntegerField(choices=[(1, "Minute"), (60, "Hour")])),
                ("time", models.DateTimeField()),
                ("load", models.FloatField()),
                ("peak", models.FloatField()),
                ("nodes", models.IntegerField()),
                ("configs", models.IntegerField()),
                ("dangling", models.IntegerField()),
                ("failing", models.IntegerField()),
                ("paused", models.IntegerField()),
                ("moves", models.IntegerField()),
            ],
        ),
        migrations.CreateModel(
            name="ConfigHistory",
            fields=[
                (
                    "pk",
                    models.CompositePrimaryKey(
                        "step", "bucket", "time", blank=True, editable=False, primary_key=True, serialize=False
                    ),
                ),
                ("step", models.PositiveSmallIntegerField(choices=[(1, "Minute"), (60, "Hour")])),
                ("bucket", models.PositiveSmallIntegerField()),
                ("time", models.DateTimeField()),
                (
                    "config_ids",
                    django.contrib.postgres.fields.ArrayField(base_field=models.BigIntegerField(), size=None),
                ),
                ("node_ids", django.contrib.postgres.fields.ArrayField(base_field=models.BigIntegerField(), size=None)),
                (
                    "mean_ms",
                    django.contrib.postgres.fields.ArrayField(base_field=models.IntegerField(null=True), size=None),
                ),
                (
                    "longest_ms",
                    django.contrib.postgres.fields.ArrayField(base_field=models.IntegerField(null=True), size=None),
                ),
                ("ok", django.contrib.postgres.fields.ArrayField(base_field=models.SmallIntegerField(), size=None)),
                (
                    "failing",
                    django.contrib.postgres.fields.ArrayField(base_field=models.SmallIntegerField(), size=None),
                ),
                (
                    "unknown",
                    django.contrib.postgres.fields.ArrayField(base_field=models.SmallIntegerField(), size=None),
                ),
                ("paused", django.contrib.postgres.fields.ArrayField(base_field=models.SmallIntegerField(), size=None)),
            ],
        ),
        migrations.CreateModel(
            name="NodeHistory",
            fields=[
                (
                    "pk",
                    models.CompositePrimaryKey(
                        "step", "time", "node_id", blank=True, editable=False, primary_key=True, serialize=False
                    ),
                ),
                ("step", models.PositiveSmallIntegerField(choices=[(1, "Minute"), (60, "Hour")])),
                ("time", models.DateTimeField()),
                ("node_id", models.BigIntegerField()),
                ("load", models.FloatField()),
                ("peak", models.FloatField()),
                ("configs", models.IntegerField()),
                ("failing", models.IntegerField()),
                ("gained", models.IntegerField()),
                ("lost", models.IntegerField()),
            ],
        ),
        # Of each minute what is two hours old is deleted. By default the room of an hour of it would wait to be used again.
        migrations.RunSQL(
            "ALTER TABLE checks_confighistory SET (autovacuum_vacuum_scale_factor = 0.02);"
            "ALTER TABLE checks_nodehistory SET (autovacuum_vacuum_scale_factor = 0.02)",
            migrations.RunSQL.noop,
        ),
    ]
