from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("checks", "0025_slow_everywhere")]
    operations = [
        migrations.AddField(
            "rule",
            "together_with",
            models.CharField(
                blank=True,
                db_default="",
                default="",
                help_text="Checks beside which it prefers to be: redisdb",
                max_length=1000,
            ),
        ),
    ]
