"""Which device takes a prompt, which one comes next, and why. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from hwdash.core.errors import HwdashError, NoSuitableDevice, Overloaded
from hwdash.core.format import duration_text, seconds_text
from hwdash.core.inference import AUTO
from hwdash.core.ranking import ExcludedDevice, Expectation, nothing_text
from hwdash.core.requirement import NO_REQUIREMENTS, Policy, Requirements, requirements_to_wire
from hwdash.core.snapshot import DeviceStatus, Snapshot
from hwdash.routing.estimate import Case
from hwdash.routing.knowledge import NOTHING_KNOWN, Knowledge
from hwdash.routing.rank import Entry, order
from hwdash.routing.requirement import unmet
from hwdash.routing.settle import settled
from hwdash.routing.spread import together
from hwdash.routing.words import throttle_words, why

_QUICK = frozenset({Policy.BALANCED, Policy.LATENCY})


@dataclass(frozen=True, slots=True)
class Candidate:
    """A device that may take the prompt, and why it stands where it stands."""

    status: DeviceStatus
    why: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Choice:
    """The devices to try, in this order; there is one at least."""

    candidates: tuple[Candidate, ...]


def choose(
    snapshot: Snapshot,
    requested: str,
    requirements: Requirements = NO_REQUIREMENTS,
    knowledge: Knowledge = NOTHING_KNOWN,
) -> Choice:
    """The devices for a prompt that asks for *requested* (an id, a key, a group of them, or ``auto``), best first, each with the reasons.

    ``auto`` takes the order of the ranking, and that which *snapshot* shows where it is for the same; a named device stands alone and must meet *requirements* too. A device
    that would have to load the model, or has a queue, yields the first place to one that has the model loaded and
    would end its answer sooner, where the policy is after quick answers. Raises `UnknownDevice` for a name that no
    device has, `NoSuitableDevice`, with each device's reasons, when the device that is asked for, or all of them,
    cannot take it, and `Overloaded` when it is only for a while that none of them may be asked.
    """
    if requested == AUTO:
        return _pick(snapshot, Case(requirements, knowledge))
    status = snapshot.find(requested)
    if reasons := unmet(status, requirements, knowledge):
        offer = together(Case(requirements, knowledge), snapshot.devices).get(status.device.id)
        raise NoSuitableDevice(
            f"{status.device.id} cannot take the prompt: {'; '.join(reasons)}; "
            f"{offer or 'choose another device or auto'}",
            param="device",
        )
    held, members = throttle_words(status), [member.id for member in status.device.members]
    spread = [f"spread over {', '.join(members[:-1])} and {members[-1]}"] if members else ()
    return Choice((Candidate(status, ("asked for by name", *spread, *([held] if held else ()))),))


def _pick(snapshot: Snapshot, case: Case) -> Choice:
    entries, excluded = order(snapshot, case)
    if not entries:
        raise _nothing(snapshot, case, excluded)
    entries = _settled(snapshot, case, entries)
    count = len(entries)
    places = [
        f"{_place(number)} of {count} devices, score {entry[0]:.3f}"
        if count > 1
        else "the only device that can take it"
        for number, entry in enumerate(entries)
    ]
    expected = case.expect(entries[0][2])
    sooner, words = _sooner(case, entries, expected)
    reasons = [(place,) for place in places]
    if sooner:
        expected = case.expect(entries[sooner][2])
        entries.insert(0, entries.pop(sooner))
        reasons.insert(0, reasons.pop(sooner))
    first = Candidate(
        entries[0][2],
        (*((words,) if words else ()), *reasons[0], *why(case, entries[0][2], expected)),
    )
    others = (Candidate(entry[2], text) for entry, text in zip(entries[1:], reasons[1:], strict=True))
    return Choice((first, *others))


def _settled(snapshot: Snapshot, case: Case, entries: list[Entry]) -> list[Entry]:
    """*entries* in the order that the ranking of *snapshot* shows, where it ranks the same and the scores are close."""
    shown, asked = snapshot.ranking, replace(case.requirements, context_tokens=None)
    if shown is None or shown.policy != asked.policy or shown.requirements != requirements_to_wire(asked):
        return entries
    found = {entry[2].device.id: entry for entry in entries}
    return [found[name] for name in settled({name: entry[0] for name, entry in found.items()}, shown)]


def _place(number: int) -> str:
    return "best" if number == 0 else f"number {number + 1}"


def _sooner(case: Case, entries: Sequence[Entry], first: Expectation) -> tuple[int, str]:
    """The place of a device that has the model loaded and ends its answer before the first one, and why; 0: none."""
    if case.requirements.policy not in _QUICK or case.requirements.prefer_low_power or first.answer_s is None:
        return 0, ""
    if not first.cold_start_s and not first.wait_s:
        return 0, ""
    best, best_s = 0, first.answer_s
    for number, entry in enumerate(entries[1:], 1):
        circumstance = case.knowledge.of(entry[2].device.key)
        if not circumstance.loaded and circumstance.server is None:
            continue
        answer_s = case.expect(entry[2]).answer_s
        if answer_s is not None and answer_s < best_s:
            best, best_s = number, answer_s
    if not best:
        return 0, ""
    delay = "a cold start" if first.cold_start_s else "a queue"
    leader, loaded = entries[0][2].device.id, entries[best][2].device.id
    times = f"{seconds_text(best_s)} against {seconds_text(first.answer_s)} on {leader} with {delay}"
    return best, f"{loaded} has the model loaded: {times}"


def _nothing(snapshot: Snapshot, case: Case, excluded: Sequence[ExcludedDevice]) -> HwdashError:
    waits = {status.device.id: wait_s for status in snapshot.devices if (wait_s := _wait_s(status, case)) is not None}
    if not waits:
        return NoSuitableDevice(nothing_text(excluded), param="device")
    reasons = "; ".join(f"{item.device}: {', '.join(item.why)}" for item in excluded if item.device in waits)
    wait_s = max(1.0, min(waits.values()))
    return Overloaded(
        f"no suitable device takes the prompt for now ({reasons}); try again in about {duration_text(wait_s)}",
        retry_after_s=wait_s,
    )


def _wait_s(status: DeviceStatus, case: Case) -> float | None:
    """After how many seconds the device may take the prompt; None where time alone does not make it suitable."""
    key, knowledge = status.device.key, case.knowledge
    circumstance = knowledge.of(key)
    if circumstance.again_s is None:
        return None
    free = replace(knowledge, circumstances={key: replace(circumstance, barred="")})
    return None if unmet(status, case.requirements, free) else circumstance.again_s
