from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("checks", "0020_origins_by_beginning")]
    operations = [
        migrations.AddField(model, "from_source", models.BooleanField(default=False, db_default=False, editable=False))
        for model in ("pin", "pause", "isolation")
    ]
