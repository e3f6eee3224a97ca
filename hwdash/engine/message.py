"""What supervisor and worker say to each other. A worker ends when its socket is closed; there is no word for it.

All times are seconds of ``CLOCK_MONOTONIC``, which the processes of one machine share.
"""

from __future__ import annotations

from typing import TypeAlias

import msgspec

from hwdash.core.inference import FinishReason, Message


class Load(msgspec.Struct, frozen=True, tag="load"):
    """The first message: which checkpoint to load where. ``threads`` None: as many as the process may use.

    ``module`` is imported first: it makes the device known to torch. Where ``dtype`` does not fit, ``smaller`` are
    tried in turn. ``architecture`` is what code for the device is built for (``sm_90``, ``gfx942``), empty where unknown.
    """

    directory: str
    model: str
    torch_device: str
    dtype: str
    threads: int | None = None
    module: str | None = None
    smaller: tuple[str, ...] = ()
    architecture: str = ""


class Generate(msgspec.Struct, frozen=True, tag="generate"):
    """Answer a prompt. ``id`` grows from request to request; the other fields are those of `PromptRequest`."""

    id: int
    messages: tuple[Message, ...]
    max_tokens: int
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int | None = None
    stop: tuple[str, ...] = ()
    template: bool = True


class Cancel(msgspec.Struct, frozen=True, tag="cancel"):
    """Stop request ``id``, if it is still running."""

    id: int


class Loading(msgspec.Struct, frozen=True, tag="loading"):
    """What the worker does before it is ready; ``progress`` 0 to 1, None where it cannot be told."""

    detail: str
    progress: float | None = None


class Ready(msgspec.Struct, frozen=True, tag="ready"):
    """The model is loaded. ``memory_bytes`` counts its parameters and buffers on the device.

    ``context_length`` is None where the model does not tell."""

    dtype: str
    parameters: int
    memory_bytes: int
    context_length: int | None
    chat_template: bool
    load_s: float


class Prefill(msgspec.Struct, frozen=True, tag="prefill"):
    """Request ``id`` reads its prompt of ``prompt_tokens``."""

    id: int
    prompt_tokens: int
    detail: str = ""


class Token(msgspec.Struct, frozen=True, tag="token"):
    """Text of request ``id``; ``count`` tokens are made so far, the newest at ``made_at``."""

    id: int
    text: str
    count: int
    made_at: float


class Done(msgspec.Struct, frozen=True, tag="done"):
    """Request ``id`` is finished or was cancelled."""

    id: int
    finish_reason: FinishReason
    prompt_tokens: int
    completion_tokens: int


class Failed(msgspec.Struct, frozen=True, tag="failed"):
    """Request ``id`` failed, or the loading (``id`` None). ``code`` is that of a `HwdashError`."""

    code: str
    message: str
    id: int | None = None
    param: str | None = None


ToWorker: TypeAlias = Load | Generate | Cancel
FromWorker: TypeAlias = Loading | Ready | Prefill | Token | Done | Failed
