from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("checks", "0040_statistics_of_moves")]
    operations = [
        migrations.AddField(model, "bounded", models.BooleanField(db_default=False, default=False, editable=False))
        for model in ("isolation", "pause", "pin")
    ]
