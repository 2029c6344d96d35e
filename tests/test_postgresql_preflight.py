"""A PostgreSQL that cannot work is refused before anything is changed. Review finding 20."""

import pytest
from ansible_collections.grunnfjell.platform.plugins.modules import postgresql_preflight as preflight


@pytest.fixture
def host(tmp_path):
    """Creates the files of a cluster: its data and its start.conf."""
    data, etc = tmp_path / "lib", tmp_path / "etc"

    def cluster(version: str, start: str | None = "auto"):
        (data / version / "main").mkdir(parents=True)
        (data / version / "main/PG_VERSION").write_text(f"{version}\n")
        if start:
            (etc / version / "main").mkdir(parents=True)
            (etc / version / "main/start.conf").write_text(f"# Automatic startup\n#   auto: as it says\n\n{start}\n")

    cluster.refusals = lambda: list(preflight.other_versions(data, etc, "17"))
    return cluster


def test_a_blank_host_and_the_version_of_the_release_are_not_refused(host):
    assert host.refusals() == []
    host("17")
    assert host.refusals() == []


@pytest.mark.parametrize("start", ["auto", "manual", None])
def test_data_of_an_older_version_is_refused(host, start):
    host("13", start)
    (sentence,) = host.refusals()
    assert "holds data of PostgreSQL 13" in sentence and "pg_upgradecluster -v 17 13 main" in sentence
    assert "playbooks/move_database.yml" in sentence


def test_an_empty_cluster_next_to_older_data_must_be_dropped_first(host):
    host("13")
    host("17")
    (sentence,) = host.refusals()
    assert "pg_dropcluster --stop 17 main" in sentence


def test_the_old_cluster_of_an_upgrade_is_not_refused(host):
    host("13", "manual")
    host("17")
    assert host.refusals() == []


@pytest.mark.parametrize(
    ("held", "ours", "refused"),
    [(["news"], False, False), (["news", "books"], False, True), (["news", "books"], True, False), ([], False, False)],
)
def test_undeclared_databases_are_refused_before_they_lose_their_access(tmp_path, held, ours, refused):
    if ours:
        (tmp_path / "grunnfjell_hba.conf").touch()
    sentences = list(preflight.undeclared_databases(tmp_path, held, ["news"]))
    assert [("books" in sentence and "postgresql_databases" in sentence) for sentence in sentences] == [True] * refused
