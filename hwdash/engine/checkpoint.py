"""Is a directory a checkpoint that can be loaded safely? Looks at names, sizes and headers, never at whole weights."""

from __future__ import annotations

import json
import math
import re
import stat
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hwdash.core.errors import ModelError
from hwdash.core.text import sanitise_line

PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl", "*.pickle")
_INDEX = "model.safetensors.index.json"
_MAX_HEADER_BYTES = 100_000_000  # the limit of the safetensors format itself
_MAX_JSON_BYTES = 100_000_000
_OF_AN_EXPERT = re.compile(r"(?:^|\.)experts\.")
"""Tensors of the experts among which a router chooses; those called ``shared_experts`` compute for every token."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A directory of safetensors: its weight files and how many parameters they hold together.

    ``expert_parameters`` are those of them that belong to the experts of a mixture, by the names of their tensors.
    """

    directory: Path
    weights: tuple[Path, ...]
    parameters: int
    expert_parameters: int = 0


def read_checkpoint(directory: Path, advice: str = "copy or download it again") -> Checkpoint:
    """The checkpoint in *directory*.

    Raises `ModelError` that names the file at fault (missing, cut short, no safetensors, only pickles) and ends with
    *advice*.
    """
    if not directory.is_dir():
        raise ModelError(f"{directory} is not a directory with a model")
    read_object(directory / "config.json", advice)
    weights = _weight_files(directory, advice)
    counts = [_parameters(path, advice) for path in weights]
    return Checkpoint(directory, weights, sum(every for every, _ in counts), sum(experts for _, experts in counts))


def _weight_files(directory: Path, advice: str) -> tuple[Path, ...]:
    if (index := directory / _INDEX).exists():
        names = read_object(index, advice).get("weight_map")
        if not isinstance(names, dict) or not all(_is_plain_name(name) for name in names.values()):
            raise ModelError(f"{index} is damaged; {advice}")
        files = tuple(directory / name for name in sorted(set(names.values())))
    else:
        files = tuple(sorted(directory.glob("*.safetensors")))
    if not files:
        if any(any(directory.glob(pattern)) for pattern in PICKLES):
            raise ModelError(
                f"{directory} holds its weights as pickles only, which can run code when they are loaded; "
                "use a safetensors version of the model"
            )
        raise ModelError(f"{directory} holds no safetensors weights; {advice}")
    for path in files:
        if not path.is_file():
            raise ModelError(f"{path} is missing; {advice}")
    return files


def _is_plain_name(name: object) -> bool:
    return isinstance(name, str) and Path(name).name == name and name.endswith(".safetensors")


def read_object(path: Path, advice: str = "copy or download it again") -> dict[str, Any]:
    """The JSON object in the file *path*. Raises `ModelError`, ending with *advice*, where there is none."""
    try:
        about = path.stat()
        if not stat.S_ISREG(about.st_mode) or about.st_size > _MAX_JSON_BYTES:
            raise ModelError(f"{path} is no file of JSON, or larger than 100 MB; {advice}")
        data = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise ModelError(f"{path} is missing; {advice}") from None
    except OSError as error:
        raise ModelError(f"cannot read {path}: {error.strerror}") from None
    except (ValueError, RecursionError):
        raise ModelError(f"{path} is damaged: not JSON; {advice}") from None
    if not isinstance(data, dict):
        raise ModelError(f"{path} is damaged: not a JSON object; {advice}")
    return data


def _parameters(path: Path, advice: str) -> tuple[int, int]:
    """How many numbers the tensors of a safetensors file hold, after its header was checked against its size; and how
    many of them are those of experts.

    The format: eight bytes of little-endian length, that many bytes of JSON, then the data without gaps
    (https://github.com/huggingface/safetensors#format).
    """
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if not 2 <= length <= min(_MAX_HEADER_BYTES, size - 8):
                raise ModelError(f"{path} is damaged: no safetensors header; {advice}")
            header = json.loads(file.read(length))
        header.pop("__metadata__", None)
        end = max((tensor["data_offsets"][1] for tensor in header.values()), default=0)
        counts = {name: _numbers(tensor) for name, tensor in header.items()}
    except OSError as error:
        raise ModelError(f"cannot read {path}: {error.strerror}") from None
    except (ValueError, TypeError, KeyError, IndexError, AttributeError, RecursionError) as error:
        raise ModelError(f"{path} is damaged: {sanitise_line(str(error), 80)}; {advice}") from None
    if 8 + length + end != size:
        raise ModelError(f"{path} is damaged: {size} bytes instead of {8 + length + end}; {advice}")
    return sum(counts.values()), sum(count for name, count in counts.items() if _OF_AN_EXPERT.search(name))


def _numbers(tensor: Mapping[str, Any]) -> int:
    """How many numbers a tensor holds. Raises `ValueError` for a shape that does not fit into its bytes."""
    begin, end = tensor["data_offsets"]
    if not _are_counts((begin, end, *tensor["shape"])):
        raise ValueError("the shape of a tensor is not made of whole numbers")
    count: int = math.prod(tensor["shape"])
    # A number takes two bits at least, in the smallest of the formats; most take bytes.
    if begin > end or count > 4 * (end - begin):
        raise ValueError("the shape of a tensor does not fit into its bytes")
    return count


def _are_counts(values: Iterable[object]) -> bool:
    return all(isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**63 for value in values)
