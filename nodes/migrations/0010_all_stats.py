from django.db import migrations, models

COUNTS = (
    "metric_samples", "histogram_buckets", "events", "service_checks", "total_metric_samples", "total_events",
    "total_service_checks", "last_success",
)  # fmt: skip


class Migration(migrations.Migration):
    dependencies = [
        ("nodes", "0009_tell_versions"),
    ]

    operations = [
        *(migrations.AddField("runnerstats", name, models.BigIntegerField(null=True)) for name in COUNTS),
        # Runners from before 2026 tell neither.
        *(
            migrations.AlterField("runnerstats", name, models.BigIntegerField(null=True))
            for name in ("total_runs", "total_errors")
        ),
    ]
