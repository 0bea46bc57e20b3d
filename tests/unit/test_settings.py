"""What the environment may say, and what a person reads when it says something wrong."""

from __future__ import annotations

import os
import pickle
import stat
import subprocess
import sys
import traceback
from pathlib import Path

import pytest
from cryptography.fernet import Fernet

from models.errors import SettingsError
from workers.settings import Settings, load_settings, prepare_home, sqlalchemy_url

KEY = "VkKJ2hpIeBFDEnmmLM6fNnPSHlWfdyZ0tSgLjiWVoBk="
OTHER_KEY = "i5A1cAvYQwcgsMXqBSzUiBSNSR0VYbtvEE9qhG9jf9o="


def test_an_empty_environment_gives_the_documented_defaults(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    settings = load_settings({})
    assert settings.home == tmp_path / ".plumbline"
    assert settings.database_url is None
    assert settings.broker_url is None
    assert settings.sqlalchemy_url is None
    assert (settings.api_host, settings.api_port, settings.flower_port) == ("127.0.0.1", 8600, 5555)
    assert (settings.log_format, settings.log_level) == (None, "info")
    assert settings.reporting_timezone == "UTC"
    assert settings.worker_concurrency >= 1
    assert list(tmp_path.iterdir()) == [], "reading the settings writes nothing"


def test_the_processs_own_environment_is_read_where_none_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PLUMBLINE_API_PORT", "9000")
    assert load_settings().api_port == 9000


def test_every_value_is_read() -> None:
    settings = load_settings(
        {
            "PLUMBLINE_DATABASE_URL": "postgresql://u:p%40ss@db.example:5433/quality?sslmode=require",
            "PLUMBLINE_BROKER_URL": "rediss://:pw@broker.example:6380/1",
            "PLUMBLINE_HOME": "/srv/plumbline",
            "PLUMBLINE_SECRET_KEYS": f" {KEY} , {OTHER_KEY},",
            "PLUMBLINE_API_HOST": "::1",
            "PLUMBLINE_API_PORT": "1",
            "PLUMBLINE_FLOWER_PORT": "65535",
            "PLUMBLINE_FLOWER_BASIC_AUTH": "ann:a:b",
            "PLUMBLINE_LOG_FORMAT": "JSON",
            "PLUMBLINE_LOG_LEVEL": "Debug",
            "PLUMBLINE_REPORTING_TIMEZONE": "Europe/Berlin",
            "PLUMBLINE_WORKER_CONCURRENCY": "7",
            "PATH": "/bin",
        }
    )
    assert settings.sqlalchemy_url == "postgresql+psycopg://u:p%40ss@db.example:5433/quality?sslmode=require"
    assert settings.broker_url is not None
    assert settings.broker_url.get_secret_value() == "rediss://:pw@broker.example:6380/1"
    assert settings.home == Path("/srv/plumbline")
    assert [key.get_secret_value() for key in settings.secret_keys] == [KEY, OTHER_KEY]
    assert (settings.api_host, settings.api_port, settings.flower_port) == ("::1", 1, 65535)
    assert settings.flower_basic_auth.get_secret_value() == "ann:a:b"
    assert (settings.log_format, settings.log_level) == ("json", "debug")
    assert settings.reporting_timezone == "Europe/Berlin"
    assert settings.worker_concurrency == 7


@pytest.mark.parametrize("url", ["postgres://u:p@h/db", "postgresql://u:p@h/db", "postgresql://u@/db?host=/run/pg"])
def test_both_spellings_of_postgresql_are_understood(url: str) -> None:
    settings = load_settings({"PLUMBLINE_DATABASE_URL": url, "PLUMBLINE_SECRET_KEYS": KEY})
    assert settings.sqlalchemy_url == "postgresql+psycopg://" + url.split("://")[1] == sqlalchemy_url(url)


@pytest.mark.parametrize("url", ["redis://h", "rediss://h:1/0", "amqp://u:p@h//", "amqps://u:p@h/v"])
def test_redis_and_rabbitmq_are_understood(url: str) -> None:
    assert load_settings({"PLUMBLINE_BROKER_URL": url}).broker_url is not None


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("DATABASE_URL", "mysql://u:p@h/db", "does not begin with postgresql:// or postgres://"),
        ("DATABASE_URL", "postgresql+psycopg://u:p@h/db", "does not begin with postgresql://"),
        ("DATABASE_URL", "quality", "does not begin with postgresql://"),
        ("DATABASE_URL", "postgresql:quality", "does not begin with postgresql://"),
        ("DATABASE_URL", "postgresql://u:p/ss@h/db", "percent-encoded"),
        ("DATABASE_URL", "postgresql://[::1/db", "not a URL that can be read"),
        ("BROKER_URL", "sqs://h", "does not begin with redis://"),
        ("BROKER_URL", "redis:///0", "names no host"),
        ("SECRET_KEYS", f"{KEY},short", "key 2 is not a Fernet key"),
        ("API_HOST", "two words", "API_HOST: "),
        ("API_PORT", "http", "a port from 1 to 65535"),
        ("API_PORT", "0", "a port from 1 to 65535"),
        ("FLOWER_PORT", "65536", "a port from 1 to 65535"),
        ("FLOWER_BASIC_AUTH", "ann", "USER:PASSWORD"),
        ("FLOWER_BASIC_AUTH", "ann:", "USER:PASSWORD"),
        ("FLOWER_BASIC_AUTH", "ann:a,b", "without commas"),
        ("LOG_FORMAT", "xml", "console or json"),
        ("LOG_LEVEL", "loud", "debug, info, warning, error or critical"),
        ("REPORTING_TIMEZONE", "Mars/Olympus", "no time zone 'Mars/Olympus'"),
        ("REPORTING_TIMEZONE", "../../etc/passwd", "no time zone"),
        ("WORKER_CONCURRENCY", "0", "1 or more"),
    ],
)
def test_a_wrong_value_is_named_with_what_to_do(name: str, value: str, said: str) -> None:
    environ = {"PLUMBLINE_SECRET_KEYS": KEY, f"PLUMBLINE_{name}": value}
    with pytest.raises(SettingsError) as caught:
        load_settings(environ)
    line = caught.value.message.splitlines()[1]
    assert line.startswith(f"  PLUMBLINE_{name}: ")
    assert said in line
    assert "Give " in line


def test_all_mistakes_are_told_at_once_a_line_each() -> None:
    with pytest.raises(SettingsError) as caught:
        load_settings(
            {
                "PLUMBLINE_API_PROT": "8600",
                "PLUMBLINE_API_PORT": "x",
                "PLUMBLINE_DATABASE_URL": "mysql://h/db",
                "PLUMBLINE_LOG_LEVEL": "loud",
            }
        )
    lines = caught.value.message.splitlines()
    assert [line.split(":")[0].strip() for line in lines] == [
        "The settings are wrong",
        "PLUMBLINE_API_PROT",
        "PLUMBLINE_SECRET_KEYS",
        "PLUMBLINE_DATABASE_URL",
        "PLUMBLINE_API_PORT",
        "PLUMBLINE_LOG_LEVEL",
    ]


@pytest.mark.parametrize(
    ("wrong", "right"),
    [
        ("PLUMBLINE_DATABASEURL", "PLUMBLINE_DATABASE_URL"),
        ("PLUMBLINE_SECRET_KEY", "PLUMBLINE_SECRET_KEYS"),
        ("PLUMBLINE_TIMEZONE", "PLUMBLINE_REPORTING_TIMEZONE"),
        ("PLUMBLINE_GIVEN_SECRET_KEYS", "PLUMBLINE_SECRET_KEYS"),
    ],
)
def test_an_unknown_name_is_reported_with_the_nearest_right_one(wrong: str, right: str) -> None:
    with pytest.raises(SettingsError, match=rf"{wrong}: there is no such setting. Did you mean {right}\?"):
        load_settings({wrong: "x"})


def test_names_of_others_and_empty_values_are_no_mistakes() -> None:
    settings = load_settings({"PLUMB": "x", "plumbline_api_port": "x", "PLUMBLINE_API_PORT": "", "PLUMBLINE_HOME": " "})
    assert settings.api_port == 8600


def test_generated_keys_are_refused_with_a_database_that_others_may_share() -> None:
    with pytest.raises(SettingsError, match="PLUMBLINE_SECRET_KEYS: not set"):
        load_settings({"PLUMBLINE_DATABASE_URL": "postgresql://h/db"})


def test_keys_are_generated_once_into_home_readable_for_its_owner_only(tmp_path: Path) -> None:
    environ = {"PLUMBLINE_HOME": str(tmp_path / "home")}
    first = load_settings(environ).secret_keys
    assert [key.get_secret_value() for key in load_settings(environ).secret_keys] == [
        key.get_secret_value() for key in first
    ]
    Fernet(first[0].get_secret_value())
    assert stat.S_IMODE((tmp_path / "home").stat().st_mode) == 0o700
    assert stat.S_IMODE((tmp_path / "home" / "secret-keys").stat().st_mode) == 0o600
    assert [path.name for path in (tmp_path / "home").iterdir()] == ["secret-keys"]


def test_many_processes_that_need_keys_at_once_agree_on_them(tmp_path: Path) -> None:
    code = "from workers.settings import load_settings; print(load_settings().secret_keys[0].get_secret_value())"
    environment = {**os.environ, "PLUMBLINE_HOME": str(tmp_path / "home")}
    processes = [
        subprocess.Popen([sys.executable, "-c", code], env=environment, stdout=subprocess.PIPE) for _ in range(6)
    ]
    assert len({process.communicate(timeout=60)[0] for process in processes}) == 1
    assert all(process.returncode == 0 for process in processes)


def test_given_keys_are_used_and_nothing_is_written(tmp_path: Path) -> None:
    settings = load_settings({"PLUMBLINE_HOME": str(tmp_path / "home"), "PLUMBLINE_SECRET_KEYS": KEY})
    assert settings.secret_keys[0].get_secret_value() == KEY
    assert not (tmp_path / "home").exists()


def test_a_rotated_key_file_may_hold_several_keys(tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    (tmp_path / "secret-keys").write_text(f"{OTHER_KEY}\n{KEY}\n")
    keys = load_settings({"PLUMBLINE_HOME": str(tmp_path)}).secret_keys
    assert [key.get_secret_value() for key in keys] == [OTHER_KEY, KEY]


@pytest.mark.parametrize("content", ["", "\n", "not a key\n"])
def test_a_damaged_key_file_is_never_replaced(tmp_path: Path, content: str) -> None:
    tmp_path.chmod(0o700)
    (tmp_path / "secret-keys").write_text(content)
    with pytest.raises(SettingsError, match="holds no Fernet keys"):
        _ = load_settings({"PLUMBLINE_HOME": str(tmp_path)}).secret_keys
    assert (tmp_path / "secret-keys").read_text() == content


def test_a_generated_flower_password_is_new_for_each_process_and_stays_within_it() -> None:
    settings = load_settings({})
    user, _, password = settings.flower_basic_auth.get_secret_value().partition(":")
    assert user == "plumbline"
    assert len(password) >= 20
    assert settings.flower_basic_auth is settings.flower_basic_auth
    assert settings.flower_basic_auth != load_settings({}).flower_basic_auth


SECRETS = {
    "PLUMBLINE_DATABASE_URL": "postgresql://u:hunter2@h/db",
    "PLUMBLINE_BROKER_URL": "redis://:hunter2@h/0",
    "PLUMBLINE_SECRET_KEYS": KEY,
    "PLUMBLINE_FLOWER_BASIC_AUTH": "ann:hunter2",
}


def test_secrets_print_as_asterisks() -> None:
    settings = load_settings(SECRETS)
    assert settings.secret_keys
    assert settings.flower_basic_auth
    for text in (repr(settings), str(settings), settings.model_dump_json(), str(settings.secret_keys)):
        assert "hunter2" not in text
        assert KEY not in text
        assert "***" in text


@pytest.mark.parametrize("name", SECRETS)
def test_a_refused_secret_is_in_no_message_and_no_traceback(name: str) -> None:
    refused = {
        "PLUMBLINE_DATABASE_URL": "mysql://u:hunter2@h/db",
        "PLUMBLINE_BROKER_URL": "redis://u:hunter2/x@h:1",
        "PLUMBLINE_SECRET_KEYS": "hunter2",
        "PLUMBLINE_FLOWER_BASIC_AUTH": "hunter2",
    }[name]
    with pytest.raises(SettingsError) as caught:
        load_settings({**SECRETS, name: refused})
    assert "hunter2" not in "".join(traceback.format_exception(caught.value))
    assert caught.value.__context__ is None
    assert "hunter2" not in pickle.dumps(caught.value).decode(errors="replace")


def test_another_process_gets_the_very_same_settings() -> None:
    given = {**SECRETS, "PLUMBLINE_HOME": "/srv/plumbline", "PLUMBLINE_WORKER_CONCURRENCY": "3"}
    assert load_settings(given).as_environment() == given
    assert load_settings({"PLUMBLINE_HOME": "/srv/x"}).as_environment() == {"PLUMBLINE_HOME": "/srv/x"}


def test_settings_do_not_change() -> None:
    with pytest.raises(ValueError, match="frozen"):
        load_settings({}).api_port = 1


def test_no_field_lacks_a_word_about_what_to_give() -> None:
    assert [name for name, field in Settings.model_fields.items() if not field.description] == []


def test_home_is_made_for_its_owner_only(tmp_path: Path) -> None:
    prepare_home(tmp_path / "a" / "b")
    prepare_home(tmp_path / "a" / "b")
    assert stat.S_IMODE((tmp_path / "a" / "b").stat().st_mode) == 0o700


def test_an_empty_open_folder_is_closed(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir(mode=0o755)
    prepare_home(home)
    assert stat.S_IMODE(home.stat().st_mode) == 0o700


def test_a_folder_in_use_is_not_closed_to_others_but_refused(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    home.chmod(0o755)
    (home / "thesis.tex").touch()
    with pytest.raises(SettingsError, match="others can open"):
        prepare_home(home)
    assert stat.S_IMODE(home.stat().st_mode) == 0o755


def test_a_home_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "home").touch()
    with pytest.raises(SettingsError, match=r"PLUMBLINE_HOME: .* cannot be used"):
        prepare_home(tmp_path / "home")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make a folder of somebody else's")
def test_the_home_of_another_user_is_left_to_that_user(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir(mode=0o700)
    (home / "secret-keys").write_text(KEY)
    os.chown(home, 12345, 12345)
    with pytest.raises(SettingsError, match="belongs to user 12345"):
        prepare_home(home)
