from django.db import migrations

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


class Migration(migrations.Migration):
    dependencies = [("nodes", "0008_late_passes")]

    operations = [migrations.RunSQL(TELL, FORGET)]
