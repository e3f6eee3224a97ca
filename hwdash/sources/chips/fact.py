"""What a device says of itself that does not change, and what must hold for it to be one at all."""

from __future__ import annotations

from hwdash.core.reading import Absent
from hwdash.core.text import sanitise_line
from hwdash.sources.chips.file_read import FileReads
from hwdash.sources.chips.metric import Guard
from hwdash.sources.chips.origin import Condition, Fact
from hwdash.sources.chips.pattern import search
from hwdash.sources.chips.place import Place


def first_text(facts: tuple[Fact, ...], place: Place, files: FileReads) -> str:
    """The text of the first of *facts* that has one, as one safe line; empty when none has."""
    return next((text for fact in facts if (text := text_of(fact, place, files))), "")


def text_of(fact: Fact, place: Place, files: FileReads) -> str:
    """The text of one fact, as one safe line; empty when there is none."""
    text: str | Absent | None = fact.constant
    if fact.basename_of == "instance":
        text = place.instance
    elif fact.basename_of is not None:
        text = place.anchors.get(fact.basename_of, "").rpartition("/")[2]
    elif fact.path is not None:
        path = place.path(fact.path, files)
        text = Absent.NOT_SUPPORTED if path is None else files.first(path, fact.parse)
    if text is None or isinstance(text, Absent) or text in fact.skip:
        return ""
    return sanitise_line(fact.mapping.get(text, text), 120)


def texts_of(fact: Fact, place: Place, files: FileReads) -> tuple[str, ...]:
    """All texts of a fact that is a list: the elements of a JSON array, or the words of a line."""
    path = place.path(fact.path, files) if fact.path is not None else None
    if path is None:
        return ()
    if fact.parse is None:
        whole = files.first(path, None)
        pieces = Absent.ERROR if isinstance(whole, Absent) else whole.replace(",", " ").split()
    else:
        pieces = files.pieces(path, fact.parse)
    if isinstance(pieces, Absent):
        return ()
    texts = [piece for whole in pieces for piece in whole.replace(",", " ").split()]
    return tuple(sanitise_line(fact.mapping.get(text, text), 16) for text in texts[:32] if text not in fact.skip)


def holds_at(condition: Condition, place: Place, files: FileReads) -> bool:
    """True when *condition* holds; a file that cannot be read satisfies none but ``exists = false``."""
    path = place.path(condition.path, files)
    if condition.exists is not None:
        return (path is not None and files.tree.exists(path)) == condition.exists
    if path is None:
        return False
    if condition.link_basename is not None:
        return files.tree.link(path) == condition.link_basename
    text = files.first(path, condition.parse)
    return not isinstance(text, Absent) and passes(condition, text)


def passes(test: Condition | Guard, text: str) -> bool:
    """True when *text* is what *test* asks for: equal to a text, one of several, or with a match in it."""
    if test.equals is not None:
        return text == test.equals
    if test.one_of is not None:
        return text in test.one_of
    return test.pattern is not None and search(test.pattern, text) is not None
