"""The tokenizer of a checkpoint straight from ``tokenizer.json``, where nothing else has a say in it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tokenizers import AddedToken, Regex, Tokenizer, decoders, normalizers, pre_tokenizers

from hwdash.core.errors import ModelError, UsageError
from hwdash.core.text import sanitise_line
from hwdash.engine.checkpoint import read_object
from hwdash.engine.worker.tokenizer import NO_LIMIT

if TYPE_CHECKING:
    from hwdash.engine.worker.template import ChatTemplate

_MAX_TEMPLATE_BYTES = 2**20
_PLAIN = frozenset({"TokenizersBackend", "PreTrainedTokenizerFast"})
"""Classes of transformers that take ``tokenizer.json`` as it is."""
_QWEN = frozenset({"Qwen2Tokenizer", "Qwen2TokenizerFast"})
_NAMED = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")
_MORE = ("additional_special_tokens", "extra_special_tokens")
_ALTERS = ("auto_map", "split_special_tokens", "add_prefix_space", "from_slow", "fix_mistral_regex", "init_inputs")
"""What makes transformers change or replace what ``tokenizer.json`` says, where it is set."""
_CHANGED_REGEX_VOCABULARY = 100_000
"""transformers replaces the rule by which Mistral's larger vocabularies cut text."""
_QWEN_REGEX = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
"""By which Qwen's tokenizers cut text: https://github.com/QwenLM/Qwen/blob/main/tokenization_qwen.py"""


class Unusual(Exception):
    """Something besides ``tokenizer.json`` has a say in how the tokenizer works; the message names it."""


class FileTokenizer:
    """A `hwdash.engine.worker.tokenizer.Tokenizer` over a `tokenizers.Tokenizer`. *model* names it in errors."""

    def __init__(
        self, tokenizer: Tokenizer, model: str, limit: int | None, end: str | None, template: ChatTemplate | None
    ) -> None:
        self._tokenizer = tokenizer
        self._model = model
        self._template = template
        self.has_template = template is not None
        number = None if end is None else tokenizer.token_to_id(end)
        self.ends = frozenset() if number is None else frozenset({number})
        self.longest_token = max((len(token.encode()) for token in tokenizer.get_vocab()), default=1)
        self.context_length = limit

    def conversation(self, turns: Sequence[Mapping[str, str]]) -> str:
        """The text of *turns* by the checkpoint's template. Raises `UsageError` when it refuses them."""
        from hwdash.engine.worker.template import TemplateError

        assert self._template is not None
        try:
            return self._template.conversation(turns)
        except TemplateError as error:
            problem = sanitise_line(str(error))
            raise UsageError(
                f"the chat template of {self._model} refuses the messages: {problem}", param="messages"
            ) from None

    def encode(self, text: str, special: bool) -> list[int]:
        """The tokens of *text*, with those that begin a text where *special*."""
        ids: list[int] = self._tokenizer.encode(text, add_special_tokens=special).ids
        return ids

    def decode(self, tokens: Sequence[int]) -> str:
        """The text of *tokens* without special tokens."""
        text: str = self._tokenizer.decode(list(tokens), skip_special_tokens=True)
        return text


def read_vocabulary(directory: Path, model: str, config: Mapping[str, Any]) -> FileTokenizer:
    """The tokenizer of the checkpoint in *directory*, whose ``config.json`` is *config*.

    Raises `Unusual` where transformers has to read it, or has to say what is wrong with its files.
    """
    try:
        settings = read_object(directory / "tokenizer_config.json")
        _check_settings(settings, directory)
        tokenizer = Tokenizer.from_file(str(directory / "tokenizer.json"))
    except ModelError as error:
        raise Unusual(str(error)) from None
    except Unusual:
        raise
    except Exception as error:
        raise Unusual("tokenizer.json cannot be read") from error
    kind = "Qwen2Tokenizer" if config["model_type"] == "qwen2" else settings.get("tokenizer_class")
    named = _named(settings)
    if kind in _QWEN:
        _check_qwen(tokenizer)
        named = dict.fromkeys(("unk_token", "eos_token", "pad_token"), "<|endoftext|>") | named
    elif kind not in _PLAIN:
        raise Unusual(f"its tokenizer is a {sanitise_line(str(kind), 40)}")
    if config["model_type"] == "mistral" and tokenizer.get_vocab_size() > _CHANGED_REGEX_VOCABULARY:
        raise Unusual("its rule for cutting text may be a wrong one")
    tokens = {name: str(_content(token)) for name, token in named.items() if token is not None}
    _check_tokens(tokenizer, settings, named)
    _check_ends(tokenizer, settings, tokens)
    tokenizer.no_truncation()
    tokenizer.no_padding()
    limit = settings.get("model_max_length")
    text = _template(directory, settings)
    return FileTokenizer(
        tokenizer,
        model,
        int(limit) if isinstance(limit, int | float) and 0 < limit < NO_LIMIT else None,
        tokens.get("eos_token"),
        _compiled(text, tokens) if text else None,
    )


def _compiled(text: str, tokens: Mapping[str, str]) -> ChatTemplate:
    from hwdash.engine.worker.template import ChatTemplate

    return ChatTemplate(text, tokens)


def _check_settings(settings: Mapping[str, Any], directory: Path) -> None:
    for key in _ALTERS:
        if settings.get(key):
            raise Unusual(f"{key} of its tokenizer is set")
    if settings.get("backend", "tokenizers") != "tokenizers":
        raise Unusual("its tokenizer is none of the library tokenizers")
    for key, value in settings.items():
        if key.endswith("_token") and key not in _NAMED and isinstance(value, str | dict):
            raise Unusual(f"its tokenizer has a {sanitise_line(key, 40)}")
    for name in ("tekken.json", "added_tokens.json", "additional_chat_templates"):
        if (directory / name).exists():
            raise Unusual(f"its tokenizer comes with {name}")
    others = directory / "special_tokens_map.json"
    if others.exists():
        for key, value in read_object(others).items():
            if _contents(value) != _contents(settings.get(key)):
                raise Unusual(f"its special_tokens_map.json has another {sanitise_line(key, 40)}")


def _check_qwen(tokenizer: Tokenizer) -> None:
    """What transformers builds for Qwen's tokenizers, whatever the file says, must be what the file says."""
    split = pre_tokenizers.Split(Regex(_QWEN_REGEX), behavior="isolated", invert=False)
    level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    cut = pre_tokenizers.Sequence([split, level])
    normal, back = tokenizer.normalizer, tokenizer.decoder
    model = tokenizer.model
    if (
        normal is None
        or normal.__getstate__() != normalizers.NFC().__getstate__()
        or tokenizer.pre_tokenizer is None
        or not _same_cut(tokenizer.pre_tokenizer, cut)
        or not isinstance(back, decoders.ByteLevel)
        or getattr(model, "unk_token", "") is not None
        or any(getattr(model, flag, True) for flag in ("dropout", "fuse_unk", "byte_fallback", "ignore_merges"))
        or any(getattr(model, part, True) for part in ("continuing_subword_prefix", "end_of_word_suffix"))
    ):
        raise Unusual("its tokenizer.json is not as Qwen's are")
    added = sorted(number for number in tokenizer.get_added_tokens_decoder())
    base = tokenizer.get_vocab_size(with_added_tokens=False)
    if [number for number in added if number >= base] != list(range(base, tokenizer.get_vocab_size())):
        raise Unusual("its tokenizer.json has gaps")


def _same_cut(one: pre_tokenizers.PreTokenizer, other: pre_tokenizers.PreTokenizer) -> bool:
    """``trim_offsets`` is about places in the text and not about tokens."""

    def state(cut: pre_tokenizers.PreTokenizer) -> bytes:
        found: bytes = cut.__getstate__()
        return found.replace(b'"trim_offsets":false', b'"trim_offsets":true')

    return state(one) == state(other)


def _check_tokens(tokenizer: Tokenizer, settings: Mapping[str, Any], named: Mapping[str, Any]) -> None:
    """All special tokens that the settings name must be in the file, as they are named."""
    there = tokenizer.get_added_tokens_decoder()
    by_content = {token.content: token for token in there.values()}
    listed = settings.get("added_tokens_decoder", {})
    if not isinstance(listed, dict):
        raise Unusual("its added tokens are no list")
    for number, token in listed.items():
        found = there.get(int(number)) if str(number).isdecimal() else None
        if found is None or not isinstance(token, dict) or not _same(found, token):
            raise Unusual(f"token {sanitise_line(str(number), 20)} is another in its tokenizer.json")
    wanted = [token for token in named.values() if token is not None]
    more = [settings.get(key) or [] for key in _MORE]
    if any(not isinstance(tokens, list) for tokens in more):
        raise Unusual("its special tokens have names of their own")
    for token in (*wanted, *(token for tokens in more for token in tokens)):
        known = by_content.get(str(_content(token)))
        if (
            known is None
            or not known.special
            or known.normalized
            or (isinstance(token, dict) and not _same(known, token))
        ):
            raise Unusual(f"its special token {sanitise_line(str(_content(token)), 40)} is not in its tokenizer.json")


def _check_ends(tokenizer: Tokenizer, settings: Mapping[str, Any], tokens: Mapping[str, str]) -> None:
    """Settings that say what is added before and after a text must agree with the file."""
    bare = tokenizer.encode("a", add_special_tokens=False).ids
    full = tokenizer.encode("a", add_special_tokens=True).ids
    for key, name, found in (
        ("add_bos_token", "bos_token", full[:1]),
        ("add_eos_token", "eos_token", full[-1:]),
    ):
        if settings.get(key) is None:
            continue
        number = tokenizer.token_to_id(tokens[name]) if name in tokens else None
        if bool(settings[key]) != (len(full) > len(bare) and found == [number]):
            raise Unusual(f"{key} of its tokenizer says otherwise than its tokenizer.json")


def _same(found: AddedToken, said: Mapping[str, Any]) -> bool:
    if said.get("content") != found.content:
        return False
    flags = ("single_word", "lstrip", "rstrip", "normalized", "special")
    return all(bool(said[flag]) == getattr(found, flag) for flag in flags if flag in said)


def _named(settings: Mapping[str, Any]) -> dict[str, Any]:
    return {name: settings[name] for name in _NAMED if name in settings}


def _content(token: Any) -> Any:
    return token.get("content") if isinstance(token, dict) else token


def _contents(value: Any) -> Any:
    return [_content(token) for token in value] if isinstance(value, list) else _content(value)


def _template(directory: Path, settings: Mapping[str, Any]) -> str | None:
    path = directory / "chat_template.jinja"
    if path.exists():
        try:
            with path.open("rb") as file:
                text = file.read(_MAX_TEMPLATE_BYTES + 1)
            if len(text) > _MAX_TEMPLATE_BYTES:
                raise Unusual("its chat template is huge")
            return text.decode()
        except (OSError, UnicodeDecodeError):
            raise Unusual("its chat template cannot be read") from None
    given = settings.get("chat_template")
    if given is None or isinstance(given, str):
        return given
    by_name = dict(_pairs(given)) if isinstance(given, list) else {}
    if not isinstance(by_name.get("default"), str):
        raise Unusual("none of its chat templates is the default one")
    return str(by_name["default"])


def _pairs(given: Iterable[Any]) -> Iterable[tuple[Any, Any]]:
    return [(str(one.get("name")), one.get("template")) for one in given if isinstance(one, dict)]
