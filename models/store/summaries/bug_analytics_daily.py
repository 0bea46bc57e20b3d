"""Bugs of a project on each day of its time zone, folded from every issue's events (metrics 2.9).

An issue counts on a day by what it was at that day's end: it exists, is of a bug type, is in the project, and its
status is not done. Each history of its changelog is one step from state to state, whatever number of fields it changed,
and every step of a day counts. Events of the local day of `:as_of` count whole, later ones not yet.

In the statement a state is five small numbers: done, bug and here (0 or 1), and the severities that the severity field
and the priority stand for (1 critical … 4 low, 0 unknown): dimensions 1 to 5; 6 is the resolution. A running maximum of
`number * 8 + value` carries each of them forward through one sorted pass; what it was before its first change is what
that change says it was changed from, and what never changed is what it is now.
"""

from __future__ import annotations

from sqlalchemy import ARRAY, BigInteger, Column, DateTime, Integer, Text

from models.rules.bugs import DEFAULT_BUG_TYPES
from models.store.summaries.definition import Summary, temporary
from models.tables import METADATA

PROJECT_OF_MARK = """
    SELECT p.id AS project_id, local_day(m.since, p.timezone) AS since
    FROM marks m
    {joins}
"""

KEYS_OF_MARKS = {
    "number": PROJECT_OF_MARK.format(
        joins="JOIN projects p ON p.id = CAST(substring(m.key FROM '^[0-9]+$') AS bigint)"
    ),
    "scope": PROJECT_OF_MARK.format(
        joins="""
            JOIN sync_scopes s ON s.connection_id = CAST(substring(m.key FROM '^scope:([0-9]+):') AS bigint)
                AND s.external_key = substring(m.key FROM '^scope:[0-9]+:(.*)$')
            JOIN projects p ON p.id = s.project_id
        """
    ),
    # Every project that the issues of a connection are, or ever were, counted in.
    "connection": PROJECT_OF_MARK.format(
        joins="""
            JOIN (
                SELECT connection_id, project_id FROM sync_scopes
                UNION
                SELECT connection_id, project_id FROM jira_table_history WHERE project_id IS NOT NULL
            ) AS k ON k.connection_id = CAST(substring(m.key FROM '^connection:([0-9]+)$') AS bigint)
            JOIN projects p ON p.id = k.project_id
        """
    ),
}

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

# A project without rows has no last day to go on from: a first bug that a clock ahead of ours wrote waits here.
AFTERWARDS = """
    INSERT INTO dirty_keys (summary, tenant_id, key, since)
    SELECT DISTINCT 'bug_analytics_daily', p.tenant_id, CAST(p.id AS text), e.since
    FROM (
        SELECT p.* FROM wanted w JOIN projects p ON p.id = w.project_id
        WHERE NOT EXISTS (SELECT FROM bug_analytics_daily b WHERE b.project_id = p.id)
    ) AS p
    CROSS JOIN LATERAL (
        SELECT local_day(t.at, p.timezone)::timestamp AT TIME ZONE p.timezone AS since
        FROM issue i
        CROSS JOIN LATERAL (
            SELECT i.created AS at
            UNION ALL
            SELECT c.changed_at FROM jira_issue_changes c
            WHERE c.connection_id = i.connection_id AND c.issue_id = i.issue_id) AS t
        WHERE i.project_id = p.id AND local_day(t.at, p.timezone) > local_day(:as_of, p.timezone)
        OFFSET 0
    ) AS e
    WHERE NOT EXISTS (
        SELECT FROM dirty_keys d
        WHERE d.summary = 'bug_analytics_daily' AND d.key = CAST(p.id AS text) AND d.since = e.since)
"""

# Dictionaries are looked up as JSON objects, and days are joined by grouping: a join of a million rows with a guessed
# number of others is a nested loop soon.
DICTIONARIES = """
    zone AS MATERIALIZED (
        SELECT p.id AS project_id, p.tenant_id, p.title, p.timezone, local_day(:as_of, p.timezone) AS today,
            CASE WHEN bool_and(w.since IS NOT NULL) THEN min(w.since) END AS since
        FROM wanted w JOIN projects p ON p.id = w.project_id
        GROUP BY p.id
    ), site AS MATERIALIZED (
        SELECT n.id AS connection_id, n.tenant_id, i.instance,
            count(*) OVER (PARTITION BY n.tenant_id, i.instance) > 1 AS has_twin,
            COALESCE((SELECT array_agg(lower(t)) FROM jsonb_array_elements_text(CASE
                WHEN jsonb_typeof(n.options -> 'bug_types') = 'array' THEN n.options -> 'bug_types' END) AS t),
                CAST(:bug_types AS text[])) AS bug_types,
            (SELECT array_agg(f.field_id) FROM jira_fields f
             WHERE f.connection_id = n.id AND f.role = 'severity' AND f.is_active) AS severity_fields
        FROM connections n
        CROSS JOIN LATERAL (
            SELECT lower(rtrim(regexp_replace(n.base_url, '^[A-Za-z]+://', ''), '/')) AS instance) AS i
    ), words AS MATERIALIZED (
        -- Of several values of one name the last one stays.
        SELECT
            (SELECT jsonb_object_agg(connection_id || ':' || status_id, CAST(category = 'done' AS integer))
             FROM jira_statuses) AS done_by_id,
            (SELECT jsonb_object_agg(connection_id || ':' || lower(name), CAST(category = 'done' AS integer)
                    ORDER BY length(status_id) DESC, status_id DESC) FROM jira_statuses) AS done_by_name,
            (SELECT jsonb_object_agg(connection_id || ':' || external_key, project_id) FROM sync_scopes) AS projects,
            (SELECT jsonb_object_agg(t.id || ':' || lower(m.source_name), CASE m.severity
                        WHEN 'critical' THEN 1 WHEN 'high' THEN 2 WHEN 'medium' THEN 3 ELSE 4 END
                    ORDER BY m.tenant_id NULLS FIRST, m.source_name DESC)
             FROM tenants t JOIN severity_mappings m ON m.tenant_id IS NULL OR m.tenant_id = t.id) AS severities
    )
"""

# Every issue that was ever a bug and ever in a project to compute; `now` is its state now, three bits a dimension.
ISSUES = f"""
    WITH {DICTIONARIES}, place AS (
        SELECT z.project_id, i.id
        FROM zone z
        JOIN sync_scopes s USING (project_id)
        JOIN jira_table_history i ON i.connection_id = s.connection_id AND i.project = s.external_key
        UNION
        SELECT z.project_id, i.id FROM zone z JOIN jira_table_history i ON i.project_id = z.project_id
        UNION
        SELECT z.project_id, i.id
        FROM zone z
        JOIN sync_scopes s USING (project_id)
        JOIN jira_issue_changes c ON c.connection_id = s.connection_id AND c.field IN ('issuekey', 'key')
            AND s.external_key IN (split_part(c.from_text, '-', 1), split_part(c.to_text, '-', 1))
        JOIN jira_table_history i ON i.connection_id = c.connection_id AND i.issue_id = c.issue_id
    ), copy AS (
        -- Two connections to one instance bring one issue twice; the copy that is alive counts, else the first.
        SELECT project_id, id FROM (
            SELECT place.project_id, i.id, row_number() OVER (
                PARTITION BY place.project_id, s.tenant_id, s.instance, i.issue_id
                ORDER BY i.deleted_at IS NOT NULL, i.connection_id) AS number
            FROM place JOIN jira_table_history i USING (id) JOIN site s USING (connection_id) WHERE s.has_twin
        ) AS twin WHERE number > 1
    )
    SELECT z.project_id, z.timezone, i.id, i.connection_id, i.issue_id, i.created, i.deleted_at,
        i.connection_id || ':' AS site, z.tenant_id || ':' AS tenant, n.severity_fields,
        n.bug_types,
        COALESCE(CAST(COALESCE(
                w.done_by_id ->> (i.connection_id || ':' || i.status_id),
                w.done_by_name ->> (i.connection_id || ':' || lower(i.status))) AS integer),
            CAST(i.status_category = 'done' AS integer), 0)
        + 8 * CAST(lower(i.issuetype) = ANY(n.bug_types) AS integer)
        + 64 * CAST(COALESCE(COALESCE(
                CAST(w.projects ->> (i.connection_id || ':' || i.project) AS bigint), i.project_id)
            = z.project_id, false) AS integer)
        + 512 * CASE WHEN n.severity_fields IS NULL THEN 0 ELSE COALESCE(
            CAST(w.severities ->> (z.tenant_id || ':' || lower(i.severity_issue)) AS integer), 0) END
        + 4096 * COALESCE(CAST(w.severities ->> (z.tenant_id || ':' || lower(i.priority)) AS integer), 0) AS now
    FROM (TABLE place EXCEPT TABLE copy) AS p
    JOIN zone z USING (project_id)
    JOIN jira_table_history i USING (id)
    JOIN site n ON n.connection_id = i.connection_id
    CROSS JOIN words w
    WHERE (i.deleted_at IS NULL OR i.deleted_at > i.created)
      AND (lower(i.issuetype) = ANY(n.bug_types) OR EXISTS (
        SELECT FROM jira_issue_changes c
        WHERE c.connection_id = i.connection_id AND c.field = 'issuetype' AND c.issue_id = i.issue_id))
"""

ROWS = f"""
    WITH {DICTIONARIES}, item AS (
        SELECT i.project_id, i.timezone, i.id, i.created, i.deleted_at, c.changed_at, length(c.change_id) AS digits,
            c.change_id COLLATE "C" AS change_id, c.item_index,
            CASE WHEN c.field = ANY(i.severity_fields) THEN 4 WHEN c.field = 'status' THEN 1
                WHEN c.field = 'issuetype' THEN 2 WHEN c.field IN ('issuekey', 'key') THEN 3
                WHEN c.field = 'priority' THEN 5 ELSE 6 END AS dimension,
            c.from_value, c.from_text, c.to_value, c.to_text, i.site, i.tenant, i.bug_types
        FROM issue i
        JOIN jira_issue_changes c ON c.connection_id = i.connection_id AND c.issue_id = i.issue_id
        WHERE c.field IN ('status', 'issuetype', 'issuekey', 'key', 'priority', 'resolution')
            OR c.field = ANY(i.severity_fields)
    ), step AS (
        -- 0 is the creation, 1 an item of a history, 2 the deletion, 3 an item after it.
        SELECT project_id, timezone, id, created, 0 AS kind, created AS changed_at, 0 AS digits,
            '' COLLATE "C" AS change_id, 0 AS item_index, 0 AS dimension, now, 0 AS was, 0 AS becomes
        FROM issue
        UNION ALL
        SELECT project_id, timezone, c.id, created, CASE WHEN changed_at >= deleted_at THEN 3 ELSE 1 END, changed_at,
            digits, change_id, item_index, dimension, NULL,
            COALESCE(CASE dimension
                WHEN 1 THEN CAST(COALESCE(
                    w.done_by_id ->> (site || from_value),
                    w.done_by_name ->> (site || lower(from_text)),
                    (SELECT CAST(CAST(h.status_category = 'done' AS integer) AS text) FROM jira_table_history h
                     WHERE h.id = c.id AND (from_value = h.status_id OR (from_value IS NULL AND from_text = h.status)))
                    ) AS integer)
                WHEN 2 THEN CAST(lower(from_text) = ANY(bug_types) AS integer)
                WHEN 3 THEN CAST(CAST(w.projects ->> (site || split_part(from_text, '-', 1)) AS bigint) = project_id
                    AS integer)
                WHEN 6 THEN CAST(COALESCE(from_value, from_text, '') <> '' AS integer)
                ELSE CAST(w.severities ->> (tenant || lower(from_text)) AS integer) END, 0),
            COALESCE(CASE dimension
                WHEN 1 THEN CAST(COALESCE(
                    w.done_by_id ->> (site || to_value),
                    w.done_by_name ->> (site || lower(to_text)),
                    (SELECT CAST(CAST(h.status_category = 'done' AS integer) AS text) FROM jira_table_history h
                     WHERE h.id = c.id AND (to_value = h.status_id OR (to_value IS NULL AND to_text = h.status)))
                    ) AS integer)
                WHEN 2 THEN CAST(lower(to_text) = ANY(bug_types) AS integer)
                WHEN 3 THEN CAST(CAST(w.projects ->> (site || split_part(to_text, '-', 1)) AS bigint) = project_id
                    AS integer)
                WHEN 6 THEN CAST(COALESCE(to_value, to_text, '') <> '' AS integer)
                ELSE CAST(w.severities ->> (tenant || lower(to_text)) AS integer) END, 0)
        FROM item c CROSS JOIN words w
        UNION ALL
        SELECT project_id, timezone, id, created, 2, deleted_at, 0, 'deleted', 0, 0, NULL, 0, 0
        FROM issue WHERE deleted_at IS NOT NULL
    ), numbered AS (
        SELECT *, row_number() OVER items * 8 AS number,
            (lag(changed_at) OVER items, lag(change_id) OVER items) IS DISTINCT FROM (changed_at, change_id) AS is_step
        FROM step
        WINDOW items AS (PARTITION BY project_id, id ORDER BY kind, changed_at, digits, change_id, item_index)
    ), carried AS (
        -- The items of one history are peers: before it none of them counts, after it all do.
        SELECT project_id, timezone, created, kind, changed_at, is_step,
            dimension = 6 AND was = 0 AND becomes = 1 AS is_resolution,
            COALESCE(min(number + was) FILTER (WHERE dimension = 1) OVER whole, max(now) OVER whole) & 7 AS first_done,
            COALESCE(min(number + was) FILTER (WHERE dimension = 2) OVER whole, max(now) OVER whole / 8) & 7
                AS first_bug,
            COALESCE(min(number + was) FILTER (WHERE dimension = 3) OVER whole, max(now) OVER whole / 64) & 7
                AS first_here,
            COALESCE(min(number + was) FILTER (WHERE dimension = 4) OVER whole, max(now) OVER whole / 512) & 7
                AS first_severity,
            COALESCE(min(number + was) FILTER (WHERE dimension = 5) OVER whole, max(now) OVER whole / 4096) & 7
                AS first_priority,
            max(number + becomes) FILTER (WHERE dimension = 1) OVER before & 7 AS old_done,
            max(number + becomes) FILTER (WHERE dimension = 1) OVER until & 7 AS new_done,
            max(number + becomes) FILTER (WHERE dimension = 2) OVER before & 7 AS old_bug,
            max(number + becomes) FILTER (WHERE dimension = 2) OVER until & 7 AS new_bug,
            max(number + becomes) FILTER (WHERE dimension = 3) OVER before & 7 AS old_here,
            max(number + becomes) FILTER (WHERE dimension = 3) OVER until & 7 AS new_here,
            max(number + becomes) FILTER (WHERE dimension = 4) OVER before & 7 AS old_severity,
            max(number + becomes) FILTER (WHERE dimension = 4) OVER until & 7 AS new_severity,
            max(number + becomes) FILTER (WHERE dimension = 5) OVER before & 7 AS old_priority,
            max(number + becomes) FILTER (WHERE dimension = 5) OVER until & 7 AS new_priority
        FROM numbered
        WINDOW
            steps AS (PARTITION BY project_id, id ORDER BY kind, changed_at, digits, change_id),
            whole AS (steps ROWS BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING),
            before AS (steps GROUPS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING),
            until AS (steps GROUPS UNBOUNDED PRECEDING)
    ), state AS (
        SELECT project_id, timezone, created, kind, is_step, is_resolution, GREATEST(changed_at, created) AS at,
            kind IN (1, 2) AND COALESCE(old_bug, first_bug) = 1 AND COALESCE(old_here, first_here) = 1 AS was_in,
            kind IN (0, 1) AND COALESCE(new_bug, first_bug) = 1 AND COALESCE(new_here, first_here) = 1 AS is_in,
            COALESCE(old_done, first_done) = 1 AS was_done,
            COALESCE(new_done, first_done) = 1 AS is_done,
            COALESCE(NULLIF(COALESCE(old_severity, first_severity), 0),
                     NULLIF(COALESCE(old_priority, first_priority), 0), 3) AS was_severity,
            COALESCE(NULLIF(COALESCE(new_severity, first_severity), 0),
                     NULLIF(COALESCE(new_priority, first_priority), 0), 3) AS is_severity
        FROM carried
    ), move AS (
        SELECT project_id, timezone, at, created,
            is_step AND is_in AND kind = 0 AS is_created,
            is_resolution AND is_in AS is_resolved,
            is_step AND is_in AND is_done AND (kind = 0 OR was_in AND NOT was_done) AS is_closed,
            is_step AND is_in AND NOT is_done AND was_in AND was_done AS is_reopened,
            CASE WHEN is_step AND was_in AND NOT was_done THEN was_severity ELSE 0 END AS leaves,
            CASE WHEN is_step AND is_in AND NOT is_done THEN is_severity ELSE 0 END AS joins
        FROM state
    ), daily AS MATERIALIZED (
        SELECT project_id, local_day(at, timezone) AS date,
            count(*) FILTER (WHERE is_created) AS created,
            count(*) FILTER (WHERE is_resolved) AS resolved,
            count(*) FILTER (WHERE is_closed) AS closed,
            count(*) FILTER (WHERE is_reopened) AS reopened,
            avg(EXTRACT(epoch FROM at - created)) FILTER (WHERE is_closed AND NOT is_created) AS seconds,
            count(*) FILTER (WHERE joins = 1) - count(*) FILTER (WHERE leaves = 1) AS critical,
            count(*) FILTER (WHERE joins = 2) - count(*) FILTER (WHERE leaves = 2) AS high,
            count(*) FILTER (WHERE joins = 3) - count(*) FILTER (WHERE leaves = 3) AS medium,
            count(*) FILTER (WHERE joins = 4) - count(*) FILTER (WHERE leaves = 4) AS low
        FROM move
        WHERE joins <> leaves OR is_created OR is_closed OR is_reopened OR is_resolved
        GROUP BY 1, 2
    ), day AS (
        SELECT project_id, date, created, resolved, closed, reopened, seconds, critical, high, medium, low,
            CAST(NULL AS bigint) AS tenant_id, CAST(NULL AS text) AS title, CAST(NULL AS date) AS since
        FROM daily
        UNION ALL
        SELECT z.project_id, f.date + n, 0, 0, 0, 0, NULL, 0, 0, 0, 0, z.tenant_id, z.title, z.since
        FROM (SELECT project_id, min(date) AS date FROM daily GROUP BY project_id) AS f
        JOIN zone z USING (project_id)
        CROSS JOIN LATERAL generate_series(0, z.today - f.date) AS n
    ), stock AS (
        SELECT project_id, date, max(tenant_id) AS tenant_id, max(title) AS title, max(since) AS since,
            sum(created) AS created, sum(resolved) AS resolved, sum(closed) AS closed, sum(reopened) AS reopened,
            max(seconds) AS seconds,
            sum(sum(critical)) OVER days AS critical, sum(sum(high)) OVER days AS high,
            sum(sum(medium)) OVER days AS medium, sum(sum(low)) OVER days AS low
        FROM day GROUP BY project_id, date
        WINDOW days AS (PARTITION BY project_id ORDER BY date)
    )
    SELECT tenant_id, title AS project, project_id, date, created AS bugs_created, resolved AS bugs_resolved,
        closed AS bugs_closed, reopened AS bugs_reopened, seconds / 3600 AS avg_resolution_hours,
        critical + high + medium + low AS open_bugs, critical AS critical_bugs, high AS high_priority_bugs,
        medium AS medium_priority_bugs, low AS low_priority_bugs
    FROM stock WHERE title IS NOT NULL AND (since IS NULL OR date >= since)
"""

INPUTS = temporary(
    "issue",
    *(Column(name, BigInteger) for name in ("project_id", "id", "connection_id")),
    *(Column(name, Text) for name in ("timezone", "issue_id", "site", "tenant")),
    *(Column(name, DateTime(timezone=True)) for name in ("created", "deleted_at")),
    *(Column(name, ARRAY(Text)) for name in ("severity_fields", "bug_types")),
    Column("now", Integer),
)

SUMMARY = Summary(
    name="bug_analytics_daily",
    table=METADATA.tables["bug_analytics_daily"],
    key=("project_id",),
    identity=("project_id", "date"),
    definition_version=1,
    keys_of_marks=KEYS_OF_MARKS,
    all_keys=ALL_KEYS,
    rows=ROWS,
    inputs=INPUTS,
    input_rows=ISSUES,
    rivals=RIVALS,
    since_column="date",
    overdue=OVERDUE,
    afterwards=AFTERWARDS,
    is_coarse=True,
    parameters={"bug_types": list(DEFAULT_BUG_TYPES)},
)
