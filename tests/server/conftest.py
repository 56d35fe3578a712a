"""The small world of `serving`, its service, and a tab of a browser on the page of it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from browsing import Tab
    from serving import Running, World


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    # Imported where it is used: without the service's libraries, modules of tests are skipped by their own first lines.
    from serving import make_world

    return make_world(tmp_path_factory.mktemp("served"))


@pytest.fixture(scope="module")
def served(world: World) -> Iterator[Running]:
    from serving import running

    with running(world.index) as service:
        yield service


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    from browsing import chromium

    with chromium() as launched:
        yield launched


@pytest.fixture
def context(browser: Any) -> Iterator[Any]:
    made = browser.new_context(viewport={"width": 1200, "height": 800})
    made.set_default_timeout(300_000)
    yield made
    made.close()


@pytest.fixture
def tab(context: Any, served: Running) -> Iterator[Tab]:
    """A tab that must not fail, and must ask the service alone."""
    from browsing import Tab

    opened = Tab(context, served.url)
    yield opened
    assert opened.faults == []
    assert {address for address in opened.requests if not address.startswith((served.url, "data:", "blob:"))} == set()
