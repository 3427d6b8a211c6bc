import django.db.models.deletion
import django.db.models.functions.datetime
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("checks", "0002_rows"),
    ]

    operations = [
        migrations.CreateModel(
            name="Cost",
            fields=[
                (
                    "config",
                    models.OneToOneField(
                        db_constraint=False,
                        on_delete=django.db.models.deletion.DO_NOTHING,
                        primary_key=True,
                        serialize=False,
                        to="checks.config",
                    ),
                ),
                ("workers_needed", models.FloatField()),
                ("measured_at", models.DateTimeField(db_default=django.db.models.functions.datetime.Now())),
            ],
        ),
        # Instances that are there already have the usual interval until their config changes.
        migrations.AddField(
            model_name="instance",
            name="interval",
            field=models.FloatField(db_default=15.0),
        ),
    ]
