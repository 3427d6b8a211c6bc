from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("checks", "0027_results_of_tasks")]
    operations = [
        migrations.AddField("config", "title", models.CharField(db_default="", default="", max_length=250)),
        migrations.AddField("move", "title", models.CharField(db_default="", default="", max_length=250)),
    ]
