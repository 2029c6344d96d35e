"""Checks a host's certificates and signs the missing ones; the authority's key stays on the control machine."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from ansible.errors import AnsibleError
from ansible.module_utils.parsing.convert_bool import boolean
from ansible.plugins.action import ActionBase

from ..plugin_utils.trust.pki import Authority, PkiError, authority_of, due, signed


class ActionModule(ActionBase):
    _supports_check_mode = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        result = super().run(tmp, task_vars)
        args, self._vars, self._now = self._task.args, task_vars or {}, datetime.now(UTC)
        # Values from a command line are text.
        self._days, renew_days, renew = int(args["days"]), float(args["renew_days"]), boolean(args["renew"])
        # Not a task argument, which a callback could print.
        held = self._templar.template(self._vars["pki_authorities"])
        issuing = self._authority(held, args["authority"])
        wanted: dict[str, dict[str, Any]] = args["identities"]
        bundle = "".join(held[name]["certificate"].rstrip() + "\n" for name in args["trusted"])
        base = {
            "identities": {name: {key: spec.get(key) for key in ("group", "unit", "reload")} for name, spec in wanted.items()},
            "authorities": bundle,
        }
        did: list[str] = []

        def ask(**more: Any) -> dict[str, Any]:
            answer = self._execute_module("grunnfjell.platform.pki_identity", module_args=base | more, task_vars=task_vars)
            did.extend(answer.get("did", []))
            return answer

        answer = ask()
        if not answer.get("failed"):
            reasons = dict.fromkeys(answer["missing"], "it is missing")
            for name, certificate in answer["certificates"].items():
                common_name, names = self._common_name(wanted[name]), self._names(wanted[name])
                reason = due(certificate, issuing, common_name, names, renew_days, self._now)
                if reason or renew:
                    reasons[name] = reason or "pki_renew is set"
            result["renewed"] = reasons
            if reasons and not self._task.check_mode:
                if set(reasons) - set(answer["requests"]):
                    answer = ask(renew=sorted(reasons))
                if not answer.get("failed"):
                    requests = answer["requests"]
                    signed_now = {name: self._signed(issuing, name, wanted[name], requests[name]) for name in reasons}
                    answer = ask(certificates=signed_now)
        for key in ("failed", "msg", "unreachable", "exception"):
            if key in answer:
                result[key] = answer[key]
        result["did"] = did
        result["changed"] = bool(did) or bool(result.get("renewed"))
        return result

    def _authority(self, held: dict[str, Any], name: str) -> Authority:
        try:
            return authority_of(held[name]["certificate"], held[name]["key"])
        except KeyError:
            raise AnsibleError(f"pki_authorities has no authority '{name}'. Run `make secrets`.") from None
        except PkiError as error:
            raise AnsibleError(f"The authority '{name}' {error}.") from None

    def _common_name(self, identity: dict[str, Any]) -> str:
        return str(identity.get("common_name") or self._vars["inventory_hostname"])

    def _names(self, identity: dict[str, Any]) -> list[str]:
        names = [self._vars["inventory_hostname"], *self._task.args["names"], *(identity.get("names") or [])]
        return list(dict.fromkeys(str(name) for name in names))

    def _signed(self, issuing: Authority, name: str, identity: dict[str, Any], request: str) -> dict[str, str]:
        try:
            certificate = signed(
                issuing, request, self._common_name(identity), name, self._names(identity), self._days, self._now
            )
        except (PkiError, ValueError) as error:
            raise AnsibleError(f"{name}: {error}") from None
        return {"certificate": certificate, "issuer": issuing.fingerprint}
