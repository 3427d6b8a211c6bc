from django.db import migrations, models

import checks.models.troubles


class Migration(migrations.Migration):
    dependencies = [("checks", "0024_domains")]
    operations = [
        migrations.AlterField(
            "trouble", "kind", models.CharField(choices=checks.models.troubles.trouble_kinds, max_length=16)
        )
    ]
