"""A size that an example writes in words is one that Ansible's filter takes."""

import re
from collections.abc import Iterator

import pytest
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar, trust_as_template

from lab.machine import REPOSITORY

PLACES = ("inventories/**/*.yml", "roles/*/defaults/*.yml", "roles/*/README.md", "docs/*.md", "README.md")
# A line may be a comment: it is what an operator copies.
EXPRESSION = re.compile(r"\{\{[^{}]*\|\s*human_to_bytes\b[^{}]*\}\}")
# As the lab's hosts have it.
VARIABLES = {"lab_memory": "1536m"}


def expressions() -> Iterator[tuple[str, str]]:
    # The inventories share files by links.
    for path in sorted({path.resolve() for place in PLACES for path in REPOSITORY.glob(place) if path.is_file()}):
        for expression in EXPRESSION.findall(path.read_text(encoding="utf-8")):
            yield str(path.relative_to(REPOSITORY)), expression


@pytest.mark.parametrize(("path", "expression"), list(expressions()))
def test_a_size_in_words_is_a_number_of_bytes(path: str, expression: str) -> None:
    size = Templar(loader=DataLoader(), variables=VARIABLES).template(trust_as_template(expression))
    assert size >= 2**20, f"{path}: {expression}"
