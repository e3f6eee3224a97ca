"""Which of the text formats a scraper wants."""

from __future__ import annotations

from dataclasses import dataclass

_OPENMETRICS = "application/openmetrics-text"
_PLAIN = "text/plain"
_ANY = ("*/*", "text/*")


@dataclass(frozen=True, slots=True)
class TextFormat:
    """A format and the content type that names it."""

    content_type: str
    openmetrics: bool = False


PLAIN = TextFormat("text/plain; version=0.0.4; charset=utf-8")
"""What everybody reads, and what is sent to those who want something else altogether."""
PLAIN_1 = TextFormat("text/plain; version=1.0.0; charset=utf-8; escaping=underscores")
OPENMETRICS = TextFormat("application/openmetrics-text; version=1.0.0; charset=utf-8", openmetrics=True)
OPENMETRICS_ESCAPED = TextFormat(f"{OPENMETRICS.content_type}; escaping=underscores", openmetrics=True)
"""For those who name a scheme of escaping: no name of hwdash needs any."""


def choose_format(accept: str) -> TextFormat:
    """The format that the Accept header *accept* prefers; among equals the one named first.

    prometheus_client has such a function too; it passes over preferences (``q``), breaks on a version that is no
    number, and answers with whatever version it was asked for.
    """
    best, most = PLAIN, 0.0
    for item in accept.split(","):
        kind, *rest = (part.strip() for part in item.lower().split(";"))
        parameters = dict(part.partition("=")[::2] for part in rest)
        wish = _wish(parameters.get("q", "1"))
        if wish > most and (found := _format(kind, parameters)) is not None:
            best, most = found, wish
    return best


def accepts_gzip(accept_encoding: str) -> bool:
    """True when the Accept-Encoding header names gzip, and not in order to refuse it."""
    for item in accept_encoding.split(","):
        coding, *rest = (part.strip() for part in item.lower().split(";"))
        if coding == "gzip":
            return _wish(dict(part.partition("=")[::2] for part in rest).get("q", "1")) > 0
    return False


def _format(kind: str, parameters: dict[str, str]) -> TextFormat | None:
    version = parameters.get("version", "")
    if kind == _OPENMETRICS and version in ("", "1.0.0"):
        return OPENMETRICS_ESCAPED if "escaping" in parameters else OPENMETRICS
    if kind == _PLAIN and version == "1.0.0":
        return PLAIN_1
    if (kind == _PLAIN and version in ("", "0.0.4")) or kind in _ANY:
        return PLAIN
    return None


def _wish(text: str) -> float:
    try:
        wish = float(text)
    except ValueError:
        return 0.0
    return wish if 0.0 <= wish <= 1.0 else 0.0
