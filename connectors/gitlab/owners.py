"""CODEOWNERS: where the file is found, and what its lines say.

Source: GitLab's reference of the CODEOWNERS syntax. The file is the first of `CODEOWNERS`, `docs/CODEOWNERS` and
`.gitlab/CODEOWNERS` that exists on the default branch. What belongs here: finding, reading and parsing it. What does
not: which rule wins for a path (models/rules).
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterator
from typing import NamedTuple
from urllib.parse import quote

import msgspec

from connectors.base import Item, Page, ParseContext
from connectors.decoding import decoded
from connectors.gitlab.api import Whole
from models.errors import BadRecordError, GoneError
from models.records import Batch, OwnerFile, OwnerRule

PLACES = ("CODEOWNERS", "docs/CODEOWNERS", ".gitlab/CODEOWNERS")
"""In the order in which GitLab looks."""

_SECTION = re.compile(r"(?P<optional>\^)?\[(?P<name>[^\]]+)\](?:\[(?P<approvals>\d*)\])?(?P<owners>(?:\s.*)?)$")
_OWNER = re.compile(r"@@?[\w.\-/]+|[^\s@]+@[^\s@]+\.[^\s@]+")
_ESCAPED_OR_SPACE = re.compile(r"\\(.)|(\s)")


class _File(msgspec.Struct, gc=False):
    file_path: str
    content: str
    encoding: str = "base64"
    last_commit_id: str | None = None
    commit_id: str | None = None


class _Payload(msgspec.Struct, gc=False):
    """The file as received; None where the project has none."""

    project_id: int
    file: _File | None = None


class _Section(NamedTuple):
    name: str | None = None
    is_optional: bool = False
    approvals_count: int = 1
    owners: tuple[str, ...] = ()


_PAYLOAD = msgspec.json.Decoder(_Payload)


class CodeOwners(Whole):
    """Reads the CODEOWNERS file of the default branch."""

    def read(self, project_id: int) -> Iterator[Page]:
        """One object, which says that there is none where there is none."""
        payload = msgspec.json.encode({"project_id": project_id, "file": self._file(project_id)})
        yield Page(items=(Item(str(project_id), payload),))

    def _file(self, project_id: int) -> msgspec.Raw | None:
        for place in PLACES:
            try:
                return self.api.raw(f"/projects/{project_id}/repository/files/{quote(place, safe='')}", ref="HEAD")
            except GoneError:
                continue
        # A repository that is hidden from us answers the same. Only where it can be seen is there truly no file.
        self.api.page(f"/projects/{project_id}/repository/tree", per_page=1)
        return None


def parse_owner_file(payload: bytes, context: ParseContext) -> Batch:
    """Turn a CODEOWNERS file into its record; see `connectors.gitlab.parse.parse`."""
    del context
    staged = decoded(payload, _PAYLOAD)
    file = staged.file
    record = OwnerFile(
        external_project_id=str(staged.project_id),
        path=file.file_path if file else None,
        source_sha=(file.last_commit_id or file.commit_id) if file else None,
        rules=tuple(owner_rules(_text(file))) if file else (),
    )
    return Batch(owner_files=(record,))


def _text(file: _File) -> str:
    if file.encoding != "base64":
        return file.content
    try:
        return base64.b64decode("".join(file.content.split()), validate=True).decode("utf-8-sig", errors="replace")
    except binascii.Error as error:
        raise BadRecordError(f"file.content: no base64 ({error})", field="file.content") from error


def owner_rules(text: str) -> Iterator[OwnerRule]:
    """The rules of a CODEOWNERS file, in the order of its lines; the last that matches a path wins in its section.

    Args:
        text: of the file. Sections of one name, whatever its case, are one; the first says how they are named and how
            many must approve. A line without owners takes those of its section, or says that nobody owns the path,
            as one does that begins with an exclamation mark. A heading that cannot be read is a pattern, as for GitLab.
    """
    sections: dict[str, _Section] = {}
    section = _Section()
    for raw_line in text.splitlines():
        line = raw_line.strip()
        if not line or line.startswith("#"):
            continue
        heading = _SECTION.match(line)
        if heading:
            section = _entered(heading, sections)
            continue
        pattern, rest = _split(line)
        yield OwnerRule(
            pattern=pattern,
            owners=() if pattern.startswith("!") else _owners(rest) or section.owners,
            section=section.name,
            is_optional=section.is_optional,
            required_approvals_count=0 if section.is_optional else section.approvals_count,
        )


def _entered(heading: re.Match[str], sections: dict[str, _Section]) -> _Section:
    name = heading["name"].strip()
    first = sections.get(name.lower())
    owners = _owners(heading["owners"])
    if first is not None:
        # Its owners are those of this heading; the rest is said once.
        return first._replace(owners=owners)
    approvals = heading["approvals"]
    section = _Section(name, heading["optional"] is not None, max(int(approvals), 1) if approvals else 1, owners)
    sections[name.lower()] = section
    return section


def _split(line: str) -> tuple[str, str]:
    """The pattern, its escapes taken out, and what stands behind it: an escaped space ends no pattern."""
    pattern: list[str] = []
    position = 0
    for found in _ESCAPED_OR_SPACE.finditer(line):
        pattern.append(line[position : found.start()])
        position = found.end()
        if found[2]:
            return "".join(pattern), line[position:]
        # Other escapes are part of the pattern's own language.
        pattern.append(found[1] if found[1] in {"#", " ", "[", "]", "^"} else found[0])
    pattern.append(line[position:])
    return "".join(pattern), ""


def _owners(text: str) -> tuple[str, ...]:
    """Accounts, groups, roles and addresses, each once; no comment ends a line, and other words are no owners."""
    return tuple(dict.fromkeys(word for word in text.split() if _OWNER.fullmatch(word)))
