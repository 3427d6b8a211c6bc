"""By which token an act was done, or that it was by a session."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("acts", "0001_acts")]
    operations = [
        migrations.AddField("act", "credential", models.CharField(db_default="", max_length=253)),
        # Its words alone: nothing is done to the table.
        migrations.AlterField(
            "act",
            "how",
            models.CharField(
                choices=[
                    ("admin", "web"), ("API", "operators' API"), ("command", "command"), ("local API", "local API")
                ],
                max_length=16,
            ),
        ),
    ]  # fmt: skip
