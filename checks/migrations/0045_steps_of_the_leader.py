from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("checks", "0044_assumed_loads")]
    operations = [migrations.AddField("clusterstore", "steps", models.BigIntegerField(db_default=0))]
