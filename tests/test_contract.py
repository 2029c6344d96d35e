"""The contract of the roles is mechanical: what defaults offer, argument specs explain, and the role reads."""

import re
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]
ROLES = sorted(path.name for path in (ROOT / "roles").iterdir() if path.is_dir())
# What may read a role's inputs: the role itself, and the plugins that judge the fleet.
READERS = ("tasks/*.yml", "handlers/*.yml", "vars/*.yml", "defaults/*.yml", "templates/**/*.j2")
JUDGES = "\n".join(path.read_text() for path in (*(ROOT / "plugins/fleet").rglob("*.py"), ROOT / "plugins/action/topology.py"))
# What a role sets for others to read.
OUTPUTS = {"application_current", "topology_packages"}


def load(role: str, path: str) -> dict:
    file = ROOT / "roles" / role / path
    return yaml.safe_load(file.read_text()) or {} if file.exists() else {}


def options(role: str) -> dict:
    return load(role, "meta/argument_specs.yml")["argument_specs"]["main"]["options"]


def sources(role: str) -> dict[str, str]:
    """The texts that may read the role's inputs, by file, without comments."""
    home = ROOT / "roles" / role
    texts = {"judges": JUDGES}
    for path in (path for pattern in READERS for path in home.glob(pattern)):
        lines = (line.split(" #")[0] for line in path.read_text().splitlines() if not line.lstrip().startswith("#"))
        texts[str(path.relative_to(home))] = "\n".join(lines)
    return texts


def unreached(names: list[str], texts: dict[str, str]) -> list[str]:
    """The inputs that nothing reads; the line that gives one its value does not count."""
    lines = [line for text in texts.values() for line in text.splitlines()]
    return [name for name in names if not any(re.search(rf"\b{name}\b(?!:)", line) for line in lines)]


@pytest.mark.parametrize("role", ROLES)
def test_defaults_and_argument_specs_name_the_same_inputs(role: str) -> None:
    spec, defaults = options(role), load(role, "defaults/main.yml")
    required = {name for name, option in spec.items() if name not in defaults}
    assert set(defaults) <= set(spec), "in defaults/main.yml, but not in meta/argument_specs.yml"
    text = (ROOT / "roles" / role / "defaults/main.yml").read_text()
    silent = sorted(name for name in required if not re.search(rf"^#\s+{name}\b", text, re.MULTILINE))
    assert not silent, f"without a default, and not named in a comment of defaults/main.yml: {silent}"


@pytest.mark.parametrize("role", ROLES)
def test_argument_specs_say_the_default_that_holds(role: str) -> None:
    spec, defaults = options(role), load(role, "defaults/main.yml")
    for name, value in defaults.items():
        if "{{" in yaml.safe_dump(value):  # derived: the expression with its reason stands in defaults alone
            continue
        assert spec[name].get("default") == value, name


@pytest.mark.parametrize("role", ROLES)
def test_every_input_has_a_type_and_a_sentence(role: str) -> None:
    for name, option in options(role).items():
        assert name.startswith(f"{role}_"), f"{name} is outside the role's namespace"
        assert option.get("type"), name
        description = option.get("description", "")
        assert (description if isinstance(description, str) else " ".join(description)).rstrip().endswith("."), name


@pytest.mark.parametrize("role", ROLES)
def test_every_input_reaches_something(role: str) -> None:
    missing = set(unreached(list(options(role)), sources(role))) - OUTPUTS
    assert not missing, f"nothing reads {missing}"


def test_an_input_that_reaches_nothing_is_noticed() -> None:
    assert unreached(["host_knob"], {**sources("host"), "defaults/extra.yml": "host_knob: 1"}) == ["host_knob"]


@pytest.mark.parametrize("role", ROLES)
def test_ranges_bound_inputs_that_exist(role: str) -> None:
    for name, bounds in load(role, "meta/ranges.yml").items():
        assert name in options(role)
        assert set(bounds) <= {"min", "max", "why"} and bounds["why"].endswith("."), name


@pytest.mark.parametrize("role", ROLES)
def test_each_role_has_a_playbook_of_its_name(role: str) -> None:
    assert (ROOT / "playbooks" / f"{role}.yml").exists()


def test_no_role_names_an_inventory_group_or_an_address() -> None:
    hosts = yaml.safe_load((ROOT / "inventories/example/hosts.yml").read_text())["all"]["children"]
    groups = {group for group in hosts if group not in ROLES}  # a role may share its name with the group that carries it
    for role in ROLES:
        for path, text in sources(role).items():
            if path == "judges":
                continue
            found = [group for group in groups if re.search(rf"groups\[['\"]{group}|\b{group}\b", text)]
            assert not found, f"roles/{role}/{path} names the group {found}"
            addresses = [a for a in re.findall(r"\b\d+\.\d+\.\d+\.\d+\b", text) if not a.startswith(("127.", "0.", "4.0.5"))]
            assert not addresses, f"roles/{role}/{path} names the address {addresses}"


def test_playbooks_read_as_a_table_of_contents() -> None:
    for path in (ROOT / "site.yml", *(ROOT / "playbooks").glob("*.yml")):
        assert len(path.read_text().splitlines()) <= 40, path.name


def test_the_lab_is_one_more_inventory() -> None:
    """What the lab proves is what the example says: its variables are the example's own files, but for the connection."""
    own = [path for path in (ROOT / "inventories/lab/group_vars").rglob("*") if path.is_file() and not path.is_symlink()]
    inside = [path for path in own if not any(parent.is_symlink() for parent in path.parents)]
    assert {path.name for path in inside} <= {"connection.yml", "vault.yml", "lab.yml"}
