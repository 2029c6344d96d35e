"""Named web servers of a producer: nginx's locations, and the handover of several programs, which succeeds for all or none."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import jinja2
import pytest
import yaml
from ansible_collections.grunnfjell.platform.plugins.module_utils import supervisord as kit_supervisord
from ansible_collections.grunnfjell.platform.plugins.module_utils import whole_files
from ansible_collections.grunnfjell.platform.plugins.modules import platform_status, supervisor_handover, supervisor_programs
from ansible_collections.grunnfjell.platform.plugins.plugin_utils.sizing.producer import (
    producer_handovers,
    producer_locations,
    producer_servers,
)
from fake_supervisord import Supervisord, supervisord
from file_readers import parser_of
from module_calls import call

from lab.machine import REPOSITORY

MAIN = {"path": "/", "command": ["gunicorn"], "health_path": "/healthz", "workers": 3}


def named(name: str, path: str, **more: object) -> dict:
    return {"name": name, "path": path, "command": [name], "health_path": f"{path}health"} | more


def configuration(*programs: dict) -> str:
    """nginx's, with these named web servers."""
    engine = jinja2.Environment(trim_blocks=True, keep_trailing_newline=True)
    engine.filters["grunnfjell.platform.producer_locations"] = producer_locations
    role = REPOSITORY / "roles/producer"
    inputs = yaml.safe_load((role / "defaults/main.yml").read_text()) | {"producer_bind": "127.0.0.1:8000"}
    inputs |= {"producer_programs": list(programs), "__producer_servers": producer_servers(list(programs), MAIN)}
    text = (role / "templates/etc/nginx/grunnfjell.conf.j2").read_text()
    return engine.from_string(text).render(inputs, __producer_run="/run/grunnfjell-nginx")


def locations(text: str) -> dict[str, str]:
    return dict(re.findall(r"^        location ([^\n]+) \{\n(.*?)^        \}$", text, re.MULTILINE | re.DOTALL))


def test_each_path_has_its_server_and_without_its_last_slash_that_of_the_path_above() -> None:
    """nginx answers /ws by itself with a redirect to /ws/, where a location only has the latter."""
    found = locations(configuration(named("live", "/ws/"), named("api", "/api/"), named("v2", "/api/v2/"), named("x", "/x")))
    sockets = {path: re.findall(r"proxy_pass http://unix:/run/grunnfjell-(.+)\.sock;", text) for path, text in found.items()}
    assert sockets == {
        "/": ["producer"],
        "/ws/": ["producer-live"],
        "= /ws": ["producer"],
        "/api/": ["producer-api"],
        "= /api": ["producer"],
        "/api/v2/": ["producer-v2"],
        "= /api/v2": ["producer-api"],
        "/x": ["producer-x"],
    }


def test_each_header_that_nginx_sets_for_the_main_server_is_set_for_a_named_one() -> None:
    """A location that sets one header inherits none. Only websockets may change the connection."""
    text = configuration(named("live", "/ws/"))
    header = re.compile(r"^ +proxy_set_header (\S+) (.+);$", re.MULTILINE)
    own = locations(text)["/ws/"]
    common = dict(header.findall(text.partition("    server {")[0]))
    assert len(common) == 11 and common["Connection"] == "close"
    assert dict(header.findall(own)) == common | {"Connection": "$passed_connection", "Upgrade": "$passed_upgrade"}
    assert "proxy_set_header" not in locations(text)["/"]


def test_the_configuration_with_named_servers_has_only_known_lines_and_without_them_none_of_theirs() -> None:
    parse = parser_of("/etc/nginx/grunnfjell.conf")
    assert parse
    for programs in ((), (named("live", "/ws/"), named("x", "/~a.b-c_d"))):
        parse(configuration(*programs))
    assert "upgrade" not in configuration() and list(locations(configuration())) == ["/"]


def test_a_server_that_leaves_its_workers_out_has_those_of_the_main_one() -> None:
    servers = producer_servers([named("live", "/ws/", workers=2), named("api", "/api/")], MAIN)
    assert [server["workers"] for server in servers] == [3, 2, 3]
    assert [server["section"]["log"] for server in servers] == [
        f"{program}_%(process_num)d" for program in ("producer", "producer-live", "producer-api")
    ]


def test_any_change_of_a_script_or_the_release_changes_its_fingerprint_and_no_other() -> None:
    servers = producer_servers([named("live", "/ws/")], MAIN)

    def contents(drafts: list[str], release: str) -> list[str]:
        return [program["content"] for program in producer_handovers(servers, drafts, release)]

    first = contents(["a @fingerprint@", "b @fingerprint@"], "r1")
    assert contents(["a @fingerprint@", "c @fingerprint@"], "r1")[0] == first[0]
    assert not set(contents(["a @fingerprint@", "b @fingerprint@"], "r2")) & set(first)


def test_status_asks_each_named_server(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform_status, "answers", lambda url, authorities, names: {"ok": not url.endswith("/ws/health")})
    monkeypatch.setattr(platform_status, "confirms", lambda name, user, app: {"confirmed": True})
    wanted = {"bind": "10.0.0.41:8000", "path": "/healthz", "authorities": "", "names": [], "name": "", "user": "", "app": ""}
    answer = platform_status.producer(wanted | {"programs": [named("live", "/ws/")]})
    assert answer["url"] == "https://10.0.0.41:8000/healthz" and answer["answers"]["ok"]
    assert answer["servers"] == {"live": {"url": "https://10.0.0.41:8000/ws/health", "answers": {"ok": False}}}
    assert platform_status.producer(wanted)["servers"] == {}


# The handover, with a stand-in for supervisord.


def server_script(version: str) -> str:
    return f"#!/bin/sh\nexport APPLICATION_FINGERPRINT={version}\nexec sleep 600\n"


def runs(pid: int, user: str, wanted: str) -> bool:
    """As the module's own, without another account."""
    return f"APPLICATION_FINGERPRINT={wanted}".encode() in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")


@pytest.fixture
def mute(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """Programs that do not answer in their trial, a set that a test fills."""
    programs: set[str] = set()
    monkeypatch.setattr(shutil, "chown", lambda path, user, group: None)
    monkeypatch.setattr(whole_files, "ownership_differs", lambda wanted: False)
    monkeypatch.setattr(supervisor_handover, "runs", runs)
    monkeypatch.setattr(
        supervisor_handover, "trial", lambda script, *_: "its last words" if script.name.split(".")[1] in programs else ""
    )
    for module in (kit_supervisord, supervisor_programs, supervisor_handover):
        monkeypatch.setattr(module, "POLL_SECONDS", 0.01)
    return programs


@pytest.fixture
def fake(tmp_path: Path, mute: set[str]) -> Iterator[Supervisord]:
    """A main server and a named one, both of the old release."""
    for name in ("producer", "producer-live"):
        (tmp_path / name).write_text(server_script("old"))
        (tmp_path / name).chmod(0o755)
    with supervisord(tmp_path, sections(tmp_path, "producer", "producer-live")) as running:
        yield running


def sections(home: Path, *names: str) -> str:
    return "".join(f"[program:{name}]\ncommand={home / name}\nnumprocs=2\n" for name in names)


def hand_over(fake: Supervisord, scripts: dict[str, str], **options: object) -> dict:
    programs = [{"program": name, "path": str(fake.file.with_name(name)), "content": text} for name, text in scripts.items()]
    arguments = {"programs": programs, "timeout": 1, "socket": str(fake.socket), "directory": "/", "user": "nobody"}
    return call(supervisor_handover, **arguments, **options)


def versions(fake: Supervisord) -> dict[str, str]:
    """Of the processes that run."""
    return {name: "new" if process and runs(process.pid, "", "new") else "old" for name, process in fake.running.items()}


def of_both(version: str) -> dict[str, str]:
    return dict.fromkeys(("producer", "producer-live"), server_script(version))


def test_a_handover_replaces_the_processes_of_all_programs(fake: Supervisord) -> None:
    result = hand_over(fake, of_both("new"))
    assert result["replaced"] == [f"{name}:{name}_{number}" for name in of_both("new") for number in range(2)]
    assert set(versions(fake).values()) == {"new"}


@pytest.mark.parametrize("silent", ["producer", "producer-live"])
def test_no_program_is_replaced_unless_each_answers_in_its_trial(fake: Supervisord, mute: set[str], silent: str) -> None:
    mute.add(silent)
    before = {name: process.pid for name, process in fake.running.items() if process}
    result = hand_over(fake, of_both("new"))
    assert result["failed"] and f"{silent} did not answer 200 at /healthz" in result["msg"] and "its last words" in result["msg"]
    assert {name: process.pid for name, process in fake.running.items() if process} == before
    assert {fake.file.with_name(name).read_text() for name in of_both("old")} == {server_script("old")}
    assert not list(fake.file.parent.glob(".*.trial"))


def test_what_a_handover_returns_hands_all_of_them_back(fake: Supervisord) -> None:
    fake.broken = {"producer-live:producer-live_1"}
    result = hand_over(fake, of_both("new"))
    assert result["failed"] and result["msg"] == "producer-live:producer-live_1 does not come up: it is FATAL."
    fake.broken = set()
    assert not hand_over(fake, {program["program"]: program["content"] for program in result["previous"]})["failed"]
    assert set(versions(fake).values()) == {"old"}


def test_a_new_program_next_to_running_ones_waits_and_is_tried_although_its_script_is_there(
    fake: Supervisord, mute: set[str]
) -> None:
    """Left from a run that was cut off: its trial may never have ended."""
    scripts = {**of_both("old"), "producer-api": server_script("new")}
    assert hand_over(fake, scripts, disturb=False)["pending"]
    assert not fake.file.with_name("producer-api").exists()
    fake.file.with_name("producer-api").write_text(server_script("new"))
    mute.add("producer-api")
    result = hand_over(fake, scripts)
    assert result["failed"] and "producer-api did not answer" in result["msg"]
    mute.clear()
    result = hand_over(fake, scripts)
    assert not result["failed"] and result["replaced"] == []
    assert fake.file.with_name("producer-api").read_text() == server_script("new")


def test_the_first_programs_of_a_host_wait_for_nothing(tmp_path: Path, mute: set[str]) -> None:
    with supervisord(tmp_path) as fake:
        result = hand_over(fake, of_both("new"), disturb=False)
        assert result["changed"] and not result["pending"] and result["previous"] == []
        assert fake.file.with_name("producer-live").read_text() == server_script("new")


def test_a_program_that_a_restart_follows_is_tried_and_written_only(fake: Supervisord) -> None:
    result = hand_over(fake, of_both("new"), restarts=["producer-live"])
    assert result["replaced"] == ["producer:producer_0", "producer:producer_1"]
    assert fake.file.with_name("producer-live").read_text() == server_script("new")


def test_a_postponed_change_waits_although_it_stops_nothing(fake: Supervisord, tmp_path: Path) -> None:
    content = fake.file.read_text() + sections(tmp_path, "producer-api")
    arguments = {"path": str(fake.file), "socket": str(fake.socket), "content": content, "disturb": False}
    (tmp_path / "producer-api").write_text(server_script("new"))
    (tmp_path / "producer-api").chmod(0o755)
    result = call(supervisor_programs, postpone=True, **arguments)
    assert result["pending"] and result["stops"] == [] and "producer-api" not in fake.file.read_text()
    assert call(supervisor_programs, **arguments)["added"] == ["producer-api"]


def test_a_change_names_the_programs_that_it_stops(fake: Supervisord, tmp_path: Path) -> None:
    content = sections(tmp_path, "producer").replace("numprocs=2", "numprocs=3")
    result = call(supervisor_programs, path=str(fake.file), socket=str(fake.socket), content=content, disturb=False)
    assert result["pending"] and result["stops"] == ["producer", "producer-live"]
