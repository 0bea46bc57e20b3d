"""`plumbline people` and `plumbline bots`: whose accounts are whose, and which are nobody's."""

from __future__ import annotations

from typing import Annotated

import typer

from admin.cli import output

app = typer.Typer()
group = typer.Typer(no_args_is_help=True, help="Which accounts belong to one person.")
bots = typer.Typer(no_args_is_help=True, help="Which accounts are robots.")
app.add_typer(group, name="people")
app.add_typer(bots, name="bots")

Account = Annotated[str, typer.Argument(help="`source:username`, `source:e-mail`, or the number of `people list`.")]


@group.command("list")
def list_(
    everybody: Annotated[bool, typer.Option("--all", help="Also people with one account.")] = False,
    limit: Annotated[int, typer.Option("--limit", min=1, max=100_000, help="At most so many accounts.")] = 200,
    as_json: output.JsonOption = False,
) -> None:
    """List people with several accounts, and what makes those accounts theirs.

    Example:
        plumbline people list --all
    """
    from admin.cli.process import ready
    from models.store import people

    process = ready()
    with process.database.transaction() as session:
        rows = [row._asdict() for row in people.listing(session, only_joined=not everybody, limit=limit)]
    output.print_rows(
        rows,
        columns={
            "person_id": "person",
            "id": "account",
            "source": "source",
            "username": "username",
            "display_name": "name",
            "email": "e-mail",
            "person_reason": "joined by",
            "bot_reason": "robot because",
        },
        as_json=as_json,
        empty="Nobody has two accounts; `--all` lists everybody.",
    )


@group.command()
def join(account: Account, other: Account) -> None:
    """Say that two accounts are one person's, whatever their addresses say.

    Example:
        plumbline people join gitlab:alice git:alice@home.example
    """
    _decide(account, other)


@group.command()
def split(account: Account) -> None:
    """Say that an account is nobody else's, whatever it shares with others.

    Example:
        plumbline people split jira:alice.b
    """
    _decide(account, None)


@group.command()
def undo(account: Account) -> None:
    """Take back what was said by `join` and `split` about an account.

    Example:
        plumbline people undo gitlab:alice
    """
    from admin.cli.process import ready
    from models.store import people

    process = ready()
    with process.database.transaction() as session:
        found = people.account(session, account)
        forgotten = people.forget(session, found.id)
        people.tell_apart(session, found.tenant_id)
    output.say(f"Took back {forgotten} decision{'' if forgotten == 1 else 's'} about account {found.id}.")


def _decide(account: str, other: str | None) -> None:
    import getpass

    from admin.cli.process import ready
    from models.store import people

    process = ready()
    with process.database.transaction() as session:
        one = people.account(session, account)
        two = people.account(session, other) if other is not None else None
        people.decide(
            session,
            identity_id=one.id,
            other_identity_id=two.id if two is not None else None,
            decided_by=getpass.getuser(),
        )
        changed = people.tell_apart(session, one.tenant_id)
    output.say(f"Account {one.id} and account {two.id} are one person's." if two else f"Account {one.id} stands apart.")
    output.note(f"{changed} accounts changed hands; the summaries follow within a minute.")


@bots.command("list")
def list_bots(as_json: output.JsonOption = False) -> None:
    """List the rules that say which accounts are robots, in the order in which they are asked.

    Example:
        plumbline bots list
    """
    from admin.cli.process import ready
    from models.store import people

    process = ready()
    with process.database.transaction() as session:
        rows = [row._asdict() for row in people.listed_rules(session)]
    output.print_rows(
        rows,
        columns={
            "position": "position",
            "source": "source",
            "field": "field",
            "pattern": "pattern",
            "is_bot": "robot",
            "reason": "reason",
        },
        as_json=as_json,
        empty="There are no rules of your own; names and flags decide (docs/people.md).",
    )


@bots.command()
def add(
    pattern: Annotated[str, typer.Argument(help="Regular expression, matched whole, case ignored.")],
    field: Annotated[str, typer.Option("--field", help="username, email, display_name or external_id.")] = "username",
    source: Annotated[
        str | None, typer.Option("--source", help="jira, gitlab, github; all where it is not given.")
    ] = None,
    human: Annotated[bool, typer.Option("--human", help="Whoever fits is a person, whatever later rules say.")] = False,
    reason: Annotated[str | None, typer.Option("--reason", help="Shown beside the account.")] = None,
    position: Annotated[int, typer.Option("--position", help="Rules are asked in this order.")] = 0,
) -> None:
    """Add a rule; it holds for what is read from now on, and for what is stored after `plumbline replay`.

    Example:
        plumbline bots add 'release-.*' --reason 'release robots'
    """
    from admin.cli.process import ready
    from models.store import people

    process = ready()
    with process.database.transaction() as session:
        people.add_rule(
            session,
            tenant_id=people.default_tenant(session),
            source=source,
            field=field,
            pattern=pattern,
            is_bot=not human,
            reason=reason,
            position=position,
        )
    output.say(f"Accounts whose {field} fits {pattern!r} are {'people' if human else 'robots'} from now on.")
    output.note("For what is stored already: `plumbline replay CONNECTION`; it asks the source nothing.")
