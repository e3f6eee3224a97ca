"""One model on one device: ``generate`` as it comes, then the engine's own decoder, in one process.

Takes a JSON object as argv[1] (``path``, ``synthetic``, ``device``, ``dtype``, ``batches``, ``tokens``, ``quantize``) and
prints one with what it measured.
"""

from __future__ import annotations

import gc
import json
import os
import random
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import torch
import transformers

from hwdash.core.inference import Message
from hwdash.core.measurement import Load as Kind
from hwdash.core.measurement import Task
from hwdash.engine.frame import encode
from hwdash.engine.message import Generate, Load
from hwdash.engine.worker.batch import Batch
from hwdash.engine.worker.decoder import Decoder, Made, Sampling
from hwdash.engine.worker.loading import DTYPES
from hwdash.engine.worker.start import start
from hwdash.engine.worker.synthetic import draw_weights, empty_network
from hwdash.engine.worker.task import run_task

PROMPT = 64
DROPPED = 8
"""First steps that do not count: they wait for the prompt."""
WARM_UP = 4
STREAMED = 200


def main(order: dict[str, Any]) -> None:
    """Measure and print."""
    device = torch.device(order["device"])
    if device.type == "cpu":
        torch.set_num_threads(len(os.sched_getaffinity(0)))
    told: dict[str, Any] = {"device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"}
    told["generate"] = generated(order, device)
    load = Load(
        directory=order["path"],
        model=f"synthetic:{Path(order['path']).stem}" if order["synthetic"] else "bench",
        torch_device=str(device),
        dtype=order["dtype"],
        synthetic=order["synthetic"],
        slots=max(order["batches"]),
        threads=len(os.sched_getaffinity(0)) if device.type == "cpu" else None,
        quantize=order.get("quantize", False),
    )
    began = time.perf_counter()
    model, decoder, ready = start(load, 0.0, lambda _words, _share: None)
    told["start_s"] = time.perf_counter() - began
    told |= {"decoder": decoder.kind, "choices": ready.model.choices, "capture_s": decoder.capture_s}
    told["dtype"] = ready.model.dtype
    copied = list(run_task(decoder, model, Task(Kind.COPY), lambda: False))
    told["copy_bytes_per_s"] = sum(one.bytes for one in copied) / sum(sum(one.steps_s) for one in copied)
    told["batches"] = {batch: decoded(decoder, batch, order["tokens"]) for batch in order["batches"]}
    told["streaming"] = streamed(model, decoder)
    print(json.dumps(told))


def generated(order: dict[str, Any], device: torch.device) -> dict[str, float]:
    """Tokens a second of ``generate`` as it comes, without its prompt, for each way of computing experts there is."""
    path, dtype = Path(order["path"]), DTYPES[order["dtype"]]
    if order["synthetic"]:
        network = empty_network(path, dtype)
        draw_weights(network, path.stem, device, lambda share: None)
    else:
        network = transformers.AutoModelForCausalLM.from_pretrained(path, dtype=dtype).to(device).eval()
    found = {}
    has_experts = any(name.endswith("experts") for name, _ in network.named_modules())
    for way in ("as it comes", *(("experts eager",) if has_experts else ())):
        if way != "as it comes":
            network.set_experts_implementation("eager")
        found[way] = _generate(network, device, order["tokens"] // 2)
    del network
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
    return found


def _generate(network: Any, device: torch.device, tokens: int) -> float:
    ids = torch.randint(1, 1000, (1, PROMPT), device=device)
    arguments = {"attention_mask": torch.ones_like(ids), "do_sample": False, "eos_token_id": None, "pad_token_id": 0}
    spent: dict[int, float] = {}
    for count in (WARM_UP, WARM_UP, tokens + WARM_UP, tokens + WARM_UP):
        began = time.perf_counter()
        network.generate(ids, max_new_tokens=count, min_new_tokens=count, **arguments)
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        took = time.perf_counter() - began
        spent[count] = min(took, spent.get(count, took))
    return tokens / (spent[tokens + WARM_UP] - spent[WARM_UP])


def decoded(decoder: Decoder, batch: int, tokens: int) -> dict[str, float]:
    """The times between the tokens of *batch* sequences, and what a step reads."""
    draw = random.Random(batch)
    endless = Sampling(endless=True)
    numbers = [
        decoder.open([draw.randrange(1, 1000) for _ in range(PROMPT)], tokens + 2 * DROPPED, endless)
        for _ in range(batch)
    ]
    for number in numbers:
        while not decoder.read(number):
            pass
    stamps: list[float] = []
    while len(stamps) < tokens + DROPPED:
        if made := [one for one in decoder.advance() if one.number == numbers[0]]:
            stamps.append(made[0].at_s)
    for number in numbers:
        decoder.close(number)
    decoder.idle()
    gaps = sorted(later - earlier for earlier, later in zip(stamps[DROPPED:], stamps[DROPPED + 1 :], strict=False))
    p50 = statistics.median(gaps)
    return {
        "itl_p50_s": p50,
        "itl_p99_s": gaps[int(0.99 * (len(gaps) - 1))],
        "tokens_per_s": batch / p50,
        "read_bytes_per_s": decoder.read_bytes(PROMPT + tokens // 2, batch) / p50,
    }


class _Timed:
    """A decoder that counts the time spent in its steps."""

    def __init__(self, decoder: Decoder) -> None:
        self._decoder = decoder
        self.spent_s = 0.0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._decoder, name)

    def advance(self) -> Any:
        began = time.perf_counter()
        made: list[Made] = list(self._decoder.advance())
        self.spent_s += time.perf_counter() - began
        return made


def streamed(model: Any, decoder: Decoder) -> dict[str, float]:
    """What a token costs outside of the decoder's step: text, stop strings, accounts, messages to the daemon."""
    timed = _Timed(decoder)
    batch = Batch(model, timed)
    batch.add(Generate(1, (Message("user", "Count from one to one hundred."),), STREAMED, template=False))
    while not batch.step():
        pass
    began, tokens, timed.spent_s = time.perf_counter(), 0, 0.0
    while batch.busy:
        tokens += bool(b"".join(map(encode, batch.step())))
    whole = time.perf_counter() - began
    return {"per_token_s": (whole - timed.spent_s) / max(1, tokens), "tokens": tokens}


main(json.loads(sys.argv[1]))
