"""Acts of people, which the database itself keeps."""

import django.db.models.functions.datetime
from django.db import migrations, models

import acts.models.acts

# Neither changed nor emptied, and deleted by nothing but pruning, which says so within its transaction.
KEPT = """
    CREATE FUNCTION acts_act_kept() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        IF TG_OP <> 'UPDATE' AND coalesce(current_setting('clusteragent.pruning', true), '') = 'on' THEN
            RETURN OLD;
        END IF;
        RAISE EXCEPTION 'acts are never changed, and deleted only when they are past their retention';
    END $$;
    CREATE TRIGGER acts_act_kept BEFORE UPDATE OR DELETE ON acts_act FOR EACH ROW EXECUTE FUNCTION acts_act_kept();
    CREATE TRIGGER acts_act_kept_whole BEFORE TRUNCATE ON acts_act EXECUTE FUNCTION acts_act_kept()
"""
NOT_KEPT = "DROP TRIGGER acts_act_kept ON acts_act; DROP TRIGGER acts_act_kept_whole ON acts_act; DROP FUNCTION acts_act_kept()"
# Django has no index of JSON for containment without django.contrib.postgres.
ABOUT = 'CREATE INDEX "act_about" ON "acts_act" USING gin (about jsonb_path_ops)'


class Migration(migrations.Migration):
    initial = True
    dependencies = []
    operations = [
        migrations.CreateModel(
            name="Act",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("time", models.DateTimeField(db_default=django.db.models.functions.datetime.Now())),
                ("person", models.CharField(max_length=253)),
                (
                    "how",
                    models.CharField(
                        choices=[
                            ("admin", "admin"),
                            ("API", "operators' API"),
                            ("command", "command"),
                            ("local API", "local API"),
                        ],
                        max_length=16,
                    ),
                ),
                ("address", models.CharField(db_default="", max_length=253)),
                ("verb", models.CharField(choices=acts.models.acts.act_verbs, max_length=16)),
                ("object", models.TextField()),
                ("before", models.JSONField(null=True)),
                ("after", models.JSONField(null=True)),
                ("plan", models.BigIntegerField(null=True)),
                ("reason", models.TextField(db_default="")),
                ("about", models.JSONField(db_default={})),
            ],
            options={
                "ordering": ["-id"],
                "default_permissions": ("view",),
                "indexes": [models.Index(fields=["time"], name="act_by_time")],
            },
        ),
        migrations.RunSQL(KEPT, NOT_KEPT),
        migrations.RunSQL(ABOUT, "DROP INDEX act_about"),
    ]
