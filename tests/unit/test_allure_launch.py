"""executor.json, environment.properties, environment.xml."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors.allure.launch import (
    LARGEST_LAUNCH_FILE_BYTES,
    Executor,
    read_environment_xml,
    read_executor,
    read_properties,
)
from connectors.allure.parse import MASK
from models.errors import BadRecordError


def test_an_executor_names_its_build() -> None:
    content = {
        "name": "GitHub Actions",
        "type": "github",
        "buildOrder": 207,
        "buildName": "demo-207",
        "buildUrl": "https://ci/207",
        "reportName": "not kept",
    }
    assert read_executor(json.dumps(content).encode()) == Executor(
        executor_type="github", build_name="demo-207", build_url="https://ci/207", build_order=207
    )


def test_an_executor_without_a_type_goes_by_its_name() -> None:
    assert read_executor(b'{"name":"Jenkins"}') == Executor(executor_type="Jenkins")


@pytest.mark.parametrize(
    ("value", "order"),
    [
        (12, 12),
        ("12", 12),
        (0, 0),
        (-1, None),
        ("twelve", None),
        (None, None),
        ([], None),
        (2**63, None),
        (1e400, None),
    ],
)
def test_a_build_order_is_a_whole_number_or_nothing(value: Any, order: int | None) -> None:
    assert read_executor(json.dumps({"buildOrder": value}).encode()).build_order == order


@pytest.mark.parametrize("content", [b"", b"[]", b'{"name":', b"null"])
def test_an_executor_that_is_none_is_a_bad_record(content: bytes) -> None:
    with pytest.raises(BadRecordError):
        read_executor(content)


@pytest.mark.parametrize(
    ("line", "name", "value"),
    [
        ("browser=Chromium 136", "browser", "Chromium 136"),
        ("browser = Chromium", "browser", "Chromium"),
        ("browser: Chromium", "browser", "Chromium"),
        ("browser Chromium", "browser", "Chromium"),
        ("   browser=Chromium", "browser", "Chromium"),
        ("browser=Chromium  ", "browser", "Chromium  "),
        ("browser", "browser", ""),
        ("browser=", "browser", ""),
        ("url=https\\://shop.example.org", "url", "https://shop.example.org"),
        ("url=https://shop.example.org?a=b", "url", "https://shop.example.org?a=b"),
        ("two\\ words=x", "two words", "x"),
        ("a\\=b\\:c=x", "a=b:c", "x"),
        ("path=C\\:\\\\work", "path", "C:\\work"),
        ("text=a\\tb\\nc", "text", "a\tb\nc"),
        ("city=M\\u00fcnchen", "city", "München"),
        ("city=München", "city", "München"),
        ("smile=\\ud83d\\ude00", "smile", "\U0001f600"),
        ("lone=\\ud83d", "lone", "\ufffd"),
        ("nul=a\\u0000b", "nul", "ab"),
        ("bad=\\u12 \\users", "bad", "\\u12 \\users"),
        ("other=\\q", "other", "q"),
        ("list=a, \\\n     b, \\\r\n  c", "list", "a, b, c"),
        ("end=a\\\\", "end", "a\\"),
        ("cut=a\\", "cut", "a"),
    ],
)
def test_a_property_is_read_as_java_reads_it(line: str, name: str, value: str) -> None:
    assert read_properties(line.encode()) == {name: value}


def test_comments_and_blank_lines_are_skipped_and_the_last_of_a_name_wins() -> None:
    text = "# comment=1\n! also=1\n\n   \n  # indented=1\na=1\rb=2\r\na=3\\\n# not a comment\n=no name\n"
    assert read_properties(text.encode()) == {"a": "3# not a comment", "b": "2"}


def test_properties_may_be_iso_8859_1_or_begin_with_a_byte_order_mark() -> None:
    assert read_properties("city=München".encode("iso-8859-1")) == {"city": "München"}
    assert read_properties("city=München".encode("utf-8-sig")) == {"city": "München"}


@pytest.mark.parametrize(
    "name", ["DB_PASSWORD", "api.key", "github_token", "clientSecret", "passwd", "AWS_CREDENTIALS"]
)
def test_what_is_named_like_a_secret_is_masked(name: str) -> None:
    assert read_properties(f"{name}=hunter2".encode()) == {name: MASK}
    xml = f"<environment><parameter><key>{name}</key><value>hunter2</value></parameter></environment>"
    assert read_environment_xml(xml.encode()) == {name: MASK}


def test_a_password_in_a_url_is_masked() -> None:
    found = read_properties(b"db=postgresql://shop:hunter2@db.example.org/shop and https://shop.example.org/a:b@c")
    assert found == {"db": f"postgresql://{MASK}@db.example.org/shop and https://shop.example.org/a:b@c"}


def test_a_password_without_a_user_is_masked() -> None:
    assert read_properties(b"broker=redis://:hunter2@cache:6379/0") == {"broker": f"redis://{MASK}@cache:6379/0"}


@pytest.mark.parametrize("unit", [b"a\\\n", b"x://a:", b"a:", b"\\", b"\\u00"])
def test_properties_without_end_take_no_time(unit: bytes) -> None:
    started = time.process_time()
    read_properties(b"name=" + unit * (LARGEST_LAUNCH_FILE_BYTES // len(unit)))
    assert time.process_time() - started < 5


@given(st.binary(max_size=300))
def test_any_bytes_are_properties_that_can_be_stored(content: bytes) -> None:
    for name, value in read_properties(content).items():
        assert name
        assert "\0" not in (name + value).encode().decode()


@given(st.dictionaries(st.from_regex(r"[a-m]{1,8}", fullmatch=True), st.text(max_size=30)))
def test_what_java_writes_is_read_back(properties: dict[str, str]) -> None:
    def escaped(text: str) -> str:
        units = text.encode("utf-16-be", "surrogatepass")
        return "".join(f"\\u{units[i : i + 2].hex()}" for i in range(0, len(units), 2))

    written = "".join(f"{name}={escaped(value)}\n" for name, value in properties.items())
    assert read_properties(written.encode("ascii")) == {
        name: value.replace("\0", "") for name, value in properties.items()
    }


def test_environment_xml_gives_its_parameters() -> None:
    xml = """<?xml version="1.0" encoding="ISO-8859-1"?>
        <environment>
          <parameter><key> Browser </key><value>Chrome</value></parameter>
          <parameter><key>City</key><value>München</value></parameter>
          <parameter><key>Empty</key><value/></parameter>
          <parameter><value>no key</value></parameter>
        </environment>"""
    assert read_environment_xml(xml.encode("iso-8859-1")) == {"Browser": "Chrome", "City": "München", "Empty": ""}


BILLION_LAUGHS = b"""<?xml version="1.0"?><!DOCTYPE e [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;">]>
    <environment><parameter><key>x</key><value>&b;</value></parameter></environment>"""
EXTERNAL_FILE = b"""<?xml version="1.0"?><!DOCTYPE e [<!ENTITY x SYSTEM "file:///etc/passwd">]>
    <environment><parameter><key>x</key><value>&x;</value></parameter></environment>"""


@pytest.mark.parametrize("content", [BILLION_LAUGHS, EXTERNAL_FILE])
def test_xml_that_attacks_is_a_bad_record(content: bytes) -> None:
    with pytest.raises(BadRecordError, match="not safe"):
        read_environment_xml(content)


@pytest.mark.parametrize(
    "content", [b"", b"<environment>", b"key=value", b'<?xml version="1.0" encoding="no-such"?><environment/>', b"\0\0"]
)
def test_xml_that_is_none_is_a_bad_record(content: bytes) -> None:
    with pytest.raises(BadRecordError, match="no valid XML"):
        read_environment_xml(content)
