from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("checks", "0025_slow_everywhere")]
    operations = [
        migrations.AddField("config", "title", models.CharField(db_default="", max_length=250)),
        migrations.AddField("move", "title", models.CharField(db_default="", max_length=250)),
    ]
