"""The service as an ASGI application."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import FileResponse, JSONResponse
from starlette.staticfiles import StaticFiles

from prvr.errors import NoSpace, PrvrError, SettingError
from prvr.index.place import index_folder_of
from prvr.server import media, reading, writing
from prvr.server.cutting_process import CuttingProcesses
from prvr.server.guard import Guard
from prvr.server.index_service import IndexService
from prvr.server.local import LocalSocket
from prvr.server.proxies import Proxies
from prvr.server.request_counts import RequestCounts
from prvr.server.service import Service
from prvr.server.thumbnails import Thumbnails
from prvr.server.upkeep import Upkeep

UPLOAD_LIMIT = 8 << 30
PAGE = Path(__file__).parent / "page"


def make_service(
    index: Path,
    *,
    token: str = "",
    upload_limit: int = UPLOAD_LIMIT,
    hosts: Collection[str] | None = None,
    method: str | type | None = None,
    device: str = "cpu",
) -> Service:
    """A service of an index.

    Args:
        method: of its checkpoint, as in `checkpoint.load`; required for an external method that is not installed.

    Raises:
        PrvrError: the index cannot be opened.
    """
    index = index_folder_of(index).resolve()
    opened = IndexService(index, method=method, device=device)
    thumbnails, proxies = Thumbnails(index / "thumbnails"), Proxies(index / "proxies")
    upkeep = Upkeep(index, opened, device=device)
    local = LocalSocket(index, device=device, answer=opened.answer)
    return Service(opened, thumbnails, CuttingProcesses(), proxies, upkeep, local, RequestCounts(), token, upload_limit, hosts)


def make_app(service: Service) -> Guard:
    """The ASGI application of a service."""
    app = _described()
    app.state.service = service
    app.add_route("/", _page, methods=["GET", "HEAD"], include_in_schema=False)
    app.mount("/", StaticFiles(directory=PAGE))
    app.add_exception_handler(HTTPException, _refuse)
    app.add_exception_handler(RequestValidationError, _refuse_invalid)
    app.add_exception_handler(PrvrError, _report_error)
    app.add_exception_handler(Exception, _report_failure)
    return Guard(app, counts=service.counts, hosts=service.hosts)


def description() -> dict[str, Any]:
    """The OpenAPI description of the interface, as /openapi.json of every service."""
    return _described().openapi()


def _described() -> FastAPI:
    app = FastAPI(
        title="prvr",
        version=version("prvr"),
        summary="Type a sentence; get the video that contains the moment, and where in it.",
        docs_url=None,  # its page would fetch scripts from other hosts
        redoc_url=None,
        redirect_slashes=False,
        lifespan=_lifespan,
    )
    for routes in (reading.router, media.router, writing.router):
        app.include_router(routes)
    return app


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    service: Service = app.state.service
    writing.drop_leftovers(service.index.folder)
    service.thumbnails.warm_up()
    await service.local.open()
    yield
    await service.local.close()
    await service.upkeep.close()
    service.thumbnails.close()
    service.cutting.close()
    service.proxies.close()
    service.index.close()


async def _page(request: Request) -> FileResponse:
    return FileResponse(PAGE / "index.html")


async def _refuse(request: Request, problem: Exception) -> JSONResponse:
    assert isinstance(problem, HTTPException)
    return JSONResponse({"error": problem.detail}, problem.status_code, problem.headers)


async def _refuse_invalid(request: Request, problem: Exception) -> JSONResponse:
    assert isinstance(problem, RequestValidationError)
    first = problem.errors()[0]
    where = ".".join(str(part) for part in first["loc"][1:])
    return JSONResponse({"error": f"{where}: {first['msg']}; /openapi.json describes the parameters"}, 422)


async def _report_error(request: Request, problem: Exception) -> JSONResponse:
    # A setting comes from the client; any other error is one of the index or its model, and may be temporary.
    status = 422 if isinstance(problem, SettingError) else 507 if isinstance(problem, NoSpace) else 503
    return JSONResponse({"error": request.app.state.service.index.without_paths(str(problem))}, status)


async def _report_failure(request: Request, problem: Exception) -> JSONResponse:
    # uvicorn closes the connection after an error; a client must not send its next request on it.
    return JSONResponse({"error": "the service failed at this request; see its log"}, 500, {"Connection": "close"})
