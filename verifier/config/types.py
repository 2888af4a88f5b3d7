"""Types of settings, and what their sections have in common."""

from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
    ValidatorFunctionWrapHandler,
    WithJsonSchema,
)

from verifier.config import rules, values
from verifier.core.algorithms import KEY_TYPE

Name = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9._-]{0,62}$")]
Address = Annotated[str, AfterValidator(values.address), Field(json_schema_extra={"pattern": values.ADDRESS.pattern})]
SocketPath = Annotated[str, StringConstraints(pattern=r"^unix:/.{1,100}$")]
Text = Annotated[str, StringConstraints(min_length=1)]
TokenType = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9!#$&^_.+/-]+$")]
Algorithm = Annotated[str, BeforeValidator(values.known_algorithm), Field(json_schema_extra={"enum": [*KEY_TYPE]})]
Texts = Annotated[tuple[Text, ...], Field(min_length=1)]
Scalar = str | int | float | bool
_SCALAR = {"type": ["string", "number", "boolean"]}
OneOf = Annotated[
    tuple[Scalar, ...],
    BeforeValidator(lambda value: value if isinstance(value, list | tuple) else [value]),
    Field(min_length=1),
    WithJsonSchema({"anyOf": [_SCALAR, {"type": "array", "items": _SCALAR, "minItems": 1}]}),
]
Method = Annotated[str, StringConstraints(pattern=r"^[A-Z]{1,32}$")]
Host = Annotated[str, AfterValidator(values.host), Field(json_schema_extra={"pattern": values.HOST.pattern})]
Network = Annotated[str, AfterValidator(values.network)]
HeaderName = Annotated[
    str, StringConstraints(pattern=r"^[A-Za-z][A-Za-z0-9-]{0,63}$"), AfterValidator(values.header_name)
]

Condition = Annotated[
    dict[
        Annotated[str, AfterValidator(values.iam_operator)],
        dict[Annotated[str, AfterValidator(values.iam_key)], str | bool | list[str]],
    ],
    AfterValidator(values.iam_condition),
]
"""A Condition block of IAM: operator → key → value or values."""

LowerHeader = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_-]{1,64}$", to_lower=True)]


class Section(BaseModel):
    """Frozen, and without keys that nobody knows."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def checked(cls: type[BaseModel], data: Any, handler: ValidatorFunctionWrapHandler, find: rules.Finder) -> Any:
    """Run the rules across keys even where a single key is wrong, so that everything is reported at once."""
    found = find(data) if isinstance(data, dict) else []
    try:
        model = handler(data)
    except ValidationError as error:
        found = [*rules.line_errors(error), *found]
    if found:
        raise ValidationError.from_exception_data(cls.__name__, found)
    return model
