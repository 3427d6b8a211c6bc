from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("checks", "0031_run_times")]
    operations = [
        migrations.AddField(
            "source", "accepted_by", models.CharField(blank=True, db_default="", default="", max_length=253)
        )
    ]
