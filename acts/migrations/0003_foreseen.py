"""What was foreseen of an act."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("acts", "0002_credentials")]
    operations = [migrations.AddField("act", "foreseen", models.JSONField(null=True))]
