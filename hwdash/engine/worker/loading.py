"""A checkpoint directory to a model on one device."""

from __future__ import annotations

import contextlib
import importlib
import inspect
import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jinja2 import TemplateError
from transformers import AutoModelForCausalLM, AutoTokenizer, DynamicCache

from hwdash.core.errors import DeviceFull, EngineError, HwdashError, ModelError, NoKernels, UsageError
from hwdash.core.inference import Message
from hwdash.core.text import sanitise_line
from hwdash.engine.checkpoint import read_checkpoint, read_object
from hwdash.engine.message import Load
from hwdash.engine.shape import shape_of
from hwdash.engine.worker.failure import is_fault_of_device
from hwdash.engine.worker.kernel import has_kernels, no_kernels_text, tells_of_missing_kernels
from hwdash.engine.worker.memory import Need, is_out_of_memory, out_of_memory_text, release_memory

DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
_NO_LIMIT = 10**9  # tokenizers without a limit of their own say 1e30
_POLL_S = 0.2
_log = logging.getLogger(__name__)

Report = Callable[[str, float | None], None]
"""Told what is being done, and how far it is (0 to 1) where that can be told."""


@dataclass(frozen=True, slots=True)
class ReadyModel:
    """A model ready to compute, with what its decode loop needs to know."""

    name: str
    network: Any
    tokenizer: Any
    device: torch.device
    dtype: str
    context_length: int | None
    ends: frozenset[int]
    forward_arguments: dict[str, Any]
    longest_token: int

    @property
    def parameters(self) -> int:
        """How many numbers the model has learnt."""
        return sum(parameter.numel() for parameter in self.network.parameters())

    @property
    def memory_bytes(self) -> int:
        """Bytes of parameters and buffers on the device."""
        return int(self.network.get_memory_footprint())

    @property
    def has_template(self) -> bool:
        """Whether the tokenizer brings a chat template."""
        return bool(self.tokenizer.chat_template)

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
        try:
            return self.tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True), ""
        except TemplateError as error:
            problem = sanitise_line(str(error))
            raise UsageError(
                f"the chat template of {self.name} refuses the messages: {problem}", param="messages"
            ) from None

    def encode(self, text: str, template: bool) -> list[int]:
        """The tokens of *text*; special tokens are added to plain text only, since a template writes its own."""
        return list(self.tokenizer(text, add_special_tokens=not (template and self.has_template))["input_ids"])

    def decode(self, tokens: Sequence[int]) -> str:
        """The text of *tokens* without special tokens."""
        return str(self.tokenizer.decode(tokens, skip_special_tokens=True, clean_up_tokenization_spaces=False))

    def new_cache(self) -> DynamicCache:
        """An empty key-value cache in the shape of this model."""
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


def load_model(load: Load, report: Report) -> ReadyModel:
    """Load the checkpoint of *load* onto its device and run it once, so that the first prompt finds it warm.

    The precision is the first of *load* that fits. Raises `ModelError` for files that cannot be used, `DeviceFull`,
    `NoKernels`, and `EngineError` for a device that fails meanwhile.
    """
    if load.module is not None:
        _register(load.module)
    try:
        device = torch.device(load.torch_device)
    except RuntimeError as error:
        raise EngineError(f"torch knows no device {load.torch_device!r}: {sanitise_line(str(error))}") from error
    if load.threads is not None:
        torch.set_num_threads(max(1, load.threads))
    directory = Path(load.directory)
    checkpoint = read_checkpoint(directory)
    shape = shape_of(read_object(directory / "config.json"), checkpoint.parameters)
    report("checking the device", None)
    _check_device(device, load.architecture)
    need = Need(load.model, checkpoint.parameters, shape)
    failure = ""
    for dtype, remark in need.fitting((load.dtype, *load.smaller), device):
        if failure or remark:
            report(f"{dtype} instead of {load.dtype}: {failure}" if failure else remark, None)
        try:
            return _load_in(dtype, load, need.weight_bytes(dtype), device, report)
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            _log.exception("no room for %s in %s", load.model, dtype)
            failure = out_of_memory_text(error, device)
        release_memory()
    raise DeviceFull(failure)


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


def _load_in(dtype: str, load: Load, weight_bytes: int, device: torch.device, report: Report) -> ReadyModel:
    directory = Path(load.directory)
    report("reading the tokenizer", None)
    try:
        tokenizer = AutoTokenizer.from_pretrained(directory, local_files_only=True, trust_remote_code=False)
        with _progress(device, weight_bytes, lambda share: report("reading the weights", share)):
            network = _read_network(directory, DTYPES[dtype], device)
    except Exception as error:
        if isinstance(error, HwdashError) or is_out_of_memory(error) or tells_of_missing_kernels(error):
            raise
        if is_fault_of_device(error, device):
            _log.exception("%s failed while %s was loaded", device, directory)
            reason = sanitise_line(str(error), 300) or type(error).__name__
            raise EngineError(f"the device failed while {load.model} was loaded: {reason}") from error
        _log.exception("cannot load %s", directory)
        raise ModelError(f"cannot load {directory}: {sanitise_line(str(error)) or type(error).__name__}") from error
    report("warming up", None)
    loaded = _describe(load.model, dtype, network, tokenizer, device)
    _run_once(loaded)
    return loaded


def _read_network(directory: Path, dtype: torch.dtype, device: torch.device) -> Any:
    network, found = AutoModelForCausalLM.from_pretrained(
        directory,
        dtype=dtype,
        device_map={"": str(device)},
        local_files_only=True,
        use_safetensors=True,
        trust_remote_code=False,
        output_loading_info=True,
    )
    if missing := sorted(found["missing_keys"]):
        raise ModelError(
            f"{directory} lacks {len(missing)} weights ({sanitise_line(missing[0])}, …); download it again"
        )
    return network.eval()


@contextlib.contextmanager
def _progress(device: torch.device, needed: int, report: Callable[[float | None], None]) -> Iterator[None]:
    """Report, while the block runs, how much of *needed* lies on the device; only CUDA can tell."""
    report(0.0 if device.type == "cuda" else None)
    done = threading.Event()

    def poll() -> None:
        while not done.wait(_POLL_S):
            report(min(1.0, torch.cuda.memory_allocated(device) / max(1, needed)))

    thread = threading.Thread(target=poll, name="loading", daemon=True)
    if device.type == "cuda":
        thread.start()
    try:
        yield
    finally:
        done.set()
        if thread.ident is not None:
            thread.join()


def _describe(name: str, dtype: str, network: Any, tokenizer: Any, device: torch.device) -> ReadyModel:
    config = network.config.get_text_config(decoder=True)
    context = getattr(config, "max_position_embeddings", None)
    if context is None and tokenizer.model_max_length < _NO_LIMIT:
        context = tokenizer.model_max_length
    ends: set[int] = set()
    for end in (network.generation_config.eos_token_id, config.eos_token_id, tokenizer.eos_token_id):
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
        longest_token=max((len(token.encode()) for token in tokenizer.get_vocab()), default=1),
    )


def _run_once(model: ReadyModel) -> None:
    """One prompt and one step: libraries choose their kernels now and not under the first prompt."""
    started = time.monotonic()
    cache = model.new_cache()
    with torch.inference_mode():
        for width in (8, 1):
            tokens = torch.zeros((1, width), dtype=torch.long, device=model.device)
            model.network(input_ids=tokens, past_key_values=cache, **model.forward_arguments)
    if model.device.type == "cuda":
        torch.cuda.synchronize(model.device)
    _log.info("warmed up in %.2f s", time.monotonic() - started)
