"""Inputs are checked against the contracts of the roles before any host changes."""

import pytest
from ansible_collections.grunnfjell.platform.plugins.plugin_utils.fleet.contract import broken_specs, out_of_range, unknown_inputs

SPEC = {"worker_concurrency": {"type": "int"}, "worker_app": {"type": "str", "required": True}}


def test_valid_inputs_are_accepted() -> None:
    assert list(broken_specs("w1", "worker", SPEC, {"worker_concurrency": 4, "worker_app": "a"})) == []


def test_a_wrong_type_is_named() -> None:
    (sentence,) = broken_specs("w1", "worker", SPEC, {"worker_concurrency": "many", "worker_app": "a"})
    assert sentence.startswith("w1: worker_concurrency is 'many', but must be a whole number. Edit the inventory")
    assert "argument_specs.yml" in sentence


@pytest.mark.parametrize(
    ("option", "value", "sentence"),
    [
        ({"type": "int"}, ["a"], "x is of another type, but must be a whole number."),
        ({"type": "int", "no_log": True}, "hunter2", "x is of another type, but must be a whole number."),
        ({"type": "dict"}, 7, "x is 7, but must be a mapping."),
        ({"type": "list", "elements": "int"}, ["many"], "an item of x is of another type, but must be a whole number."),
        ({"type": "list", "elements": "dict"}, [7], "an item of x is of another type, but must be a mapping."),
    ],
)
def test_a_wrong_type_is_named_in_plain_words(option: dict, value: object, sentence: str) -> None:
    (problem,) = broken_specs("w1", "worker", {"x": option}, {"x": value})
    assert problem.startswith(f"w1: {sentence}") and "_Ansible" not in problem and "class" not in problem


def test_a_missing_input_is_named() -> None:
    (sentence,) = broken_specs("w1", "worker", SPEC, {})
    assert "worker_app" in sentence


@pytest.mark.parametrize("value", [1, 4, 512])
def test_a_number_in_range_is_accepted(value: int) -> None:
    assert (
        list(out_of_range("w1", {"worker_concurrency": {"min": 1, "max": 512, "why": "w."}}, {"worker_concurrency": value})) == []
    )


@pytest.mark.parametrize("value", [0, 513])
def test_a_number_out_of_range_is_named_with_its_limits(value: int) -> None:
    ranges = {"worker_concurrency": {"min": 1, "max": 512, "why": "a program without a process does nothing."}}
    (sentence,) = out_of_range("w1", ranges, {"worker_concurrency": value})
    assert f"worker_concurrency is {value}, but must be at least 1 and at most 512" in sentence


def test_an_unknown_input_is_named_with_the_most_similar_one() -> None:
    (sentence,) = unknown_inputs("w1", {"worker_concurency", "other"}, ["worker"], {"worker_concurrency"})
    assert "worker_concurency is not an input of any role" in sentence and "Did you mean worker_concurrency?" in sentence
