"""The errors that a user can meet.

    HwdashError                 exit 1, HTTP 500
    ├─ UsageError               exit 2, HTTP 400   a flag, field or configuration value is wrong
    │  └─ UnknownDevice         exit 2, HTTP 404
    ├─ UnknownModel             exit 1, HTTP 404
    ├─ NoSuitableDevice         exit 3, HTTP 422
    ├─ DaemonUnreachable        exit 4
    ├─ ModelError               exit 1, HTTP 409   the model's files are corrupt, unsafe or cannot be stored
    ├─ Overloaded               exit 1, HTTP 429
    ├─ Unauthorised             exit 1, HTTP 401   no token, or one that is not known
    └─ EngineError              exit 1, HTTP 503   a worker or server failed
       ├─ WorkerDied
       ├─ DeviceFull            out of device memory
       ├─ NoKernels             this build of torch cannot compute on the device
       ├─ ServerDown            an external server does not answer, or answers with an error of its own
       └─ PromptTooLong         HTTP 400

Every message is one line that names what is wrong and what to do about it.
"""

from __future__ import annotations

from collections.abc import Sequence


class HwdashError(Exception):
    """Base of all errors that are shown to a user as one line.

    ``exit_code`` is what a command ends with, ``http_status`` what the API answers, ``code`` the name under which
    the error travels; ``param`` names the field at fault, where there is one.
    """

    exit_code = 1
    http_status = 500
    code = "error"

    def __init__(self, message: str, *, param: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.param = param


class UsageError(HwdashError):
    """A flag, a request field or a configuration value is wrong."""

    exit_code = 2
    http_status = 400
    code = "usage"


class UnknownDevice(UsageError):
    """No device has that id or key."""

    http_status = 404
    code = "unknown_device"

    def __init__(self, name: str, known: Sequence[str] = (), *, message: str | None = None) -> None:
        choices = f"; there are: {', '.join(known)}" if known else ""
        super().__init__(message or f"no device {name!r}{choices}", param="device")


class UnknownModel(HwdashError):
    """The model is not in the store and not a checkpoint directory."""

    http_status = 404
    code = "unknown_model"


class ModelError(HwdashError):
    """The model's files are corrupt, unsafe, or cannot be fetched or stored."""

    http_status = 409
    code = "model"


class NoSuitableDevice(HwdashError):
    """No device satisfies the request."""

    exit_code = 3
    http_status = 422
    code = "no_device"


class DaemonUnreachable(HwdashError):
    """The daemon cannot be reached or started."""

    exit_code = 4
    http_status = 503
    code = "unreachable"


class Overloaded(HwdashError):
    """A bounded queue is full; try again later, after about ``retry_after_s`` seconds."""

    http_status = 429
    code = "overloaded"

    def __init__(self, message: str, *, param: str | None = None, retry_after_s: float = 1.0) -> None:
        super().__init__(message, param=param)
        self.retry_after_s = retry_after_s


class Unauthorised(HwdashError):
    """The request carries no bearer token, or none that is known."""

    http_status = 401
    code = "invalid_api_key"


class EngineError(HwdashError):
    """A worker failed to answer a prompt."""

    http_status = 503
    code = "engine"


class WorkerDied(EngineError):
    """The worker process ended while it was needed."""

    code = "worker_died"


class DeviceFull(EngineError):
    """The device ran out of memory."""

    code = "device_full"


class NoKernels(EngineError):
    """The installed torch has no code for this device: it will fail until torch or its driver is another one.

    ``param`` is ``device`` where that holds for the device whatever the model is.
    """

    code = "no_kernels"

    @property
    def any_model(self) -> bool:
        """No model runs on the device, and not just the one that was tried."""
        return self.param == "device"


class ServerDown(EngineError):
    """An external server does not answer, or answers with an error of its own."""

    code = "server_down"


class PromptTooLong(EngineError):
    """The prompt does not fit the model's context."""

    http_status = 400
    code = "prompt_too_long"


def _tree(root: type[HwdashError]) -> list[type[HwdashError]]:
    return [root, *(found for child in root.__subclasses__() for found in _tree(child))]


def error_from_wire(code: str, message: str, param: str | None = None) -> HwdashError:
    """The error that travelled as *code*; an unknown code becomes a plain `HwdashError`."""
    kind = next((kind for kind in _tree(HwdashError) if kind.code == code), HwdashError)
    if kind is UnknownDevice:
        return UnknownDevice("", message=message)
    return kind(message, param=param)
