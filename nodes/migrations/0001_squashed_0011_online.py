"""All that was there before the first release, for a database that has none of it."""

from typing import Any

import django.core.validators
import django.db.models.deletion
import django.db.models.functions.datetime
from django.db import migrations, models

import nodes.models
import nodes.models.events
import nodes.names

# A trigger, so that every change is told, whoever makes it: a replica of an older release, or somebody with psql. A payload has
# less than 8 000 bytes.
TELL = """
    CREATE FUNCTION nodes_tell() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        IF TG_TABLE_NAME = 'nodes_heartbeat' THEN
            PERFORM pg_notify('clusteragent_nodes', string_agg(id, ' '))
            FROM (SELECT node_id::text, row_number() OVER () / 390 FROM was) AS lost (id, part) GROUP BY part;
        ELSE
            PERFORM pg_notify('clusteragent_nodes', string_agg(id, ' '))
            FROM (
                SELECT n.id::text, row_number() OVER () / 390 FROM was AS n JOIN now_is AS m USING (id)
                WHERE n.config_version <> m.config_version
            ) AS changed (id, part) GROUP BY part;
        END IF;
        RETURN NULL;
    END $$;
    CREATE TRIGGER nodes_version_told AFTER UPDATE ON nodes_node
        REFERENCING OLD TABLE AS was NEW TABLE AS now_is FOR EACH STATEMENT EXECUTE FUNCTION nodes_tell();
    CREATE TRIGGER nodes_loss_told AFTER DELETE ON nodes_heartbeat
        REFERENCING OLD TABLE AS was FOR EACH STATEMENT EXECUTE FUNCTION nodes_tell();
"""
FORGET = """
    DROP TRIGGER nodes_version_told ON nodes_node;
    DROP TRIGGER nodes_loss_told ON nodes_heartbeat;
    DROP FUNCTION nodes_tell();
"""


def make_rows(apps: Any, schema_editor: Any) -> None:
    for name in ("Hearing", "Memory"):
        apps.get_model("nodes", name).objects.get_or_create(pk=1)


class Migration(migrations.Migration):
    initial = True
    replaces = [
        ("nodes", "0001_initial"),
        ("nodes", "0002_rows"),
        ("nodes", "0003_memory"),
        ("nodes", "0004_runners"),
        ("nodes", "0005_steering"),
        ("nodes", "0006_two_addresses"),
        ("nodes", "0007_bounds"),
        ("nodes", "0008_late_passes"),
        ("nodes", "0009_tell_versions"),
        ("nodes", "0010_all_stats"),
        ("nodes", "0011_online"),
    ]
    dependencies = []

    operations = [
        migrations.CreateModel(
            name="Node",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("name", models.CharField(max_length=253, unique=True, validators=[nodes.names.validate_node_name])),
                ("config_version", models.BigIntegerField(db_default=0, editable=False)),
                (
                    "schedulable",
                    models.BooleanField(
                        db_default=True, help_text="Off: cordoned. It gets nothing new and keeps what it has."
                    ),
                ),
                ("draining", models.BooleanField(db_default=False, editable=False)),
                ("leaving", models.BooleanField(db_default=False, editable=False)),
                ("left_at", models.DateTimeField(editable=False, null=True)),
                ("kept_until", models.DateTimeField(editable=False, null=True)),
                ("not_before", models.DateTimeField(editable=False, null=True)),
                ("declared", models.TextField(db_default="", editable=False)),
                ("likeness", models.BigIntegerField(editable=False, null=True)),
                ("labels", models.JSONField(blank=True, default=dict)),
                ("weight", models.FloatField(db_default=1.0, editable=False)),
                ("max_configs", models.PositiveIntegerField(editable=False, null=True)),
                (
                    "first_seen",
                    models.DateTimeField(db_default=django.db.models.functions.datetime.Now(), editable=False),
                ),
                ("lost_at", models.DateTimeField(editable=False, null=True)),
            ],
            options={
                "ordering": ["name"],
            },
        ),
        migrations.CreateModel(
            name="Memory",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
            ],
        ),
        migrations.CreateModel(
            name="NodeEvent",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("node_name", models.CharField(max_length=253)),
                (
                    "kind",
                    models.CharField(
                        choices=nodes.models.events.event_kinds,
                        max_length=16,
                    ),
                ),
                ("cause", models.TextField(db_default="")),
                ("time", models.DateTimeField(db_default=django.db.models.functions.datetime.Now())),
            ],
            options={
                "ordering": ["-id"],
            },
        ),
        migrations.CreateModel(
            name="NodeRule",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                (
                    "pattern",
                    models.CharField(
                        blank=True,
                        default="*",
                        help_text="Of nodes, with * and ?: runner-*",
                        max_length=253,
                        verbose_name="names",
                    ),
                ),
                (
                    "network",
                    models.CharField(
                        blank=True,
                        help_text="Of addresses: 10.1.0.0/16. Empty: all.",
                        max_length=64,
                        validators=[nodes.models.validate_network],
                    ),
                ),
                (
                    "node_type",
                    models.SmallIntegerField(
                        blank=True,
                        choices=[(0, "unknown"), (1, "cluster check runner"), (2, "node agent")],
                        help_text="Empty: all.",
                        null=True,
                        verbose_name="type",
                    ),
                ),
                (
                    "labels",
                    models.JSONField(
                        blank=True, default=dict, help_text='{"zone": "a"}', validators=[nodes.models.validate_labels]
                    ),
                ),
                (
                    "weight",
                    models.FloatField(
                        blank=True,
                        help_text="Its share compared with others: 0.5 is half.",
                        null=True,
                        validators=[django.core.validators.MinValueValidator(0.01)],
                    ),
                ),
                ("max_configs", models.PositiveIntegerField(blank=True, null=True, verbose_name="most configs")),
                ("author", models.CharField(blank=True, editable=False, max_length=253)),
                ("note", models.TextField(blank=True)),
                ("time", models.DateTimeField(db_default=django.db.models.functions.datetime.Now(), editable=False)),
            ],
            options={
                "ordering": ["id"],
            },
        ),
        migrations.CreateModel(
            name="RunnerStats",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("check_id", models.TextField()),
                ("execution_ms", models.FloatField()),
                ("metric_samples", models.BigIntegerField(null=True)),
                ("histogram_buckets", models.BigIntegerField(null=True)),
                ("events", models.BigIntegerField(null=True)),
                ("service_checks", models.BigIntegerField(null=True)),
                ("total_runs", models.BigIntegerField(null=True)),
                ("total_errors", models.BigIntegerField(null=True)),
                ("total_metric_samples", models.BigIntegerField(null=True)),
                ("total_events", models.BigIntegerField(null=True)),
                ("total_service_checks", models.BigIntegerField(null=True)),
                ("failed", models.BooleanField()),
                ("last_error", models.TextField()),
                ("last_execution", models.DateTimeField(null=True)),
                ("last_success", models.BigIntegerField(null=True)),
            ],
        ),
        migrations.CreateModel(
            name="Hearing",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("last_pass", models.DateTimeField(null=True)),
                ("hearing_since", models.DateTimeField(null=True)),
                ("braked_since", models.DateTimeField(null=True)),
                ("late_since", models.DateTimeField(null=True)),
                ("warm_until", models.DateTimeField(null=True)),
                ("warmup", models.BooleanField(db_default=True)),
                ("names_refused", models.BigIntegerField(db_default=0)),
                ("names_refused_at", models.DateTimeField(null=True)),
            ],
            options={
                "constraints": [models.CheckConstraint(condition=models.Q(("id", 1)), name="hearing_is_one_row")],
            },
        ),
        migrations.CreateModel(
            name="Heartbeat",
            fields=[
                (
                    "node",
                    models.OneToOneField(
                        on_delete=django.db.models.deletion.CASCADE, primary_key=True, serialize=False, to="nodes.node"
                    ),
                ),
                ("seen_at", models.DateTimeField(db_default=django.db.models.functions.datetime.Now())),
                ("acknowledged", models.BigIntegerField(db_default=0)),
                (
                    "node_type",
                    models.SmallIntegerField(
                        choices=[(0, "unknown"), (1, "cluster check runner"), (2, "node agent")], db_default=0
                    ),
                ),
                ("client_ip", models.GenericIPAddressField(null=True)),
                ("former_ip", models.GenericIPAddressField(null=True)),
            ],
        ),
        migrations.CreateModel(
            name="Runner",
            fields=[
                (
                    "node",
                    models.OneToOneField(
                        on_delete=django.db.models.deletion.CASCADE, primary_key=True, serialize=False, to="nodes.node"
                    ),
                ),
                ("workers", models.PositiveIntegerField(null=True)),
                ("stats_at", models.DateTimeField(null=True)),
                ("failures", models.PositiveIntegerField(db_default=0)),
                ("failed_total", models.BigIntegerField(db_default=0)),
                ("error", models.CharField(db_default="", max_length=200)),
                ("clamped", models.CharField(db_default="", max_length=200)),
                ("own_load", models.FloatField(db_default=0.0)),
            ],
        ),
        migrations.AddIndex(
            model_name="node",
            index=models.Index(condition=models.Q(("lost_at__isnull", False)), fields=["lost_at"], name="node_lost"),
        ),
        migrations.AddIndex(
            model_name="node",
            index=models.Index(fields=["likeness"], name="node_likeness"),
        ),
        migrations.AddIndex(
            model_name="node",
            index=models.Index(fields=["first_seen"], name="node_first_seen"),
        ),
        migrations.AddIndex(
            model_name="node",
            index=models.Index(
                condition=models.Q(("leaving", True), ("kept_until__isnull", False), _connector="OR"),
                fields=["id"],
                name="node_goodbye",
            ),
        ),
        migrations.AddConstraint(
            model_name="node",
            constraint=models.CheckConstraint(condition=models.Q(("name", ""), _negated=True), name="node_is_named"),
        ),
        migrations.AddIndex(
            model_name="nodeevent",
            index=models.Index(fields=["node_name", "-id"], name="nodeevent_of_node"),
        ),
        migrations.AddIndex(
            model_name="nodeevent",
            index=models.Index(fields=["time"], name="nodeevent_by_time"),
        ),
        migrations.AddField(
            model_name="runnerstats",
            name="node",
            field=models.ForeignKey(
                db_index=False,
                on_delete=django.db.models.deletion.CASCADE,
                related_name="runner_stats",
                to="nodes.node",
            ),
        ),
        migrations.AddIndex(
            model_name="runnerstats",
            index=models.Index(fields=["check_id"], name="runnerstats_check_id"),
        ),
        migrations.AddConstraint(
            model_name="runnerstats",
            constraint=models.UniqueConstraint(fields=("node", "check_id"), name="runnerstats_node_check"),
        ),
        # Half of each page stays free, so that an update of a heartbeat finds room on its own page and is HOT. Django knows no
        # unlogged tables.
        migrations.RunSQL(
            "ALTER TABLE nodes_heartbeat SET (fillfactor = 50); ALTER TABLE nodes_memory SET UNLOGGED",
            migrations.RunSQL.noop,
        ),
        migrations.RunSQL(TELL, FORGET),
        migrations.RunPython(make_rows, migrations.RunPython.noop),
    ]
