"""Failed logins are counted."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("operators", "0002_steering"),
    ]

    operations = [
        migrations.CreateModel(
            name="FailedLogins",
            fields=[
                ("key", models.BinaryField(primary_key=True, serialize=False)),
                ("number", models.PositiveIntegerField()),
                ("since", models.DateTimeField(db_index=True)),
            ],
            options={
                "verbose_name_plural": "failed logins",
                "default_permissions": (),
            },
        ),
    ]
