"""The HTTP interface of the page, and the server.

    GET  /                                 the page; its parts under /assets/
    GET  /api/page                         methods, pictures, size (JSON)
    GET  /api/scenes/KEY.png               a picture
    POST /api/uploads?crop=true            body: a PNG or JPEG file -> the picture (JSON)
    POST /api/answers                      body: `Asked` as JSON -> an answer (JSON): its key, frames, seconds, note
    GET  /api/answers/KEY.png              its frames x0..xT below each other, a PNG
    GET  /api/answers/KEY/clip.FORM        a file to keep; ?scale=8&poke=true&beside=KEY

Errors are {"error": one sentence}. Nothing that a browser sends is used as a path or written to disk.
"""
# No postponed annotations here: FastAPI reads those of functions inside functions, where it could not resolve names.

import socket
from collections.abc import Callable
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from bench.poke_page.errors import PageError
from bench.poke_page.guard import Guard, is_loopback, is_wildcard
from bench.poke_page.saving import TYPES, save, strip
from bench.poke_page.session import MOST_UPLOAD, Session
from metrics.errors import PokeBenchError

if TYPE_CHECKING:
    from fastapi import FastAPI, Request
    from uvicorn import Server

MOST_JSON = 4096
"""Largest body of any other request, bytes."""
PARTS = {
    "index.html": "text/html; charset=utf-8",
    "page.css": "text/css; charset=utf-8",
    "icon.svg": "image/svg+xml",
    **{
        f"{name}.js": "text/javascript; charset=utf-8"
        for name in ("page", "api", "panel", "player", "poke", "saving", "pictures")
    },
}
"""File of the page -> media type."""


class Asked(BaseModel):
    """One poke: keys of method and picture, location (x, y) and displacement (dx, dy) in px."""

    model_config = ConfigDict(extra="forbid")

    method: str
    scene: str
    location: tuple[float, float]
    displacement: tuple[float, float]
    seed: int = Field(default=0, ge=0, lt=2**31)


def make_app(session: Session, host: str = "127.0.0.1") -> Guard:
    """The page of `session` as an ASGI application that answers to the name `host`."""
    from fastapi import FastAPI
    from fastapi.responses import JSONResponse

    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    _add_page(app, session)
    _add_answers(app, session)

    @app.exception_handler(PokeBenchError)
    def refused(request: Any, error: PokeBenchError) -> JSONResponse:
        status, crop = (error.status, error.crop) if isinstance(error, PageError) else (422, None)
        return JSONResponse({"error": str(error)} if crop is None else {"error": str(error), "crop": crop}, status)

    @app.exception_handler(404)
    @app.exception_handler(405)
    def not_there(request: Any, error: Any) -> JSONResponse:
        return JSONResponse({"error": "There is nothing at this address; reload the page."}, error.status_code)

    @app.exception_handler(Exception)  # the server prints the traceback; the page gets one sentence
    def broken(request: Any, error: Exception) -> JSONResponse:
        told = (str(error).strip() or "no message").splitlines()[0]
        reason = f"This failed with {type(error).__name__}: {told} (the terminal shows where)."
        return JSONResponse({"error": reason}, 500)

    return Guard(app, host)


def _add_page(app: "FastAPI", session: Session) -> None:
    """The page itself, pictures and uploads."""
    from fastapi import Request, Response
    from fastapi.concurrency import run_in_threadpool

    folder = files("bench.poke_page") / "assets"
    parts = {name: (folder / name).read_bytes() for name in PARTS}

    @app.get("/")
    def index() -> Response:
        return Response(parts["index.html"], media_type=PARTS["index.html"])

    @app.get("/assets/{name}")
    def part(name: str) -> Response:
        if name not in parts:
            raise PageError("There is no such part of the page; reload it.", 404)
        return Response(parts[name], media_type=PARTS[name])

    @app.get("/api/page")
    def page() -> dict[str, Any]:
        return session.describe()

    @app.get("/api/scenes/{key}.png")
    def scene(key: str) -> Response:
        return Response(strip(session.scene(key).x0.permute(1, 2, 0)[None].numpy()), media_type="image/png")

    @app.post("/api/uploads")
    async def upload(request: Request) -> dict[str, Any]:
        wanted = "a PNG or JPEG image"
        data = await read_body(request, ("image/png", "image/jpeg"), wanted, MOST_UPLOAD)
        return await run_in_threadpool(session.upload, data, request.query_params.get("crop") == "true")


def _add_answers(app: "FastAPI", session: Session) -> None:
    """Pokes, and what methods answer."""
    from fastapi import Request, Response
    from fastapi.concurrency import run_in_threadpool

    @app.post("/api/answers")
    async def ask(request: Request) -> dict[str, Any]:
        body = await read_body(request, ("application/json",), "JSON", MOST_JSON)
        try:
            asked = Asked.model_validate_json(body)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"])) or "the whole"
            raise PageError(f"This is no poke: {where}: {first['msg']}.") from error
        return await run_in_threadpool(
            session.ask, asked.method, asked.scene, asked.location, asked.displacement, asked.seed
        )

    @app.get("/api/answers/{key}.png")
    def frames(key: str) -> Response:
        return Response(strip(session.answers.get(key).frames), media_type="image/png")

    @app.get("/api/answers/{key}/clip.{form}")
    def clip(key: str, form: str, request: Request) -> Response:
        scale, beside = request.query_params.get("scale", "1"), request.query_params.get("beside")
        if not scale.isascii() or not scale.isdecimal():
            raise PageError(f"Expected a whole number as scale, found {scale[:20]!r}.")
        answers = [session.answers.get(name) for name in (key, *([beside] if beside else []))]
        data, name = save(answers, form, int(scale), request.query_params.get("poke") == "true")
        return Response(data, media_type=TYPES[form], headers={"content-disposition": f'attachment; filename="{name}"'})


async def read_body(request: "Request", kinds: tuple[str, ...], wanted: str, most: int) -> bytes:
    """The body of a request, of at most `most` bytes; nothing beyond is kept.

    Raises:
        PageError: it is of none of the media types `kinds` (the message says what is `wanted`), or longer.
    """
    found = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if found not in kinds:
        raise PageError(f"Expected {wanted}, found {found[:60] or 'something unnamed'}; choose another file.", 415)
    large = PageError(f"Expected at most {most / 2**20:.3g} MiB, found more; make it smaller.", 413)
    stated = request.headers.get("content-length", "0")
    if stated.isdecimal() and int(stated[:20]) > most:
        raise large
    body = bytearray()
    async for chunk in request.stream():
        if len(body) + len(chunk) > most:
            raise large
        body += chunk
    return bytes(body)


def make_server(session: Session, host: str, port: int) -> "tuple[Server, socket.socket]":
    """A server that is ready to run on a socket that listens already; port 0: a free one.

    Raises:
        PageError: the address is not of this machine, or the port is taken.
    """
    from uvicorn import Config, Server

    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        listening = socket.create_server((host, port), family=family)
    except (OSError, OverflowError) as error:
        reason = str(getattr(error, "strerror", None) or error).partition(" (")[0]
        raise PageError(f"cannot serve on {host} port {port}: {reason}. Give another --port or --host.") from error
    config = Config(
        make_app(session, host), log_level="warning", access_log=False, server_header=False, timeout_graceful_shutdown=2
    )
    return Server(config), listening


def serve(session: Session, host: str, port: int, say: Callable[[str], None]) -> None:
    """Serves the page until it is interrupted; `say` is called with what the user must know.

    Raises:
        PageError: as `make_server`.
    """
    server, listening = make_server(session, host, port)
    shown = "localhost" if is_wildcard(host) else f"[{host}]" if ":" in host else host
    with listening:
        if not is_loopback(host):
            say(f"warning: everyone who can reach {host} can open this page, run these methods, and upload pictures")
        say(f"methods: {', '.join(predictor.label for predictor in session.predictors.values())}")
        say(f"open http://{shown}:{listening.getsockname()[1]}/ (Ctrl-C ends it)")
        server.run(sockets=[listening])
