"""The OpenAPI file says what the SDK's routes and the sandbox's table say, no more and no less."""

import re
from collections.abc import Iterator
from typing import Any, Final

import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator

from healthmsg import routes
from healthmsg.ids import ChatKind
from healthmsg.routes import Known, Route
from healthmsg.sandbox.endpoints import TABLE
from healthmsg.sandbox.routing import Router
from tests.caller import Caller
from tests.openapi_contract import JSON, METHODS, Contract, load

DOCUMENT: Final = load()
OPERATIONS: Final = {
    f"{method} {template}": operation for method, template, operation in Contract(DOCUMENT).operations
}
KNOWN: Final = {Known.D: "documented", Known.V: "vendor-client", Known.A: "assumed"}


def calls_of(route: Route) -> Iterator[str]:
    """Return the route's calls, as the file would write them: one, or one for each kind of chat."""
    if not route.kinds:
        yield f"{route.method} {route.template}"
    below = re.sub(r"^{\w+}", "", route.template)
    for kind in route.kinds:
        yield f"{route.method} {kind.template}{below}"


ROUTES: Final = {
    call: route.known
    for route in vars(routes).values()
    if isinstance(route, Route)
    for call in calls_of(route)
}


def every(part: Any, key: str) -> Iterator[Any]:
    """Return what stands under a key, wherever it is."""
    if isinstance(part, dict):
        if key in part:
            yield part[key]
        for value in part.values():
            yield from every(value, key)
    elif isinstance(part, list):
        for value in part:
            yield from every(value, key)


def test_it_is_valid_openapi() -> None:
    OpenAPIV31SpecValidator(DOCUMENT).validate()
    assert DOCUMENT["openapi"] == "3.1.0"


def test_it_has_every_route_of_the_sdk_and_no_other() -> None:
    assert set(OPERATIONS) == set(ROUTES)


@pytest.mark.parametrize("call", OPERATIONS)
def test_how_well_a_call_is_known_is_said_as_in_the_routes(call: str) -> None:
    assert OPERATIONS[call]["x-known"] == KNOWN[ROUTES[call]]


def test_it_has_every_endpoint_of_the_sandbox_and_no_other() -> None:
    endpoints = {f"{endpoint.method} {endpoint.template}" for endpoint in Router(TABLE).endpoints}

    assert set(OPERATIONS) == endpoints


def test_operations_have_names_of_their_own() -> None:
    names = [operation["operationId"] for operation in OPERATIONS.values()]

    assert len(set(names)) == len(names)
    assert [name for name in names if not re.fullmatch(r"[a-z]+([A-Z][a-z]+)+", name)] == []


def test_every_tag_is_used_and_described() -> None:
    described = [tag["name"] for tag in DOCUMENT["tags"]]

    assert {tag for operation in OPERATIONS.values() for tag in operation["tags"]} == set(described)


def test_everything_in_components_is_used() -> None:
    used = set(every(DOCUMENT, "$ref"))
    kinds = set(DOCUMENT["components"]) - {"securitySchemes"}
    there = {f"#/components/{kind}/{name}" for kind in kinds for name in DOCUMENT["components"][kind]}

    assert there == used


def test_every_path_has_its_ids_described() -> None:
    contract = Contract(DOCUMENT)
    for template, item in DOCUMENT["paths"].items():
        described = [contract.resolve(parameter)["name"] for parameter in item.get("parameters", ())]
        assert re.findall(r"{(\w+)}", template) == described, template


@pytest.mark.parametrize("call", OPERATIONS)
def test_every_call_can_be_refused(call: str) -> None:
    answers = set(OPERATIONS[call]["responses"])

    assert {"401", "403", "429"} <= answers
    if "{" in call:
        assert {"400", "404"} <= answers
    if not call.startswith("GET"):
        assert "400" in answers


@pytest.mark.parametrize("call", OPERATIONS)
def test_what_changes_something_needs_the_scope_to_write(call: str) -> None:
    scope = "read" if call.startswith("GET") else "write"

    needed = OPERATIONS[call].get("security", DOCUMENT["security"])

    assert needed == [{"bearer": []}, {"oauth": [scope]}]


@pytest.mark.parametrize("kind", [kind for kind in ChatKind if kind is not ChatKind.GROUP_CHAT])
def test_all_kinds_of_chat_are_described_alike(kind: ChatKind) -> None:
    model = {path: item for path, item in DOCUMENT["paths"].items() if path.startswith("/groupchats/{id}")}
    for path, item in model.items():
        other_path = path.replace("groupchats/{id}", kind.template)
        if not kind.is_group and other_path not in DOCUMENT["paths"]:
            continue
        other = DOCUMENT["paths"][other_path]
        for method in METHODS:
            if method in item and (kind.is_group or method in other):
                assert without_names(other[method]) == without_names(item[method]), (method, other_path)


def without_names(operation: JSON) -> JSON:
    """Leave out what differs between a group chat and a conversation, or the two ways to name one."""
    answer = operation["responses"].get("200", {})
    rest = {
        name: value for name, value in operation.items() if name not in {"operationId", "tags", "summary"}
    }
    return rest | {
        "responses": {**operation["responses"], "200": str(answer).replace("Conversation", "GroupChat")}
    }


async def test_the_sandbox_serves_it_without_a_token(call: Caller) -> None:
    call.token = None

    answer = await call("GET", "/openapi.yaml")

    assert answer.status == 200
    assert answer.headers["Content-Type"] == "application/yaml"
    assert b"openapi: 3.1.0" in answer.body
    assert call.sandbox.arrivals == []
