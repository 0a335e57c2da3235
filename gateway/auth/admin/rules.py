"""`/v1/admin/rules` and `/v1/admin/shadow`: who may do what, and what a candidate would change."""

from __future__ import annotations

from typing import Any, Final

from ...api import Action, NotFound
from ...http_api import CREATED, Route, answer
from ..acl.authorizer import Shadow
from ..acl.files import rules_from
from ..acl.rule import Rule, rule_from
from .call import Call, place


def show(rule: Rule, where: str) -> dict[str, Any]:
    """Return a rule as it is shown."""
    return {**rule.to_mapping(), "where": place(where)}


async def _list(call: Call) -> Any:
    rules = call.directory.rules
    return {"rules": [show(rule, rules.where(rule.id)) for rule in rules.all()]}


async def _get(call: Call) -> Any:
    rules, name = call.directory.rules, call.parts["id"]
    return show(rules.find(name), rules.where(name))


async def _put(call: Call) -> Any:
    name, rule = call.parts["id"], rule_from(call.named("rule"))
    call.gateway.begin_turn()
    created = call.directory.put_rules([rule])
    call.changed("rule.create" if created else "rule.change", name, _line(rule))
    await call.stored()
    return answer(CREATED if created else 200, show(rule, ""))


async def _put_many(call: Call) -> Any:
    rules = rules_from(call.fields("rules").get("rules"))
    call.gateway.begin_turn()
    created = call.directory.put_rules(rules)
    call.changed("rule.import", "rules", f"{len(rules)} rules, {created} of them new")
    await call.stored()
    return {"rules": len(rules), "created": created}


async def _delete(call: Call) -> Any:
    name = call.parts["id"]
    call.gateway.begin_turn()
    call.directory.delete_rule(name)
    call.changed("rule.delete", name)
    await call.stored()


async def _reload(call: Call) -> Any:
    if call.directory.rules_file is None:
        raise NotFound("there is no file of rules; name one in auth.rules")
    call.gateway.begin_turn()
    call.directory.reload()
    call.changed("rule.reload", str(call.directory.rules_file))
    return {"rules": len(call.directory.rules.all())}


def _line(rule: Rule) -> str:
    actions = ",".join(sorted(action.value for action in rule.actions))
    return f"{rule.decision} {rule.subject} {actions} {' '.join(rule.resources)}"


# -- the candidate ---------------------------------------------------------------------------------


async def _shadow(call: Call) -> Any:
    shadow = call.directory.acl.shadow
    if shadow is None:
        raise NotFound("no candidate runs; PUT rules here to have one")
    return {
        "rules": len(shadow.rules.rules),
        "compared": shadow.compared,
        "differences": shadow.differences(),
    }


async def _put_shadow(call: Call) -> Any:
    fields = call.fields("rules", "beside")
    rules = rules_from(fields.get("rules"))
    if fields.get("beside", True):  # changes to the rules in force; else instead of all of them
        changed = {rule.id for rule in rules}
        rules = [*(rule for rule in call.directory.rules.all() if rule.id not in changed), *rules]
    call.gateway.begin_turn()
    call.directory.set_shadow(Shadow(rules, call.gateway.clock.wall_ms))
    call.changed("shadow.start", "shadow", f"{len(rules)} rules")
    return {"rules": len(rules), "compared": 0, "differences": []}


async def _delete_shadow(call: Call) -> Any:
    if call.directory.acl.shadow is None:
        raise NotFound("no candidate runs")
    call.directory.set_shadow(None)
    call.changed("shadow.stop", "shadow")


_RULE: Final = {
    "decision": "allow",
    "subject": "group:sensors",
    "actions": ["publish"],
    "resources": ["topic:devices/${clientid}/#"],
    "from": ["10.0.0.0/8"],
}
_MANY: Final = {"rules": [{"id": "sensors", **_RULE}]}
ROUTES: Final = (
    Route("GET", "/v1/admin/rules", "rules", Action.VIEW, _list, "List rules"),
    Route("POST", "/v1/admin/rules", "rules", Action.MANAGE, _put_many, "Add or change rules", _MANY),
    Route(
        "POST", "/v1/admin/rules-file", "rules", Action.MANAGE, _reload, "Read the file of rules again", {}
    ),
    Route("GET", "/v1/admin/rules/{id}", "rules", Action.VIEW, _get, "Look at a rule"),
    Route("PUT", "/v1/admin/rules/{id}", "rules", Action.MANAGE, _put, "Add or change a rule", _RULE),
    Route("DELETE", "/v1/admin/rules/{id}", "rules", Action.MANAGE, _delete, "Remove a rule"),
    Route("GET", "/v1/admin/shadow", "rules", Action.VIEW, _shadow, "What a candidate would change"),
    Route("PUT", "/v1/admin/shadow", "rules", Action.MANAGE, _put_shadow, "Run a candidate", _MANY),
    Route("DELETE", "/v1/admin/shadow", "rules", Action.MANAGE, _delete_shadow, "Stop the candidate"),
)
