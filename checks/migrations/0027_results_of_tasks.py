from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("checks", "0025_slow_everywhere")]
    operations = [migrations.AddField("taskrun", "result", models.TextField(db_default=""))]
