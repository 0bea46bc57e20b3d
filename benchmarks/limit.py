"""The limit of a sync: fetch the same pages, parse, COPY the same rows, and nothing else.

Written are, for Jira, issues, changes, bugs, their history and the payloads, compressed the same; for GitLab, merge
requests and their notes. Nothing is compared, merged, counted or resumable, and each row goes straight into an empty
table with its natural key: what a sync costs more than this is the price of being right under change.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from multiprocessing import get_context
from typing import Any
from urllib.parse import urlencode

import msgspec
import psycopg
import urllib3
import zstandard

PROCESSES = 2
FETCHERS = 4
SUB_RESOURCE_FETCHERS = 8
PAGE = 100

JIRA_TABLES = """
    CREATE TABLE limit_issues (issue_id text PRIMARY KEY, issuekey text, project text, issuetype text, summary text,
        description text, priority text, severity text, labels text, assignee text, reporter text, creator text,
        status_id text, status text, created timestamptz, updated timestamptz, resolution text, resolved timestamptz,
        story_points text);
    CREATE TABLE limit_changes (issue_id text, change_id text, item_index int, author text, field text, from_value text,
        from_text text, to_value text, to_text text, changed_at timestamptz,
        PRIMARY KEY (issue_id, change_id, item_index));
    CREATE TABLE limit_bugs (jira_key text PRIMARY KEY, project text, summary text, status text, issue_type text,
        priority text, assignee text, reporter text, labels text, created timestamptz, updated timestamptz,
        resolved timestamptz, description text);
    CREATE TABLE limit_bug_history (jira_key text, change_id text, item_index int, field text, old_value text,
        new_value text, changed_by text, changed_at timestamptz, PRIMARY KEY (jira_key, change_id, item_index));
    CREATE TABLE limit_payloads (issue_id text PRIMARY KEY, payload bytea, sha256 bytea);
    ALTER TABLE limit_payloads ALTER payload SET STORAGE EXTERNAL;
"""
GITLAB_TABLES = """
    CREATE TABLE limit_merge_requests (mr_id int PRIMARY KEY, title text, author text, state text, draft bool,
        source_branch text, target_branch text, web_url text, sha text, created_at timestamptz, updated_at timestamptz,
        merged_at timestamptz, first_commit_at timestamptz, first_review_at timestamptz, commits_count int);
    CREATE TABLE limit_activities (mr_id int, external_id text, username text, occurred_at timestamptz,
        PRIMARY KEY (mr_id, external_id));
"""


class Named(msgspec.Struct, gc=False):
    name: str | None = None
    id: str | None = None
    displayName: str | None = None  # noqa: N815  # Jira's word


class Fields(msgspec.Struct, gc=False):
    created: str
    updated: str
    summary: str = ""
    description: str | None = None
    issuetype: Named | None = None
    status: Named | None = None
    priority: Named | None = None
    resolution: Named | None = None
    resolutiondate: str | None = None
    assignee: Named | None = None
    reporter: Named | None = None
    creator: Named | None = None
    labels: list[str] = []


class ChangeItem(
    msgspec.Struct, gc=False, rename={"from_": "from", "from_string": "fromString", "to_string": "toString"}
):
    field: str
    from_: Any = None
    from_string: str | None = None
    to: Any = None
    to_string: str | None = None


class History(msgspec.Struct, gc=False):
    id: str
    created: str
    items: list[ChangeItem]
    author: Named | None = None


class Changelog(msgspec.Struct, gc=False):
    histories: list[History]


class Issue(msgspec.Struct, gc=False):
    id: str
    key: str
    fields: Fields
    changelog: Changelog


class Page(msgspec.Struct, gc=False):
    issues: list[msgspec.Raw]


class Person(msgspec.Struct, gc=False):
    username: str | None = None


class MergeRequest(msgspec.Struct, gc=False):
    iid: int
    title: str
    state: str
    created_at: str
    updated_at: str
    draft: bool = False
    author: Person | None = None
    source_branch: str | None = None
    target_branch: str | None = None
    web_url: str | None = None
    sha: str | None = None
    merged_at: str | None = None


class Commit(msgspec.Struct, gc=False):
    authored_date: str


class Note(msgspec.Struct, gc=False):
    id: int
    created_at: str
    system: bool
    author: Person | None = None


def _text(value: Any) -> str:
    if value is None:
        return "\\N"
    return str(value).replace("\\", "\\\\").replace("\t", "\\t").replace("\n", "\\n").replace("\r", "\\r")


def _copy(connection: psycopg.Connection[Any], table: str, rows: list[tuple[Any, ...]]) -> None:
    buffer = "".join("\t".join(map(_text, row)) + "\n" for row in rows)
    with connection.cursor() as cursor, cursor.copy(f"COPY {table} FROM STDIN") as copy:
        copy.write(buffer)


def _ahead(pool: ThreadPoolExecutor, calls: Iterator[Callable[[], Any]], ahead: int) -> Iterator[Any]:
    waiting = []
    for call in calls:
        waiting.append(pool.submit(call))
        if len(waiting) > ahead:
            yield waiting.pop(0).result()
    for each in waiting:
        yield each.result()


def _jira_part(url: str, token: str, project: str, database_url: str, part: int, total: int) -> None:
    http = urllib3.PoolManager(maxsize=FETCHERS)
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
    decode = msgspec.json.Decoder(Page).decode
    decode_issue = msgspec.json.Decoder(Issue).decode
    compress = zstandard.ZstdCompressor(level=1).compress

    def fetch(start: int) -> bytes:
        body = {
            "jql": f'project = "{project}" ORDER BY created ASC, key ASC',
            "startAt": start,
            "maxResults": PAGE,
            "expand": ["changelog"],
        }
        return http.request("POST", f"{url}/rest/api/2/search", body=json.dumps(body), headers=headers).data

    starts = range(part * PAGE, total, PAGE * PROCESSES)
    with ThreadPoolExecutor(FETCHERS) as pool, psycopg.connect(database_url) as connection:
        for body in _ahead(pool, ((lambda start=start: fetch(start)) for start in starts), FETCHERS):
            raws = decode(body).issues
            issues, changes, bugs, bug_history = _rows(raws, decode_issue, project)
            _copy(connection, "limit_issues", issues)
            _copy(connection, "limit_changes", changes)
            _copy(connection, "limit_bugs", bugs)
            _copy(connection, "limit_bug_history", bug_history)
            with connection.cursor() as cursor, cursor.copy("COPY limit_payloads FROM STDIN") as copy:
                for raw, issue in zip(raws, issues, strict=True):
                    payload = bytes(raw)
                    copy.write(
                        f"{issue[0]}\t\\\\x{compress(payload).hex()}\t\\\\x{hashlib.sha256(payload).hexdigest()}\n"
                    )
            connection.commit()


def _rows(
    raws: list[msgspec.Raw], decode_issue: Callable[[msgspec.Raw], Issue], project: str
) -> tuple[list[tuple[Any, ...]], ...]:
    issues, changes, bugs, bug_history = [], [], [], []
    for raw in raws:
        each = decode_issue(raw)
        fields = each.fields
        issue_type = fields.issuetype and fields.issuetype.name
        status = fields.status and fields.status.name
        priority = fields.priority and fields.priority.name
        assignee = fields.assignee and fields.assignee.displayName
        reporter = fields.reporter and fields.reporter.displayName
        labels = ",".join(fields.labels)
        issues.append(
            (
                each.id, each.key, project, issue_type, fields.summary, fields.description, priority, None, labels,
                assignee, reporter, fields.creator and fields.creator.displayName, fields.status and fields.status.id,
                status, fields.created, fields.updated, fields.resolution and fields.resolution.name,
                fields.resolutiondate, None,
            )
        )  # fmt: skip
        own = [
            (
                each.id, history.id, position, history.author and history.author.displayName, item.field, item.from_,
                item.from_string, item.to, item.to_string, history.created,
            )
            for history in each.changelog.histories
            for position, item in enumerate(history.items)
        ]  # fmt: skip
        changes += own
        if issue_type == "Bug" or any(row[4] == "issuetype" and "Bug" in (row[6], row[8]) for row in own):
            bugs.append(
                (
                    each.key, project, fields.summary, status, issue_type, priority, assignee, reporter, labels,
                    fields.created, fields.updated, fields.resolutiondate, fields.description,
                )
            )  # fmt: skip
            bug_history += [(each.key, *row[1:3], row[4], row[6], row[8], row[3], row[9]) for row in own]
    return issues, changes, bugs, bug_history


def _gitlab_part(url: str, token: str, project: str, database_url: str, part: int, total: int) -> None:
    http = urllib3.PoolManager(maxsize=SUB_RESOURCE_FETCHERS)
    headers = {"Authorization": f"Bearer {token}"}

    def get(path: str, **parameters: Any) -> bytes:
        query = urlencode(parameters)
        return http.request(
            "GET", f"{url}/api/v4/projects/{project}/merge_requests{path}?{query}", headers=headers
        ).data

    def one(each: MergeRequest) -> tuple[MergeRequest, list[Commit], list[Note]]:
        commits = msgspec.json.decode(get(f"/{each.iid}/commits", per_page=100), type=list[Commit])
        notes = msgspec.json.decode(get(f"/{each.iid}/notes", per_page=100), type=list[Note])
        get(f"/{each.iid}/approvals")
        get(f"/{each.iid}/resource_state_events", per_page=100)
        return each, commits, notes

    pages = range(part + 1, -(-total // PAGE) + 1, PROCESSES)
    with ThreadPoolExecutor(SUB_RESOURCE_FETCHERS) as pool, psycopg.connect(database_url) as connection:
        for page in pages:
            listed = msgspec.json.decode(
                get("", scope="all", state="all", order_by="created_at", sort="asc", per_page=PAGE, page=page),
                type=list[MergeRequest],
            )
            merge_requests, activities = [], []
            for each, commits, notes in pool.map(one, listed):
                reviews = [note.created_at for note in notes if not note.system]
                merge_requests.append(
                    (
                        each.iid, each.title, each.author and each.author.username, each.state, each.draft,
                        each.source_branch, each.target_branch, each.web_url, each.sha, each.created_at,
                        each.updated_at, each.merged_at,
                        min((commit.authored_date for commit in commits), default=None),
                        min(reviews, default=None), len(commits),
                    )
                )  # fmt: skip
                activities.extend(
                    (each.iid, str(note.id), note.author and note.author.username, note.created_at) for note in notes
                )
            _copy(connection, "limit_merge_requests", merge_requests)
            _copy(connection, "limit_activities", activities)
            connection.commit()


def _run(part: Callable[..., None], database_url: str, tables: str, *arguments: Any, total: int) -> float:
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute(tables)
    context = get_context("spawn")
    processes = [
        context.Process(target=part, args=(*arguments, database_url, number, total)) for number in range(PROCESSES)
    ]
    started = time.monotonic()
    for process in processes:
        process.start()
    for process in processes:
        process.join()
        if process.exitcode:
            raise SystemExit("the limit's own process failed")
    return time.monotonic() - started


def jira_limit(url: str, token: str, project: str, database_url: str, *, issues: int) -> float:
    """Seconds that the limit takes for the issues of a project of a Jira Data Center."""
    return _run(_jira_part, database_url, JIRA_TABLES, url, token, project, total=issues)


def gitlab_limit(url: str, token: str, project: str, database_url: str, *, merge_requests: int) -> float:
    """Seconds that the limit takes for the merge requests of a GitLab project, sub-resources included."""
    return _run(_gitlab_part, database_url, GITLAB_TABLES, url, token, project, total=merge_requests)
