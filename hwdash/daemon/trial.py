"""Which precisions a device is really fast in: tried once for each device, driver and torch, while it has nothing to do."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from hwdash.core.clock import Clock
from hwdash.core.device import Device
from hwdash.core.errors import EngineError, HwdashError
from hwdash.core.event import Event, EventKind, Severity
from hwdash.core.snapshot import DeviceStatus
from hwdash.core.trial import DeviceTrial, DtypeSpeed
from hwdash.daemon.ledger import Ledger

if TYPE_CHECKING:
    from hwdash.daemon.gate import Gate
    from hwdash.engine.engine import Engine
    from hwdash.monitor.monitor import Monitor
    from hwdash.store.store import Store

log = logging.getLogger(__name__)

LOOK_S = 5.0
"""How often the daemon looks whether there is something to try."""
QUIET_BELOW = 0.1
"""What a device that is busier than this is found to be may be the doing of whoever keeps it busy."""
_CALM_LOOKS = 2
"""A device is tried when it was idle so many looks in a row."""
_READ_S = 1.0
_HOLD_WORDS = "precisions are tried"
_LASTS_S = 1.0


@dataclass(frozen=True, slots=True)
class _Key:
    """What a trial holds for."""

    device: str
    driver: str
    torch: str


class Trier:
    """Keeps what trials found, shows it with the devices of *monitor*, and makes those that are missing.

    A device is tried by the worker of a model that was loaded for somebody, so nothing is started for it. *pairs* are the
    keys of devices and the models that are loaded there, *tell* takes events. A trial during which anybody wanted the
    device counts for nothing: it is made again. *torch* gives the installed version; *sleep* is that of asyncio but in tests.
    """

    def __init__(
        self,
        engine: Engine,
        store: Store,
        monitor: Monitor,
        ledger: Ledger,
        pairs: Callable[[], Mapping[tuple[str, str], DeviceStatus]],
        tell: Callable[[Event], None],
        clock: Clock,
        torch: Callable[[], str] | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._engine = engine
        self._store = store
        self._monitor = monitor
        self._ledger = ledger
        self._pairs = pairs
        self._tell = tell
        self._clock = clock
        self._installed = torch or installed_torch
        self._sleep = sleep
        self._torch = ""
        self._known: dict[_Key, DeviceTrial] = {}
        self._hopeless: set[_Key] = set()
        self._calm: dict[str, int] = {}

    async def run(self) -> None:
        """Try what there is to try until cancelled."""
        while True:
            await self._sleep(LOOK_S)
            await self.turn()

    async def seed(self) -> None:
        """Learn what was found with this torch on earlier days, unless the store does not answer soon."""
        try:
            async with asyncio.timeout(_READ_S):
                self._torch = await asyncio.to_thread(self._installed)
                trials = await self._store.trials()
        except (HwdashError, TimeoutError) as error:
            log.warning("earlier trials of precisions are not known: %s", error or "the store does not answer")
            return
        self._known |= {_Key(trial.device_key, trial.driver, trial.torch): trial for trial in trials}
        self._monitor.use_trials(self.speeds)

    def speeds(self, device: Device) -> tuple[DtypeSpeed, ...]:
        """How fast the precisions of *device* are with its driver and this torch; empty where nobody knows."""
        trial = self._known.get(self._key(device))
        return () if trial is None else trial.speeds

    async def turn(self) -> None:
        """Look at all devices with a loaded model, and try one that is untried and calm."""
        pairs = {key: item for key, item in self._pairs().items() if self._is_untried(item.device)}
        devices = {status.device.key: status for status in pairs.values()}
        calm = {key: self._calm.get(key, 0) + 1 for key, status in devices.items() if self._is_calm(status)}
        self._calm = calm
        for (key, model), status in sorted(pairs.items(), key=lambda pair: pair[0]):
            if calm.get(key, 0) >= _CALM_LOOKS:
                await self._try(model, status)
                return

    def _key(self, device: Device) -> _Key:
        return _Key(device.key, device.driver or "", self._torch)

    def _is_untried(self, device: Device) -> bool:
        key = self._key(device)
        own = device.capabilities.inference and not device.members
        return own and bool(device.capabilities.dtypes) and key not in self._known and key not in self._hopeless

    def _is_calm(self, status: DeviceStatus) -> bool:
        gate = self._gate(status)
        return not (gate.running or gate.waiting or gate.held) and (status.number("utilization") or 0.0) < QUIET_BELOW

    def _gate(self, status: DeviceStatus) -> Gate:
        self._ledger.gate(status)
        return self._ledger.gates[status.device.key]

    async def _try(self, model: str, status: DeviceStatus) -> None:
        device = status.device
        work = asyncio.ensure_future(self._engine.trial(model, device))

        def give_way() -> None:
            work.cancel()

        hold = self._gate(status).try_hold(_HOLD_WORDS, give_way, _LASTS_S)
        if hold is None:
            work.cancel()
            return
        with hold:
            try:
                await asyncio.wait({work})
            finally:
                work.cancel()
        self._calm.pop(device.key, None)
        if work.cancelled():
            return
        if (error := work.exception()) is None:
            await self._conclude(device, work.result())
        elif isinstance(error, EngineError):
            log.warning("the precisions of %s cannot be tried: %s", device.id, error.message)
            self._hopeless.add(self._key(device))
        else:
            log.error("trying the precisions of %s failed", device.id, exc_info=error)
            self._hopeless.add(self._key(device))

    async def _conclude(self, device: Device, trial: DeviceTrial | None) -> None:
        """Take *trial* in, unless it came to nothing."""
        if trial is None:
            return
        if not trial.speeds:
            self._hopeless.add(self._key(device))
            return
        self._torch = trial.torch  # another one may have been installed since the daemon began
        self._known[_Key(trial.device_key, trial.driver, trial.torch)] = trial
        self._monitor.use_trials(self.speeds)
        for speed in trial.speeds:
            if speed.emulated and speed.dtype in device.capabilities.dtypes:
                self._tell(_news(device, speed, self._clock.now()))
        try:
            await self._store.add_trial(trial)
        except HwdashError as error:
            log.warning("a trial of precisions is not kept: %s", error.message)


def installed_torch() -> str:
    """The version of the installed torch, which is not imported; empty where there is none. Reads files."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("torch")
    except PackageNotFoundError:
        return ""


def _news(device: Device, speed: DtypeSpeed, at: datetime) -> Event:
    words = (
        f"{speed.dtype} is emulated on {device.id}: {speed.relative:.2g} of fp32's speed; "
        "it is not chosen any more when a model is loaded there"
    )
    return Event(at, device.key, EventKind.DEVICE, Severity.INFO, words, device.id)
