"""Bugs of a project on each day of its time zone, folded from every issue's events (metrics 2.9).

An issue counts on a day by what it was at that day's end: it exists, is of a bug type, is in the project, and its
status is not done. Each history of its changelog is one step from state to state, whatever number of fields it changed,
and every step of a day counts. Events of the local day of `:as_of` count whole, later ones not yet.

In the statement a state is five small numbers: done, bug and here (0 or 1), and the severities that the severity field
and the priority stand for (1 critical … 4 low, 0 unknown). A running maximum of `number * 8 + value` carries each of
them forward through one sorted pass; what it was before its first change is what that change says it was changed from.
"""

from __future__ import annotations

from models.rules.bugs import DEFAULT_BUG_TYPES
from models.store.summaries.definition import Summary
from models.tables import METADATA

# Every project that the issues of a connection are, or ever were, counted in.
PROJECTS_OF_CONNECTION = """
    SELECT connection_id, project_id FROM sync_scopes
    UNION
    SELECT connection_id, project_id FROM jira_table_history WHERE project_id IS NOT NULL
"""

KEYS_OF_MARKS = f"""
    SELECT p.id AS project_id, local_day(m.since, p.timezone) AS since
    FROM (
        SELECT CAST(substring(key FROM '^[0-9]+$') AS bigint) AS id, since FROM marks
        UNION ALL
        SELECT s.project_id, m.since
        FROM marks m
        JOIN sync_scopes s ON s.connection_id = CAST(substring(m.key FROM '^scope:([0-9]+):') AS bigint)
            AND s.external_key = substring(m.key FROM '^scope:[0-9]+:(.*)$')
        UNION ALL
        SELECT k.project_id, m.since
        FROM marks m
        JOIN ({PROJECTS_OF_CONNECTION}) AS k
            ON k.connection_id = CAST(substring(m.key FROM '^connection:([0-9]+)$') AS bigint)
    ) AS m
    JOIN projects p USING (id)
"""

ALL_KEYS = """
    SELECT id AS project_id, CAST(NULL AS date) AS since FROM projects
    WHERE (CAST(:project_id AS bigint) IS NULL OR id = :project_id)
      AND (CAST(:tenants AS bigint[]) IS NULL OR tenant_id = ANY(:tenants))
"""

# Projects whose rows stand under the title that a project to compute has now.
RIVALS = """
    INSERT INTO wanted
    SELECT DISTINCT b.project_id, CAST(NULL AS date)
    FROM wanted w
    JOIN projects p ON p.id = w.project_id
    JOIN bug_analytics_daily b ON b.tenant_id = p.tenant_id AND b.project = p.title AND b.project_id <> p.id
    WHERE NOT EXISTS (SELECT FROM wanted x WHERE x.project_id = b.project_id AND x.since IS NULL)
"""

# A day that has begun has the stock of the day before, whether anything happened or not.
OVERDUE = """
    SELECT p.tenant_id, CAST(p.id AS text) AS key, (l.date + 1)::timestamp AT TIME ZONE p.timezone AS since
    FROM projects p
    CROSS JOIN LATERAL (SELECT max(date) AS date FROM bug_analytics_daily WHERE project_id = p.id) AS l
    WHERE l.date < local_day(:as_of, p.timezone)
    ORDER BY p.id LIMIT :limit
"""

ROWS = """
    WITH zone AS MATERIALIZED (
        SELECT p.id AS project_id, p.tenant_id, p.title, p.timezone, local_day(:as_of, p.timezone) AS today,
            CASE WHEN bool_and(w.since IS NOT NULL) THEN min(w.since) END AS since
        FROM wanted w JOIN projects p ON p.id = w.project_id
        GROUP BY p.id
    ), instance AS MATERIALIZED (
        SELECT n.id AS connection_id, lower(rtrim(regexp_replace(n.base_url, '^[A-Za-z]+://', ''), '/')) AS instance,
            COALESCE(
                (SELECT array_agg(lower(t)) FROM jsonb_array_elements_text(CASE
                    WHEN jsonb_typeof(n.options -> 'bug_types') = 'array' THEN n.options -> 'bug_types' END) AS t),
                CAST(:bug_types AS text[])) AS bug_types,
            (SELECT array_agg(f.field_id) FROM jira_fields f
             WHERE f.connection_id = n.id AND f.role = 'severity' AND f.is_active) AS severity_fields
        FROM connections n
    ), status_name AS MATERIALIZED (
        SELECT DISTINCT ON (connection_id, lower(name)) connection_id, lower(name) AS name, category
        FROM jira_statuses ORDER BY connection_id, lower(name), length(status_id), status_id
    ), severity AS MATERIALIZED (
        SELECT DISTINCT ON (t.tenant_id, lower(m.source_name)) t.tenant_id, lower(m.source_name) AS name,
            CASE m.severity WHEN 'critical' THEN 1 WHEN 'high' THEN 2 WHEN 'medium' THEN 3 ELSE 4 END AS code
        FROM (SELECT DISTINCT tenant_id FROM zone) AS t
        JOIN severity_mappings m ON m.tenant_id IS NULL OR m.tenant_id = t.tenant_id
        ORDER BY t.tenant_id, lower(m.source_name), m.tenant_id NULLS LAST, m.source_name
    ), place AS (
        SELECT z.project_id, i.id
        FROM zone z
        JOIN sync_scopes s USING (project_id)
        JOIN jira_table_history i ON i.connection_id = s.connection_id AND i.project = s.external_key
        UNION
        SELECT z.project_id, i.id FROM zone z JOIN jira_table_history i USING (project_id)
        UNION
        SELECT z.project_id, i.id
        FROM zone z
        JOIN sync_scopes s USING (project_id)
        JOIN jira_issue_changes c ON c.connection_id = s.connection_id AND c.field IN ('issuekey', 'key')
            AND s.external_key IN (split_part(c.from_text, '-', 1), split_part(c.to_text, '-', 1))
        JOIN jira_table_history i ON i.connection_id = c.connection_id AND i.issue_id = c.issue_id
    ), issue AS MATERIALIZED (
        -- Two connections to one instance bring one issue twice; the copy that is alive counts, else the first.
        SELECT DISTINCT ON (z.project_id, n.instance, i.issue_id)
            z.project_id, z.tenant_id, z.timezone, i.connection_id, i.issue_id, i.created, i.deleted_at,
            i.status_id, i.status, i.status_category, n.bug_types, n.severity_fields,
            CAST(COALESCE(COALESCE(s.category::text, sn.category::text, i.status_category) = 'done', false) AS integer)
                AS done,
            CAST(lower(i.issuetype) = ANY(n.bug_types) AS integer) AS bug,
            CAST(COALESCE(COALESCE(k.project_id, i.project_id) = z.project_id, false) AS integer) AS here,
            CASE WHEN n.severity_fields IS NULL THEN 0 ELSE COALESCE(v.code, 0) END AS severity,
            COALESCE(p.code, 0) AS priority
        FROM place
        JOIN zone z USING (project_id)
        JOIN jira_table_history i USING (id)
        JOIN instance n USING (connection_id)
        LEFT JOIN jira_statuses s ON s.connection_id = i.connection_id AND s.status_id = i.status_id
        LEFT JOIN status_name sn ON sn.connection_id = i.connection_id AND sn.name = lower(i.status)
        LEFT JOIN sync_scopes k ON k.connection_id = i.connection_id AND k.external_key = i.project
        LEFT JOIN severity v ON v.tenant_id = z.tenant_id AND v.name = lower(i.severity_issue)
        LEFT JOIN severity p ON p.tenant_id = z.tenant_id AND p.name = lower(i.priority)
        WHERE (i.deleted_at IS NULL OR i.deleted_at > i.created)
          AND (lower(i.issuetype) = ANY(n.bug_types) OR EXISTS (
            SELECT FROM jira_issue_changes c
            WHERE c.connection_id = i.connection_id AND c.field = 'issuetype' AND c.issue_id = i.issue_id))
        ORDER BY z.project_id, n.instance, i.issue_id, i.deleted_at IS NOT NULL, i.connection_id
    ), item AS (
        SELECT i.project_id, i.timezone, i.connection_id, i.issue_id, i.created,
            c.changed_at, length(c.change_id) AS digits, c.change_id, c.item_index, c.field,
            COALESCE(c.field = ANY(i.severity_fields), false) AS is_severity,
            CASE c.field
                WHEN 'status' THEN CAST(COALESCE(COALESCE(f.category::text, fn.category::text, CASE
                    WHEN c.from_value = i.status_id OR (c.from_value IS NULL AND c.from_text = i.status)
                    THEN i.status_category END) = 'done', false) AS integer)
                WHEN 'issuetype' THEN CAST(COALESCE(lower(c.from_text) = ANY(i.bug_types), false) AS integer)
                WHEN 'issuekey' THEN CAST(COALESCE(fk.project_id = i.project_id, false) AS integer)
                WHEN 'key' THEN CAST(COALESCE(fk.project_id = i.project_id, false) AS integer)
                ELSE COALESCE(fv.code, 0) END AS was,
            CASE c.field
                WHEN 'status' THEN CAST(COALESCE(COALESCE(t.category::text, tn.category::text, CASE
                    WHEN c.to_value = i.status_id OR (c.to_value IS NULL AND c.to_text = i.status)
                    THEN i.status_category END) = 'done', false) AS integer)
                WHEN 'issuetype' THEN CAST(COALESCE(lower(c.to_text) = ANY(i.bug_types), false) AS integer)
                WHEN 'issuekey' THEN CAST(COALESCE(tk.project_id = i.project_id, false) AS integer)
                WHEN 'key' THEN CAST(COALESCE(tk.project_id = i.project_id, false) AS integer)
                ELSE COALESCE(tv.code, 0) END AS becomes,
            c.field = 'resolution' AND COALESCE(c.from_value, c.from_text, '') = ''
                AND COALESCE(c.to_value, c.to_text, '') <> '' AS is_resolution
        FROM issue i
        JOIN jira_issue_changes c USING (connection_id, issue_id)
        LEFT JOIN jira_statuses f
            ON c.field = 'status' AND f.connection_id = c.connection_id AND f.status_id = c.from_value
        LEFT JOIN jira_statuses t
            ON c.field = 'status' AND t.connection_id = c.connection_id AND t.status_id = c.to_value
        LEFT JOIN status_name fn
            ON c.field = 'status' AND fn.connection_id = c.connection_id AND fn.name = lower(c.from_text)
        LEFT JOIN status_name tn
            ON c.field = 'status' AND tn.connection_id = c.connection_id AND tn.name = lower(c.to_text)
        LEFT JOIN sync_scopes fk ON c.field IN ('issuekey', 'key') AND fk.connection_id = c.connection_id
            AND fk.external_key = split_part(c.from_text, '-', 1)
        LEFT JOIN sync_scopes tk ON c.field IN ('issuekey', 'key') AND tk.connection_id = c.connection_id
            AND tk.external_key = split_part(c.to_text, '-', 1)
        LEFT JOIN severity fv ON fv.tenant_id = i.tenant_id AND fv.name = lower(c.from_text)
        LEFT JOIN severity tv ON tv.tenant_id = i.tenant_id AND tv.name = lower(c.to_text)
        WHERE (c.field IN ('status', 'issuetype', 'issuekey', 'key', 'priority', 'resolution')
               OR c.field = ANY(i.severity_fields))
          AND (i.deleted_at IS NULL OR c.changed_at < i.deleted_at)
    ), step AS (
        -- 0 is the creation, 1 a history, 2 the deletion. Of an issue as it is now, its creation knows the fields that
        -- never changed: they come last among what a field was before.
        SELECT project_id, timezone, connection_id, issue_id, created, 0 AS kind, created AS changed_at, 0 AS digits,
            '' AS change_id, false AS is_resolved,
            done AS was_done, bug AS was_bug, here AS was_here, severity AS was_severity, priority AS was_priority,
            CAST(NULL AS integer) AS done, CAST(NULL AS integer) AS bug, CAST(NULL AS integer) AS here,
            CAST(NULL AS integer) AS severity, CAST(NULL AS integer) AS priority
        FROM issue
        UNION ALL
        SELECT project_id, timezone, connection_id, issue_id, created, 1, changed_at, digits, change_id,
            bool_or(is_resolution),
            min(item_index * 8 + was) FILTER (WHERE field = 'status') & 7,
            min(item_index * 8 + was) FILTER (WHERE field = 'issuetype') & 7,
            min(item_index * 8 + was) FILTER (WHERE field IN ('issuekey', 'key')) & 7,
            min(item_index * 8 + was) FILTER (WHERE is_severity) & 7,
            min(item_index * 8 + was) FILTER (WHERE field = 'priority') & 7,
            max(item_index * 8 + becomes) FILTER (WHERE field = 'status') & 7,
            max(item_index * 8 + becomes) FILTER (WHERE field = 'issuetype') & 7,
            max(item_index * 8 + becomes) FILTER (WHERE field IN ('issuekey', 'key')) & 7,
            max(item_index * 8 + becomes) FILTER (WHERE is_severity) & 7,
            max(item_index * 8 + becomes) FILTER (WHERE field = 'priority') & 7
        FROM item
        GROUP BY project_id, timezone, connection_id, issue_id, created, changed_at, digits, change_id
        UNION ALL
        SELECT project_id, timezone, connection_id, issue_id, created, 2, deleted_at, 0, '', false,
            NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL
        FROM issue WHERE deleted_at IS NOT NULL
    ), numbered AS (
        SELECT *,
            row_number() OVER steps * 8 AS number,
            CASE kind WHEN 0 THEN 1000000 ELSE row_number() OVER steps END * 8 AS origin
        FROM step
        WINDOW steps AS (
            PARTITION BY project_id, connection_id, issue_id ORDER BY kind, changed_at, digits, change_id)
    ), carried AS (
        SELECT project_id, timezone, created, kind, changed_at, is_resolved,
            min(origin + was_done) OVER whole & 7 AS first_done,
            min(origin + was_bug) OVER whole & 7 AS first_bug,
            min(origin + was_here) OVER whole & 7 AS first_here,
            min(origin + was_severity) OVER whole & 7 AS first_severity,
            min(origin + was_priority) OVER whole & 7 AS first_priority,
            max(number + done) OVER before & 7 AS old_done, max(number + done) OVER until & 7 AS new_done,
            max(number + bug) OVER before & 7 AS old_bug, max(number + bug) OVER until & 7 AS new_bug,
            max(number + here) OVER before & 7 AS old_here, max(number + here) OVER until & 7 AS new_here,
            max(number + severity) OVER before & 7 AS old_severity,
            max(number + severity) OVER until & 7 AS new_severity,
            max(number + priority) OVER before & 7 AS old_priority,
            max(number + priority) OVER until & 7 AS new_priority
        FROM numbered
        WINDOW
            steps AS (PARTITION BY project_id, connection_id, issue_id ORDER BY kind, changed_at, digits, change_id),
            whole AS (steps ROWS BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING),
            before AS (steps ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING),
            until AS (steps ROWS UNBOUNDED PRECEDING)
    ), state AS (
        SELECT project_id, timezone, created, kind, is_resolved, GREATEST(changed_at, created) AS at,
            kind <> 0 AND COALESCE(old_bug, first_bug) = 1 AND COALESCE(old_here, first_here) = 1 AS was_in,
            kind <> 2 AND COALESCE(new_bug, first_bug) = 1 AND COALESCE(new_here, first_here) = 1 AS is_in,
            COALESCE(old_done, first_done) = 1 AS was_done,
            COALESCE(new_done, first_done) = 1 AS is_done,
            COALESCE(NULLIF(COALESCE(old_severity, first_severity), 0),
                     NULLIF(COALESCE(old_priority, first_priority), 0), 3) AS was_severity,
            COALESCE(NULLIF(COALESCE(new_severity, first_severity), 0),
                     NULLIF(COALESCE(new_priority, first_priority), 0), 3) AS is_severity
        FROM carried
    ), move AS (
        SELECT project_id, timezone, at, kind = 0 AS is_creation, created, is_in AND is_resolved AS is_resolved,
            is_in AND is_done AND (kind = 0 OR was_in AND NOT was_done) AS is_closed,
            is_in AND was_in AND was_done AND NOT is_done AS is_reopened,
            CASE WHEN was_in AND NOT was_done THEN was_severity ELSE 0 END AS left_stock,
            CASE WHEN is_in AND NOT is_done THEN is_severity ELSE 0 END AS joined_stock
        FROM state WHERE is_in OR was_in
    ), daily AS (
        SELECT project_id, local_day(at, timezone) AS date,
            count(*) FILTER (WHERE is_creation) AS created,
            count(*) FILTER (WHERE is_resolved) AS resolved,
            count(*) FILTER (WHERE is_closed) AS closed,
            count(*) FILTER (WHERE is_reopened) AS reopened,
            avg(EXTRACT(epoch FROM at - created)) FILTER (WHERE is_closed AND NOT is_creation) AS seconds,
            sum(CAST(joined_stock = 1 AS integer) - CAST(left_stock = 1 AS integer)) AS critical,
            sum(CAST(joined_stock = 2 AS integer) - CAST(left_stock = 2 AS integer)) AS high,
            sum(CAST(joined_stock = 3 AS integer) - CAST(left_stock = 3 AS integer)) AS medium,
            sum(CAST(joined_stock = 4 AS integer) - CAST(left_stock = 4 AS integer)) AS low
        FROM move GROUP BY 1, 2
    ), span AS (
        SELECT z.project_id, z.tenant_id, z.title, z.since, z.today, min(d.date) AS first_date
        FROM zone z JOIN daily d ON d.project_id = z.project_id AND d.date <= z.today
        GROUP BY 1, 2, 3, 4, 5
    ), stock AS (
        SELECT s.project_id, s.tenant_id, s.title, s.since, s.first_date + n AS date, d.created, d.resolved, d.closed,
            d.reopened, d.seconds,
            sum(d.critical) OVER days AS critical, sum(d.high) OVER days AS high,
            sum(d.medium) OVER days AS medium, sum(d.low) OVER days AS low
        FROM span s
        CROSS JOIN LATERAL generate_series(0, s.today - s.first_date) AS n
        LEFT JOIN daily d ON d.project_id = s.project_id AND d.date = s.first_date + n
        WINDOW days AS (PARTITION BY s.project_id ORDER BY s.first_date + n)
    )
    SELECT tenant_id, title AS project, project_id, date,
        COALESCE(created, 0) AS bugs_created, COALESCE(resolved, 0) AS bugs_resolved,
        COALESCE(closed, 0) AS bugs_closed, COALESCE(reopened, 0) AS bugs_reopened,
        seconds / 3600 AS avg_resolution_hours,
        critical + high + medium + low AS open_bugs, critical AS critical_bugs, high AS high_priority_bugs,
        medium AS medium_priority_bugs, low AS low_priority_bugs
    FROM stock WHERE since IS NULL OR date >= since
"""

SUMMARY = Summary(
    name="bug_analytics_daily",
    table=METADATA.tables["bug_analytics_daily"],
    key=("project_id",),
    identity=("project_id", "date"),
    definition_version=1,
    keys_of_marks=KEYS_OF_MARKS,
    all_keys=ALL_KEYS,
    rows=ROWS,
    rivals=RIVALS,
    since_column="date",
    overdue=OVERDUE,
    is_coarse=True,
    parameters={"bug_types": list(DEFAULT_BUG_TYPES)},
)
