"""`prvr serve` and `prvr mcp`."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Annotated

import typer

from prvr.cli.index import Index, UrlModel
from prvr.cli.terminal import Device, Json, Method, app, show, warn
from prvr.errors import SettingError, require

GIBIBYTE = 1 << 30


@app.command(epilog="Example: prvr serve gallery --port 8000")
def serve(
    path: Annotated[str, typer.Argument(help="Folder of the index, or of the videos that contain it.", metavar="INDEX")],
    host: Annotated[str, typer.Option(help="Address to listen on; 0.0.0.0 is open to other machines.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on; 0 takes a free one.", min=0, max=65535)] = 8000,
    token: Annotated[
        str, typer.Option(help="Secret that allows adding and deleting videos; without it, both are off.", envvar="PRVR_TOKEN")
    ] = "",
    upload_limit: Annotated[float, typer.Option(help="Largest upload, in GiB.", min=0.001)] = 8.0,
    method: Method = "",
    device: Device = "auto",
    as_json: Json = False,
) -> None:
    """Serve an index: a web page to search and watch, and a REST interface (/openapi.json)."""
    for module in ("fastapi", "uvicorn", "PIL"):
        require(module, extra="serve")
    from prvr.search.opening import is_remote
    from prvr.server.app import make_service
    from prvr.server.guard import OWN_NAMES
    from prvr.server.run import listen, server_of

    if is_remote(path):
        raise SettingError(f"{path} is not a folder; serve a copy of it: prvr index copy {path} FOLDER --model RUN")
    if token and (len(token) < 8 or not token.isascii() or not token.isprintable() or " " in token):
        raise SettingError("the token must be 8 or more ASCII characters without spaces; try: openssl rand -hex 16")
    own = host.strip("[]") in {name.strip("[]") for name in OWN_NAMES}
    with listen(host.strip("[]"), port) as opened:
        service = make_service(
            Path(path),
            token=token,
            upload_limit=round(upload_limit * GIBIBYTE),
            hosts=OWN_NAMES if own else None,
            method=method or None,
            device=device,
        )
        if not own:
            warn({host: "every machine that reaches this address can search and watch all videos of the index"})
        url = f"http://{f'[{host}]' if ':' in host else host}:{opened.getsockname()[1]}/"
        show(as_json, {"url": url, "index": path}, [f"{path} is served at {url}; stop it with Ctrl-C"])
        # Ctrl-C is the normal end.
        with suppress(KeyboardInterrupt):
            server_of(service).run(sockets=[opened])


@app.command(epilog="Example: prvr mcp gallery")
def mcp(
    path: Index,
    write: Annotated[
        Path | None, typer.Option(help="Folder that moments are cut into; without it nothing is written.", metavar="FOLDER")
    ] = None,
    model: UrlModel = None,
    method: Method = "",
    device: Device = "auto",
) -> None:
    """Let an agent search an index: the Model Context Protocol over standard input and output, which a client starts."""
    require("mcp", extra="mcp")
    from prvr.server.agents import serve_agents

    # Ctrl-C and the end of the input are the normal ends.
    with suppress(KeyboardInterrupt):
        serve_agents(path, cuts=write, model=model, method=method or None, device=device)
