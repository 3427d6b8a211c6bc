"""Room for what people see in place of digests, check IDs and keys. The leader fills it, since only Python can scrub."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("checks", "0010_find_configs_by_former_node")]

    operations = [
        migrations.AlterModelOptions(
            name="config",
            options={
                "ordering": ["name", "id"],
                "permissions": [("view_digests", "Can see the digests and check IDs that node agents have")],
            },
        ),
        migrations.AlterField("config", "patched_with", models.CharField(db_default="", max_length=64)),
        migrations.AddField("config", "short_id", models.CharField(db_default="", max_length=16)),
        migrations.AddField("origin", "shown", models.TextField(db_default="")),
        migrations.AddField("instance", "shown_name", models.TextField(db_default="")),
        migrations.AddField("instance", "short_id", models.CharField(db_default="", max_length=16)),
        migrations.AddField("edit", "made_with", models.CharField(db_default="", max_length=64)),
    ]
