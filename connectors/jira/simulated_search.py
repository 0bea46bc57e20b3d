"""The search of a simulated Jira: an index beside the database, and the small part of JQL that a sync may use.

Whatever is not understood is refused with 400, so that no test passes by accident.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from typing import Final, NamedTuple
from zoneinfo import ZoneInfo

import msgspec

from connectors.simulator import TimeIndex

ORDER_FIELDS_MAX = 7


class Entry(NamedTuple):
    """What the index knows of an issue."""

    issue_id: int
    project: str
    number: int
    created: datetime
    updated: datetime
    sprints: frozenset[int]


class JqlError(Exception):
    """A query is refused."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class Query(msgspec.Struct, frozen=True, kw_only=True):
    """A query, understood: all of it has to hold."""

    projects: frozenset[str] | None = None
    ids: frozenset[int] | None = None
    sprints: frozenset[int] | None = None
    since: dict[str, datetime] = {}
    """Earliest time by field, `created` or `updated`; it belongs to the span."""
    until: dict[str, datetime] = {}
    """Latest time by field; it does not belong to the span."""
    order: tuple[tuple[str, bool], ...] = ()
    """Field and whether it descends."""

    @property
    def is_bounded(self) -> bool:
        """Whether it restricts anything at all."""
        return bool(self.since or self.until) or any(
            values is not None for values in (self.projects, self.ids, self.sprints)
        )

    def wants(self, entry: Entry) -> bool:
        """Whether an issue belongs to it."""
        return (
            (self.projects is None or entry.project in self.projects)
            and (self.ids is None or entry.issue_id in self.ids)
            and (self.sprints is None or not self.sprints.isdisjoint(entry.sprints))
            and all(getattr(entry, field) >= at for field, at in self.since.items())
            and all(getattr(entry, field) < at for field, at in self.until.items())
        )


_KEYS: Final[dict[str, Callable[[Entry], object]]] = {
    "created": lambda entry: entry.created,
    "updated": lambda entry: entry.updated,
    "key": lambda entry: (entry.project, entry.number),
    "id": lambda entry: entry.issue_id,
}


class SearchIndex:
    """The index: what a search sees, which may be older than what is true."""

    def __init__(self) -> None:
        self.entries: dict[int, Entry] = {}
        self.version = 0
        self._orders: dict[tuple[str | None, str], TimeIndex] = {}

    def load(self, entries: Iterable[Entry]) -> None:
        """Fill an empty index at once."""
        self.entries = {entry.issue_id: entry for entry in entries}
        for field in ("created", "updated"):
            keys: dict[str | None, list[tuple[datetime, int]]] = {None: []}
            for entry in self.entries.values():
                key = (getattr(entry, field), entry.issue_id)
                keys[None].append(key)
                keys.setdefault(entry.project, []).append(key)
            for project, listed in keys.items():
                self._orders[project, field] = TimeIndex(listed)

    def put(self, issue_id: int, entry: Entry | None) -> None:
        """Replace what is known of an issue; None removes it."""
        self.version += 1
        old = self.entries.pop(issue_id, None)
        for one, is_new in ((old, False), (entry, True)):
            if one is None:
                continue
            for project in (None, one.project):
                for field in ("created", "updated"):
                    order = self._orders.setdefault((project, field), TimeIndex())
                    (order.add if is_new else order.discard)(getattr(one, field), issue_id)
        if entry is not None:
            self.entries[issue_id] = entry

    def search(self, query: Query, overlay: Iterable[Entry] = ()) -> list[int]:
        """The ids that a query finds, in its order and then by id; newest first where it names no order.

        Args:
            query: what to find.
            overlay: what the searcher knows better than the index.
        """
        ordered_by = [name for name, _ in query.order[:1] if name in ("created", "updated")]
        narrow = next(iter((*query.since, *query.until, *ordered_by)), "created")
        known_better = list(overlay)
        is_one_project = query.projects is not None and len(query.projects) == 1
        project = next(iter(query.projects)) if query.projects and is_one_project else None
        order = self._orders.get((project, narrow), TimeIndex())
        low = order.first_from(query.since[narrow]) if narrow in query.since else 0
        high = order.first_from(query.until[narrow]) if narrow in query.until else len(order)
        found = [key for _, key in order.keys[low:high]]
        is_narrowed = (
            query.ids is None
            and query.sprints is None
            and (query.projects is None or is_one_project)
            and {*query.since, *query.until} <= {narrow}
        )
        if is_narrowed and not known_better and query.order in (((narrow, False),), ((narrow, False), ("id", False))):
            return found
        entries = [self.entries[key] for key in found]
        if not is_narrowed:
            entries = [entry for entry in entries if query.wants(entry)]
        better = {entry.issue_id: entry for entry in known_better}
        entries = [entry for entry in entries if entry.issue_id not in better]
        entries += [entry for entry in better.values() if query.wants(entry)]
        entries.sort(key=lambda entry: entry.issue_id, reverse=not query.order)
        for name, is_descending in reversed(query.order):
            entries.sort(key=_KEYS[name], reverse=is_descending)  # type: ignore[arg-type]  # each kind compares with itself
        return [entry.issue_id for entry in entries]


# --- the language -----------------------------------------------------------------------------------------------------

_TOKEN = re.compile(
    r"""\s*(?:(?P<quoted>"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')|(?P<operator>>=|<=|!=|!~|=|>|<|~)|(?P<mark>[(),])"""
    r"""|(?P<word>[^\s()=<>!~,"']+))"""
)
_ABSOLUTE = re.compile(r"(\d{4})[-/](\d{1,2})[-/](\d{1,2})(?: (\d{1,2}):(\d{2}))?")
_RELATIVE = re.compile(r"([+-]?)(\d+)([wdhm])")
_UNITS: Final = {"w": "weeks", "d": "days", "h": "hours", "m": "minutes"}
_NAMES: Final = {"issue": "key", "issuekey": "key", "updateddate": "updated", "createddate": "created"}
_RESERVED: Final = frozenset(
    re.findall(
        r"\w+",
        """
        abort access add after alias all alter and any are as asc audit avg before begin between boolean break by byte
        catch cf char character check checkpoint collate collation column commit connect continue count create current
        date decimal declare decrement default defaults define delete delimiter desc difference distinct divide do
        double drop else empty encoding end equals escape exclusive exec execute exists explain false fetch field file
        first float for from function go goto grant greater group having identified if immediate in increment index
        initial inner inout input insert int integer intersect intersection into is isempty isnull join last left less
        like limit lock long max min minus mode modify modulo more multiply next noaudit not notin nowait null number
        object of on option or order outer output power previous prior privileges public raise raw remainder rename
        resource return returns revoke right row rowid rownum rows select session set share size sqrt start strict
        string subtract sum synonym table then to trans transaction trigger true uid union unique update user validate
        values view when whenever where while with was changed
        """,
    )
)


class _Token(NamedTuple):
    kind: str
    text: str

    def is_word(self, word: str) -> bool:
        return self.kind == "word" and self.text.lower() == word


_END = _Token("end", "")


def _tokens(jql: str) -> list[_Token]:
    tokens, position = [], 0
    while jql[position:].strip():
        match = _TOKEN.match(jql, position)
        if match is None or match.lastgroup is None:
            raise JqlError(f"Error in the JQL Query: the character at position {position + 1} cannot be read.")
        text = match.group(match.lastgroup)
        if match.lastgroup == "quoted":
            text = re.sub(r"\\(.)", r"\1", text[1:-1])
        tokens.append(_Token(match.lastgroup, text))
        position = match.end()
    return tokens


class Reader:
    """Reads one query.

    Args:
        zone: the time zone of the user's profile, in which absolute times are meant.
        now: the server's time, from which relative times count.
        find_project: the key of a project by key, id or name, in any case; None where there is none to be seen.
        find_issue: the id of an issue by id or key; None where there is none to be seen.
        is_missing_issue_an_error: whether asking for an issue that is not there fails the whole query, as old
            servers have it.
    """

    def __init__(
        self,
        *,
        zone: ZoneInfo,
        now: datetime,
        find_project: Callable[[str], str | None],
        find_issue: Callable[[str], int | None],
        is_missing_issue_an_error: bool = False,
    ) -> None:
        self._zone = zone
        self._now = now
        self._find_project = find_project
        self._find_issue = find_issue
        self._is_missing_issue_an_error = is_missing_issue_an_error
        self._rest: list[_Token] = []

    def read(self, jql: str) -> Query:
        """Understand a query.

        Raises:
            JqlError: it is wrong, or uses what is not modelled.
        """
        self._rest = _tokens(jql)
        facts: dict[str, frozenset[str] | frozenset[int]] = {}
        since: dict[str, datetime] = {}
        until: dict[str, datetime] = {}
        while self._rest and not self._peek().is_word("order"):
            self._clause(facts, since, until)
            if not self._rest or self._peek().is_word("order"):
                break
            if not self._take().is_word("and"):
                raise JqlError("Error in the JQL Query: only AND is simulated between clauses.")
            if not self._rest:
                raise JqlError("Error in the JQL Query: Expecting a field at the end of the query.")
        return msgspec.convert({**facts, "since": since, "until": until, "order": self._order()}, Query)

    def _peek(self) -> _Token:
        return self._rest[0] if self._rest else _END

    def _take(self) -> _Token:
        return self._rest.pop(0) if self._rest else _END

    def _clause(
        self,
        facts: dict[str, frozenset[str] | frozenset[int]],
        since: dict[str, datetime],
        until: dict[str, datetime],
    ) -> None:
        token = self._take()
        if token.kind not in ("word", "quoted") or (token.kind == "word" and token.text.lower() in _RESERVED):
            raise JqlError(f"Error in the JQL Query: Expecting a field but got '{token.text}'.")
        field = _NAMES.get(token.text.lower(), token.text.lower())
        operator = self._operator()
        if field in ("updated", "created"):
            self._span(field, operator, since, until)
            return
        if operator not in ("=", "in"):
            raise JqlError(f"The operator '{operator}' is not simulated for the field '{token.text}'.")
        values = self._list() if operator == "in" else [self._value()]
        readers: dict[str, tuple[str, Callable[[list[str]], frozenset[str] | frozenset[int]]]] = {
            "project": ("projects", self._projects),
            "id": ("ids", self._issues),
            "key": ("ids", self._issues),
            "sprint": ("sprints", self._sprints),
        }
        if field not in readers:
            raise JqlError(f"Field '{token.text}' does not exist or you do not have permission to view it.")
        name, reader = readers[field]
        if name in facts:
            raise JqlError(f"Two clauses on the field '{token.text}' are not simulated.")
        facts[name] = reader(values)

    def _operator(self) -> str:
        token = self._take()
        if token.kind == "operator":
            return token.text
        if token.is_word("in"):
            return "in"
        raise JqlError(f"Error in the JQL Query: Expecting operator but got '{token.text}'.")

    def _value(self) -> str:
        token = self._take()
        if token.kind == "quoted":
            return token.text
        if token.kind != "word":
            raise JqlError(f"Error in the JQL Query: Expecting a value but got '{token.text}'.")
        if token.text.lower() in _RESERVED:
            raise JqlError(
                f"Error in the JQL Query: '{token.text}' is a reserved JQL word. "
                "You must surround it in quotation marks to use it in a query."
            )
        if self._peek().text == "(":
            raise JqlError(f"Unable to find JQL function '{token.text}()'.")
        return token.text

    def _list(self) -> list[str]:
        if self._take().text != "(":
            raise JqlError("Error in the JQL Query: Expecting '(' after IN.")
        values = [self._value()]
        while (mark := self._take()).text == ",":
            values.append(self._value())
        if mark.text != ")":
            raise JqlError("Error in the JQL Query: Expecting ')' or ','.")
        return values

    def _projects(self, values: list[str]) -> frozenset[str]:
        found = {value: self._find_project(value) for value in values}
        for value, key in found.items():
            if key is None:
                raise JqlError(f"The value '{value}' does not exist for the field 'project'.")
        return frozenset(key for key in found.values() if key is not None)

    def _issues(self, values: list[str]) -> frozenset[int]:
        found = {value: self._find_issue(value) for value in values}
        for value, issue_id in found.items():
            if issue_id is None and self._is_missing_issue_an_error:
                raise JqlError(f"An issue with key '{value}' does not exist for field 'id'.")
        return frozenset(issue_id for issue_id in found.values() if issue_id is not None)

    def _sprints(self, values: list[str]) -> frozenset[int]:
        for value in values:
            if not value.isdigit():
                raise JqlError(f"Sprint with name '{value}' does not exist or you do not have permission to view it.")
        return frozenset(map(int, values))

    def _span(self, field: str, operator: str, since: dict[str, datetime], until: dict[str, datetime]) -> None:
        at = self._time(field, self._value())
        instant = timedelta(microseconds=1)
        if operator in (">=", ">"):
            at = at if operator == ">=" else at + instant
            since[field] = max(at, since.get(field, at))
        elif operator in ("<", "<="):
            at = at if operator == "<" else at + instant
            until[field] = min(at, until.get(field, at))
        else:
            raise JqlError(f"The operator '{operator}' is not simulated for the field '{field}'.")

    def _time(self, field: str, value: str) -> datetime:
        if match := _RELATIVE.fullmatch(value):
            sign, amount, unit = match.groups()
            span = timedelta(**{_UNITS[unit]: int(amount)})
            return self._now - span if sign == "-" else self._now + span
        if match := _ABSOLUTE.fullmatch(value):
            try:
                # To the minute, in the user's own zone.
                local = datetime(*(int(part or 0) for part in match.groups()), tzinfo=self._zone)  # type: ignore[misc,arg-type]  # five parts
            except ValueError:
                pass
            else:
                return local.astimezone(UTC)
        raise JqlError(
            f"Date value '{value}' for field '{field}' is invalid. Valid formats include: 'yyyy/MM/dd HH:mm', "
            "'yyyy-MM-dd HH:mm', 'yyyy/MM/dd', 'yyyy-MM-dd', or a period format e.g. '-5d', '4w 2d'."
        )

    def _order(self) -> tuple[tuple[str, bool], ...]:
        if not self._rest:
            return ()
        self._take()
        if not self._take().is_word("by"):
            raise JqlError("Error in the JQL Query: Expecting 'by' after 'order'.")
        order = []
        while True:
            token = self._take()
            field = _NAMES.get(token.text.lower(), token.text.lower())
            if field not in _KEYS:
                raise JqlError(f"Not able to sort using field '{token.text}'.")
            direction = self._peek()
            is_descending = direction.is_word("desc")
            if is_descending or direction.is_word("asc"):
                self._take()
            order.append((field, is_descending))
            if not self._rest:
                break
            if self._take().text != ",":
                raise JqlError("Error in the JQL Query: Expecting ',' between the fields of ORDER BY.")
        if len(order) > ORDER_FIELDS_MAX:
            raise JqlError(f"A query may be ordered by {ORDER_FIELDS_MAX} fields at most.")
        return tuple(order)
