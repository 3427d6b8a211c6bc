import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("nodes", "0003_memory"),
    ]

    operations = [
        migrations.CreateModel(
            name="Runner",
            fields=[
                (
                    "node",
                    models.OneToOneField(
                        on_delete=django.db.models.deletion.CASCADE, primary_key=True, serialize=False, to="nodes.node"
                    ),
                ),
                ("workers", models.PositiveIntegerField(null=True)),
                ("stats_at", models.DateTimeField(null=True)),
                ("failures", models.PositiveIntegerField(db_default=0)),
                ("failed_total", models.BigIntegerField(db_default=0)),
                ("error", models.CharField(db_default="", max_length=200)),
                ("own_load", models.FloatField(db_default=0.0)),
            ],
        ),
        migrations.CreateModel(
            name="RunnerStats",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("check_id", models.TextField()),
                ("execution_ms", models.FloatField()),
                ("total_runs", models.BigIntegerField()),
                ("total_errors", models.BigIntegerField()),
                ("failed", models.BooleanField()),
                ("last_error", models.TextField()),
                ("last_execution", models.DateTimeField(null=True)),
                (
                    "node",
                    models.ForeignKey(
                        db_index=False,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="runner_stats",
                        to="nodes.node",
                    ),
                ),
            ],
            options={
                "indexes": [models.Index(fields=["check_id"], name="runnerstats_check_id")],
                "constraints": [models.UniqueConstraint(fields=("node", "check_id"), name="runnerstats_node_check")],
            },
        ),
    ]
