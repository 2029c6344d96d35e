"""The table of attacks: what counts as refused, and what else a row must show."""

import json

import pytest

from lab.exposure.intruders import WRONG_THINGS, Answer, Book, page

ENDS = ("worker1", "broker1")
IN, OUT = Answer(True, "logged in"), Answer(False, "Refused: 403 ACCESS_REFUSED")


def test_a_refusal_with_its_reason_and_a_successful_control_is_a_row():
    book = Book()
    book.refused("guest login", "guest, guest", ENDS, OUT, IN, "ACCESS_REFUSED")
    (row,) = book.rows
    assert (row.refused, row.said, row.control) == (True, OUT.said, "logged in")


@pytest.mark.parametrize(
    ("wrong", "right", "why", "complaint"),
    [
        (IN, IN, "403", "it got in"),
        (Answer(False, "Connection refused"), IN, "403", "another reason"),
        (OUT, Answer(False, "timed out"), "403", "shows nothing"),
    ],
)
def test_an_attack_that_shows_nothing_fails_and_is_still_in_the_table(wrong, right, why, complaint):
    book = Book()
    with pytest.raises(AssertionError, match=complaint):
        book.refused("guest login", "guest, guest", ENDS, wrong, right, why)
    assert book.rows[0].refused is not wrong.got_in


def test_an_unknown_attack_is_not_a_row():
    with pytest.raises(AssertionError):
        Book().refused("something else", "", ENDS, OUT, IN, "403")


def test_the_table_names_untried_and_successful_attacks(tmp_path):
    book = Book()
    book.refused("guest login", "guest, <guest>", ENDS, OUT, IN, "403")
    with pytest.raises(AssertionError):
        book.refused("wrong CA", "a client", ENDS, IN, IN, "unknown ca")
    book.write(tmp_path)
    table = json.loads((tmp_path / "intruders.json").read_text())
    assert (table["refused"], table["got_in"]) == (1, 1)
    assert set(table["not_tried"]) == set(WRONG_THINGS) - {"guest login", "wrong CA"}
    html = page(table)
    assert "GOT IN" in html and "guest, &lt;guest&gt;" in html and "egress to an undeclared address" in html
