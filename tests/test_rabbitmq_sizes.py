"""The sizes of a broker, from the memory of its host."""

import doctest
import re
from pathlib import Path

import pytest
from ansible_collections.grunnfjell.platform.plugins.plugin_utils.sizing import rabbitmq as sizes
from hypothesis import given
from hypothesis import strategies as st

memory = st.integers(min_value=256 * sizes.MIB, max_value=4 * 2**40)


def test_the_examples_in_the_filters_hold():
    assert doctest.testmod(sizes).failed == 0


@given(memory, st.sampled_from([0.4, 0.5, 0.6, 0.7]))
def test_a_share_is_the_ratio_rounded_down(total, ratio):
    share = sizes.rabbitmq_share(total, ratio)
    tenths = round(ratio * 10)
    assert share * 10 <= total * tenths < (share + 1) * 10


@given(memory)
def test_the_share_of_1_is_all_memory(total):
    assert sizes.rabbitmq_share(total, 1.0) == total


def test_numbers_from_the_command_line_are_read():
    assert sizes.rabbitmq_share("1000", "0.7") == 700
    assert sizes.rabbitmq_wal_max_size_bytes("2147483648") == 64 * sizes.MIB


def test_a_share_of_negative_memory_is_refused():
    with pytest.raises(ValueError, match="-1"):
        sizes.rabbitmq_share(-1, 0.7)


@given(memory)
def test_three_write_ahead_logs_fit_above_the_watermark_or_are_the_smallest(total):
    wal = sizes.rabbitmq_wal_max_size_bytes(total)
    assert sizes.WAL_SMALLEST <= wal <= sizes.WAL_LARGEST
    assert wal == sizes.WAL_SMALLEST or 3 * wal + sizes.rabbitmq_share(total, 0.7) < total


@given(memory, memory)
def test_more_memory_never_means_a_smaller_write_ahead_log(first, second):
    small, large = sorted((first, second))
    assert sizes.rabbitmq_wal_max_size_bytes(small) <= sizes.rabbitmq_wal_max_size_bytes(large)


@pytest.mark.parametrize(
    ("address", "erlang"),
    [
        ("127.0.0.1", "{127,0,0,1}"),
        ("10.77.0.11", "{10,77,0,11}"),
        ("::1", "{0,0,0,0,0,0,0,1}"),
        ("fd00::1f", "{64768,0,0,0,0,0,0,31}"),
    ],
)
def test_an_address_is_written_as_erlang_reads_it(address, erlang):
    assert sizes.rabbitmq_erlang_address(address) == erlang


TEMPLATE = Path(__file__).parents[1] / "roles/rabbitmq/templates/etc/rabbitmq/rabbitmq.conf.j2"


def test_a_key_of_the_role_is_refused_among_the_parameters():
    """Each key of the template, and each sibling of it that would contradict it, is refused."""
    keys = re.findall(r"^([a-z_.]+?)(?:\.\{\{ .*\}\}|\.\d+)? = ", TEMPLATE.read_text(), re.MULTILINE)
    assert len(keys) > 10
    for key in [*keys, "vm_memory_high_watermark.relative", "listeners.tcp.default", "definitions.local.path"]:
        with pytest.raises(sizes.AnsibleFilterError, match=f"names {re.escape(key)}, which the role sets itself"):
            sizes.rabbitmq_settings({key: "1"})


@pytest.mark.parametrize("settings", [{"a b": 1}, {"a": "1\nheartbeat = 1"}, {"a": {"b": 1}}, {"a\n": 1}, {"": 1}])
def test_a_setting_that_is_not_one_line_is_refused(settings):
    with pytest.raises(sizes.AnsibleFilterError, match="rabbitmq_parameters"):
        sizes.rabbitmq_settings(settings)
