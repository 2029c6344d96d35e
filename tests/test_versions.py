"""Which version of the kit runs, which one last ran on a host, and that no older one follows a newer one."""

import json
from pathlib import Path

import pytest
from ansible_collections.grunnfjell.platform.plugins.module_utils import kit_version as on_host
from ansible_collections.grunnfjell.platform.plugins.plugin_utils.fleet.model import Fleet, Host
from ansible_collections.grunnfjell.platform.plugins.plugin_utils.fleet.version import kit_version
from ansible_collections.grunnfjell.platform.plugins.plugin_utils.refusals.versions import older_than_hosts


def refused(version: str, *recorded: str | None, downgrade_from: str = "") -> list[str]:
    """The sentences of a run by this version on hosts with these records; a host without facts has no measurement at all."""
    hosts = {
        f"host{number}": Host(f"host{number}", measured={"version": record}, inputs={"topology_downgrade_from": downgrade_from})
        for number, record in enumerate(recorded)
    }
    return list(older_than_hosts(Fleet(hosts | {"away": Host("away")}, {}, version=version)))


@pytest.mark.parametrize(
    ("version", "recorded"),
    [
        ("1.0.0", "1.0.0"),
        ("1.10.0", "1.9.0"),
        ("1.0.0", "1.0.0-rc.1"),
        ("1.0.0-rc.10", "1.0.0-rc.9"),
        ("1.0.0-rc.1", "1.0.0-beta.2"),
        ("1.0.0+a", "1.0.0+b"),
        ("1.0.0", None),
        ("1.0.0", ""),
        ("1.0.0", "edited by hand"),
    ],
)
def test_a_version_may_follow_itself_and_older_ones(version: str, recorded: str | None) -> None:
    assert refused(version, recorded) == []


@pytest.mark.parametrize(
    ("version", "recorded"),
    [
        ("1.0.0", "1.0.1"),
        ("1.9.0", "1.10.0"),
        ("1.9.9", "2.0.0"),
        ("1.0.0-rc.1", "1.0.0"),
        ("1.0.0-rc.9", "1.0.0-rc.10"),
        ("1.0.0", "1.0.1-alpha"),
    ],
)
def test_an_older_version_is_refused(version: str, recorded: str) -> None:
    (sentence,) = refused(version, recorded)
    assert sentence.startswith(f"host0 was last set up by Grunnfjell {recorded}, and this is {version}: ")


def test_hosts_of_one_version_share_a_sentence() -> None:
    first, second = refused("1.0.0", "1.1.0", "1.2.0", "1.1.0", None)
    assert first.startswith("host0 and host2 were last set up by Grunnfjell 1.1.0")
    assert second.startswith("host1 was last set up by Grunnfjell 1.2.0")


def test_a_downgrade_is_allowed_from_the_named_version_and_no_newer_one() -> None:
    assert refused("1.0.0", "1.1.0", "1.0.5", downgrade_from="1.1.0") == []
    assert len(refused("1.0.0", "1.1.0", "1.1.1", downgrade_from="1.1.0")) == 1


def test_the_version_is_that_of_the_artifact_or_else_of_the_checkout(tmp_path: Path) -> None:
    for name in ("checkout", "artifact"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "galaxy.yml").write_text("version: 1.2.3\n")
    (tmp_path / "artifact/MANIFEST.json").write_text(json.dumps({"collection_info": {"version": "1.2.4"}}))
    assert kit_version(tmp_path / "checkout") == "1.2.3"
    assert kit_version(tmp_path / "artifact") == "1.2.4"


@pytest.mark.parametrize(
    ("text", "version"),
    [
        ("# Managed by Grunnfjell\n1.2.3\n", "1.2.3"),
        ("1.2.3", "1.2.3"),
        ("", None),
        ("# Managed by Grunnfjell\n", None),
        (None, None),
    ],
)
def test_the_record_is_the_line_that_is_not_a_comment(tmp_path: Path, text: str | None, version: str | None) -> None:
    if text is not None:
        (tmp_path / "version").write_text(text)
    assert on_host.recorded(str(tmp_path / "version")) == version
