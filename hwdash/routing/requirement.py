"""Why a device cannot meet what a prompt needs, in words and numbers. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from hwdash.core.format import bytes_text, reading_text, seconds_text
from hwdash.core.health import HealthState
from hwdash.core.precision import ITEM_BYTES
from hwdash.core.reading import Absent
from hwdash.core.requirement import Requirements, compute_capability
from hwdash.core.snapshot import DeviceStatus
from hwdash.routing.estimate import Case, ahead, free_bytes
from hwdash.routing.field import Field
from hwdash.routing.knowledge import Circumstance, Knowledge
from hwdash.routing.need import Need
from hwdash.routing.trait import Trait, trait_of

_LOST, _STALE, _TIMED_OUT = HealthState.LOST, HealthState.STALE, Absent.TIMED_OUT


def unmet(status: DeviceStatus, requirements: Requirements, knowledge: Knowledge) -> tuple[str, ...]:
    """Why the device of *status* cannot take the prompt, in words with both numbers; empty when it can.

    What is asked for and not known counts as not met. Only the model's own need does not: a device that does not tell
    its free memory may have enough.
    """
    case, trait, circumstance = Case(requirements, knowledge), trait_of(status.device), knowledge.of(status.device.key)
    return _unmet(case, status, trait, circumstance, case.need(free_bytes(status), trait, circumstance))


def unmet_among(case: Case, field: Field) -> list[tuple[str, ...]]:
    """The same for each device of *field*. Those that are in order by what was read already are not looked at twice."""
    asks_little = case.asks_little
    least = case.requirements.min_memory_bytes or 0
    columns = zip(
        field.statuses,
        field.traits,
        field.circumstances,
        field.needs,
        field.states,
        field.busy,
        field.free,
        strict=True,
    )
    return [
        ()
        if asks_little
        and state is not _LOST
        and state is not _STALE
        and busy is not None
        and trait.inference
        and not circumstance.barred
        and free is not None
        and free >= least
        and (need is None or free >= need.total_bytes)
        else _unmet(case, status, trait, circumstance, need)
        for status, trait, circumstance, need, state, busy, free in columns
    ]


def _unmet(
    case: Case, status: DeviceStatus, trait: Trait, circumstance: Circumstance, need: Need | None
) -> tuple[str, ...]:
    if why := _unusable(status, trait, circumstance):
        return why
    least = case.requirements.min_memory_bytes
    why = () if least is None and need is None else _memory(status, least, need)
    if case.asks_little:
        return why
    requirements = case.requirements
    late = _latency(case, status, trait, circumstance, need)
    return (*_hardware(status, requirements), *why, *_power(status, requirements), *late)


def _unusable(status: DeviceStatus, trait: Trait, circumstance: Circumstance) -> tuple[str, ...]:
    state = status.health.state
    if state is _LOST or state is _STALE:
        return status.health.reasons or (state.value,)
    readings = status.readings
    if not isinstance(readings.get("utilization"), float) and readings and set(readings.values()) == {_TIMED_OUT}:
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
        yield f"is of kind {device.kind.value}, not {' or '.join(kind.value for kind in requirements.kinds)}"
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


def _memory(status: DeviceStatus, least: int | None, need: Need | None) -> tuple[str, ...]:
    pools = status.pools
    free = pools[0].free_bytes if len(pools) == 1 else free_bytes(status)
    if free is None:
        return () if least is None else (f"needs {bytes_text(least)}, its free memory is not known",)
    few = least is not None and free < least
    small = need is not None and free < need.total_bytes
    if not few and not small:
        return ()
    why = (f"needs {bytes_text(least)}, {bytes_text(free)} free",) if few and least is not None else ()
    return (*why, f"the model needs {need.words}, {bytes_text(free)} free") if small and need is not None else why


def _power(status: DeviceStatus, requirements: Requirements) -> Iterator[str]:
    most = requirements.max_power_w
    if most is None:
        return
    bound = reading_text("power_w", most) if most >= 0.1 else "less than 0.1 W"
    watts = status.device.limits.power_w
    if watts is None:
        yield f"may draw {bound} at most, its power limit is not known"
    elif watts > most:
        yield f"may draw {bound} at most, its limit is {reading_text('power_w', watts)}"


def _latency(
    case: Case, status: DeviceStatus, trait: Trait, circumstance: Circumstance, need: Need | None
) -> Iterator[str]:
    most = case.requirements.max_latency_s
    if most is None:
        return
    due = seconds_text(most) if most >= 1e-6 else "less than 1 µs"
    ttft_s, _rate, answer_s, wait_s, cold_s, *_ = case.figures(status, trait, circumstance, need)
    if ttft_s is None or (answer_s is None and ahead(circumstance) > 0):
        yield f"the first token is due in {due}, its time to first token is not known yet"
    elif ttft_s + wait_s + cold_s > most:
        causes = [f"{seconds_text(wait_s)} of waiting"] if wait_s else []
        causes += [f"{seconds_text(cold_s)} of cold start"] if cold_s else []
        expected = (
            f"{seconds_text(ttft_s + wait_s + cold_s)} expected{' with ' + ' and '.join(causes) if causes else ''}"
        )
        yield f"the first token is due in {due}, {expected}"
