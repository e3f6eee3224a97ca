"""Tokenizers straight from their files, compared with those of transformers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hwdash.core.errors import UsageError
from tests.engine.text_piece import write_bytes, write_pieces, write_qwen

KINDS = {"bytes": (write_bytes, "llama"), "pieces": (write_pieces, "llama"), "qwen": (write_qwen, "qwen2")}
_SPECIALS = ("<s>", "</s>", "<tool>", "<|im_end|>", "<|endoftext|>", "<unk>", "<0x41>")
_text = st.lists(st.one_of(st.text(st.characters(codec="utf-8"), max_size=12), st.sampled_from(_SPECIALS)), max_size=6)


def _both(directory: Path, model_type: str) -> tuple[Any, Any]:
    from hwdash.engine.worker.tokenizer import read_tokenizer
    from hwdash.engine.worker.vocabulary import read_vocabulary

    config = {"model_type": model_type, "vocab_size": 400}
    (directory / "config.json").write_text(json.dumps(config))
    return read_vocabulary(directory, "tiny", config), read_tokenizer(directory, "tiny")


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Any, Any]]:
    """Our tokenizer and the library's over the same files, by kind."""
    made = {}
    for kind, (write, model_type) in KINDS.items():
        directory = tmp_path_factory.mktemp(kind)
        write(directory)
        made[kind] = _both(directory, model_type)
    return made


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(_text, st.sampled_from(sorted(KINDS)), st.booleans(), st.lists(st.integers(0, 320), max_size=12))
def test_text_and_tokens(
    pairs: dict[str, tuple[Any, Any]], text: list[str], kind: str, special: bool, tokens: list[int]
) -> None:
    ours, theirs = pairs[kind]
    joined = "".join(text)
    made = ours.encode(joined, special)
    assert made == theirs.encode(joined, special)
    assert ours.decode(made) == theirs.decode(made)
    assert ours.decode(tokens) == theirs.decode(tokens)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.tuples(st.sampled_from(["user", "assistant"]), st.text(max_size=20)), min_size=1, max_size=4),
    st.sampled_from(sorted(KINDS)),
)
def test_conversations(pairs: dict[str, tuple[Any, Any]], turns: list[tuple[str, str]], kind: str) -> None:
    ours, theirs = pairs[kind]
    asked = [{"role": role, "content": content} for role, content in turns]
    assert ours.conversation(asked) == theirs.conversation(asked)


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_facts(pairs: dict[str, tuple[Any, Any]], kind: str) -> None:
    ours, theirs = pairs[kind]
    for fact in ("ends", "longest_token", "context_length", "has_template"):
        assert getattr(ours, fact) == getattr(theirs, fact), fact
    assert ours.ends
    told = []
    for one in (ours, theirs):
        with pytest.raises(UsageError) as error:
            one.conversation([{"role": "refused", "content": ""}])
        told.append(str(error.value))
    assert told[0] == told[1]


def test_the_default_model(default_model_root: Path) -> None:
    from hwdash.core.config import DEFAULT_MODEL
    from hwdash.engine.models import ModelStore
    from hwdash.engine.worker.tokenizer import read_tokenizer
    from hwdash.engine.worker.vocabulary import read_vocabulary

    directory = ModelStore(default_model_root).resolve(DEFAULT_MODEL)
    ours = read_vocabulary(directory, "default", json.loads((directory / "config.json").read_text()))
    theirs = read_tokenizer(directory, "default")
    asked = [{"role": "user", "content": "Grüße <|im_end|> 日本語\n\n  2+2?"}]
    text = ours.conversation(asked)
    assert text == theirs.conversation(asked)
    assert ours.encode(text, False) == theirs.encode(text, False)
    assert ours.decode(list(range(2000))) == theirs.decode(list(range(2000)))
    assert (ours.ends, ours.longest_token) == (theirs.ends, theirs.longest_token)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"tokenizer_class": "LlamaTokenizer"}, "LlamaTokenizer"),
        ({"tokenizer_class": None}, "None"),
        ({"add_bos_token": False}, "add_bos_token"),
        ({"add_eos_token": True}, "add_eos_token"),
        ({"add_prefix_space": True}, "add_prefix_space"),
        ({"auto_map": {"AutoTokenizer": ["evil.Tokenizer", None]}}, "auto_map"),
        ({"pad_token": "<pad>"}, "<pad>"),
        ({"extra_special_tokens": {"image_token": "<tool>"}}, "names of their own"),
        ({"image_token": "<tool>"}, "image_token"),
        ({"extra_special_tokens": ["<more>"]}, "<more>"),
        ({"added_tokens_decoder": {"1": {"content": "<other>"}}}, "token 1"),
        ({"chat_template": [{"name": "tools", "template": ""}]}, "default"),
        ({"tokenizer_class": "Qwen2Tokenizer"}, "Qwen"),
    ],
)
def test_what_else_has_a_say(changes: dict[str, Any], told: str, tmp_path: Path) -> None:
    from hwdash.engine.worker.vocabulary import Unusual, read_vocabulary

    write_bytes(tmp_path, **changes)
    with pytest.raises(Unusual, match=told):
        read_vocabulary(tmp_path, "tiny", {"model_type": "llama"})


@pytest.mark.parametrize(("name", "text"), [("tekken.json", "{}"), ("special_tokens_map.json", '{"eos_token": "<s>"}')])
def test_other_files_have_a_say(name: str, text: str, tmp_path: Path) -> None:
    from hwdash.engine.worker.vocabulary import Unusual, read_vocabulary

    write_bytes(tmp_path)
    (tmp_path / name).write_text(text)
    with pytest.raises(Unusual, match=name):
        read_vocabulary(tmp_path, "tiny", {"model_type": "llama"})


@pytest.mark.parametrize("name", ["tokenizer.json", "tokenizer_config.json"])
@pytest.mark.parametrize("content", [None, b"", b"{", b"[]", b'{"model": 3}', b"\xff"])
def test_damaged_files_are_left_to_the_library(name: str, content: bytes | None, tmp_path: Path) -> None:
    from hwdash.engine.worker.vocabulary import Unusual, read_vocabulary

    write_bytes(tmp_path)
    if content is None:
        (tmp_path / name).unlink()
    else:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(Unusual):
        read_vocabulary(tmp_path, "tiny", {"model_type": "llama"})
