"""The engine's own loop in one process, without daemon, socket or worker: the yardstick for streaming.

Loads the model of argv[1], then answers each line of stdin (a JSON object with ``prompt`` and ``max_tokens``) with one
line: time to first token and tokens/s.
"""

from __future__ import annotations

import json
import os
import sys
import time

from hwdash.core.inference import Message
from hwdash.engine.message import Generate, Load, Token
from hwdash.engine.worker.batch import Batch
from hwdash.engine.worker.start import start


def main(directory: str, dtype: str) -> None:
    """Serve stdin until it ends."""
    load = Load(
        model="bench", directory=directory, torch_device="cpu", dtype=dtype, threads=len(os.sched_getaffinity(0))
    )
    model, decoder, _ = start(load, 0.0, lambda _step, _share: None)
    batch = Batch(model, decoder)
    print("ready", flush=True)
    for number, line in enumerate(sys.stdin):
        order = json.loads(line)
        stamps: list[float] = []

        request = Generate(
            id=number,
            messages=(Message("user", order["prompt"]),),
            max_tokens=order["max_tokens"],
            temperature=0.0,
            top_p=1.0,
            seed=None,
            stop=(),
            template=True,
        )
        began = time.monotonic()
        batch.add(request)
        while batch.busy:
            events = batch.step()
            stamps += [time.monotonic() for event in events if isinstance(event, Token)]
        rate = (len(stamps) - 1) / (stamps[-1] - stamps[0])
        print(json.dumps({"ttft_s": stamps[0] - began, "tokens_per_s": rate, "tokens": len(stamps)}), flush=True)


main(*sys.argv[1:])
