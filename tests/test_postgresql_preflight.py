"""What stands against a PostgreSQL is refused before anything is changed. Review finding 20."""

import pytest

# Modules import their helper as Ansible names it on a host.
from ansible_collections.grunnfjell.platform.plugins.modules import postgresql_preflight as preflight


@pytest.fixture
def host(tmp_path):
    """A cluster on a host: its data, and how it starts."""
    data, etc = tmp_path / "lib", tmp_path / "etc"

    def cluster(version: str, start: str | None = "auto"):
        (data / version / "main").mkdir(parents=True)
        (data / version / "main/PG_VERSION").write_text(f"{version}\n")
        if start:
            (etc / version / "main").mkdir(parents=True)
            (etc / version / "main/start.conf").write_text(f"# Automatic startup\n#   auto: as it says\n\n{start}\n")

    cluster.refusals = lambda: list(preflight.other_versions(data, etc, "17"))
    return cluster


def test_a_blank_host_and_one_of_the_releases_own_version_are_not_refused(host):
    assert host.refusals() == []
    host("17")
    assert host.refusals() == []


@pytest.mark.parametrize("start", ["auto", "manual", None])
def test_data_of_an_older_version_is_not_left_behind_an_empty_server(host, start):
    host("13", start)
    (sentence,) = host.refusals()
    assert "holds data of PostgreSQL 13" in sentence and "pg_upgradecluster -v 17 13 main" in sentence


def test_an_empty_cluster_beside_the_data_is_named_as_what_goes_first(host):
    host("13")
    host("17")
    (sentence,) = host.refusals()
    assert "pg_dropcluster --stop 17 main" in sentence


def test_what_an_upgrade_left_for_the_way_back_is_in_nobodys_way(host):
    host("13", "manual")
    host("17")
    assert host.refusals() == []


@pytest.mark.parametrize(
    ("held", "ours", "refused"),
    [(["news"], False, False), (["news", "books"], False, True), (["news", "books"], True, False), ([], False, False)],
)
def test_databases_that_nobody_declared_are_not_shut_out_unasked(tmp_path, held, ours, refused):
    if ours:
        (tmp_path / "grunnfjell_hba.conf").touch()
    sentences = list(preflight.undeclared_databases(tmp_path, held, ["news"]))
    assert [("books" in sentence and "postgresql_databases" in sentence) for sentence in sentences] == [True] * refused
