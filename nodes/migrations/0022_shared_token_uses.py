"""For which names the shared token was shown, and when last."""

import django.db.models.functions.datetime
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("nodes", "0021_tokens"),
    ]

    operations = [
        migrations.CreateModel(
            name="SharedTokenUse",
            fields=[
                ("name", models.CharField(max_length=253, primary_key=True, serialize=False)),
                ("address", models.GenericIPAddressField(null=True)),
                ("last_used_at", models.DateTimeField(db_default=django.db.models.functions.datetime.Now())),
            ],
            options={
                "default_permissions": (),
            },
        ),
    ]
