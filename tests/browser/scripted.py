"""A server with the page and the checks of the real one, whose answers a test writes."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

import uvicorn
from browser.streamed import Chunks, Compare, Stream
from browser.waiting import waited
from pydantic import BaseModel, ValidationError
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from emokernel.affect import TWELVE_STATES, Coordinates
from emokernel.serve.emotions.schemas import ChangeAnswer, ChangeBody, CompareBody, Told
from emokernel.serve.front.errors import NotFoundError
from emokernel.serve.front.exposure import Settings
from emokernel.serve.front.guard import front
from emokernel.serve.front.invalid import invalid
from emokernel.serve.front.refusals import refusal, told
from emokernel.serve.known.schemas import (
    AbilitiesAnswer,
    CalibrationAnswer,
    DefaultsAnswer,
    EmotionAnswer,
    EmotionsAnswer,
    Place,
    ReadAnswer,
    ReadBody,
    Reading,
    TableAnswer,
)
from emokernel.serve.page.routes import page_routes
from emokernel.serve.schemas.chat import ChatBody
from emokernel.serve.schemas.completions import CompletionBody

COMPARE, READ, EMOTIONS = "/v1/emotions/compare", "/v1/emotions/read", "/v1/emotions"
CHAT, COMPLETIONS = "/v1/chat/completions", "/v1/completions"
NAMES = ("joy", "excitement", "anger", "fear", "sadness", "tiredness", "calm", "content")
Body = TypeVar("Body", bound=BaseModel)


def plain_words(side: int, step: int, asked: Any) -> str:
    """Sentences of five words that say how they were asked for, and which word they are."""
    mood = mood_of(asked) if step % 5 else mood_of(asked).capitalize()
    return f"{mood}{step}" + (". " if step % 5 == 4 else " ")


def mood_of(asked: Any) -> str:
    """The name asked for, that of the quarter of the circle, or "plain"."""
    if isinstance(asked, dict) and "emotion" in asked:
        asked = asked["emotion"]
    if isinstance(asked, dict) and "valence" in asked:
        good, awake = asked["valence"] >= 0, asked["arousal"] >= 0
        return {(1, 1): "glad", (0, 1): "cross", (0, 0): "low", (1, 0): "mild"}[good, awake]
    if isinstance(asked, dict):
        return max(asked, key=asked.get) if asked else "plain"
    return asked or "plain"


class Scripted:
    """The server; what it is asked is in ``compares``, ``chats``, ``read`` and ``asked``.

    A test sets what it says (``words``, ``length``, ``names``, ``abilities``, ``key``), whether it
    says it at once (``held`` for streams to come), and what it refuses.
    """

    def __init__(self) -> None:
        self.words, self.length, self.held = plain_words, 12, False
        self.names: Sequence[str] = NAMES
        self.abilities: dict[str, Any] = {
            "chat": True, "sides": 16, "judge": "scripted judge", "max_tokens": 4096,
        }  # fmt: skip
        self.calibration: CalibrationAnswer | None = CalibrationAnswer(
            strength="as a test says", law="preserve", dose="absolute", calibrated_for=[], record={}
        )
        self.key: str | None = None
        self.model = "scripted"
        # Readings of texts: the label of a text, whose place is that of the table.
        self.label: Callable[[str], str] = lambda text: "joy"
        self.compares: list[Compare] = []
        self.chats: list[Chunks] = []
        self.read: list[list[str]] = []
        self.asked: list[tuple[str, str]] = []
        # Paths whose requests wait until they are taken out of here.
        self.slow: set[str] = set()
        self._refused: dict[str, list[Response]] = {}
        self.table = Coordinates.named("russell")
        self._port, self._server, self._thread = 0, None, None

    @property
    def url(self) -> str:
        """Where it listens, or did."""
        return f"http://127.0.0.1:{self._port}"

    def refuse(
        self, path: str, status: int, message: str, *, times: int = 1, **headers: str
    ) -> None:
        """Answer the next requests to ``path`` so; ``retry_after="1"`` becomes a header."""
        head = {name.replace("_", "-"): value for name, value in headers.items()}
        answer = told(status, message, headers=head)
        self._refused.setdefault(path, []).extend([answer] * times)

    def compare(self, number: int = 0) -> Compare:
        """The compare of that number, waited for."""
        return waited(lambda: self.compares[number:][:1], f"compare {number}")[0]

    def chat(self, number: int = 0) -> Chunks:
        """The request of that number to one of OpenAI's endpoints, waited for."""
        return waited(lambda: self.chats[number:][:1], f"request {number}")[0]

    def start(self) -> None:
        """Listen, where it did before if it did."""
        app = front(self._app(), Settings(keys=(self.key,) if self.key else ()))
        config = uvicorn.Config(
            app, log_level="critical", access_log=False, timeout_graceful_shutdown=0, lifespan="off"
        )
        listening = socket.socket()
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(("127.0.0.1", self._port))
        self._port = listening.getsockname()[1]
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(
            target=self._server.run, kwargs={"sockets": [listening]}, daemon=True
        )
        self._thread.start()
        waited(lambda: self._server.started, "the server")

    def stop(self) -> None:
        """Listen no more, then break all connections; harmless the second time."""
        if self._thread is None:
            return
        self._server.should_exit = True
        waited(lambda: not self._listens(), "the end of listening")
        for stream in (*self.compares, *self.chats):
            if not stream.ended:
                stream.tear()
        self.slow.clear()
        self._server.force_exit = True
        self._thread.join(10)
        assert not self._thread.is_alive()
        self._thread = None

    @contextlib.contextmanager
    def gone(self) -> Iterator[None]:
        """Stopped meanwhile."""
        self.stop()
        yield
        self.start()

    def _listens(self) -> bool:
        with socket.socket() as asking:
            return asking.connect_ex(("127.0.0.1", self._port)) == 0

    def _app(self) -> Starlette:
        def post(path: str, answer: Any) -> Route:
            return Route(path, self._guarded(answer), methods=["POST"])

        return Starlette(
            routes=[
                *page_routes(),
                Route(EMOTIONS, self._guarded(self._emotions), methods=["GET"]),
                Route("/health", self._guarded(self._health), methods=["GET"]),
                Route("/ready", self._guarded(self._health), methods=["GET"]),
                post(COMPARE, self._compare),
                post("/v1/emotions/streams/{token}", self._change),
                post(READ, self._read),
                post(CHAT, self._chat),
                post(COMPLETIONS, self._completion),
            ]
        )

    def _guarded(self, answer: Any) -> Any:
        """``answer`` behind what the test wants of its path."""

        async def guarded(request: Request) -> Response:
            path = request.url.path
            self.asked.append((request.method, path))
            while path in self.slow:
                await asyncio.sleep(0.01)
            if self._refused.get(path):
                return self._refused[path].pop(0)
            try:
                return await answer(request)
            except ValidationError as error:
                return refusal(invalid(error.errors()))

        return guarded

    async def _health(self, request: Request) -> Response:
        return JSONResponse({"status": "ok"})

    async def _emotions(self, request: Request) -> Response:
        def one(name: str) -> EmotionAnswer:
            point = self.table.get(name)
            place = {} if point is None else Place.at(point.valence, point.arousal).model_dump()
            return EmotionAnswer(id=name, steered=True, why_not=None, weight=1.0, **place)

        return _answer(
            EmotionsAnswer(
                model=self.model, data=[one(name) for name in self.names], site="block",
                layers=[1, 2], num_layers=4, calibration=self.calibration,
                circumplex=TableAnswer(
                    mapping="wheel", coordinates="russell", source="a test",
                    states=[Place.at(each.valence, each.arousal) for each in TWELVE_STATES],
                ),
                defaults=DefaultsAnswer(law="preserve", dose="absolute", positions="all"),
                abilities=AbilitiesAnswer(**self.abilities), provenance={},
            )
        )  # fmt: skip

    async def _compare(self, request: Request) -> Response:
        body = await _body(request, CompareBody)
        if self.abilities["sides"] is None:
            return refusal(NotFoundError("there is no such path here"))
        stream = Compare(
            body, self.held, token=f"token-{len(self.compares)}", model=self.model,
            words=self.words, length=self.length, told=self._told,
        )  # fmt: skip
        self.compares.append(stream)
        return _streamed(stream)

    async def _change(self, request: Request) -> Response:
        body, token = await _body(request, ChangeBody), request.path_params["token"]
        stream = next((each for each in self.compares if each.token == token), None)
        step = None if stream is None else stream.change(body)
        if step is None:
            return refusal(NotFoundError("there is no such stream, or it has ended"))
        return _answer(ChangeAnswer(from_step=step, emotions=self._told(body["emotions"])))

    async def _read(self, request: Request) -> Response:
        texts = ReadBody.model_validate_json(await request.body()).all_texts()
        self.read.append(texts)
        readings = []
        for index, text in enumerate(texts):
            label = self.label(text)
            point = self.table.get(label)
            place = None if point is None else Place.at(point.valence, point.arousal)
            readings.append(Reading(index=index, label=label, scores={label: 0.9}, place=place))
        return _answer(ReadAnswer(model="scripted judge", coordinates="russell", data=readings))

    async def _chat(self, request: Request) -> Response:
        return self._chunked(await _body(request, ChatBody), chat=True)

    async def _completion(self, request: Request) -> Response:
        return self._chunked(await _body(request, CompletionBody), chat=False)

    def _chunked(self, body: dict[str, Any], chat: bool) -> Response:
        assert body.get("stream"), "the page streams"
        stream = Chunks(
            body, self.held, model=self.model, words=self.words, length=self.length, chat=chat
        )
        self.chats.append(stream)
        return _streamed(stream)

    def _told(self, sides: Sequence[Any]) -> list[Told | None]:
        return [self._one_told(side) for side in sides]

    def _one_told(self, side: Any) -> Told | None:
        fields = side if isinstance(side, dict) and "emotion" in side else {"emotion": side}
        if isinstance(side, dict) and "valence" in side and "emotion" not in side:
            point = {name: side[name] for name in ("valence", "arousal")}
            fields = {**side, "emotion": point}
        emotion = fields["emotion"]
        if emotion is None:
            return None
        parts = {emotion: 1.0} if isinstance(emotion, str) else emotion
        if "valence" in parts:
            place = Place.at(parts["valence"], parts["arousal"])
        else:
            found = self.table.get(max(parts, key=parts.get))
            place = None if found is None else Place.at(found.valence, found.arousal)
        return Told(
            emotion=emotion, strength=fields.get("strength", 1.0),
            law=fields.get("law") or "preserve", dose=fields.get("dose") or "absolute",
            positions=fields.get("positions") or "all", place=place, mix={},
        )  # fmt: skip


async def _body(request: Request, kind: type[Body]) -> dict[str, Any]:
    """The body as it was sent, if it is one that the real server takes."""
    content = await request.body()
    kind.model_validate_json(content)
    return json.loads(content)


def _answer(model: BaseModel) -> Response:
    return Response(model.model_dump_json(), media_type="application/json")


def _streamed(stream: Stream) -> Response:
    return StreamingResponse(stream.sent(), media_type="text/event-stream")
