"""The OpenAPI document, from the route table through FastAPI's own generator."""

import re
from inspect import Parameter, Signature
from typing import Annotated, Any

from fastapi import Header, Path, Query, Security
from fastapi.openapi.utils import get_openapi
from fastapi.responses import JSONResponse, PlainTextResponse
from fastapi.routing import APIRoute
from fastapi.security import APIKeyHeader, HTTPBearer
from pydantic import Field

from firstline import __version__
from firstline.delivery.http.routes import RouteSpec
from firstline.delivery.http.schemas import ProblemBody

_DESCRIPTION = (
    "Triage for customer messages: category, priority, decision, churn risk, an honest probability, and why. "
    "Two published contracts on one engine."
)
_API_KEY = APIKeyHeader(name="X-API-Key", scheme_name="ApiKey", auto_error=False)
_BEARER = HTTPBearer(scheme_name="Bearer", auto_error=False)
_IDEMPOTENCY_KEY = Annotated[str, Field(pattern="^[!-~]{1,255}$")]
_NAMED = re.compile(r"\{(\w+)\}")
_REASONS = {
    400: "Malformed JSON or a field at fault.",
    401: "No valid key.",
    402: "The tier needs a subscription.",
    403: "Not allowed with this key.",
    404: "Not found.",
    408: "The body came too slowly.",
    409: "Already there, or an Idempotency-Key in use or used for another request.",
    412: "Another version is in force than If-Match names.",
    413: "The body is too large.",
    415: "Nothing says what the body is.",
    422: "Malformed JSON or a field at fault.",
    429: "Over a limit; see Retry-After.",
    501: "This server lacks something for it.",
    503: "The verdict cannot be stored.",
}
_OWN_REASONS = {**_REASONS, 503: "The store cannot be used, or training failed."}


def openapi_document(table: list[RouteSpec]) -> dict[str, Any]:
    """The document of a route table."""
    document = get_openapi(
        title="firstline",
        version=__version__,
        description=_DESCRIPTION,
        routes=[_documented(spec) for spec in table if spec.listed],
        license_info={"name": "MIT", "identifier": "MIT"},
    )
    for spec in [spec for spec in table if spec.listed]:
        for kind in spec.types:
            body = document["paths"][spec.path][spec.method.lower()]["requestBody"]
            body["content"][kind] = {"schema": {"type": "string"}}
        responses = document["paths"][spec.path][spec.method.lower()]["responses"]
        if 422 not in spec.errors:
            # FastAPI documents 422 for every route with a body; these answer 400.
            responses.pop("422", None)
        for status, model in spec.errors.items():
            if model is ProblemBody:
                content = responses[str(status)]["content"]
                content["application/problem+json"] = content.popitem()[1]
        if spec.gives is None:
            content = responses[str(spec.status)].get("content", {})
            content |= dict.fromkeys(spec.media_type.split(", "), content.popitem()[1]) if content else {}
    for name in ("HTTPValidationError", "ValidationError"):
        document["components"]["schemas"].pop(name, None)
    return document


def _documented(spec: RouteSpec) -> APIRoute:
    parameters = []
    if spec.secured:
        for name, scheme in (("api_key", _API_KEY), ("bearer", _BEARER)):
            parameters.append(Parameter(name, Parameter.KEYWORD_ONLY, default=Security(scheme), annotation=Any))
    parameters += [
        Parameter(name, Parameter.KEYWORD_ONLY, default=Path(max_length=100), annotation=str)
        for name in _NAMED.findall(spec.path)
    ]
    if spec.query is not None:
        parameters.append(Parameter("query", Parameter.KEYWORD_ONLY, default=Query(), annotation=spec.query))
    if 412 in spec.errors:
        parameters.append(
            Parameter(
                "if_match",
                Parameter.KEYWORD_ONLY,
                default=Header(alias="If-Match", default=None, description="The version that must be in force."),
                annotation=str | None,
            )
        )
    if spec.takes_idempotency_key:
        parameters.append(
            Parameter(
                "idempotency_key",
                Parameter.KEYWORD_ONLY,
                default=Header(
                    alias="Idempotency-Key",
                    default=None,
                    description="Sent again within 24 hours with the same body, the request is answered the same and "
                    "does nothing more. 1 to 255 visible ASCII characters.",
                ),
                annotation=_IDEMPOTENCY_KEY | None,
            )
        )
    if spec.takes is not None:
        parameters.append(Parameter("body", Parameter.KEYWORD_ONLY, annotation=spec.takes))

    def endpoint() -> None: ...

    endpoint.__signature__ = Signature(parameters)  # type: ignore[attr-defined]  # what FastAPI reads
    endpoint.__name__ = spec.handler.__name__.strip("_")
    return APIRoute(
        spec.path,
        endpoint,
        methods=[spec.method],
        response_model=spec.gives,
        status_code=spec.status,
        tags=[spec.tag],
        summary=(spec.handler.__doc__ or "").partition(".")[0],
        operation_id=f"{spec.tag.split()[-1].lower()}_{spec.handler.__name__}",
        responses={
            status: {"model": model, "description": (_OWN_REASONS if model is ProblemBody else _REASONS)[status]}
            for status, model in spec.errors.items()
        },
        response_class=PlainTextResponse if spec.gives is None else JSONResponse,
    )
