from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("checks", "0003_costs")]

    operations = [
        migrations.AddField(
            model_name="config",
            name="patched_with",
            field=models.CharField(db_default="", max_length=16),
        ),
    ]
