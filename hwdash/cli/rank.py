"""``hwdash rank``: the devices in order for a prompt, each with its reasons, and those left out with theirs."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping

from hwdash.cli.devices import snapshot_with_rates
from hwdash.cli.output import print_json, table_text
from hwdash.cli.requirement import add_requirements, model_name, requirements_of
from hwdash.cli.settings import with_client
from hwdash.client.client import Client
from hwdash.core.errors import NoSuitableDevice
from hwdash.core.format import expectation_basis, joules_per_token_text, rate_text, seconds_text
from hwdash.core.ranking import Expectation, RankedDevice, Ranking, nothing_text, order_text
from hwdash.core.requirement import Requirements
from hwdash.core.snapshot import Snapshot
from hwdash.core.wire import to_wire

_HEADER = ("RANK", "DEVICE", "NAME", "SCORE", "COLD", "TTFT", "TOK/S", "BASIS", "J/TOKEN", "STATE")
_UNKNOWN = "-"


def add_commands(command: Callable[[str, str], argparse.ArgumentParser]) -> None:
    """Add ``rank``."""
    parser = command("rank", "devices in order for a prompt, each with score and reasons")
    parser.add_argument("--model", metavar="M", help="the model that counts (default: the daemon's own)")
    parser.add_argument("--json", action="store_true", help="one JSON document")
    add_requirements(parser)
    parser.set_defaults(run=_run)


def _run(parsed: argparse.Namespace) -> int:
    requirements = requirements_of(parsed, None if parsed.model is None else model_name(parsed.model))
    return with_client(parsed, lambda client: show_ranking(client, requirements, parsed.json))


async def show_ranking(client: Client, requirements: Requirements, as_json: bool) -> int:
    """Print the ranking under *requirements*. Raises `NoSuitableDevice`, after it was printed, when nothing is ranked."""
    snapshot = await snapshot_with_rates(client)
    ranking, words = await _ranking(client, requirements)
    if as_json:
        print_json(to_wire(ranking))
    else:
        print(ranking_text(ranking, snapshot, words))
    if not ranking.ranked:
        raise NoSuitableDevice(nothing_text(ranking.excluded))
    return 0


async def _ranking(client: Client, requirements: Requirements) -> tuple[Ranking, str]:
    """The ranking, and which model counts in it, in words."""
    ranking = await client.rank(requirements)
    counted = ranking.requirements.get("model")
    if requirements.model is not None:
        return ranking, f"for {requirements.model}"
    if counted:
        return ranking, f"for {counted}, the default model"
    default = (await client.status()).default_model
    if not default:
        return ranking, "no model counted"
    return (
        ranking,
        f"no model counted: {default}, the default, is not there; fetch it with: hwdash models pull {default}",
    )


def ranking_text(ranking: Ranking, snapshot: Snapshot, words: str) -> str:
    """*ranking* as a table, the reasons of each device, and the devices that are left out; *words* say for which model."""
    blocks = [f"policy {ranking.policy}, {words}"]
    if ranking.ranked:
        rows = [_row(number, item, snapshot) for number, item in enumerate(ranking.ranked, 1)]
        blocks.append(table_text(_HEADER, rows, right=frozenset({0, 3, 4, 5, 6, 8})))
        if note := order_text(ranking):
            blocks.append(note)
        blocks.append("\n".join(line for item in ranking.ranked for line in _reasons(item, ranking.weights)))
    if ranking.excluded:
        lines = [line for item in ranking.excluded for line in (f"{item.device}: excluded", *_points(item.why))]
        blocks.append("\n".join(lines))
    return "\n\n".join(blocks)


def _row(number: int, item: RankedDevice, snapshot: Snapshot) -> tuple[str, ...]:
    status = next((status for status in snapshot.devices if status.device.id == item.device), None)
    expected = item.expected or Expectation()
    rate = expected.tokens_per_s
    return (
        str(number),
        item.device,
        status.device.name if status is not None else _UNKNOWN,
        f"{item.score:.3f}",
        seconds_text(expected.cold_start_s) if expected.cold_start_s else _UNKNOWN,
        _UNKNOWN if expected.ttft_s is None else seconds_text(expected.ttft_s),
        _UNKNOWN if rate is None else rate_text(rate).removesuffix(" tok/s"),
        expectation_basis(item.expected) or _UNKNOWN,
        _UNKNOWN
        if expected.joules_per_token is None
        else joules_per_token_text(expected.joules_per_token).removesuffix("/token"),
        str(status.health.state) if status is not None else _UNKNOWN,
    )


def _reasons(item: RankedDevice, weights: Mapping[str, float]) -> list[str]:
    """The parts of the score, each with its weight where it has one that is not 0, then the reasons."""
    parts = [
        f"{name.replace('_', ' ')} {part:.2f}" + (f" ×{weights[name]:.2f}" if name in weights else "")
        for name, part in item.parts.items()
        if weights.get(name) != 0.0
    ]
    return [f"{item.device}: {', '.join(parts)}" if parts else f"{item.device}:", *_points(item.why)]


def _points(why: tuple[str, ...]) -> list[str]:
    return [f"  - {reason}" for reason in why]
