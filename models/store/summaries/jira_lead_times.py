"""Lead time, cycle time, time in each status and reopens of every issue, from its status changes (metrics 2.3).

Only completed intervals count: a row says the same tomorrow as today unless the issue changes.
"""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, DateTime, Text

from models.store.summaries.definition import Summary, temporary
from models.tables import METADATA

KEYS_OF_MARKS = {
    "key": """
    SELECT CAST(substring(key FROM '^([0-9]+):') AS bigint) AS connection_id,
           substring(key FROM '^[0-9]+:(.+)$') AS issue_id
    FROM marks WHERE key ~ '^[0-9]+:.'
""",
    "connection": """
    SELECT i.connection_id, i.issue_id
    FROM marks m
    JOIN jira_table_history i ON i.connection_id = CAST(substring(m.key FROM '^connection:([0-9]+)$') AS bigint)
""",
}

ALL_KEYS = """
    SELECT connection_id, issue_id FROM jira_table_history
    WHERE (CAST(:project_id AS bigint) IS NULL OR project_id = :project_id)
      AND (CAST(:tenants AS bigint[]) IS NULL OR tenant_id = ANY(:tenants))
    UNION
    SELECT connection_id, issue_id FROM jira_lead_times
    WHERE (CAST(:project_id AS bigint) IS NULL OR project_id = :project_id)
      AND (CAST(:tenants AS bigint[]) IS NULL OR tenant_id = ANY(:tenants))
"""

# Issues that have, or whose row has, a key that an issue to compute has or whose row has.
RIVALS = """
    WITH claimed AS (
        SELECT tenant_id, issuekey AS issue_key FROM jira_table_history JOIN wanted USING (connection_id, issue_id)
        UNION
        SELECT tenant_id, issue_key FROM jira_lead_times JOIN wanted USING (connection_id, issue_id)
    )
    INSERT INTO wanted
    SELECT i.connection_id, i.issue_id
    FROM claimed c JOIN jira_table_history i ON i.tenant_id = c.tenant_id AND i.issuekey = c.issue_key
    UNION
    SELECT l.connection_id, l.issue_id
    FROM claimed c JOIN jira_lead_times l ON l.tenant_id = c.tenant_id AND l.issue_key = c.issue_key
    EXCEPT
    SELECT connection_id, issue_id FROM wanted
"""

# A key names one issue of a tenant. Where several carry it, the one created last has the row.
ISSUES = """
    SELECT DISTINCT ON (i.tenant_id, i.issuekey)
        i.id, i.connection_id, i.issue_id, i.connection_id || ':' AS site, i.created, i.status_id, i.status,
        i.status_category
    FROM wanted JOIN jira_table_history i USING (connection_id, issue_id)
    WHERE i.deleted_at IS NULL
    ORDER BY i.tenant_id, i.issuekey, i.created DESC, length(i.issue_id) DESC, i.issue_id DESC, i.connection_id
"""

# Statuses are looked up as JSON objects; a join with a guessed number of them is a nested loop soon.
ROWS = """
    WITH words AS MATERIALIZED (
        SELECT
            (SELECT jsonb_object_agg(connection_id || ':' || status_id, category) FROM jira_statuses) AS by_id,
            (SELECT jsonb_object_agg(connection_id || ':' || status_id, name) FROM jira_statuses) AS names,
            (SELECT jsonb_object_agg(connection_id || ':' || lower(name), category
                    ORDER BY length(status_id) DESC, status_id DESC) FROM jira_statuses) AS by_name
    ), change AS MATERIALIZED (
        SELECT i.id, i.created, c.changed_at, length(c.change_id) AS digits, c.change_id COLLATE "C" AS change_id,
            c.item_index,
            COALESCE(c.from_text, w.names ->> (i.site || c.from_value), c.from_value, '') AS from_name,
            COALESCE(c.to_text, w.names ->> (i.site || c.to_value), c.to_value, '') AS to_name,
            COALESCE(w.by_id ->> (i.site || c.from_value), w.by_name ->> (i.site || lower(c.from_text)), CASE
                WHEN c.from_value = i.status_id OR (c.from_value IS NULL AND c.from_text = i.status)
                THEN i.status_category END) AS from_category,
            COALESCE(w.by_id ->> (i.site || c.to_value), w.by_name ->> (i.site || lower(c.to_text)), CASE
                WHEN c.to_value = i.status_id OR (c.to_value IS NULL AND c.to_text = i.status)
                THEN i.status_category END) AS to_category
        FROM issue i
        JOIN jira_issue_changes c ON c.connection_id = i.connection_id AND c.issue_id = i.issue_id
        CROSS JOIN words w
        WHERE c.field = 'status'
    ), step AS (
        SELECT id, created, changed_at, to_category,
            lag(changed_at, 1, created) OVER steps AS since,
            lag(to_name, 1, from_name) OVER steps AS name,
            lag(to_category, 1, from_category) OVER steps AS category,
            row_number() OVER steps AS number,
            count(*) OVER (PARTITION BY id) AS steps
        FROM change
        WINDOW steps AS (PARTITION BY id ORDER BY changed_at, digits, change_id, item_index)
    ), spent AS (
        SELECT id, name, EXTRACT(epoch FROM sum(changed_at - since)) / 3600 AS hours
        FROM step WHERE changed_at >= since GROUP BY id, name
    ), time_in_status AS (
        SELECT id, jsonb_object_agg(name, trim_scale(round(hours, 4))) AS hours FROM spent GROUP BY id
    ), times AS (
        SELECT id,
            LEAST(
                min(created) FILTER (WHERE number = 1 AND category = 'indeterminate'),
                min(changed_at) FILTER (WHERE to_category = 'indeterminate')) AS started_at,
            min(changed_at) FILTER (WHERE to_category = 'done' AND category IS DISTINCT FROM 'done') AS first_done_at,
            max(changed_at) FILTER (WHERE to_category = 'done' AND category IS DISTINCT FROM 'done') AS last_done_at,
            bool_or(number = steps AND to_category = 'done') AS is_done,
            sum(changed_at - since) FILTER (WHERE category = 'indeterminate' AND changed_at >= since) AS active,
            count(*) FILTER (WHERE category = 'done' AND to_category IS DISTINCT FROM 'done') AS reopen_count
        FROM step GROUP BY id
    ), ended AS (
        SELECT *, CASE WHEN is_done THEN last_done_at END AS resolved_at FROM times
    )
    SELECT i.tenant_id, i.connection_id, i.issue_id, i.project AS project_key, i.project_id, i.issuekey AS issue_key,
        b.id AS bug_budget_id, i.issuetype AS issue_type, i.status, i.created AS issue_created_at,
        COALESCE(e.started_at, CASE
            WHEN e.id IS NULL AND COALESCE(w.by_id ->> (n.site || i.status_id), i.status_category) = 'indeterminate'
            THEN i.created END) AS started_at,
        e.resolved_at,
        CASE WHEN e.resolved_at >= i.created THEN EXTRACT(epoch FROM e.resolved_at - i.created) / 3600 END
            AS lead_time_hours,
        CASE WHEN e.first_done_at >= i.created THEN EXTRACT(epoch FROM e.first_done_at - i.created) / 3600 END
            AS first_lead_time_hours,
        CASE WHEN e.resolved_at >= e.started_at THEN EXTRACT(epoch FROM e.resolved_at - e.started_at) / 3600 END
            AS cycle_time_hours,
        EXTRACT(epoch FROM e.active) / 3600 AS active_time_hours,
        COALESCE(t.hours, '{}') AS time_in_status,
        COALESCE(e.reopen_count, 0) AS reopen_count
    FROM issue n
    JOIN jira_table_history i ON i.id = n.id
    CROSS JOIN words w
    LEFT JOIN ended e ON e.id = i.id
    LEFT JOIN time_in_status t ON t.id = i.id
    LEFT JOIN bug_budget b ON b.connection_id = i.connection_id AND b.issue_id = i.issue_id
"""

INPUTS = temporary(
    "issue",
    *(Column(name, BigInteger) for name in ("id", "connection_id")),
    *(Column(name, Text) for name in ("issue_id", "site", "status_id", "status", "status_category")),
    Column("created", DateTime(timezone=True)),
)

SUMMARY = Summary(
    name="jira_lead_times",
    table=METADATA.tables["jira_lead_times"],
    key=("connection_id", "issue_id"),
    identity=("connection_id", "issue_id"),
    definition_version=1,
    keys_of_marks=KEYS_OF_MARKS,
    all_keys=ALL_KEYS,
    rows=ROWS,
    inputs=INPUTS,
    input_rows=ISSUES,
    rivals=RIVALS,
)
