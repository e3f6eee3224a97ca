"""Chat templates: how a checkpoint wants a conversation written, in Jinja, which is foreign code in a sandbox."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, NoReturn

from jinja2 import TemplateError, nodes
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

__all__ = ["ChatTemplate", "TemplateError"]


class ChatTemplate:
    """A template over *tokens*, the special ones by their names (``bos_token``, …), with what transformers offers it.

    What is wrong with the text of a template is told when it is used, as transformers does.
    """

    def __init__(self, text: str, tokens: Mapping[str, str]) -> None:
        self._tokens = dict(tokens)
        self._render: Callable[..., str] | None = None
        self._problem: TemplateError | None = None
        try:
            self._render = _environment().from_string(text).render
        except TemplateError as error:
            self._problem = error

    def conversation(self, turns: Sequence[Mapping[str, str]]) -> str:
        """The text of *turns* with the beginning of an answer. Raises `TemplateError` when the template refuses them."""
        if self._render is None:
            raise self._problem or TemplateError("the template cannot be read")
        messages = [dict(turn) for turn in turns]
        more: dict[str, Any] = {"tools": None, "documents": None, "add_generation_prompt": True}
        return self._render(messages=messages, **more, **self._tokens)


class _Generation(Extension):
    """``{% generation %}`` marks what the model writes; here it is text like any other."""

    tags = {"generation"}  # noqa: RUF012 - as the base class has it

    def parse(self, parser: Parser) -> nodes.Node | list[nodes.Node]:
        """What is between the marks, in a scope of its own."""
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return nodes.Scope(body).set_lineno(line)


def _environment() -> ImmutableSandboxedEnvironment:
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, loopcontrols]
    )
    environment.filters["tojson"] = _to_json
    environment.globals["raise_exception"] = _refuse
    environment.globals["strftime_now"] = _now
    return environment


def _to_json(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """Jinja's own filter would write ``<`` and ``&`` as HTML wants them."""
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def _refuse(message: str) -> NoReturn:
    raise TemplateError(message)


def _now(form: str) -> str:
    return datetime.now().astimezone().strftime(form)
