"""What a worker says of the precision and the memory of its weights."""

from __future__ import annotations

from pathlib import Path

import pytest

from hwdash.engine.message import Load


@pytest.mark.parametrize("direct", [True, False])
def test_weights_in_eight_bits_are_told_as_such(
    tiny_model: Path, direct: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    from hwdash.engine.worker import start as module
    from hwdash.engine.worker.loading import load_model
    from hwdash.engine.worker.quantized import available

    if not available():
        pytest.skip("this processor has no kernels for 8 bits")
    monkeypatch.setattr(module, "load_model", lambda load, report: load_model(load, report, direct=direct))
    told = {}
    for quantize in (False, True):
        load = Load(str(tiny_model), "tiny", "cpu", "fp32", threads=1, slots=2, quantize=quantize)
        _, decoder, ready = module.start(load, 0.0, lambda *_: None)
        assert decoder.kind == "eager"
        told[quantize] = ready.model
    assert (told[False].dtype, told[True].dtype) == ("fp32", "int8")
    # A byte for one row and two for several, where these take four exactly; the embedding is the same.
    read = told[True].read_bytes
    assert read is not None
    assert 3 * read < told[True].memory_bytes < told[False].memory_bytes


def test_the_librarys_own_pass_holds_what_it_read(tiny_model: Path) -> None:
    from hwdash.engine.worker.held import held
    from hwdash.engine.worker.library import LibraryDecoder
    from hwdash.engine.worker.loading import load_model

    model = load_model(Load(str(tiny_model), "tiny", "cpu", "fp32", threads=1), lambda *_: None, direct=False)
    assert held(model, LibraryDecoder(model, 1)) == ("fp32", model.memory_bytes)
