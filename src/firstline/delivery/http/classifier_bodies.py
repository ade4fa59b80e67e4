"""Bodies of the ticket classifier's contract: JSON whatever they are called, and one sentence per field at fault."""

from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from starlette.requests import Request

from firstline.core.errors import INVALID_REQUEST, MALFORMED_JSON
from firstline.delivery.http.bodies import MAX_BODY_BYTES, JsonInvalid, parse_json, read_body
from firstline.delivery.http.replies import ErrorReply

_Model = TypeVar("_Model", bound=BaseModel)


async def read_json(request: Request, *, limit: int = MAX_BODY_BYTES) -> Any:
    """The body as plain data.

    Raises: ErrorReply.
    """
    try:
        return parse_json(await read_body(request, limit=limit))
    except JsonInvalid as error:
        raise ErrorReply(MALFORMED_JSON, f"The request could not be read: {error}.") from None


def validated(model: type[_Model], data: Any) -> _Model:
    """The body as a model.

    Raises: ErrorReply that names the fields at fault.
    """
    if not isinstance(data, dict):
        raise ErrorReply(INVALID_REQUEST, "The body must be a JSON object.")
    try:
        return model.model_validate(data)
    except ValidationError as error:
        raise ErrorReply(INVALID_REQUEST, _sentences(error)) from None


def _sentences(error: ValidationError) -> str:
    sentences = []
    for fault in error.errors(include_url=False, include_input=False, include_context=False)[:5]:
        field = ".".join(str(part) for part in fault["loc"]) or "body"
        text = fault["msg"].removeprefix("Value error, ")
        sentences.append(f"{field}: {text[:1].lower()}{text[1:]}.")
    return " ".join(sentences)
