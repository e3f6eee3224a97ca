"""Requirements as clients write them: an object of a request, or the parameters of a query."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from hwdash.core.requirement import (
    MAX_CONTEXT,
    MAX_LATENCY_S,
    MAX_POWER_W,
    Policy,
    Requirements,
    parse_features,
    parse_kinds,
)
from hwdash.core.size import MAX_BYTES, parse_size


def _whole(value: object) -> object:
    """JSON has one kind of number: 5.0 is the whole number 5."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


WHOLE = BeforeValidator(_whole)
"""Makes a field of type int take whole numbers that a client writes with a point."""
_Word = Annotated[str, Field(min_length=1, max_length=64)]
_Bytes = Annotated[int, Field(ge=1, le=MAX_BYTES), WHOLE]
_Words = Annotated[list[_Word], Field(max_length=32, fail_fast=True)]


class RequirementBody(BaseModel):
    """The requirement options under the names of the command's, each optional.

    ``min_memory`` is bytes or a text such as ``40GiB``; ``require`` and ``kind`` are lists, or texts with commas.
    """

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    min_memory: _Bytes | _Word | None = None
    require: _Words | Annotated[str, Field(max_length=512)] | None = None
    max_power: Annotated[float, Field(gt=0.0, le=MAX_POWER_W, allow_inf_nan=False)] | None = None
    max_latency: Annotated[float, Field(gt=0.0, le=MAX_LATENCY_S, allow_inf_nan=False)] | None = None
    kind: _Words | Annotated[str, Field(max_length=512)] | None = None
    prefer_low_power: bool = False
    policy: Annotated[Policy, Field(strict=False)] = Policy.BALANCED
    context: Annotated[int, Field(ge=1, le=MAX_CONTEXT), WHOLE] | None = None

    def to_requirements(self, model: str | None = None) -> Requirements:
        """The requirements, with what *model* needs where one is given. Raises `UsageError` that names the field at fault."""
        size = self.min_memory
        return Requirements(
            min_memory_bytes=parse_size(size) if isinstance(size, str) else size,
            features=parse_features(_split(self.require)),
            max_power_w=self.max_power,
            max_latency_s=self.max_latency,
            kinds=parse_kinds(_split(self.kind)),
            prefer_low_power=self.prefer_low_power,
            policy=self.policy,
            model=model,
            context_tokens=self.context,
        )


def _split(words: list[str] | str | None) -> list[str]:
    if isinstance(words, str):
        return words.split(",") if words else []
    return words or []
