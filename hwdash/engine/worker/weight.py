"""The weights of a checkpoint on the device, looked through for what no model can compute with."""

from __future__ import annotations

import contextlib
import logging
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

from hwdash.core.errors import ModelError
from hwdash.core.text import sanitise_line
from hwdash.engine.checkpoint import read_object
from hwdash.engine.worker.memory import tells_of_memory

_POLL_S = 0.2


def refuse_code(directory: Path) -> None:
    """Raise `ModelError` for a checkpoint whose network is code that comes with it (``auto_map`` in its configuration).

    Where transformers has the network itself, that is used and the checkpoint's code is never looked at.
    """
    config = read_object(directory / "config.json")
    if not config.get("auto_map"):
        return
    from transformers import CONFIG_MAPPING

    if config.get("model_type") not in CONFIG_MAPPING:
        raise ModelError(
            f"{directory} needs code of its own (auto_map in config.json), and hwdash runs no code that comes with a "
            "model: it could do anything that you can; choose a model that transformers knows"
        )


def read_weights(directory: Path, dtype: torch.dtype, device: torch.device) -> Any:
    """The network of the checkpoint in *directory* in *dtype* on *device*.

    Raises `ModelError` for weights that are missing, have another shape than the configuration says, or are NaN or
    infinite, and `MemoryError` where there was no room to convert them; else what the libraries raise.
    """
    from transformers import AutoModelForCausalLM

    with _listening() as said:
        try:
            network, found = AutoModelForCausalLM.from_pretrained(
                directory,
                dtype=dtype,
                device_map={"": str(device)},
                local_files_only=True,
                use_safetensors=True,
                trust_remote_code=False,
                ignore_mismatched_sizes=True,
                output_loading_info=True,
            )
        except RuntimeError as error:
            # transformers tells of errors in a conversion in its log only, and then raises one without a cause.
            if told := next((line for text in said for line in text.splitlines() if tells_of_memory(line)), None):
                raise MemoryError(sanitise_line(told, 300)) from error
            raise
    if missing := sorted(found["missing_keys"]):
        raise lacking(directory, missing)
    if odd := sorted(found["mismatched_keys"], key=str):
        raise misshapen(directory, *odd[0])
    check_finite(network, directory)
    return network.eval()


def lacking(directory: Path, names: Sequence[str]) -> ModelError:
    """The error for a checkpoint without the weights *names*, one at least."""
    return ModelError(f"{directory} lacks {len(names)} weights ({sanitise_line(names[0])}, …); download it again")


def misshapen(directory: Path, name: str, has: Sequence[int], wanted: Sequence[int]) -> ModelError:
    """The error for a checkpoint whose weight *name* *has* another shape than is *wanted*."""
    return ModelError(
        f"{directory}: {sanitise_line(name)} is {_sizes(has)} and config.json asks for {_sizes(wanted)}; "
        "download it again"
    )


def damaged(directory: Path, names: Sequence[str]) -> ModelError:
    """The error for a checkpoint whose weights *names*, one at least, are not all numbers."""
    return ModelError(
        f"{directory} is damaged: {sanitise_line(names[0])} has numbers that are NaN or infinite"
        f"{f', and {len(names) - 1} others have' if len(names) > 1 else ''}; download it again"
    )


def check_finite(network: Any, directory: Path) -> None:
    """Raise `ModelError` that names the first parameter of *network* with a NaN or an infinity in it.

    The least and the greatest number tell: NaN and infinities come out on top of all others. That reads the weights
    once and copies nothing.
    """
    names: list[str] = []
    extremes: list[torch.Tensor] = []
    for name, parameter in network.named_parameters():
        if parameter.is_floating_point() and parameter.numel():
            names.append(name)
            extremes.extend(torch.aminmax(parameter.detach()))
    together = torch.stack([one.float() for one in extremes]) if extremes else torch.empty(0)
    finite = together.view(-1, 2).isfinite().all(dim=1).tolist()
    bad = [name for name, fine in zip(names, finite, strict=True) if not fine]
    if bad:
        raise damaged(directory, bad)


@contextlib.contextmanager
def progress(device: torch.device, needed: int, report: Callable[[float | None], None]) -> Iterator[None]:
    """Report, while the block runs, how much of *needed* bytes is there: on a CUDA device, or in this process."""
    begin = _held(device)
    if begin is None:
        report(None)
        yield
        return
    report(0.0)
    done = threading.Event()

    def poll() -> None:
        while not done.wait(_POLL_S):
            report(max(0.0, min(1.0, ((_held(device) or 0) - begin) / max(1, needed))))

    thread = threading.Thread(target=poll, name="loading", daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def _held(device: torch.device) -> int | None:
    """Bytes held now by torch on a CUDA device, or by this process on the host; None where nobody tells."""
    if device.type == "cuda":
        return torch.cuda.memory_allocated(device)
    if device.type != "cpu":
        return None
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError):
        return None


def _sizes(shape: Sequence[int]) -> str:
    return " x ".join(str(size) for size in shape)


@contextlib.contextmanager
def _listening() -> Iterator[list[str]]:
    """The warnings that transformers logs while the block runs."""
    said: list[str] = []

    class _Ear(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            said.append(record.getMessage())

    logger, ear = logging.getLogger("transformers"), _Ear(logging.WARNING)
    logger.addHandler(ear)
    try:
        yield said
    finally:
        logger.removeHandler(ear)
