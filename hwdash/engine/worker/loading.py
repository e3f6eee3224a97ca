"""A checkpoint directory to a model on one device."""

from __future__ import annotations

import importlib
import inspect
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from hwdash.core.errors import DeviceFull, EngineError, HwdashError, ModelError, NoKernels
from hwdash.core.inference import Message
from hwdash.core.text import sanitise_line
from hwdash.engine.checkpoint import read_checkpoint, read_object
from hwdash.engine.message import Load
from hwdash.engine.shape import shape_of
from hwdash.engine.synthetic import loaded_config
from hwdash.engine.worker.direct import OpenCheckpoint, open_directly
from hwdash.engine.worker.failure import is_fault_of_device
from hwdash.engine.worker.implementation import choose_implementations
from hwdash.engine.worker.kernel import has_kernels, no_kernels_text, tells_of_missing_kernels
from hwdash.engine.worker.linear import Dense
from hwdash.engine.worker.memory import Need, is_out_of_memory, out_of_memory_text, release_memory
from hwdash.engine.worker.parallel import Group, Plan, cut, meet
from hwdash.engine.worker.quantized import Holder
from hwdash.engine.worker.synthetic import count_parameters, draw_weights, empty_network
from hwdash.engine.worker.thread import thread_count
from hwdash.engine.worker.tokenizer import ByteTokenizer, Tokenizer, read_tokenizer
from hwdash.engine.worker.weight import progress, read_weights, refuse_code

DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
BY_LIBRARY = "read by transformers"
"""How the choice begins that tells why the files were not read directly."""
_log = logging.getLogger(__name__)

Report = Callable[[str, float | None], None]
"""Told what is being done, and how far it is (0 to 1) where that can be told."""


@dataclass(frozen=True, slots=True)
class ReadyModel:
    """A model ready to compute, with what its decode loop needs to know.

    ``parameters`` are all numbers that it has learnt, ``memory_bytes`` those of parameters and buffers on the device.
    ``choices`` say in words with which implementations transformers computes, and why. ``network`` is one of transformers,
    or a `hwdash.engine.worker.network.Network` where the files were read without it. With a ``group``, it has this device's part of the weights, with
    which the library's own forward pass does not work. ``vocabulary`` is how many tokens it knows, and ``later`` begins
    work that can wait until nobody else does.
    """

    name: str
    network: Any
    tokenizer: Tokenizer
    device: torch.device
    dtype: str
    context_length: int | None
    ends: frozenset[int]
    forward_arguments: dict[str, Any]
    longest_token: int
    parameters: int
    memory_bytes: int
    vocabulary: int
    choices: tuple[str, ...] = ()
    group: Group | None = None
    later: Callable[[], None] | None = None

    @property
    def has_template(self) -> bool:
        """Whether the tokenizer brings a chat template."""
        return self.tokenizer.has_template

    def prompt_text(self, messages: Sequence[Message], template: bool) -> tuple[str, str]:
        """The text that the model reads, and a remark for the user, empty as a rule.

        Raises `UsageError` when the chat template refuses the messages.
        """
        if not template:
            return "".join(message.content for message in messages), ""
        if not self.has_template:
            joined = "\n\n".join(message.content for message in messages)
            return joined, "this model has no chat template; the text is sent as it is"
        turns = [{"role": message.role, "content": message.content} for message in messages]
        return self.tokenizer.conversation(turns), ""

    def encode(self, text: str, template: bool) -> list[int]:
        """The tokens of *text*; special tokens are added to plain text only, since a template writes its own."""
        return self.tokenizer.encode(text, not (template and self.has_template))

    def decode(self, tokens: Sequence[int]) -> str:
        """The text of *tokens* without special tokens."""
        return self.tokenizer.decode(tokens)

    def new_cache(self) -> Any:
        """An empty key-value cache of transformers in the shape of this model."""
        from transformers import DynamicCache

        return DynamicCache(config=self.network.config.get_text_config(decoder=True))


def _register(module: str) -> None:
    """Import what makes a chip known to torch. Raises `EngineError` that names it."""
    try:
        importlib.import_module(module)
    except Exception as error:
        _log.exception("cannot import %s", module)
        reason = sanitise_line(str(error)) or type(error).__name__
        raise EngineError(
            f"the chip's module {module} cannot be imported: {reason}; install the vendor's package"
        ) from error


def load_model(load: Load, report: Report, *, direct: bool = True) -> ReadyModel:
    """Load the checkpoint of *load* onto its device.

    Its files are read without transformers where that is known to come to the same, unless *direct* is false; else it is
    run once, so that the first prompt finds it warm. A synthetic one gets drawn weights instead. The precision is the first of *load* that fits. Raises `ModelError` for
    files that cannot be used, `DeviceFull`, `NoKernels`, and `EngineError` for a device that fails meanwhile.
    """
    if load.module is not None:
        _register(load.module)
    try:
        device = torch.device(load.torch_device)
    except RuntimeError as error:
        raise EngineError(f"torch knows no device {load.torch_device!r}: {sanitise_line(str(error))}") from error
    if device.type == "cpu":
        torch.set_num_threads(thread_count(load.threads))
    elif load.threads is not None:
        torch.set_num_threads(max(1, load.threads))
    need, way = _need(load, device, direct)
    report("checking the device", None)
    _check_device(device, load.architecture)
    failure = ""
    smaller = load.smaller if load.ranks == 1 else ()  # devices that decide alone could decide differently
    for dtype, remark in need.fitting((load.dtype, *smaller), device):
        if failure or remark:
            report(f"{dtype} instead of {load.dtype}: {failure}" if failure else remark, None)
        try:
            return _load_in(dtype, load, need, device, report, way)
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            _log.exception("no room for %s in %s", load.model, dtype)
            failure = out_of_memory_text(error, device)
        release_memory()
    raise DeviceFull(failure)


def _need(load: Load, device: torch.device, direct: bool) -> tuple[Need, OpenCheckpoint | str]:
    """What *load* takes, from the headers of the checkpoint or by its configuration alone; and how it is read.

    That is the opened checkpoint, or why transformers reads it; empty where nobody would ask.
    """
    path = Path(load.directory)
    if load.synthetic:
        parameters = count_parameters(empty_network(path, DTYPES[load.dtype]))
        return Need(load.model, parameters, shape_of(loaded_config(path), parameters), load.ranks), ""
    checkpoint = read_checkpoint(path)
    way = open_directly(checkpoint, load.model, device) if direct and load.ranks == 1 else ""
    if isinstance(way, str):
        refuse_code(path)
    shape = shape_of(read_object(path / "config.json"), checkpoint.parameters)
    return Need(load.model, checkpoint.parameters, shape, load.ranks), way


def _check_device(device: torch.device, architecture: str) -> None:
    """Raise `NoKernels` where this torch was not built for the device, and `EngineError` where it does not see it."""
    if device.type != "cuda":
        return
    cuda, rocm = torch.version.cuda is not None, torch.version.hip is not None
    if not {"sm": cuda, "gf": rocm}.get(architecture[:2], cuda or rocm):
        raise NoKernels(no_kernels_text(torch.__version__, architecture), param="device")
    if not torch.cuda.is_available():
        raise EngineError("CUDA does not see the device; run nvidia-smi and check that torch was built for its driver")
    if cuda:
        built_for, (major, minor) = torch.cuda.get_arch_list(), torch.cuda.get_device_capability(device)
        if not has_kernels(built_for, (major, minor)):
            raise NoKernels(no_kernels_text(torch.__version__, f"sm_{major}{minor}", built_for), param="device")


def _load_in(
    dtype: str, load: Load, need: Need, device: torch.device, report: Report, way: OpenCheckpoint | str
) -> ReadyModel:
    path = Path(load.directory)
    try:
        if load.ranks > 1:
            return _load_part(dtype, load, device, report)
        if isinstance(way, OpenCheckpoint):
            return _load_directly(dtype, load, need, device, report, way)
        if load.synthetic:
            words = f"drawing the weights: {need.text(dtype, device)}"
            report(words, 0.0)
            network = empty_network(path, DTYPES[dtype])
            draw_weights(network, load.model, device, lambda share: report(words, share))
            tokenizer: Tokenizer = ByteTokenizer(network.get_input_embeddings().weight.shape[0])
        else:
            report("reading the tokenizer", None)
            tokenizer = read_tokenizer(path, load.model)
            words = f"reading the weights: {need.text(dtype, device)}"
            with progress(device, need.weight_bytes(dtype), lambda share: report(words, share)):
                network = read_weights(path, DTYPES[dtype], device)
        report("warming up", None)
        loaded = _describe(load.model, dtype, network, tokenizer, device)
        started = time.monotonic()
        choices = choose_implementations(network, device, DTYPES[dtype], lambda: _run_once(loaded))
        _log.info("warmed up in %.2f s; %s", time.monotonic() - started, "; ".join(choices))
        told = (f"{BY_LIBRARY}: {way}",) if way else ()
        return replace(loaded, choices=(*choices, *told))
    except Exception as error:
        if isinstance(error, HwdashError) or is_out_of_memory(error) or tells_of_missing_kernels(error):
            raise
        if is_fault_of_device(error, device):
            _log.exception("%s failed while %s was loaded", device, path)
            reason = sanitise_line(str(error), 300) or type(error).__name__
            raise EngineError(f"the device failed while {load.model} was loaded: {reason}") from error
        _log.exception("cannot load %s", path)
        raise ModelError(f"cannot load {path}: {sanitise_line(str(error)) or type(error).__name__}") from error


def _load_directly(
    dtype: str, load: Load, need: Need, device: torch.device, report: Report, found: OpenCheckpoint
) -> ReadyModel:
    """The model from its files; on a CPU a token costs what its weights take to be read, so they are held small there."""
    words = f"reading the weights: {need.text(dtype, device)}"
    report(words, 0.0)
    holder = None
    if device.type == "cpu" and dtype == "fp32":
        holder = Holder(eight_bits=load.quantize, shelf=found.shelf() if load.quantize else None)
    network = found.network(
        DTYPES[dtype], device, holder or Dense, lambda share: report(words, share), as_stored=holder is not None
    )
    told = "read from the files without transformers, which has nothing to add for this model"
    return ReadyModel(
        name=load.model,
        network=network,
        tokenizer=found.tokenizer,
        device=device,
        dtype=dtype,
        context_length=found.blueprint.context_length,
        ends=found.ends,
        forward_arguments={},
        longest_token=found.tokenizer.longest_token,
        parameters=found.parameters,
        memory_bytes=network.held_bytes,
        vocabulary=found.blueprint.vocabulary,
        choices=(told, *(holder.words if holder is not None else ())),
        later=None if holder is None else holder.prepare,
    )


def _load_part(dtype: str, load: Load, device: torch.device, report: Report) -> ReadyModel:
    """This device's part of a model that is spread over ``load.ranks`` devices."""
    path = Path(load.directory)
    report("meeting the other devices", None)
    group = meet(load.meeting, load.rank, load.ranks, device)
    words = f"its part of the weights, on one of {load.ranks} devices"
    report(words, None)
    if load.synthetic:
        network = empty_network(path, DTYPES[dtype])
        part = Plan(network, group).part
        draw_weights(network, load.model, device, lambda share: report(words, share), part)
        tokenizer: Tokenizer = ByteTokenizer(network.get_input_embeddings().weight.shape[0])
    else:
        tokenizer = read_tokenizer(path, load.model)
        network = read_weights(path, DTYPES[dtype], torch.device("cpu"))
        cut(network, Plan(network, group), device)
    chosen = f"tensor parallel over {load.ranks} devices, cut by the library's own plan"
    return replace(_describe(load.model, dtype, network, tokenizer, device), choices=(chosen,), group=group)


def _describe(name: str, dtype: str, network: Any, tokenizer: Tokenizer, device: torch.device) -> ReadyModel:
    config = network.config.get_text_config(decoder=True)
    context = getattr(config, "max_position_embeddings", None) or tokenizer.context_length
    ends: set[int] = set(tokenizer.ends)
    if not isinstance(tokenizer, ByteTokenizer):  # answers of drawn weights are as long as they may be
        for end in (network.generation_config.eos_token_id, config.eos_token_id):
            ends |= set(end) if isinstance(end, list) else {end} if end is not None else set()
    takes = inspect.signature(network.forward).parameters
    return ReadyModel(
        name=name,
        network=network,
        tokenizer=tokenizer,
        device=device,
        dtype=dtype,
        context_length=int(context) if context else None,
        ends=frozenset(ends),
        forward_arguments={"use_cache": True} | ({"logits_to_keep": 1} if "logits_to_keep" in takes else {}),
        longest_token=tokenizer.longest_token,
        parameters=count_parameters(network),
        memory_bytes=int(network.get_memory_footprint()),
        vocabulary=int(config.vocab_size),
    )


def _run_once(model: ReadyModel) -> None:
    """One prompt and one step: libraries choose their kernels now and not under the first prompt."""
    cache = model.new_cache()
    with torch.inference_mode():
        for width in (8, 1):
            tokens = torch.zeros((1, width), dtype=torch.long, device=model.device)
            model.network(input_ids=tokens, past_key_values=cache, **model.forward_arguments)
    if model.device.type == "cuda":
        torch.cuda.synchronize(model.device)
