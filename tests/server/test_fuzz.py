"""The service under requests made up from its own description, sound and unsound ones: it refuses, and never fails."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from urllib.parse import urlencode

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.errors import Unsatisfiable

pytest.importorskip("fastapi")

from serving import TOKEN, Running, make_world, running

requests = pytest.importorskip("requests")

# `FUZZ=500 pytest tests/server/test_fuzz.py` looks longer.
EXAMPLES = int(os.environ.get("FUZZ", "15"))
# Bytes: h11 reads heads of 64 KiB.
MOST_OF_A_HEAD = 60_000


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with (
        running(make_world(tmp_path_factory.mktemp("fuzzed")).index, token=TOKEN, upload_limit=100_000) as service,
        pytest.MonkeyPatch.context() as patch,
    ):
        upkeep = service.service.upkeep
        patch.setattr(upkeep, "start", lambda: upkeep.now)
        patch.setenv("NO_PROXY", "127.0.0.1")
        yield service


@pytest.mark.slow
@pytest.mark.parametrize("examples", [EXAMPLES, pytest.param(5 * EXAMPLES, marks=pytest.mark.thorough)])
def test_no_request_makes_the_service_fail(served: Running, examples: int) -> None:
    schemathesis = pytest.importorskip("schemathesis")
    description = schemathesis.openapi.from_url(served.url + "openapi.json")
    operations = [operation.ok() for operation in description.get_all_operations()]
    assert len(operations) == 19
    seen: Counter[int] = Counter()
    for operation in operations:
        for mode in (schemathesis.GenerationMode.POSITIVE, schemathesis.GenerationMode.NEGATIVE):
            ask(served, operation, operation.as_strategy(generation_mode=mode), seen, examples=examples)
    assert served.client.get("/health").json()["status"] == "ok"
    assert {200, 404, 422} <= set(seen), seen


def ask(served: Running, operation: object, cases: object, seen: Counter[int], *, examples: int) -> None:
    @settings(
        max_examples=examples,
        deadline=None,
        database=None,
        derandomize=True,
        phases=(Phase.generate,),
        suppress_health_check=list(HealthCheck),
    )
    @given(case=cases)
    def check(case: object) -> None:
        try:
            answer = case.call(base_url=served.url, headers={"Authorization": f"Bearer {TOKEN}"}, timeout=300)
        except requests.exceptions.RequestException:
            # The server answers 400 to a head that it does not read to its end; the answer can be lost with the connection.
            assert len(urlencode(case.query, doseq=True)) > MOST_OF_A_HEAD  # type: ignore[attr-defined]
            return
        seen[answer.status_code] += 1
        assert answer.status_code < 500, (operation, answer.request.url, answer.text)
        if answer.status_code == 400 and answer.text == "Invalid HTTP request received.":
            return  # what is no HTTP never comes to the application
        assert answer.headers["x-content-type-options"] == ["nosniff"]
        if answer.status_code >= 400 and answer.headers["content-type"] == ["application/json"]:
            assert list(answer.json()) == ["error"], answer.text

    with suppress(Unsatisfiable):  # a route without parameters cannot be asked wrongly
        check()
