"""What a folder of results says about its launch: the CI run that made it, and the environment that it ran in.

What belongs here: executor.json, environment.properties and environment.xml. What does not: tests (parse.py).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any
from xml.etree.ElementTree import ParseError

import defusedxml.ElementTree
import msgspec
from defusedxml.common import DefusedXmlException

from connectors.allure.files import ResultFiles
from connectors.allure.parse import MASK, clean_text, cut, decode_json
from models.errors import BadRecordError

LARGEST_LAUNCH_FILE_BYTES = 1024 * 1024
"""More is no description of a launch."""

_SECRET_NAME = re.compile(r"passw|secret|token|credential|api[._-]?key|private[._-]?key", re.IGNORECASE)
_PASSWORD_IN_URL = re.compile(r"(?<=://)[^\s/@:]*:[^\s/@]+(?=@)")
_PROPERTIES_ESCAPES = {"t": "\t", "n": "\n", "r": "\r", "f": "\f"}
_PROPERTIES_ESCAPE = re.compile(r"\\(u[0-9a-fA-F]{4}|.)", re.DOTALL)
_PROPERTIES_LINE = re.compile(r"((?:\\.|[^\\=:\s])*)[ \t\f]*[=:]?[ \t\f]*(.*)", re.DOTALL)
_SURROGATE_PAIR = re.compile("[\ud800-\udbff][\udc00-\udfff]")
_LARGEST_BUILD_ORDER = 2**63 - 1


class Executor(msgspec.Struct, frozen=True, kw_only=True):
    """The CI run that made the results."""

    executor_type: str | None = None
    build_name: str | None = None
    build_url: str | None = None
    build_order: int | None = None


class Launch(msgspec.Struct, frozen=True):
    """What the folder says beside its tests."""

    executor: Executor
    environment: dict[str, str]
    rejects: list[tuple[str, str]]
    """(file name, reason) of files that cannot be used."""


def read_launch(files: ResultFiles) -> Launch:
    """Read executor.json and the environment, as far as they are there."""
    executor = Executor()
    environment: dict[str, str] = {}
    rejects: list[tuple[str, str]] = []
    # A name that stands in both keeps its value from the properties.
    for name in ("executor.json", "environment.xml", "environment.properties"):
        if not files.has(name):
            continue
        try:
            content = files.content(name, largest_bytes=LARGEST_LAUNCH_FILE_BYTES)
            if name == "executor.json":
                executor = read_executor(content)
            elif name == "environment.xml":
                environment |= read_environment_xml(content)
            else:
                environment |= read_properties(content)
        except BadRecordError as error:
            rejects.append((name, error.message))
    return Launch(executor, environment, rejects)


def read_executor(content: bytes) -> Executor:
    """Read `executor.json`.

    Raises:
        BadRecordError: it is not JSON, or not an object.
    """
    raw = decode_json(content)
    if not isinstance(raw, dict):
        raise BadRecordError("It holds no JSON object.")
    return Executor(
        executor_type=_short(raw.get("type")) or _short(raw.get("name")),
        build_name=_short(raw.get("buildName")),
        build_url=_short(raw.get("buildUrl")),
        build_order=_whole_number(raw.get("buildOrder")),
    )


def read_properties(content: bytes) -> dict[str, str]:
    r"""Read `environment.properties`.

    Source: the Java documentation of `Properties.load`; UTF-8 is tried before its ISO-8859-1, as editors write it. An
    escape that is none (`\u12`) is kept as it stands, where Java would refuse the file.

    Returns:
        Names and values in the order of the file, the last of a doubled name; secrets are masked.
    """
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = content.decode("iso-8859-1")
    found: dict[str, str] = {}
    for line in _logical_lines(text):
        match = _PROPERTIES_LINE.match(line)
        if match is not None:
            _put(found, _unescaped(match.group(1)), _unescaped(match.group(2)))
    return found


def read_environment_xml(content: bytes) -> dict[str, str]:
    """Read `environment.xml`: `<environment><parameter><key/><value/></parameter></environment>`.

    Raises:
        BadRecordError: it is no XML, or defines entities, which only an attack does.
    """
    try:
        root = defusedxml.ElementTree.fromstring(content)
    except DefusedXmlException as error:
        raise BadRecordError(f"It is not safe to read: {error}.") from None
    except (ParseError, ValueError, LookupError) as error:
        raise BadRecordError(f"It is no valid XML: {error}.") from None
    found: dict[str, str] = {}
    for parameter in root.iter("parameter"):
        _put(found, (parameter.findtext("key") or "").strip(), (parameter.findtext("value") or "").strip())
    return found


def _put(found: dict[str, str], name: str, value: str) -> None:
    name = cut(clean_text(name))
    if name:
        shown = MASK if _SECRET_NAME.search(name) else _PASSWORD_IN_URL.sub(MASK, clean_text(value))
        found[name] = cut(shown)


def _logical_lines(text: str) -> Iterator[str]:
    """Lines with their continuations joined; blank ones and comments left out."""
    parts: list[str] = []
    for natural_line in re.split(r"\r\n|\r|\n", text):
        line = natural_line.lstrip(" \t\f")
        if not parts and line[:1] in ("", "#", "!"):
            continue
        is_continued = (len(line) - len(line.rstrip("\\"))) % 2 == 1
        parts.append(line[:-1] if is_continued else line)
        if not is_continued:
            yield "".join(parts)
            parts = []
    if parts:
        yield "".join(parts)


def _unescaped(text: str) -> str:
    def one(match: re.Match[str]) -> str:
        escape = match.group(1)
        if len(escape) == 5:
            return chr(int(escape[1:], 16))
        return match.group() if escape == "u" else _PROPERTIES_ESCAPES.get(escape, escape)

    plain = _PROPERTIES_ESCAPE.sub(one, text)
    # Java writes a character beyond U+FFFF as two escapes.
    return _SURROGATE_PAIR.sub(lambda pair: pair.group().encode("utf-16", "surrogatepass").decode("utf-16"), plain)


def _short(value: Any) -> str | None:
    return cut(clean_text(str(value))) if isinstance(value, str | int) and str(value).strip() else None


def _whole_number(value: Any) -> int | None:
    try:
        number = int(value)
    except (TypeError, ValueError, OverflowError):
        return None
    return number if 0 <= number <= _LARGEST_BUILD_ORDER else None
