"""Every default of a role is explained in its argument specs and read by the role."""

import ast
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from lab.readmes import unit_of

ROOT = Path(__file__).resolve().parents[1]
ROLES = sorted(path.name for path in (ROOT / "roles").iterdir() if path.is_dir())
# Readers of a role's inputs: the role, the plugins that check the fleet, and the job at the end of verify.
READERS = ("tasks/*.yml", "handlers/*.yml", "vars/*.yml", "defaults/*.yml", "templates/**/*.j2")
JOB = ROOT / "molecule/producer/tests/test_job.py"
PLUGINS = "\n".join(
    path.read_text() for path in (*(ROOT / "plugins/plugin_utils").rglob("*.py"), ROOT / "plugins/action/topology.py", JOB)
)
# What a role sets for others to read.
OUTPUTS = {"application_current", "topology_packages", "topology_identities", "topology_own_roles", "topology_flows"}
OUTPUTS |= {"topology_queues", "topology_brokers", "topology_program_logs"}


def load(role: str, path: str, roles: Path = ROOT / "roles") -> dict:
    file = roles / role / path
    return yaml.safe_load(file.read_text()) or {} if file.exists() else {}


def options(role: str, roles: Path = ROOT / "roles") -> dict:
    return load(role, "meta/argument_specs.yml", roles)["argument_specs"]["main"]["options"]


def with_nested(options: dict[str, Any], path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Every option with its full name, those inside lists and dictionaries too."""
    for name, option in options.items():
        yield path + name, option
        yield from with_nested(option.get("options", {}), f"{path}{name}.")


def sources(role: str, roles: Path = ROOT / "roles") -> dict[str, str]:
    """The texts that may read the role's inputs, by file, without comments."""
    home = roles / role
    # Role topology reads some constants of every role by their pattern, __<role>_packages for one.
    texts = {"plugins": PLUGINS.replace("{role}", role)}
    for path in (path for pattern in READERS for path in home.glob(pattern)):
        lines = (line.split(" #")[0] for line in path.read_text().splitlines() if not line.lstrip().startswith("#"))
        texts[str(path.relative_to(home))] = "\n".join(lines)
    return texts


def unreached(names: list[str], texts: dict[str, str]) -> list[str]:
    """The inputs that nothing reads; the line that gives one its value does not count."""
    lines = [line for text in texts.values() for line in text.splitlines()]
    return [name for name in names if not any(re.search(rf"\b{name}\b(?!:)", line) for line in lines)]


def faults(role: str, roles: Path = ROOT / "roles") -> list[str]:
    """A sentence for each breach of the contract between defaults, specs and readers."""
    spec, defaults = options(role, roles), load(role, "defaults/main.yml", roles)
    text = (roles / role / "defaults/main.yml").read_text()
    problems = [f"{name} is in defaults/main.yml, but not in meta/argument_specs.yml" for name in defaults if name not in spec]
    for name, option in spec.items():
        if name not in defaults and not re.search(rf"^#\s+{name}\b", text, re.MULTILINE):
            problems.append(f"{name} has no default, and no comment of defaults/main.yml names it")
        # A derived default is only in defaults, as an expression with its reason.
        if name in defaults and "{{" not in yaml.safe_dump(defaults[name]) and option.get("default") != defaults[name]:
            problems.append(f"{name} is {defaults[name]!r} by default, but its spec says {option.get('default')!r}")
        if not name.startswith(f"{role}_"):
            problems.append(f"{name} is outside the role's namespace")
    # A value that only an unread internal reads has no effect either.
    internals = list(load(role, "vars/main.yml", roles))
    dead = unreached([*spec, *internals], sources(role, roles))
    problems += [f"nothing reads {name}" for name in dead if name not in OUTPUTS]
    for name, option in with_nested(spec):
        description = option.get("description", "")
        sentence = description if isinstance(description, str) else " ".join(description)
        if not option.get("type"):
            problems.append(f"{name} has no type")
        if option.get("type") == "list" and not option.get("elements"):
            problems.append(f"{name} is a list of unknown elements")
        if not sentence.rstrip().endswith("."):
            problems.append(f"{name} is not described in a sentence")
        if option.get("type") in ("int", "float") and not unit_of(option):
            problems.append(f"{name} is a number whose description opens with no unit: {sentence}")
    return problems


@pytest.mark.parametrize("role", ROLES)
def test_defaults_specs_and_readers_of_a_role_agree(role: str) -> None:
    assert faults(role) == []


@pytest.fixture
def copies(tmp_path: Path) -> Path:
    """A copy of the roles that a test may change."""
    shutil.copytree(ROOT / "roles", tmp_path / "roles")
    return tmp_path / "roles"


def declare(copies: Path, name: str, default: str, option: dict[str, Any]) -> None:
    """Give the role host another input, in its defaults and its specs."""
    home = copies / "host"
    with (home / "defaults/main.yml").open("a") as defaults:
        defaults.write(f"\n{default}\n")
    specs = load("host", "meta/argument_specs.yml", copies)
    specs["argument_specs"]["main"]["options"][name] = option
    (home / "meta/argument_specs.yml").write_text(yaml.safe_dump(specs))


KNOB = {"type": "int", "default": 1, "description": "Number of knobs."}


def test_an_input_that_is_read_is_accepted(copies: Path) -> None:
    declare(copies, "host_knob", "host_knob: 1", KNOB)
    with (copies / "host/tasks/main.yml").open("a") as tasks:
        tasks.write("- name: Turn the knob\n  ansible.builtin.debug:\n    var: host_knob\n")
    assert faults("host", copies) == []


def test_an_input_that_nothing_reads_is_refused(copies: Path) -> None:
    declare(copies, "host_knob", "host_knob: 1  # host_knob is read by nobody", KNOB)
    assert faults("host", copies) == ["nothing reads host_knob"]


def test_an_input_that_only_an_unread_internal_reads_is_refused(copies: Path) -> None:
    declare(copies, "host_knob", "host_knob: 1", KNOB)
    with (copies / "host/vars/main.yml").open("a") as constants:
        constants.write('__host_turns: "{{ host_knob }}"\n')
    assert faults("host", copies) == ["nothing reads __host_turns"]


@pytest.mark.parametrize(
    ("default", "option", "fault"),
    [
        ("host_knob: 2", KNOB, "host_knob is 2 by default, but its spec says 1"),
        ("", KNOB, "host_knob has no default, and no comment of defaults/main.yml names it"),
        ("host_knob: 1", {**KNOB, "type": None}, "host_knob has no type"),
        ("host_knob: 1", {**KNOB, "description": "Number of knobs"}, "host_knob is not described in a sentence"),
        ("host_knob: 1", {**KNOB, "description": "How long a knob is."}, "host_knob is a number whose description opens with no"),
        (
            "host_knob: []",
            {"type": "list", "elements": "dict", "default": [], "description": "Knobs.", "options": {"turns": {"type": "int"}}},
            "host_knob.turns is not described in a sentence",
        ),
        ("host_knob: []", {"type": "list", "default": [], "description": "Knobs."}, "host_knob is a list of unknown elements"),
    ],
)
def test_an_input_that_is_declared_badly_is_refused(copies: Path, default: str, option: dict[str, Any], fault: str) -> None:
    declare(copies, "host_knob", default, option)
    assert any(sentence.startswith(fault) for sentence in faults("host", copies))


def test_a_default_that_no_spec_explains_is_refused(copies: Path) -> None:
    with (copies / "host/defaults/main.yml").open("a") as defaults:
        defaults.write("host_knob: 1\n")
    assert faults("host", copies) == ["host_knob is in defaults/main.yml, but not in meta/argument_specs.yml"]


@pytest.mark.parametrize("role", ROLES)
def test_a_role_describes_its_effect_and_what_a_change_disturbs(role: str) -> None:
    main = load(role, "meta/argument_specs.yml")["argument_specs"]["main"]
    assert main["short_description"] and not main["short_description"].endswith(".")
    what, disturbs = main["description"]
    assert what.rstrip().endswith(".") and disturbs.rstrip().endswith(".")
    assert disturbs.startswith("A change ")


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
            if path == "plugins":
                continue
            named = [group for group in groups if re.search(rf"groups\[['\"]{group}|\b{group}\b", text)]
            assert not named, f"roles/{role}/{path} names the group {named}"
            addresses = [a for a in re.findall(r"\b\d+\.\d+\.\d+\.\d+\b", text) if not a.startswith(("127.", "0.", "4.0.5"))]
            assert not addresses, f"roles/{role}/{path} names the address {addresses}"


def test_every_log_of_a_program_is_rotated_and_removed() -> None:
    """Review finding 22: a role with a directory of logs lists them for role host, whose defaults hold the same ones."""
    inputs = {role: name for role in ROLES for name in options(role) if name.endswith("_log_directory")}
    assert set(inputs) >= {"celery_worker", "producer"}
    turned = options("host")["host_logs_turned_daily"]["default"]
    for role, name in inputs.items():
        assert load(role, "vars/main.yml")[f"__{role}_program_logs"] == [f"{{{{ {name} }}}}/*.log"]
        assert f"{options(role)[name]['default']}/*.log" in turned
    bound = yaml.safe_load((ROOT / "inventories/example/group_vars/all/host.yml").read_text())
    assert bound["host_logs_turned_daily"] == "{{ topology_program_logs }}"


def test_playbooks_are_as_short_as_a_table_of_contents() -> None:
    for path in (ROOT / "site.yml", *(ROOT / "playbooks").glob("*.yml")):
        assert len(path.read_text().splitlines()) <= 40, path.name


def test_the_lab_uses_the_variables_of_the_example() -> None:
    """The lab tests the example: only the variables of its surroundings are its own files."""
    own = [path for path in (ROOT / "inventories/lab/group_vars").rglob("*") if path.is_file() and not path.is_symlink()]
    inside = [path for path in own if not any(parent.is_symlink() for parent in path.parents)]
    assert {path.name for path in inside} <= {"connection.yml", "vault.yml", "lab.yml", "sites.yml"}


def test_no_back_reference_has_two_backslashes() -> None:
    r"""In a block scalar Jinja gets both backslashes of '\\1', and the value holds \1 instead of the group."""
    doubled = [path for path in ROOT.glob("roles/*/*/*.yml") if re.search(r"regex_replace'?.*\\\\[0-9]", path.read_text())]
    assert doubled == []


@pytest.mark.parametrize("module", sorted((ROOT / "plugins/modules").glob("*.py")), ids=lambda path: path.stem)
def test_a_modules_documentation_can_be_read(module):
    """`ansible-doc` shows nothing of a module whose text is no YAML, such as one with a colon in a sentence."""
    texts = [
        ast.literal_eval(node.value)
        for node in ast.parse(module.read_text()).body
        if isinstance(node, ast.Assign) and {"DOCUMENTATION", "EXAMPLES", "RETURN"} & {name.id for name in node.targets}
    ]
    assert texts and all(yaml.safe_load(text) for text in texts)
