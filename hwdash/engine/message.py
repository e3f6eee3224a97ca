"""What supervisor and worker say to each other. A worker ends when its socket is closed; there is no word for it.

All times are seconds of ``CLOCK_MONOTONIC``, which the processes of one machine share.
"""

from __future__ import annotations

from typing import TypeAlias

import msgspec

from hwdash.core.inference import FinishReason, Message
from hwdash.core.measurement import LoadedModel, Measured, Task
from hwdash.core.trial import DtypeTrial


class Prepare(msgspec.Struct, frozen=True, tag="prepare"):
    """May come before `Load`: import all that does not depend on it, without a look at any device."""


class Load(msgspec.Struct, frozen=True, tag="load"):
    """Which checkpoint to load where. ``threads`` None: as many as the process may use.

    ``module`` is imported first: it makes the device known to torch. Where ``dtype`` does not fit, ``smaller`` are
    tried in turn. ``architecture`` is what code for the device is built for (``sm_90``, ``gfx942``), empty where unknown.
    ``synthetic``: ``directory`` is the file with a configuration, and weights are drawn on the device. ``slots`` is how many
    requests may run at once. ``compile``: better kernels are compiled in the background. ``quantize``: weights may be held in 8 bits
    or less where ``dtype`` does not ask for more. ``ranks``: the model is spread
    over so many devices, all visible to the worker, each driven by a process with a ``rank`` of its own, which find each
    other at the file ``meeting``.
    ``environment`` is set before any device is touched; output goes to the file ``log`` from then on, empty: where it went
    before.
    """

    directory: str
    model: str
    torch_device: str
    dtype: str
    threads: int | None = None
    module: str | None = None
    smaller: tuple[str, ...] = ()
    architecture: str = ""
    synthetic: bool = False
    slots: int = 8
    compile: bool = False
    quantize: bool = False
    ranks: int = 1
    rank: int = 0
    meeting: str = ""
    environment: dict[str, str] = {}
    log: str = ""


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


class Measure(msgspec.Struct, frozen=True, tag="measure"):
    """Run ``task``. Nothing else runs meanwhile; ``id`` is counted with those of `Generate`."""

    id: int
    task: Task


class Try(msgspec.Struct, frozen=True, tag="try"):
    """Try ``dtypes`` on the device when nothing else is to do; ``id`` is counted with those of `Generate`.

    Any request breaks it off, and so does `Cancel`.
    """

    id: int
    dtypes: tuple[str, ...]


class Ping(msgspec.Struct, frozen=True, tag="ping"):
    """Answer with `Pong` between two steps: a worker that does not is stopped or hung."""

    id: int


class Cancel(msgspec.Struct, frozen=True, tag="cancel"):
    """Stop request ``id``, if it is waiting or still running."""

    id: int


class Prepared(msgspec.Struct, frozen=True, tag="prepared"):
    """The answer to `Prepare`."""


class Loading(msgspec.Struct, frozen=True, tag="loading"):
    """What the worker does before it is ready; ``progress`` 0 to 1, None where it cannot be told."""

    detail: str
    progress: float | None = None


class Ready(msgspec.Struct, frozen=True, tag="ready"):
    """The model is loaded: ``model`` says how."""

    model: LoadedModel
    chat_template: bool


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
    """Request ``id`` is finished or was cancelled.

    It was on the device for ``active_s``, from the beginning of its prefill to its last token, and ``device_s`` of that
    is its own: the steps that it took part in, each shared by those who took part, and its prefill. ``digest`` is that
    of its tokens.
    """

    id: int
    finish_reason: FinishReason
    prompt_tokens: int
    completion_tokens: int
    active_s: float = 0.0
    device_s: float = 0.0
    digest: str = ""


class Report(msgspec.Struct, frozen=True, tag="measured"):
    """What the task of `Measure` ``id`` came to; ``measured.last`` ends it."""

    id: int
    measured: Measured


class Tried(msgspec.Struct, frozen=True, tag="tried"):
    """What came of `Try` ``id``, with the installed version of ``torch``; no trials where it was broken off."""

    id: int
    trials: tuple[DtypeTrial, ...] = ()
    torch: str = ""


class Pong(msgspec.Struct, frozen=True, tag="pong"):
    """The answer to `Ping` ``id``."""

    id: int


class Failed(msgspec.Struct, frozen=True, tag="failed"):
    """Request ``id`` failed, or the loading (``id`` None). ``code`` is that of a `HwdashError`."""

    code: str
    message: str
    id: int | None = None
    param: str | None = None


ToWorker: TypeAlias = Prepare | Load | Generate | Measure | Try | Ping | Cancel
FromWorker: TypeAlias = Prepared | Loading | Ready | Prefill | Token | Done | Report | Tried | Pong | Failed
