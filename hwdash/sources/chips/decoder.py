"""Decoders of binary tables that a profile can name, because no rule of parsing could say what they do."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Protocol

from hwdash.sources.gpu_metrics import TableRefused, decode
from hwdash.sources.gpu_metrics_throttle import ThrottleMeter, Throttling


class Undecodable(Exception):
    """The bytes are not what the decoder knows. The message says why."""


class Decoder(Protocol):
    """Follows one table of one device. For use by one thread."""

    def update(self, table: bytes, at_s: float) -> Throttling:
        """The throttling as of *table*, read at *at_s* on the monotonic clock. Raises `Undecodable`."""
        ...


class _AmdgpuTable:
    def __init__(self) -> None:
        self._meter = ThrottleMeter()

    def update(self, table: bytes, at_s: float) -> Throttling:
        try:
            return self._meter.update(decode(table), at_s)
        except TableRefused as error:
            raise Undecodable(str(error)) from error


DECODERS: Mapping[str, Callable[[], Decoder]] = MappingProxyType({"amdgpu_gpu_metrics": _AmdgpuTable})
"""What makes a decoder, by its name in profiles."""
