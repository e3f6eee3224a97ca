"""The OpenAPI document says what the daemon does: schemathesis finds no difference."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hwdash.core.wire import loads
from hwdash.daemon.document import OPERATIONS
from tests.daemon.living import living
from tests.daemon.openai_harness import answering

CONFIG = Path(__file__).with_name("schemathesis.toml")


def references(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        if isinstance(value.get("$ref"), str):
            yield value["$ref"]
        for item in value.values():
            yield from references(item)
    elif isinstance(value, list):
        for item in value:
            yield from references(item)


async def document() -> Any:
    async with living() as daemon:
        status, head, body = await daemon.ask("GET", "/openapi.json")
        assert status == 200
        assert "content-type: application/json" in head
        return loads(body)


async def test_every_path_is_described() -> None:
    made = await document()
    served = {(method.upper(), path) for path, item in made["paths"].items() for method in item}
    assert served == set(OPERATIONS)
    for item in made["paths"].values():
        for operation in item.values():
            assert {"401", "403", "421", "431", "500", "503"} < set(operation["responses"])
            assert (
                ("requestBody" in operation) == ("408" in operation["responses"]) == ("413" in operation["responses"])
            )
            assert operation["description"]
            assert "HTTPValidationError" not in str(operation)


async def test_every_reference_leads_somewhere() -> None:
    made = await document()
    names = set(made["components"]["schemas"])
    assert {reference.removeprefix("#/components/schemas/") for reference in references(made)} <= names
    assert made["openapi"].startswith("3.1")


async def test_bodies_have_the_bounds_of_the_code() -> None:
    schemas = (await document())["components"]["schemas"]
    chat = schemas["ChatBody"]
    assert chat["required"] == ["messages"]
    assert chat["additionalProperties"] is False
    assert chat["properties"]["temperature"]["anyOf"][0] == {"type": "number", "minimum": 0.0, "maximum": 2.0}
    assert chat["properties"]["tools"]["anyOf"][0]["maxItems"] == 0
    assert set(schemas["HwdashBody"]["properties"]) == {"device", *schemas["RequirementBody"]["properties"]}


async def test_schemathesis_finds_nothing(tmp_path: Path) -> None:
    def search(url: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        program = str(Path(sys.executable).with_name("schemathesis"))
        options = ["--exclude-path", "/api/v1/stream", "--generation-deterministic", "--no-color", "--workers", "2"]
        # A right request for a soak lasts as long as it says: minutes.
        options += ["--exclude-operation-id", "soak_api_v1_soak_post"]
        return subprocess.run(
            [program, "--config-file", str(CONFIG), "run", f"{url}/openapi.json", *options, *arguments],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=170,
            check=False,
        )

    async with answering() as (daemon, url):
        daemon.service.bencher.idle_s = daemon.service.bencher.energy_s = 0.0
        done = await asyncio.to_thread(search, url, "--phases", "examples,fuzzing", "--max-examples", "10")
        assert done.returncode == 0, done.stdout
        done = await asyncio.to_thread(search, url, "--phases", "coverage", "--include-path", "/v1/chat/completions")
        assert done.returncode == 0, done.stdout
