"""All that was there before the first release, for a database that has none of it."""

from typing import Any

import django.core.validators
import django.db.models.constraints
import django.db.models.deletion
import django.db.models.functions.datetime
from django.db import migrations, models

import checks.models.map
import nodes.models

# A trigger, so that every way of writing to the ledger counts, that of a replica of an older release too. Changes of the
# map come one after the other, so nobody waits for these rows.
COUNT_MOVES = """
    CREATE FUNCTION checks_count_moves() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        INSERT INTO checks_movetotal AS t (reason, number)
        SELECT reason, count(*) FROM written GROUP BY reason ORDER BY reason
        ON CONFLICT (reason) DO UPDATE SET number = t.number + excluded.number;
        RETURN NULL;
    END $$;
    CREATE TRIGGER checks_move_counted AFTER INSERT ON checks_move
        REFERENCING NEW TABLE AS written FOR EACH STATEMENT EXECUTE FUNCTION checks_count_moves();
"""
FORGET_MOVES = "DROP TRIGGER checks_move_counted ON checks_move; DROP FUNCTION checks_count_moves();"
# Beside the moves that were made, those that rebalances decided on: plans are pruned, too.
COUNT_DECISIONS = """
    CREATE FUNCTION checks_count_decisions() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        INSERT INTO checks_movetotal AS t (reason, number) VALUES ('decided', jsonb_array_length(NEW.moves))
        ON CONFLICT (reason) DO UPDATE SET number = t.number + excluded.number;
        RETURN NULL;
    END $$;
    CREATE TRIGGER checks_plan_decided AFTER UPDATE OF applied_at ON checks_plan FOR EACH ROW
        WHEN (OLD.applied_at IS NULL AND NEW.applied_at IS NOT NULL AND NEW.reason = 'rebalanced')
        EXECUTE FUNCTION checks_count_decisions();
"""
FORGET_DECISIONS = "DROP TRIGGER checks_plan_decided ON checks_plan; DROP FUNCTION checks_count_decisions();"


def make_rows(apps: Any, schema_editor: Any) -> None:
    apps.get_model("checks", "ClusterStore").objects.get_or_create(pk=1)
    # The warm-up waits until every source was read, so the source that always exists must be known from the start.
    apps.get_model("checks", "Source").objects.get_or_create(name="file")


class Migration(migrations.Migration):
    initial = True
    replaces = [
        ("checks", "0001_initial"),
        ("checks", "0002_rows"),
        ("checks", "0003_costs"),
        ("checks", "0004_patched_with"),
        ("checks", "0005_move_totals"),
        ("checks", "0006_orders"),
        ("checks", "0007_troubles"),
        ("checks", "0008_edits_and_orders_of_plans"),
        ("checks", "0009_count_decisions"),
        ("checks", "0010_find_configs_by_former_node"),
        ("checks", "0011_display_copies"),
        ("checks", "0012_forget_digests"),
        ("checks", "0013_freezes"),
        ("checks", "0014_source_warnings"),
        ("checks", "0015_tell_configs_apart"),
        ("checks", "0016_what_authors_wrote"),
        ("checks", "0017_online"),
    ]
    dependencies = [("nodes", "0010_all_stats")]

    operations = [
        migrations.CreateModel(
            name="Config",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("digest", models.CharField(max_length=16)),
                ("name", models.CharField(max_length=253, verbose_name="check")),
                ("provider", models.CharField(db_default="", max_length=253)),
                ("original", models.JSONField()),
                ("wire", models.BinaryField()),
                ("scrubbed", models.BinaryField()),
                ("text", models.TextField()),
                ("node_name", models.CharField(db_default="", max_length=253, verbose_name="endpoint of node")),
                ("short_id", models.CharField(db_default="", max_length=16)),
                ("fast_digest", models.CharField(db_default="", max_length=16)),
                ("contents", models.CharField(db_default="", max_length=32)),
                ("patched_with", models.CharField(db_default="", max_length=64)),
                ("created", models.DateTimeField(db_default=django.db.models.functions.datetime.Now())),
                ("changed", models.DateTimeField(db_default=django.db.models.functions.datetime.Now())),
                ("dangling_since", models.DateTimeField(null=True)),
                ("unscheduled", models.BooleanField(db_default=False)),
                (
                    "former_node",
                    models.ForeignKey(
                        db_index=False,
                        null=True,
                        on_delete=django.db.models.deletion.SET_NULL,
                        related_name="+",
                        to="nodes.node",
                    ),
                ),
            ],
            options={
                "ordering": ["name", "id"],
                "permissions": [("view_digests", "Can see the digests and check IDs that node agents have")],
            },
        ),
        migrations.CreateModel(
            name="Freeze",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("author", models.CharField(blank=True, max_length=253)),
                ("note", models.TextField(blank=True)),
                ("time", models.DateTimeField(db_default=django.db.models.functions.datetime.Now())),
                ("until", models.DateTimeField(blank=True, null=True)),
                ("ended_at", models.DateTimeField(null=True)),
                ("ended_by", models.CharField(db_default="", max_length=253)),
            ],
            options={
                "ordering": ["-id"],
            },
        ),
        migrations.CreateModel(
            name="MoveTotal",
            fields=[
                ("reason", models.CharField(max_length=16, primary_key=True, serialize=False)),
                ("number", models.BigIntegerField(db_default=0)),
            ],
        ),
        migrations.CreateModel(
            name="Plan",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("author", models.CharField(blank=True, max_length=253)),
                (
                    "reason",
                    models.CharField(
                        choices=checks.models.map.move_reasons,
                        default="rebalanced",
                        max_length=16,
                    ),
                ),
                ("revision", models.BigIntegerField()),
                ("moves", models.JSONField(default=list)),
                ("order", models.JSONField(db_default={}, default=dict)),
                ("nodes", models.JSONField(default=dict)),
                ("spread", models.JSONField(default=dict)),
                ("time", models.DateTimeField(db_default=django.db.models.functions.datetime.Now())),
                ("applied_at", models.DateTimeField(null=True)),
                ("moved", models.PositiveIntegerField(db_default=0)),
                ("outcome", models.TextField(db_default="")),
            ],
            options={
                "ordering": ["-id"],
            },
        ),
        migrations.CreateModel(
            name="Rule",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("name", models.CharField(max_length=253, unique=True)),
                (
                    "check_pattern",
                    models.CharField(
                        default="*", help_text="Names, with * and ?: postgres*", max_length=253, verbose_name="checks"
                    ),
                ),
                (
                    "source_pattern",
                    models.CharField(
                        default="*", help_text="With * and ?: file:postgres.d/*", max_length=253, verbose_name="origins"
                    ),
                ),
                (
                    "required",
                    models.JSONField(
                        blank=True,
                        default=dict,
                        help_text='{"zone": "a"}',
                        validators=[nodes.models.validate_labels],
                        verbose_name="required labels",
                    ),
                ),
                (
                    "forbidden",
                    models.JSONField(
                        blank=True,
                        default=dict,
                        help_text='{"disk": "slow"}',
                        validators=[nodes.models.validate_labels],
                        verbose_name="forbidden labels",
                    ),
                ),
                (
                    "max_per_node",
                    models.PositiveIntegerField(
                        blank=True, null=True, validators=[django.core.validators.MinValueValidator(1)]
                    ),
                ),
                ("author", models.CharField(blank=True, editable=False, max_length=253)),
                ("note", models.TextField(blank=True)),
                ("time", models.DateTimeField(db_default=django.db.models.functions.datetime.Now(), editable=False)),
            ],
            options={
                "ordering": ["name"],
            },
        ),
        migrations.CreateModel(
            name="Source",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("name", models.CharField(max_length=253, unique=True)),
                ("read_at", models.DateTimeField(null=True)),
                ("scanned_at", models.DateTimeField(null=True)),
                ("scanned_by", models.CharField(db_default="", max_length=253)),
                ("errors", models.JSONField(default=list)),
                ("warnings", models.JSONField(db_default=[], default=list)),
                ("passed_over", models.JSONField(default=list)),
                ("held_removals", models.JSONField(default=list)),
            ],
        ),
        migrations.CreateModel(
            name="TaskRun",
            fields=[
                ("name", models.CharField(max_length=16, primary_key=True, serialize=False)),
                ("ended_at", models.DateTimeField(db_default=django.db.models.functions.datetime.Now())),
                ("seconds", models.FloatField()),
            ],
        ),
        migrations.CreateModel(
            name="Cost",
            fields=[
                (
                    "config",
                    models.OneToOneField(
                        db_constraint=False,
                        on_delete=django.db.models.deletion.DO_NOTHING,
                        primary_key=True,
                        serialize=False,
                        to="checks.config",
                    ),
                ),
                ("workers_needed", models.FloatField()),
                ("measured_at", models.DateTimeField(db_default=django.db.models.functions.datetime.Now())),
            ],
        ),
        migrations.CreateModel(
            name="ClusterStore",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("term", models.BigIntegerField(db_default=0)),
                ("leader", models.CharField(db_default="", max_length=253)),
                ("revision", models.BigIntegerField(db_default=0)),
                ("fingerprints", models.JSONField(db_default={}, default=dict)),
            ],
            options={
                "constraints": [models.CheckConstraint(condition=models.Q(("id", 1)), name="clusterstore_is_one_row")],
            },
        ),
        migrations.CreateModel(
            name="Edit",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("config_id", models.BigIntegerField()),
                ("actor", models.CharField(db_default="", max_length=253)),
                ("text", models.TextField()),
                ("made_with", models.CharField(db_default="", max_length=64)),
                ("time", models.DateTimeField(db_default=django.db.models.functions.datetime.Now())),
            ],
            options={
                "indexes": [
                    models.Index(fields=["config_id", "-id"], name="edit_of_config"),
                    models.Index(fields=["time"], name="edit_by_time"),
                ],
            },
        ),
        migrations.CreateModel(
            name="Instance",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("check_id", models.TextField()),
                ("shown_name", models.TextField(db_default="")),
                ("short_id", models.CharField(db_default="", max_length=16)),
                ("interval", models.FloatField(db_default=15.0)),
                (
                    "config",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE, related_name="instances", to="checks.config"
                    ),
                ),
            ],
        ),
        migrations.CreateModel(
            name="Isolation",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("source", models.CharField(max_length=253)),
                ("key", models.TextField()),
                ("author", models.CharField(blank=True, max_length=253)),
                ("note", models.TextField(blank=True)),
                ("time", models.DateTimeField(db_default=django.db.models.functions.datetime.Now())),
                (
                    "reason",
                    models.CharField(
                        choices=[("isolated", "someone isolated it"), ("quarantined", "the nodes that ran it died")],
                        default="isolated",
                        max_length=16,
                    ),
                ),
                (
                    "config",
                    models.OneToOneField(
                        null=True,
                        on_delete=django.db.models.deletion.SET_NULL,
                        related_name="%(class)s",
                        to="checks.config",
                    ),
                ),
            ],
            options={
                "ordering": ["id"],
                "abstract": False,
            },
        ),
        migrations.CreateModel(
            name="Move",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("config_id", models.BigIntegerField()),
                ("digest", models.CharField(max_length=16)),
                ("name", models.CharField(max_length=253, verbose_name="check")),
                ("source_node", models.CharField(db_default="", max_length=253, verbose_name="from")),
                ("to_node", models.CharField(db_default="", max_length=253, verbose_name="to")),
                (
                    "reason",
                    models.CharField(
                        choices=checks.models.map.move_reasons,
                        max_length=16,
                    ),
                ),
                ("actor", models.CharField(db_default="", max_length=253)),
                ("term", models.BigIntegerField(db_default=0)),
                ("time", models.DateTimeField(db_default=django.db.models.functions.datetime.Now())),
                ("why", models.JSONField(null=True)),
            ],
            options={
                "ordering": ["-id"],
                "indexes": [
                    models.Index(fields=["config_id", "-id"], name="move_of_config"),
                    models.Index(fields=["time"], name="move_by_time"),
                ],
            },
        ),
        migrations.CreateModel(
            name="Origin",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("source", models.CharField(max_length=253)),
                ("key", models.TextField()),
                ("shown", models.TextField(db_default="")),
                ("fingerprint", models.CharField(max_length=64)),
                ("written", models.TextField(db_default="")),
                ("written_hash", models.CharField(db_default="", max_length=32)),
                ("scanned_by", models.CharField(db_default="", max_length=253)),
                ("scanned_at", models.DateTimeField(db_default=django.db.models.functions.datetime.Now())),
                (
                    "config",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE, related_name="origins", to="checks.config"
                    ),
                ),
            ],
        ),
        migrations.CreateModel(
            name="Pause",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("source", models.CharField(max_length=253)),
                ("key", models.TextField()),
                ("author", models.CharField(blank=True, max_length=253)),
                ("note", models.TextField(blank=True)),
                ("time", models.DateTimeField(db_default=django.db.models.functions.datetime.Now())),
                ("until", models.DateTimeField(blank=True, null=True)),
                (
                    "config",
                    models.OneToOneField(
                        null=True,
                        on_delete=django.db.models.deletion.SET_NULL,
                        related_name="%(class)s",
                        to="checks.config",
                    ),
                ),
            ],
            options={
                "ordering": ["id"],
                "abstract": False,
            },
        ),
        migrations.CreateModel(
            name="Pin",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("source", models.CharField(max_length=253)),
                ("key", models.TextField()),
                ("author", models.CharField(blank=True, max_length=253)),
                ("note", models.TextField(blank=True)),
                ("time", models.DateTimeField(db_default=django.db.models.functions.datetime.Now())),
                (
                    "kind",
                    models.CharField(
                        choices=[
                            ("node", "the node"),
                            ("pattern", "nodes whose names match"),
                            ("label", "nodes with the label"),
                        ],
                        default="node",
                        max_length=8,
                    ),
                ),
                ("aim", models.CharField(help_text="ash, or runner-*, or zone=a", max_length=253)),
                (
                    "waits",
                    models.BooleanField(
                        default=False, help_text="Dangle while no such node accepts it, instead of running elsewhere."
                    ),
                ),
                ("until", models.DateTimeField(blank=True, null=True)),
                (
                    "config",
                    models.OneToOneField(
                        null=True,
                        on_delete=django.db.models.deletion.SET_NULL,
                        related_name="%(class)s",
                        to="checks.config",
                    ),
                ),
            ],
            options={
                "ordering": ["id"],
                "abstract": False,
            },
        ),
        migrations.CreateModel(
            name="SourceScan",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("replica", models.CharField(max_length=253)),
                ("scanned_at", models.DateTimeField(db_default=django.db.models.functions.datetime.Now())),
                ("source", models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, to="checks.source")),
            ],
        ),
        migrations.CreateModel(
            name="Trouble",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                (
                    "kind",
                    models.CharField(
                        choices=[("failing", "Failing"), ("slow", "Slow"), ("not_running", "not running")],
                        max_length=16,
                    ),
                ),
                ("since", models.DateTimeField(db_default=django.db.models.functions.datetime.Now())),
                (
                    "config",
                    models.ForeignKey(
                        db_constraint=False,
                        on_delete=django.db.models.deletion.DO_NOTHING,
                        related_name="troubles",
                        to="checks.config",
                    ),
                ),
            ],
        ),
        migrations.CreateModel(
            name="Assignment",
            fields=[
                (
                    "config",
                    models.OneToOneField(
                        on_delete=django.db.models.deletion.CASCADE,
                        primary_key=True,
                        serialize=False,
                        to="checks.config",
                    ),
                ),
                ("since", models.DateTimeField(db_default=django.db.models.functions.datetime.Now())),
                ("reason", models.CharField(max_length=16)),
                (
                    "node",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.PROTECT, related_name="assignments", to="nodes.node"
                    ),
                ),
            ],
        ),
        migrations.AddIndex(
            model_name="config",
            index=models.Index(
                condition=models.Q(("dangling_since__isnull", False)),
                fields=["dangling_since", "id"],
                name="config_dangling",
            ),
        ),
        migrations.AddIndex(
            model_name="config",
            index=models.Index(
                condition=models.Q(("former_node__isnull", False)), fields=["former_node"], name="config_of_former_node"
            ),
        ),
        migrations.AddIndex(
            model_name="config",
            index=models.Index(
                condition=models.Q(("node_name", ""), _negated=True), fields=["node_name"], name="config_of_endpoint"
            ),
        ),
        migrations.AddIndex(
            model_name="config",
            index=models.Index(fields=["name", "id"], name="config_by_name"),
        ),
        migrations.AddIndex(
            model_name="config",
            index=models.Index(fields=["patched_with", "id"], name="config_by_patching"),
        ),
        migrations.AddIndex(
            model_name="config",
            index=models.Index(fields=["short_id"], name="config_by_short_id"),
        ),
        migrations.AddIndex(
            model_name="config",
            index=models.Index(fields=["fast_digest"], name="config_by_fast_digest"),
        ),
        migrations.AddIndex(
            model_name="config",
            index=models.Index(fields=["contents"], name="config_by_contents"),
        ),
        migrations.AddConstraint(
            model_name="config",
            constraint=models.UniqueConstraint(
                deferrable=django.db.models.constraints.Deferrable["DEFERRED"], fields=("digest",), name="config_digest"
            ),
        ),
        migrations.AddConstraint(
            model_name="config",
            constraint=models.CheckConstraint(
                condition=models.Q(("node_name", ""), ("dangling_since__isnull", True), _connector="OR"),
                name="endpoint_config_never_dangles",
            ),
        ),
        migrations.AddIndex(
            model_name="instance",
            index=models.Index(fields=["check_id"], name="instance_check_id"),
        ),
        migrations.AddIndex(
            model_name="instance",
            index=models.Index(fields=["short_id"], name="instance_by_short_id"),
        ),
        migrations.AddConstraint(
            model_name="origin",
            constraint=models.UniqueConstraint(fields=("source", "key"), name="origin_source_key"),
        ),
        migrations.AddConstraint(
            model_name="sourcescan",
            constraint=models.UniqueConstraint(fields=("source", "replica"), name="sourcescan_source_replica"),
        ),
        migrations.AddConstraint(
            model_name="trouble",
            constraint=models.UniqueConstraint(fields=("config", "kind"), name="trouble_config_kind"),
        ),
        migrations.RunSQL(COUNT_MOVES, FORGET_MOVES),
        migrations.RunSQL(COUNT_DECISIONS, FORGET_DECISIONS),
        migrations.RunPython(make_rows, migrations.RunPython.noop),
    ]
