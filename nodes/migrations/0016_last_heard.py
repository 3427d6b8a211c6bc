from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("nodes", "0015_slowness")]
    operations = [migrations.AddField("nodeevent", "heard_at", models.DateTimeField(null=True))]
