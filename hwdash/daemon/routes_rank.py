"""The ranking under the requirements of whoever asks."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Query
from pydantic import ValidationError
from starlette.requests import Request
from starlette.responses import Response

from hwdash.core.requirement import MAX_CONTEXT, MAX_LATENCY_S, MAX_POWER_W, Policy
from hwdash.core.wire import to_wire
from hwdash.daemon.body import Name, usage_error
from hwdash.daemon.requirement import RequirementBody
from hwdash.daemon.service import Service
from hwdash.daemon.stream import json_response

router = APIRouter()


@router.get("/api/v1/rank")
async def rank(
    request: Request,
    min_memory: Annotated[str | None, Query(min_length=1, max_length=64)] = None,
    require: Annotated[str, Query(max_length=512)] = "",
    max_power: Annotated[float | None, Query(gt=0, le=MAX_POWER_W, allow_inf_nan=False)] = None,
    max_latency: Annotated[float | None, Query(gt=0, le=MAX_LATENCY_S, allow_inf_nan=False)] = None,
    kind: Annotated[str, Query(max_length=512)] = "",
    prefer_low_power: Annotated[Literal["true", "false"], Query()] = "false",
    policy: Annotated[Policy, Query()] = Policy.BALANCED,
    context: Annotated[int | None, Query(ge=1, le=MAX_CONTEXT)] = None,
    model: Annotated[Name | None, Query()] = None,
) -> Response:
    """The devices in order and the excluded ones, as ``hwdash rank --json``.

    ``require`` and ``kind`` are lists with commas. Requirements that no device meets leave ``ranked`` empty.
    """
    service: Service = request.app.state.service
    try:
        body = RequirementBody(
            min_memory=min_memory,
            require=require,
            max_power=max_power,
            max_latency=max_latency,
            kind=kind,
            prefer_low_power=prefer_low_power == "true",
            policy=policy,
            context=context,
        )
    except ValidationError as error:
        raise usage_error(error.errors(include_url=False, include_context=False, include_input=False)) from None
    return json_response(to_wire(await service.rank(body.to_requirements(model))))
