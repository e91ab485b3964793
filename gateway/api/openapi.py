"""The OpenAPI document. FastAPI writes it, but for the data path's routes, whose requests are msgspec structs."""

from typing import Any

import msgspec
from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from contracts.errors import ErrorEnvelope
from gateway.relay.route import ROUTES, DataPathRoute

REFERENCE = "#/components/schemas/{name}"


def install_openapi(app: FastAPI) -> None:
    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = _document(app)
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]


def _document(app: FastAPI) -> dict[str, Any]:
    document = get_openapi(title=app.title, version=app.version, description=app.description, routes=app.routes)
    schemas = document.setdefault("components", {}).setdefault("schemas", {})
    described = [route.request for route in ROUTES] + [answer for route in ROUTES for answer in route.answers]
    _, structs = msgspec.json.schema_components(described, ref_template=REFERENCE)
    schemas.update(structs)
    schemas.update(_error_schemas())
    paths = {route.path: {"post": _operation(route)} for route in ROUTES}
    document["paths"] = {**paths, **document["paths"]}
    for path in document["paths"].values():
        for operation in path.values():
            operation["responses"].pop("422", None)  # FastAPI's own shape, which we never send
            operation["responses"]["default"] = _json_answer("Any error.", "ErrorEnvelope")
    return document


def _operation(route: DataPathRoute) -> dict[str, Any]:
    return {
        "tags": ["Inference"],
        "summary": route.summary,
        "operationId": route.operation,
        "security": [{"HTTPBearer": []}],
        "requestBody": {
            "required": True,
            "content": {"application/json": {"schema": {"$ref": REFERENCE.format(name=route.request.__name__)}}},
        },
        "responses": {"200": _answer(route)},
    }


def _answer(route: DataPathRoute) -> dict[str, Any]:
    if not route.answers:
        return {"description": "The answer; server-sent events when `stream` is true."}
    any_of = [{"$ref": REFERENCE.format(name=answer.__name__)} for answer in route.answers]
    return {
        "description": "The answer, by the model's task.",
        "content": {"application/json": {"schema": {"anyOf": any_of}}},
    }


def _json_answer(description: str, schema: str) -> dict[str, Any]:
    reference = {"$ref": REFERENCE.format(name=schema)}
    return {"description": description, "content": {"application/json": {"schema": reference}}}


def _error_schemas() -> dict[str, Any]:
    schema = ErrorEnvelope.model_json_schema(ref_template=REFERENCE.replace("{name}", "{model}"))
    nested = schema.pop("$defs")
    return {"ErrorEnvelope": schema, **nested}
