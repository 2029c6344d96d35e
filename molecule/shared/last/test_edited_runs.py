"""What every role promises of the runs that follow an edit of the inventory."""

from __future__ import annotations

testinfra_hosts = ["ansible://all"]


def test_an_edit_of_the_inventory_reaches_a_host(runs):
    """An edit that changes no host would prove nothing in the verify that follows it."""
    assert len(runs) == 6
    for run in runs[3:5]:
        assert any(run.changed.values()), run


def test_check_mode_predicts_on_a_converged_host_that_nothing_would_change(runs, hostname):
    assert runs[5].check
    assert runs[5].changed[hostname] == []
