"""``hwdash models``: the model store."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from contextlib import aclosing

from hwdash.cli.output import print_json, table_text
from hwdash.cli.settings import with_client
from hwdash.client.client import Client
from hwdash.core.format import bytes_text
from hwdash.core.model import SYNTHETIC, SYNTHETIC_SHAPES, PullProgress, is_synthetic
from hwdash.core.wire import to_wire

_BAR_WIDTH = 30


def add_commands(command: Callable[[str, str], argparse.ArgumentParser]) -> None:
    """Add ``models`` with its three verbs."""
    parser = command("models", "the model store: list, pull, remove")
    verbs = parser.add_subparsers(metavar="VERB", required=True)
    listing = verbs.add_parser("list", help="the models on this machine")
    listing.add_argument("--json", action="store_true", help="one JSON document")
    listing.set_defaults(run=lambda parsed: with_client(parsed, lambda client: show(client, parsed.json)))
    pull_verb = verbs.add_parser("pull", help="fetch a model and convert it once")
    pull_verb.add_argument("model", metavar="NAME", help="smollm2-135m-instruct, or a Hub id such as org/name")
    pull_verb.set_defaults(run=lambda parsed: with_client(parsed, lambda client: pull(client, parsed.model)))
    remove_verb = verbs.add_parser("remove", help="delete a model from the store")
    remove_verb.add_argument("model", metavar="NAME")
    remove_verb.set_defaults(run=lambda parsed: with_client(parsed, lambda client: remove(client, parsed.model)))


async def show(client: Client, as_json: bool) -> int:
    """Print the models of the store."""
    models = await client.models()
    if as_json:
        print_json({"models": to_wire(models)})
        return 0
    if not models:
        print("no models yet; fetch the default one with: hwdash models pull smollm2-135m-instruct")
    else:
        rows = [
            (model.name, bytes_text(model.size_bytes), "ready" if model.ready else "incomplete", model.path)
            for model in models
        ]
        print(table_text(("NAME", "SIZE", "STATE", "PATH"), rows, right=frozenset({1})))
    print(f"\n{SYNTHETIC}SHAPE has random weights and nothing to fetch; the shapes: {', '.join(SYNTHETIC_SHAPES)}")
    return 0


async def pull(client: Client, model: str) -> int:
    """Fetch *model*, with a bar on a terminal and a line a step elsewhere."""
    step = ""
    async with aclosing(client.pull(model)) as items:
        async for item in items:
            if item.done is not None:
                _end_bar()
                size = bytes_text(item.done.size_bytes)
                print(
                    f"{item.done.name}: nothing to fetch; its weights are drawn when it is loaded"
                    if is_synthetic(item.done.name)
                    else f"{item.done.name}: {size} in {item.done.path}"
                )
            elif sys.stderr.isatty():
                sys.stderr.write("\r\x1b[K" + bar_text(model, item))
                sys.stderr.flush()
            elif item.step != step:
                print(f"{model}: {item.step}", file=sys.stderr)
            step = item.step
    return 0


def bar_text(model: str, item: PullProgress) -> str:
    """One line: the model, a bar where the share is known, and the step."""
    if item.progress is None:
        return f"{model}: {item.step}"
    filled = round(item.progress * _BAR_WIDTH)
    return f"{model} [{'#' * filled}{'.' * (_BAR_WIDTH - filled)}] {item.progress:4.0%} {item.step}"


def _end_bar() -> None:
    if sys.stderr.isatty():
        sys.stderr.write("\r\x1b[K")
        sys.stderr.flush()


async def remove(client: Client, model: str) -> int:
    """Delete *model*."""
    await client.remove_model(model)
    print(f"{model}: removed")
    return 0
