from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("checks", "0023_handovers")]
    operations = [
        migrations.AddField(
            "rule",
            "spread",
            models.BooleanField(
                "spread over domains",
                db_default=False,
                default=False,
                help_text="As evenly as room allows, by failure domain.",
            ),
        ),
        migrations.AddField(
            "rule",
            "apart_from",
            models.CharField(
                blank=True,
                db_default="",
                default="",
                help_text="Checks, with * and ?: postgres*, mysql",
                max_length=1000,
            ),
        ),
        migrations.AddField(
            "rule",
            "apart_by_domain",
            models.BooleanField(
                db_default=False, default=False, help_text="Apart in a whole failure domain, not just on a node."
            ),
        ),
    ]
