"""The table of wrong things tried: what counts as refused, and what a row must show besides."""

import json

import pytest

from lab.exposure.intruders import WRONG_THINGS, Answer, Book, page

ENDS = ("worker1", "broker1")
IN, OUT = Answer(True, "logged in"), Answer(False, "Refused: 403 ACCESS_REFUSED")


def test_a_refusal_with_its_reason_beside_the_right_ones_entrance_is_a_row():
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
def test_what_shows_nothing_fails_and_is_in_the_table_all_the_same(wrong, right, why, complaint):
    book = Book()
    with pytest.raises(AssertionError, match=complaint):
        book.refused("guest login", "guest, guest", ENDS, wrong, right, why)
    assert book.rows[0].refused is not wrong.got_in


def test_a_thing_that_nobody_promised_is_no_row():
    with pytest.raises(AssertionError):
        Book().refused("something else", "", ENDS, OUT, IN, "403")


def test_the_table_names_what_was_not_tried_and_who_got_in(tmp_path):
    book = Book()
    book.refused("guest login", "guest, <guest>", ENDS, OUT, IN, "403")
    with pytest.raises(AssertionError):
        book.refused("wrong CA", "a client", ENDS, IN, IN, "unknown ca")
    book.write(tmp_path)
    told = json.loads((tmp_path / "intruders.json").read_text())
    assert (told["refused"], told["got_in"]) == (1, 1)
    assert set(told["not_tried"]) == set(WRONG_THINGS) - {"guest login", "wrong CA"}
    html = page(told)
    assert "GOT IN" in html and "guest, &lt;guest&gt;" in html and "egress to an undeclared address" in html
