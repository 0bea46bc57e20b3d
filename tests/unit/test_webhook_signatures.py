"""Signatures of webhooks: the published vectors, and everything a forger or a slow proxy would try."""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors.gitlab.webhooks import verify as verify_gitlab
from connectors.jira.webhooks import verify as verify_jira
from connectors.signatures import REPLAY_WINDOW, hub_signature, standard_key, standard_signature

# The example of the Standard Webhooks specification and its reference libraries.
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
MESSAGE_ID = "msg_p5jXN8AQM9LWM0D4loKWxJek"
TIMESTAMP = 1614265330
BODY = b'{"test": 2432232314}'
SIGNATURE = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
NOW = datetime.fromtimestamp(TIMESTAMP, UTC)
OTHER = "whsec_" + base64.b64encode(b"another key of thirty-two bytes!").decode()


def signed(**changes: str) -> dict[str, str]:
    headers = {"webhook-id": MESSAGE_ID, "webhook-timestamp": str(TIMESTAMP), "webhook-signature": SIGNATURE}
    return headers | {name.replace("_", "-"): value for name, value in changes.items()}


def resigned(secret: str, body: bytes, *, at: datetime) -> dict[str, str]:
    timestamp = str(int(at.timestamp()))
    return signed(
        webhook_timestamp=timestamp,
        webhook_signature=standard_signature(standard_key(secret) or b"", MESSAGE_ID, timestamp, body),
    )


def test_the_published_vector_is_good() -> None:
    assert verify_gitlab(signed(), BODY, [SECRET], NOW)


def test_names_of_headers_may_be_in_any_case() -> None:
    headers = {name.title(): value for name, value in signed().items()}
    assert verify_gitlab(headers, BODY, [SECRET], NOW)
    assert verify_gitlab({"X-GITLAB-TOKEN": SECRET}, BODY, [SECRET], NOW)
    assert verify_jira({"X-HUB-signature": hub_signature(BODY, SECRET)}, BODY, [SECRET], NOW)


@pytest.mark.parametrize(
    "changes",
    [
        {"webhook_id": "msg_another"},
        {"webhook_id": ""},
        {"webhook_timestamp": str(TIMESTAMP + 1)},
        {"webhook_timestamp": ""},
        {"webhook_timestamp": "-1614265330"},
        {"webhook_timestamp": "1614265330.0"},
        {"webhook_timestamp": "١٦١٤٢٦٥٣٣٠"},
        {"webhook_timestamp": "9" * 400},
        {"webhook_signature": ""},
        {"webhook_signature": SIGNATURE.removeprefix("v1,")},
        {"webhook_signature": SIGNATURE.replace("v1,", "v2,")},
        {"webhook_signature": SIGNATURE[:-2]},
        {"webhook_signature": "v1,"},
        {"webhook_signature": "v1,ü"},
    ],
)
def test_a_tampered_header_is_refused(changes: dict[str, str]) -> None:
    assert not verify_gitlab(signed(**changes), BODY, [SECRET], NOW)


def test_every_flipped_bit_of_the_body_is_refused() -> None:
    for position in range(len(BODY) * 8):
        tampered = bytearray(BODY)
        tampered[position // 8] ^= 1 << position % 8
        assert not verify_gitlab(signed(), bytes(tampered), [SECRET], NOW)
    assert not verify_gitlab(signed(), BODY + b"\n", [SECRET], NOW)
    assert not verify_gitlab(signed(), b"", [SECRET], NOW)


@pytest.mark.parametrize(("seconds", "is_good"), [(-301, False), (-300, True), (0, True), (300, True), (301, False)])
def test_a_signature_is_good_for_five_minutes_in_both_directions(seconds: int, is_good: bool) -> None:
    assert timedelta(minutes=5) == REPLAY_WINDOW
    assert verify_gitlab(signed(), BODY, [SECRET], NOW + timedelta(seconds=seconds)) is is_good


def test_one_good_signature_among_several_is_enough() -> None:
    several = f"v2,AAAA {resigned(OTHER, BODY, at=NOW)['webhook-signature']} {SIGNATURE}"
    assert verify_gitlab(signed(webhook_signature=several), BODY, [SECRET], NOW)


def test_two_secrets_are_good_at_once_and_a_third_is_not() -> None:
    for secret in (SECRET, OTHER):
        assert verify_gitlab(resigned(secret, BODY, at=NOW), BODY, [SECRET, OTHER], NOW)
        assert verify_gitlab({"X-Gitlab-Token": secret}, BODY, [SECRET, OTHER], NOW)
        assert verify_jira({"X-Hub-Signature": hub_signature(BODY, secret)}, BODY, [SECRET, OTHER], NOW)
        third = "whsec_" + base64.b64encode(b"x" * 32).decode()
        assert not verify_gitlab(resigned(third, BODY, at=NOW), BODY, [SECRET, OTHER], NOW)


def test_a_bad_signature_is_not_mended_by_a_good_token() -> None:
    assert not verify_gitlab({**signed(webhook_id="x"), "X-Gitlab-Token": SECRET}, BODY, [SECRET], NOW)


@pytest.mark.parametrize("token", ["", "wrong", SECRET[:-1], SECRET + " ", SECRET.lower(), "ünïcode"])
def test_a_wrong_token_is_refused(token: str) -> None:
    assert not verify_gitlab({"X-Gitlab-Token": token}, BODY, [SECRET], NOW)


@pytest.mark.parametrize("verify", [verify_gitlab, verify_jira])
@pytest.mark.parametrize("secrets", [[], [""], ["whsec_"], ["whsec_not base64!"]])
def test_without_a_secret_nothing_is_good(verify: Callable[..., bool], secrets: list[str]) -> None:
    empty = "v1," + base64.b64encode(hmac.digest(b"", f"{MESSAGE_ID}.{TIMESTAMP}.".encode() + BODY, "sha256")).decode()
    for headers in (
        {},
        signed(webhook_signature=empty),
        {"X-Gitlab-Token": ""},
        {"X-Hub-Signature": "sha256=" + hmac.new(b"", BODY, hashlib.sha256).hexdigest()},
        {"X-Hub-Signature": ""},
    ):
        assert not verify(headers, BODY, secrets, NOW)


def test_jira_s_signature_is_of_the_raw_bytes() -> None:
    # The example that GitHub publishes for this scheme.
    assert hub_signature(b"Hello, World!", "It's a Secret to Everybody") == (
        "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17"
    )
    headers = {"X-Hub-Signature": hub_signature(BODY, SECRET)}
    assert verify_jira(headers, BODY, [SECRET], NOW)
    assert not verify_jira(headers, BODY.replace(b" ", b""), [SECRET], NOW)
    assert not verify_jira({"X-Hub-Signature": headers["X-Hub-Signature"].removeprefix("sha256=")}, BODY, [SECRET], NOW)
    assert not verify_jira({"X-Hub-Signature": headers["X-Hub-Signature"].upper()}, BODY, [SECRET], NOW)
    sha1 = "sha1=" + hmac.new(SECRET.encode(), BODY, hashlib.sha1).hexdigest()
    assert not verify_jira({"X-Hub-Signature": sha1}, BODY, [SECRET], NOW)


@given(body=st.binary(max_size=200), other=st.binary(max_size=200))
def test_a_signature_fits_its_own_bytes_and_no_others(body: bytes, other: bytes) -> None:
    headers = resigned(SECRET, body, at=NOW)
    assert verify_gitlab(headers, body, [SECRET], NOW)
    assert verify_gitlab(headers, other, [SECRET], NOW) is (other == body)
