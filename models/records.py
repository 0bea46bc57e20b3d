"""Records: what the sources say, in our words, frozen and vendor-free.

A connector's `parse` makes them, `models.store` writes them. A record holds only what its tables keep; anything
computed over several records is a measure. They are `msgspec.Struct`s, which cost a tenth of a frozen dataclass to
build (docs/decisions/0001). Times are aware; NULL means that the source did not say.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, datetime
from typing import Any

import msgspec


class Record(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A record: compared by value, never changed."""


class Account(Record, frozen=True, kw_only=True):
    """A person's or robot's account at a source. `external_id` never changes there; the names may."""

    external_id: str
    username: str | None = None
    display_name: str | None = None
    email: str | None = None
    email_is_verified: bool = False
    """The source has made sure that whoever has the account reads mail sent there."""
    provider_id: str | None = None
    """The identity provider that the account signs in with, and the id there."""
    is_bot: bool = False
    bot_reason: str | None = None


class IssueChange(Record, frozen=True, kw_only=True):
    """One item of one history of an issue: one field, from, to. Several items may name the same field."""

    change_id: str
    item_index: int
    author_id: str | None
    author_name: str | None
    field: str
    """The field's id where the source gives one, else its name, e.g. `status`, `customfield_10020`."""
    field_name: str
    from_value: str | None
    from_text: str | None
    to_value: str | None
    to_text: str | None
    changed_at: datetime


class Issue(Record, frozen=True, kw_only=True):
    """An issue of Jira with its whole history, keyed by `issue_id`; its key and project may change."""

    issue_id: str
    key: str
    project_key: str
    issue_type: str
    summary: str
    description: str | None
    status_id: str | None
    status: str
    status_category: str | None
    """new, indeterminate or done."""
    status_category_changed_at: datetime | None
    priority: str | None
    severity: str | None
    """As the site names it; mapped to critical, high, medium, low when stored."""
    resolution: str | None
    labels: tuple[str, ...]
    components: tuple[str, ...]
    fix_versions: tuple[str, ...]
    assignee: Account | None
    reporter: Account | None
    creator: Account | None
    parent_key: str | None
    epic_key: str | None
    epic_name: str | None
    sprint_id: str | None
    sprint: str | None
    sprint_state: str | None
    sprint_start_at: datetime | None
    sprint_end_at: datetime | None
    sprint_complete_at: datetime | None
    story_points: float | None
    original_estimate_seconds: int | None
    time_spent_seconds: int | None
    subtasks: tuple[str, ...]
    linked_issues: tuple[Mapping[str, str], ...]
    """`{"type": "Blocks", "direction": "outward", "key": "AB-1"}`."""
    comments_count: int
    """Of all there are, though only the first so many are in `comments`."""
    comments: tuple[Mapping[str, str | None], ...] = ()
    """Oldest first: `id`, `author_id`, `author`, `created`, `updated`, and `body`, which may be cut short."""
    worklogs_count: int = 0
    worklogs: tuple[Mapping[str, str | int | None], ...] = ()
    """`id`, `author_id`, `author`, `started`, `updated`, `seconds`."""
    first_response_at: datetime | None = None
    """The first comment by a person who is not the reporter."""
    created_at: datetime
    updated_at: datetime
    resolved_at: datetime | None
    due_on: date | None
    changes: tuple[IssueChange, ...]
    """Oldest first: by time, then history id, then position."""


class Field(Record, frozen=True, kw_only=True):
    """A field of a Jira instance and, where we know it, what it is for."""

    field_id: str
    name: str
    field_type: str | None
    """`schema.custom`, else `schema.type`."""
    is_custom: bool
    role: str | None
    """sprint, epic_link, epic_name, story_points, story_point_estimate, severity, acceptance_criteria, or None."""


class Status(Record, frozen=True, kw_only=True):
    """A workflow status of a Jira instance; names repeat across ids."""

    status_id: str
    name: str
    category: str
    """new, indeterminate or done."""


class Priority(Record, frozen=True, kw_only=True):
    """A priority of a Jira instance."""

    priority_id: str
    name: str
    description: str | None


class Version(Record, frozen=True, kw_only=True):
    """A version of a Jira project, which issues are fixed in."""

    version_id: str
    external_project_id: str | None
    name: str
    description: str | None
    is_archived: bool
    is_released: bool
    start_on: date | None
    release_on: date | None
    """The day that is planned, or on which it came out."""


class Board(Record, frozen=True, kw_only=True):
    """A board of Jira, which may show several projects."""

    board_id: str
    name: str
    kind: str | None
    """scrum, kanban or simple."""
    project_key: str | None
    """Of the project that it stands in."""


class Sprint(Record, frozen=True, kw_only=True):
    """A sprint of Jira; several boards may show it."""

    sprint_id: str
    board_id: str | None
    """Of the board that it was made on."""
    name: str
    state: str
    """future, active or closed."""
    goal: str | None
    start_at: datetime | None
    end_at: datetime | None
    """As planned."""
    activated_at: datetime | None
    """When it was really started, where the source tells."""
    complete_at: datetime | None


class MergeRequestActivity(Record, frozen=True, kw_only=True):
    """One thing that one account did to a merge request; what the contributor tables count."""

    account_id: str | None
    username: str | None
    activity: str
    """authored, reviewed, approved, unapproved, merged, closed, reopened."""
    occurred_at: datetime
    external_id: str
    """Unique within the merge request, from the note, event or approval that shows it."""


class Commit(Record, frozen=True, kw_only=True):
    """A commit of a merge request."""

    sha: str
    author_email: str | None
    authored_at: datetime | None
    committed_at: datetime | None


class MergeRequest(Record, frozen=True, kw_only=True):
    """A merge request with what happened to it, keyed by target project and iid."""

    external_id: str
    """The global id."""
    external_project_id: str
    iid: int
    project_path: str
    title: str
    author: Account | None
    state: str
    """opened, closed, locked or merged."""
    draft: bool
    source_branch: str | None
    target_branch: str | None
    web_url: str | None
    labels: tuple[str, ...]
    sha: str | None
    merge_commit_sha: str | None
    squash_commit_sha: str | None
    created_at: datetime
    updated_at: datetime
    ready_at: datetime | None
    """The first instant it was no draft: created, or the first "marked as ready" note; None while still a draft."""
    merged_at: datetime | None
    merged_at_is_estimated: bool
    """True where the source lost the time and the update time stands in."""
    closed_at: datetime | None
    merged_by: Account | None
    first_commit_at: datetime | None
    """The earliest authored time of its commits, as the source gives it; it may be years before `created_at`."""
    first_review_at: datetime | None
    """The first comment, approval or change request by a human who is not its author; system notes do not count."""
    first_approved_at: datetime | None
    """The first approval by someone other than the author."""
    approved_at: datetime | None
    """The last approval, by someone other than the author, that still stands."""
    commits_count: int | None
    notes_count: int | None
    """Comments by people, system notes not counted."""
    changes_count: int | None
    is_truncated: bool
    """True where sub-resources were too many to read within the budget."""
    activities: tuple[MergeRequestActivity, ...]
    accounts: tuple[Account, ...]
    """Every account seen in it, each once."""


class ProjectEvent(Record, frozen=True, kw_only=True):
    """One line of a GitLab project's activity feed."""

    external_id: str
    external_project_id: str
    author: Account | None
    action: str
    """As the source names it, e.g. `pushed to`, `opened`, `approved`."""
    target_type: str | None
    target_iid: int | None
    push_action: str | None
    """created, pushed or removed."""
    push_ref_type: str | None
    """branch or tag."""
    push_commits: int | None
    occurred_at: datetime


class Repository(Record, frozen=True, kw_only=True):
    """A code repository as its host has it now; `external_id` stays when it is renamed or moved."""

    external_id: str
    path: str
    """With its groups, e.g. `acme/payments`."""
    description: str | None
    web_url: str | None
    default_branch: str | None
    """None where nothing has been pushed."""
    is_archived: bool


class OwnerRule(Record, frozen=True, kw_only=True):
    """One line of a CODEOWNERS file that names owners, or takes them away."""

    pattern: str
    owners: tuple[str, ...]
    """`@account`, `@group`, `@@role` or an e-mail address; none says that nobody owns it."""
    section: str | None
    """Sections are judged apart: a path has the owners of its last match in each."""
    is_optional: bool
    required_approvals_count: int


class OwnerFile(Record, frozen=True, kw_only=True):
    """The CODEOWNERS file of a repository's default branch, whole, in the order of its lines."""

    external_project_id: str
    path: str | None
    """None where there is none."""
    source_sha: str | None
    """The commit that last changed it."""
    rules: tuple[OwnerRule, ...]


class Pipeline(Record, frozen=True, kw_only=True):
    """A run of what builds and tests a commit: a GitLab pipeline, a GitHub workflow run."""

    external_id: str
    external_project_id: str
    iid: int | None
    status: str
    """created, waiting_for_resource, preparing, pending, running, success, failed, canceled, canceling, skipped,
    manual or scheduled."""
    source: str | None
    """What started it: push, schedule, merge_request_event, …"""
    ref: str | None
    sha: str | None
    web_url: str | None
    started_by: Account | None
    created_at: datetime
    updated_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    duration_seconds: float | None
    queued_seconds: float | None
    coverage: float | None
    """Percent."""


class PipelineJob(Record, frozen=True, kw_only=True):
    """One attempt of one job of a pipeline; retrying makes another, under the same name and a higher id."""

    external_id: str
    external_project_id: str
    external_pipeline_id: str
    name: str
    stage: str | None
    status: str
    """As of a pipeline."""
    failure_reason: str | None
    is_allowed_to_fail: bool
    ref: str | None
    web_url: str | None
    started_by: Account | None
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    duration_seconds: float | None
    queued_seconds: float | None

    @property
    def updated_at(self) -> datetime:
        """The latest of its times: sources tell no other of a job."""
        return max(at for at in (self.created_at, self.started_at, self.finished_at) if at is not None)


class Environment(Record, frozen=True, kw_only=True):
    """Where software is deployed to."""

    external_id: str
    external_project_id: str
    name: str
    tier: str | None
    """production, staging, testing, development or other."""
    state: str | None
    """available, stopping or stopped."""
    external_url: str | None


class Deployment(Record, frozen=True, kw_only=True):
    """A deployment to an environment; the tier is the environment's and joined when stored."""

    external_id: str
    external_project_id: str
    iid: int | None
    status: str
    """created, running, success, failed, canceled, blocked or skipped."""
    environment: str
    ref: str | None
    sha: str | None
    external_pipeline_id: str | None
    deployed_by: Account | None
    created_at: datetime
    updated_at: datetime
    finished_at: datetime | None
    """When it was out, as the source says; never the update time."""
    merge_requests: tuple[int, ...] | None
    """The iids that it brought out; None where the source was not asked or does not say."""


class TestStep(Record, frozen=True, kw_only=True):
    """A step of a test attempt; `path` is its place in the tree, e.g. (0, 2) for the third step of the first."""

    path: tuple[int, ...]
    name: str
    status: str
    duration_ms: int | None
    error_message: str | None


class TestAttempt(Record, frozen=True, kw_only=True):
    """One attempt of one test with one set of parameters; retries are attempts of their own."""

    result_uuid: str
    test_key: str
    """Our own identity of test and parameters (connectors/allure/identity.py); the retries of a test share it."""
    identity_version: int
    case_path: str
    """Where the case lives, e.g. `tests.checkout.test_pay`; with `case_name` and `framework` it names the case."""
    case_name: str
    framework: str
    name: str
    full_name: str | None
    history_id: str | None
    parameters_hash: str
    parameters: Mapping[str, str]
    """Without hidden ones; masked values stay masked."""
    status: str
    """passed, failed, broken, skipped or unknown."""
    is_retry: bool
    """True for every attempt but the last of the same test and parameters."""
    flaky: bool
    status_message: str | None
    status_trace: str | None
    started_at: datetime | None
    duration_ms: int | None
    suite: str | None
    feature: str | None
    story: str | None
    severity: str | None
    owner: str | None
    labels: tuple[tuple[str, str], ...]
    links: tuple[Mapping[str, str], ...]
    attachments: tuple[Mapping[str, str], ...]
    """Names, types and sources; the contents are not kept here."""
    steps: tuple[TestStep, ...]


class TestReport(Record, frozen=True, kw_only=True):
    """A folder of results: one launch of a suite. Its attempts travel apart, in batches."""

    name: str
    content_hash: str
    """SHA-256 over the sorted names and hashes of the result files: the same folder twice is one report."""
    build_name: str | None
    build_url: str | None
    build_order: int | None
    executor_type: str | None
    commit_sha: str | None
    branch: str | None
    environment: Mapping[str, str]
    started_at: datetime | None
    stopped_at: datetime | None
    files_count: int
    rejected_count: int


class TestLaunch(Record, frozen=True, kw_only=True):
    """What a source shows of a launch before its results are read: enough to know whether they have been.

    A launch that several jobs made together is several of these, under one `launch_key`.
    """

    external_id: str
    """Unique in the connection."""
    launch_key: str
    name: str
    fingerprint: str
    """Another one means that there is something to read."""
    commit_sha: str | None = None
    branch: str | None = None
    build_name: str | None = None
    ci_url: str | None = None
    results_path: str | None = None
    """Where in the archive the results lie, a shell pattern; None: wherever they are found."""
    summary: Mapping[str, int] | None = None
    """How many tests ended how, where the source counts them."""
    started_at: datetime | None = None
    updated_at: datetime
    """When it was last added to, by the source's clock."""


class Batch(msgspec.Struct, frozen=True, kw_only=True):
    """What one or many payloads became. Promoting it twice, or in another order, changes nothing."""

    issues: tuple[Issue, ...] = ()
    fields: tuple[Field, ...] = ()
    statuses: tuple[Status, ...] = ()
    priorities: tuple[Priority, ...] = ()
    versions: tuple[Version, ...] = ()
    boards: tuple[Board, ...] = ()
    sprints: tuple[Sprint, ...] = ()
    merge_requests: tuple[MergeRequest, ...] = ()
    events: tuple[ProjectEvent, ...] = ()
    repositories: tuple[Repository, ...] = ()
    owner_files: tuple[OwnerFile, ...] = ()
    pipelines: tuple[Pipeline, ...] = ()
    jobs: tuple[PipelineJob, ...] = ()
    environments: tuple[Environment, ...] = ()
    deployments: tuple[Deployment, ...] = ()
    launches: tuple[TestLaunch, ...] = ()
    accounts: tuple[Account, ...] = ()

    @classmethod
    def merge(cls, batches: list[Batch]) -> Batch:
        """Join batches into one, in order.

        Args:
            batches: any number; none gives an empty batch.
        """
        joined: dict[str, Any] = {
            name: tuple(record for batch in batches for record in getattr(batch, name))
            for name in cls.__struct_fields__
        }
        return cls(**joined)


class ImportedBug(Record, frozen=True, kw_only=True):
    """A bug from a file. Its key is what the tracker that it came from calls it."""

    line: int
    """Where it stands in the file."""
    key: str
    summary: str
    status: str
    status_category: str
    """new, indeterminate or done."""
    issue_type: str
    priority: str | None
    severity: str
    assignee: str | None
    reporter: str | None
    creator: str | None
    sprint: str | None
    labels: tuple[str, ...]
    description: str | None
    created_at: datetime
    updated_at: datetime
    """As the file says, else the latest of its other times."""
    resolved_at: datetime | None
    due_on: date | None


class ImportedTestCase(Record, frozen=True, kw_only=True):
    """A test case from a file, known by path, name and framework within its repository."""

    line: int
    """Where it stands in the file."""
    path: str
    name: str
    framework: str
    title: str
    suite: str | None
    description: str | None
    automated: bool
    priority: int
    """1 high, 2 medium, 3 low."""
    severity: str
    regression: bool
    labels: tuple[str, ...]
    epic_link: str | None
    jira_key: str | None
    platform: str | None
    release_version: str | None
    defect_stage: str | None
