"""Checks settings and plugins with the running broker before it restarts with them."""

from __future__ import annotations

import json
import os
import pwd
import tempfile
from pathlib import Path
from typing import Any

from . import rabbitmq_cli

INSTALLED_PLUGINS = "lib/rabbitmq_server-*/plugins"

# The broker's parser of rabbitmq.conf, which knows the keys of enabled plugins.
READ = """
    All = rabbit_plugins:list(rabbit_plugins:plugins_dir()),
    Names = [rabbit | rabbit_plugins:dependencies(false, [binary_to_atom(P, utf8) || P <- rabbit_json:decode(PLUGINS)], All)],
    Home = filename:dirname(code:lib_dir(rabbit)),
    Schema = lists:append([filelib:wildcard(Home ++ "/" ++ atom_to_list(N) ++ "-*/priv/schema/*.schema") || N <- Names]),
    case cuttlefish_conf:files(["FILE"]) of
        {errorlist, _} -> [<<"It cannot be read">>];
        Settings -> case cuttlefish_generator:map(cuttlefish_schema:files(Schema), Settings) of
            {error, _, {errorlist, Es}} -> [iolist_to_binary(cuttlefish_error:xlate(E)) || {error, E} <- Es];
            {error, _, {error, E}} -> [iolist_to_binary(cuttlefish_error:xlate(E))];
            _ -> [] end
    end
"""


def missing_plugins(plugins: list[str], home: Path = Path("/usr/lib/rabbitmq")) -> list[str]:
    """Plugins that are not in the installed package; a plugin's directory is named by name and version."""
    homes = list(home.glob(INSTALLED_PLUGINS))
    known = {path.name.rsplit("-", 1)[0] for directory in homes for path in directory.iterdir()}
    return [name for name in plugins if homes and name not in known]


def problems(parameters: dict[str, Any], plugins: list[str]) -> list[str]:
    """The running broker's errors for the settings; empty if none runs."""
    if not parameters:
        return []
    account = pwd.getpwnam(rabbitmq_cli.ACCOUNT)
    handle, path = tempfile.mkstemp(prefix="rabbitmq-settings-", suffix=".conf", dir="/run")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as out:
            out.writelines(f"{key} = {value}\n" for key, value in parameters.items())
        os.chown(path, account.pw_uid, account.pw_gid)
        return rabbitmq_cli.ask(READ.replace("FILE", path).replace("PLUGINS", rabbitmq_cli.erlang_binary(json.dumps(plugins))))
    except rabbitmq_cli.CliError:
        return []
    finally:
        os.unlink(path)
