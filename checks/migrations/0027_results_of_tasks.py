from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("checks", "0026_together")]
    operations = [migrations.AddField("taskrun", "result", models.TextField(db_default=""))]
