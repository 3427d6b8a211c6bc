from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("checks", "0037_trouble_errors")]
    operations = [
        migrations.AddField(model, "plan", models.BigIntegerField(editable=model == "move", null=True))
        for model in ("isolation", "move", "pause", "pin")
    ]
