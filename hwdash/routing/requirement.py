"""Why a device cannot meet what a prompt needs, in words and numbers. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from hwdash.core.format import bytes_text, reading_text, seconds_text
from hwdash.core.health import HealthState
from hwdash.core.precision import ITEM_BYTES
from hwdash.core.reading import Absent
from hwdash.core.requirement import Requirements, compute_capability
from hwdash.core.snapshot import DeviceStatus
from hwdash.routing.estimate import Case, draw_w, free_bytes
from hwdash.routing.knowledge import Circumstance, Knowledge
from hwdash.routing.need import Need
from hwdash.routing.trait import Trait, trait_of


def unmet(status: DeviceStatus, requirements: Requirements, knowledge: Knowledge) -> tuple[str, ...]:
    """Why the device of *status* cannot take the prompt, in words with both numbers; empty when it can.

    What is asked for and not known counts as not met. Only the model's own need does not: a device that does not tell
    its free memory may have enough.
    """
    trait = trait_of(status.device)
    return unmet_in(Case(requirements, knowledge), status, trait, knowledge.of(status.device.key))


def unmet_in(case: Case, status: DeviceStatus, trait: Trait, circumstance: Circumstance) -> tuple[str, ...]:
    """The same for one of many devices that are held against the same *case*."""
    if why := _unusable(status, trait, circumstance):
        return why
    requirements = case.requirements
    if requirements.min_memory_bytes is None and case.knowledge.shape is None and _is_open(requirements):
        return ()
    why = tuple(_memory(status, requirements.min_memory_bytes, case.need(status, trait, circumstance)))
    if _is_open(requirements):
        return why
    return (*_hardware(status, requirements), *why, *_power(status, requirements), *_latency(status, case))


def _is_open(requirements: Requirements) -> bool:
    """Nothing but memory is asked for."""
    return (
        requirements.max_latency_s is None
        and requirements.max_power_w is None
        and not requirements.features
        and not requirements.kinds
    )


def _unusable(status: DeviceStatus, trait: Trait, circumstance: Circumstance) -> tuple[str, ...]:
    state = status.health.state
    if state is HealthState.LOST or state is HealthState.STALE:
        return status.health.reasons or (state.value,)
    readings = status.readings
    for reading in readings.values():
        if reading is not Absent.TIMED_OUT:
            break
    else:
        if readings:
            return ("its driver does not answer",)
    if not trait.inference and circumstance.server is None:
        runtime = status.device.runtime
        if runtime is not None and runtime.module is not None:
            return (f"{runtime.module}, by which torch computes on it, is not installed",)
        return ("hwdash cannot run models on it",)
    return (circumstance.barred,) if circumstance.barred else ()


def _hardware(status: DeviceStatus, requirements: Requirements) -> Iterator[str]:
    device = status.device
    if requirements.kinds and device.kind not in requirements.kinds:
        yield f"is a {device.kind.value}, not a {' or '.join(kind.value for kind in requirements.kinds)}"
    dtypes = device.capabilities.dtypes
    for feature in requirements.features:
        if feature in ITEM_BYTES:
            if feature not in dtypes:
                has = f"it computes in {', '.join(dtypes)}" if dtypes else "its precisions are not known"
                yield f"needs {feature}, {has}"
            continue
        least = compute_capability(feature)
        text = device.capabilities.compute_capability
        has_capability = None if text is None else compute_capability(text)
        if has_capability is None:
            yield f"needs compute capability {feature[2:]}, its own is not known"
        elif least is None or has_capability < least:
            yield f"needs compute capability {feature[2:]}, has {text}"


def _memory(status: DeviceStatus, least: int | None, need: Need | None) -> Iterator[str]:
    free = free_bytes(status)
    if free is None:
        if least is not None:
            yield f"needs {bytes_text(least)}, its free memory is not known"
        return
    if least is not None and free < least:
        yield f"needs {bytes_text(least)}, {bytes_text(free)} free"
    if need is not None and free < need.total_bytes:
        yield f"the model needs {need.words}, {bytes_text(free)} free"


def _power(status: DeviceStatus, requirements: Requirements) -> Iterator[str]:
    most = requirements.max_power_w
    if most is None:
        return
    watts = draw_w(status)
    if watts is None:
        yield f"may draw {reading_text('power_w', most)} at most, its power limit is not known"
    elif watts > most:
        drawn = "it draws" if status.device.limits.power_w is None else "its limit is"
        yield f"may draw {reading_text('power_w', most)} at most, {drawn} {reading_text('power_w', watts)}"


def _latency(status: DeviceStatus, case: Case) -> Iterator[str]:
    most = case.requirements.max_latency_s
    if most is None:
        return
    first_s = first_token_s(case, status)
    asked = f"the first token is due in {seconds_text(most)}"
    if first_s is None:
        yield f"{asked}, its time to first token is not known yet"
    elif first_s > most:
        expected = case.expect(status)
        causes = [f"{seconds_text(expected.wait_s)} of waiting"] if expected.wait_s else []
        causes += [f"{seconds_text(expected.cold_start_s)} of cold start"] if expected.cold_start_s else []
        yield f"{asked}, {seconds_text(first_s)} expected{' with ' + ' and '.join(causes) if causes else ''}"


def first_token_s(case: Case, status: DeviceStatus) -> float | None:
    """Seconds until the first token with the wait and the cold start before it; None where one of them is not known."""
    expected = case.expect(status)
    if expected.ttft_s is None or (expected.answer_s is None and case.queued(status)):
        return None
    return expected.wait_s + expected.cold_start_s + expected.ttft_s
