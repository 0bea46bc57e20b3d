"""`plumbline simulate`: a Jira, GitLab or GitHub here that behaves as the real ones do, with faults where wanted."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from admin.cli import arguments, output
from models.errors import UsageError

if TYPE_CHECKING:
    from models.store.session import Database
    from workers.settings import Settings
    from workers.supervisor import ProcessSpec

app = typer.Typer()
group = typer.Typer(no_args_is_help=True, help="A local Jira, GitLab or GitHub, with faults where wanted.")
app.add_typer(group, name="simulate")

PortOption = Annotated[int, typer.Option("--port", metavar="P", min=1, max=65_535, help="Where on this machine.")]
SeedOption = Annotated[int, typer.Option("--seed", metavar="S", help="The same seed makes the same history.")]
LatencyOption = Annotated[float, typer.Option("--latency-ms", metavar="L", min=0, help="Added to every answer.")]
FaultsOption = Annotated[
    str,
    typer.Option("--faults", metavar="SPEC", help="Such as 429:0.02:retry-after=1,500:0.05; docs/simulators.md."),
]
NowOption = Annotated[
    str | None,
    typer.Option("--now", metavar="TIME", help="What its clock says at the start; the present if not given."),
]

DEMO_ISSUES = 500
DEMO_MERGE_REQUESTS = 300
DEMO_PROJECT = "Demo"


@group.command("jira")
def jira(
    port: PortOption,
    issues: Annotated[int, typer.Option("--issues", metavar="N", min=0, help="How many issues.")] = 200,
    seed: SeedOption = 1,
    latency_ms: LatencyOption = 0,
    faults: FaultsOption = "",
    deployment: Annotated[
        str, typer.Option("--deployment", metavar="cloud|server", help="Jira Cloud, or Data Center.")
    ] = "cloud",
    now: NowOption = None,
) -> None:
    """Serve a simulated Jira until Ctrl-C.

    Example:
        plumbline simulate jira --port 8090 --issues 1000 --faults 500:0.05
    """
    from connectors.jira.simulator import JiraSimulator

    if deployment not in {"cloud", "server"}:
        raise UsageError(f"There is no deployment {deployment!r}; choose cloud or server.")
    simulator = JiraSimulator(
        issues=issues,
        seed=seed,
        latency_ms=latency_ms,
        faults=faults,
        deployment="cloud" if deployment == "cloud" else "server",
        now=_clock(now),
        is_clock_running=True,
    )
    user = f" --user {simulator.user}" if deployment == "cloud" else ""
    _serve(simulator, port, kind="jira", token=simulator.token, user=user, key="PAY")


@group.command("gitlab")
def gitlab(
    port: PortOption,
    merge_requests: Annotated[
        int, typer.Option("--merge-requests", metavar="N", min=0, help="How many merge requests.")
    ] = 200,
    seed: SeedOption = 1,
    latency_ms: LatencyOption = 0,
    faults: FaultsOption = "",
    now: NowOption = None,
) -> None:
    """Serve a simulated GitLab until Ctrl-C.

    Example:
        plumbline simulate gitlab --port 8091 --merge-requests 500 --latency-ms 20
    """
    from connectors.gitlab.simulator import GitLabSimulator

    simulator = GitLabSimulator(
        merge_requests=merge_requests,
        seed=seed,
        latency_ms=latency_ms,
        faults=faults,
        now=_clock(now),
        is_clock_running=True,
    )
    _serve(simulator, port, kind="gitlab", token=simulator.token, user="", key="acme/payments")


@group.command("github")
def github(
    port: PortOption,
    pull_requests: Annotated[
        int, typer.Option("--pull-requests", metavar="N", min=0, help="How many pull requests.")
    ] = 120,
    issues: Annotated[int, typer.Option("--issues", metavar="N", min=0, help="How many issues.")] = 80,
    seed: SeedOption = 1,
    latency_ms: LatencyOption = 0,
    faults: FaultsOption = "",
    now: NowOption = None,
) -> None:
    """Serve a simulated GitHub Enterprise Server until Ctrl-C.

    Example:
        plumbline simulate github --port 8092 --pull-requests 500 --issues 200
    """
    from connectors.github.simulator import GitHubSimulator

    simulator = GitHubSimulator(
        pull_requests=pull_requests,
        issues=issues,
        seed=seed,
        latency_ms=latency_ms,
        faults=faults,
        now=_clock(now),
        is_clock_running=True,
    )
    _serve(simulator, port, kind="github", token=simulator.token, user="", key="acme/payments")


def demo_processes(settings: Settings) -> list[ProcessSpec]:
    """A simulated Jira and GitLab beside the others, at the two ports after the API's."""
    from workers.supervisor import ProcessSpec

    def simulate(kind: str, port: int, *amount: str) -> ProcessSpec:
        options = ("--port", str(port), "--now", began.isoformat(), *amount)
        return ProcessSpec(kind, (sys.executable, "-m", "admin.cli", "simulate", kind, *options))

    began = _demo_began(settings)
    jira_port, gitlab_port = _demo_ports(settings)
    return [
        simulate("jira", jira_port, "--issues", str(DEMO_ISSUES)),
        simulate("gitlab", gitlab_port, "--merge-requests", str(DEMO_MERGE_REQUESTS)),
    ]


def add_demo_sources(database: Database, settings: Settings) -> None:
    """The connections and scopes of the simulated Jira and GitLab, where they are missing."""
    from connectors.gitlab.simulator import GitLabSimulator
    from connectors.jira.simulator import JiraSimulator
    from models.store import connections
    from workers import secrets

    jira_world, gitlab_world = JiraSimulator(issues=0), GitLabSimulator(merge_requests=0)
    jira_port, gitlab_port = _demo_ports(settings)
    sources: tuple[tuple[str, int, dict[str, str], str], ...] = (
        ("jira", jira_port, {"user": jira_world.user, "token": jira_world.token}, "PAY"),
        ("gitlab", gitlab_port, {"token": gitlab_world.token}, "acme/payments"),
    )
    with database.transaction() as session:
        tenant_id = connections.default_tenant(session)
        there = {row.name for row in connections.connections(session)}
        project_id = connections.ensure_project(session, tenant_id, DEMO_PROJECT, timezone=settings.reporting_timezone)
        for kind, port, auth, key in sources:
            if f"demo-{kind}" in there:
                continue
            connection_id = connections.add_connection(
                session,
                tenant_id,
                kind=kind,
                name=f"demo-{kind}",
                base_url=f"http://127.0.0.1:{port}",
                auth=secrets.encrypt(settings, auth),
                options={},
            )
            repository_id = (
                connections.ensure_repository(
                    session, tenant_id, project_id, provider=kind, external_id=f"127.0.0.1:{port}/{key}", title=key
                )
                if kind == "gitlab"
                else None
            )
            connections.add_scope(
                session,
                connection_id,
                external_key=key,
                project_id=project_id,
                repository_id=repository_id,
                options={},
            )


def _demo_began(settings: Settings) -> datetime:
    """When the demo of this HOME was first started: a history that ended at another time would be another one."""
    from workers.settings import prepare_home

    prepare_home(settings.home)
    record = settings.home / "demo-began"
    if not record.exists():
        record.write_text(datetime.now(UTC).isoformat(timespec="seconds"))
    return datetime.fromisoformat(record.read_text())


def _demo_ports(settings: Settings) -> tuple[int, int]:
    return settings.api_port + 1, settings.api_port + 2


def _clock(now: str | None) -> datetime:
    return datetime.now(UTC) if now is None else arguments.read_time(now, "--now")


def _serve(simulator: Any, port: int, *, kind: str, token: str, user: str, key: str) -> None:
    import socket

    from connectors.simulator import run

    try:
        socket.create_server(("127.0.0.1", port)).close()
    except OSError as error:
        raise UsageError(f"Port {port} cannot be used: {error.strerror}.") from error
    url = f"http://127.0.0.1:{port}"
    output.say(f"A simulated {kind} serves {url}; its token is {token}. Ctrl-C ends it. To read from it:")
    output.say(f"  export SIMULATED_TOKEN={token}")
    output.say(f"  plumbline connection add {kind} simulated-{kind} --url {url}{user} --token-env SIMULATED_TOKEN")
    output.say(f"  plumbline scope add simulated-{kind} {key}")
    sys.stdout.flush()  # whoever reads a pipe waits for it
    run(simulator, port)
