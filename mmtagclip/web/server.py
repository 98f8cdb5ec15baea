"""The web page's server. Everything stays in memory; nothing is written to the disk."""

import csv
import io
import json
import secrets
import socket
import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import uvicorn
from PIL import Image
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Route

from ..apis import Analysis, SegResult, TagResult, inferencer_class, zoo_root
from ..apis.analysis import inferencer_of
from ..clip import Vocabulary, parse_names
from ..images import ImageTooLarge, read_image
from ..models import CLIPEncoder, TagCLIP
from ..visualization import draw_masks, draw_tags, mask_legend, overlay

STATIC = Path(__file__).parent / 'static'
EXAMPLES = ('000011', '000027', '000040', '000045')
PAGES = {'/': 'index.html', '/page.css': 'page.css', '/page.js': 'page.js'}
TYPES = {'.html': 'text/html', '.css': 'text/css', '.js': 'text/javascript'}
SHOWN_CLASSES = 12
HEADERS = {
    'Cache-Control': 'no-store',
    'X-Content-Type-Options': 'nosniff',
    'Referrer-Policy': 'no-referrer',
    'X-Frame-Options': 'DENY',
    'Content-Security-Policy': "default-src 'none'; script-src 'self'; style-src 'self'; "
    "img-src 'self' data:; connect-src 'self'; base-uri 'none'; "
    "form-action 'none'",
}


@dataclass(frozen=True)
class Limits:
    """What the server takes.

    Attributes:
        upload_bytes: Of an uploaded file.
        upload_side: Longer side of an uploaded image, in pixels.
        upload_pixels: All its pixels, each of which takes 12 bytes while it is decoded; one
            image is decoded at a time.
        kept_side: Larger images are shrunk to this before anything is done, in pixels.
        encoder_side: And to this for the encoder.
        images: Images that are held in memory; the one that was used longest ago
            goes first.
        names: Class names, and background names, of a question.
        name_length: Characters of one.
    """

    upload_bytes: int = 20_000_000
    upload_side: int = 8192
    upload_pixels: int = 40_000_000
    kept_side: int = 1600
    encoder_side: int = 640
    images: int = 8
    names: int = 200
    name_length: int = 100


@dataclass
class Answer:
    """What was last asked of an image, and the answer.

    Attributes:
        stages: Tags after each step; none where the model has no tagger.
        masks: None where it makes none.
    """

    stages: dict[str, TagResult]
    masks: SegResult | None


@dataclass
class Session:
    """An uploaded image."""

    analysis: Analysis
    answer: Answer | None = None


@dataclass
class Server:
    """The endpoints.

    Attributes:
        model: The tagger or segmentor, or an inferencer of it.
        title: What it is called.
        limits: See :class:`Limits`.

    Raises:
        TypeError: A model of another kind.
    """

    model: Any
    title: str
    limits: Limits = field(default_factory=Limits)

    def __post_init__(self) -> None:
        self.sessions: OrderedDict[str, Session] = OrderedDict()
        # One question at a time: the model and the memory are one.
        self.lock = threading.Lock()
        self.decoding = threading.Lock()
        self.inferencer = inferencer_of(self.model, self.limits.encoder_side)
        self.model = self.inferencer.model
        self.segments = not isinstance(self.model, TagCLIP)
        self.tagger: TagCLIP | None = self.model.tagger if self.segments else self.model
        self.names = self.inferencer.names_for()
        for part in self.model.modules():
            if isinstance(part, CLIPEncoder):
                part.forget_disk()

    def routes(self) -> list[Route]:
        """All of them."""
        return [
            *(Route(path, self.page) for path in PAGES),
            Route('/api/model', self.about),
            Route('/api/image', self.upload, methods=['POST']),
            Route('/api/example/{number:int}', self.example, methods=['POST']),
            Route('/api/example/{number:int}.jpg', self.example_picture),
            Route('/api/{key}/ask', self.ask, methods=['POST']),
            Route('/api/{key}/image.jpg', self.picture),
            Route('/api/{key}/heat.jpg', self.heat),
            Route('/api/{key}/masks.jpg', self.mask_picture),
            Route('/api/{key}/download/{kind}', self.download),
        ]

    async def page(self, request: Request) -> Response:
        """The page, its style and its script."""
        path = STATIC / PAGES[request.url.path]
        return FileResponse(path, media_type=TYPES[path.suffix])

    async def about(self, request: Request) -> Response:
        """What the page has to know of the model."""
        return JSONResponse(
            {
                'title': self.title,
                'segments': self.segments,
                'classes': self.names.vocabulary.names,
                'background': self.names.background.names,
                'threshold': None if self.tagger is None else self.tagger.head.threshold,
                'has_background': self.segments and self.names.with_background,
                'examples': len(example_paths()),
                'upload_bytes': self.limits.upload_bytes,
            }
        )

    async def upload(self, request: Request) -> Response:
        """Take an image, the body of the request, and encode it."""
        limit = self.limits.upload_bytes
        too_large = HTTPException(413, f'the file is larger than {limit / 1e6:.0f} MB')
        if int(request.headers.get('content-length') or 0) > limit:
            raise too_large
        body = bytearray()
        async for chunk in request.stream():
            body += chunk
            if len(body) > limit:
                raise too_large
        name = Path(request.query_params.get('name', 'image')).name[:100] or 'image'
        return await run_in_threadpool(self._encode, bytes(body), name)

    async def example(self, request: Request) -> Response:
        """Encode one of the examples."""
        path = self._example(request)
        return await run_in_threadpool(self._encode, path.read_bytes(), path.name)

    async def example_picture(self, request: Request) -> Response:
        """One of the examples."""
        return FileResponse(self._example(request), media_type='image/jpeg')

    async def ask(self, request: Request) -> Response:
        """Answer a question about an image: JSON of names and thresholds."""
        session = self._session(request)
        body = await request.body()
        if len(body) > 100_000:
            raise HTTPException(413, 'the question is too long')
        try:
            question = json.loads(body)
            classes, background = (
                asked_names(question.get(key), self.limits, own)
                for key, own in (
                    ('classes', self.names.vocabulary),
                    ('background', self.names.background),
                )
            )
            threshold, level = (
                None if question[key] is None else float(question[key])
                for key in ('threshold', 'background_level')
            )
        except (KeyError, TypeError, AttributeError, json.JSONDecodeError) as error:
            raise HTTPException(400, f'a question that cannot be read: {error!r}') from None
        except (ValueError, FileNotFoundError) as error:
            raise HTTPException(400, str(error)) from None
        return await run_in_threadpool(self._answer, session, classes, background, threshold, level)

    async def picture(self, request: Request) -> Response:
        """The image itself."""
        return await run_in_threadpool(jpeg, self._session(request).analysis.pixels)

    async def heat(self, request: Request) -> Response:
        """The image with the heat map of a class after a step."""
        session, answer = self._answered(request)
        result = answer.stages.get(request.query_params.get('step', ''))
        name = request.query_params.get('name', '')
        if result is None or result.score_maps is None or name not in result.classes:
            raise HTTPException(404, 'no such heat map')
        one = result.score_maps[result.classes.index(name)]
        return await run_in_threadpool(jpeg, overlay(session.analysis.pixels, one))

    async def mask_picture(self, request: Request) -> Response:
        """The image with its masks; the page has the legend."""
        session, answer = self._answered(request)
        if answer.masks is None:
            raise HTTPException(404, 'this model makes no masks')
        return await run_in_threadpool(lambda: jpeg(self._draw_masks(session, answer, False)))

    async def download(self, request: Request) -> Response:
        """The results as a file: tags.json, tags.csv, tags.png, masks.json, masks.png, mask.png."""
        session, answer = self._answered(request)
        kind = request.path_params['kind']
        content = await run_in_threadpool(self._file, session, answer, kind)
        if content is None:
            raise HTTPException(404, 'no such file')
        stem = ''.join(
            c if c.isalnum() and c.isascii() else '_' for c in Path(session.analysis.name).stem
        )
        media = {'json': 'application/json', 'csv': 'text/csv', 'png': 'image/png'}
        return Response(
            content,
            media_type=media[kind.rsplit('.')[-1]],
            headers={'Content-Disposition': f'attachment; filename="{stem}_{kind}"'},
        )

    def _encode(self, content: bytes, name: str) -> Response:
        with self.decoding:
            pixels = decode(content, self.limits)
        with self.lock:
            analysis = self._analysis(pixels, name)
            key = secrets.token_urlsafe(16)
            self.sessions[key] = Session(analysis)
            while len(self.sessions) > self.limits.images:
                self.sessions.popitem(last=False)
        height, width = pixels.shape[:2]
        return JSONResponse({'key': key, 'name': name, 'width': width, 'height': height})

    def _analysis(self, pixels: np.ndarray, name: str) -> Analysis:
        try:
            return Analysis(self.inferencer, pixels, name)
        except ValueError as error:  # such as an image smaller than a window
            raise HTTPException(400, str(error)) from None

    def _answer(
        self,
        session: Session,
        classes: Vocabulary | None,
        background: Vocabulary | None,
        threshold: float | None,
        level: float | None,
    ) -> Response:
        try:
            with self.lock:
                # No classes at all means the model's own; no background is no background.
                names = self.inferencer.names_for(classes or None, background)
                stages = session.analysis.stages(names, threshold)
                final = list(stages.values())[-1] if stages else None
                masks = session.analysis.masks(names, final, level) if self.segments else None
                session.answer = Answer(stages, masks)
        except ValueError as error:
            raise HTTPException(400, str(error)) from None
        answer: dict[str, Any] = {
            'stages': [self._stage(step, one) for step, one in stages.items()]
        }
        if masks is not None:
            answer['masks'] = [
                {'name': one.name, 'share': one.share, 'colour': one.colour}
                for one in mask_legend(masks.mask, masks.classes, masks.palette, masks.background)
            ]
        return JSONResponse(answer)

    def _stage(self, step: str, result: TagResult) -> dict[str, Any]:
        """A step's tags, and further classes up to a number, from the highest score on."""
        order = np.argsort(-result.scores, kind='stable').tolist()
        tags = set(result.labels.tolist())
        shown = [
            label for place, label in enumerate(order) if label in tags or place < SHOWN_CLASSES
        ]
        return {
            'step': step,
            'maps': result.score_maps is not None and step != 'CWR',
            'classes': [
                {
                    'name': result.classes[label],
                    'score': float(result.scores[label]),
                    'tag': label in tags,
                }
                for label in shown
            ],
        }

    def _file(self, session: Session, answer: Answer, kind: str) -> str | bytes | None:
        if answer.stages and kind.startswith('tags.'):
            return self._tags_file(session, answer, kind)
        if answer.masks is None:
            return None
        if kind == 'masks.json':
            return answer.masks.to_json()
        if kind == 'mask.png':
            return answer.masks.mask_png()
        if kind == 'masks.png':
            return png(self._draw_masks(session, answer))
        return None

    def _tags_file(self, session: Session, answer: Answer, kind: str) -> str | bytes | None:
        final = list(answer.stages.values())[-1]
        if kind == 'tags.json':
            record = final.to_dict(all_scores=True)
            record['steps'] = {step: one.to_dict() for step, one in answer.stages.items()}
            return json.dumps(record, indent=2, ensure_ascii=False)
        if kind == 'tags.csv':
            buffer = io.StringIO()
            table = csv.DictWriter(buffer, ['image', 'tag', 'score'])
            table.writeheader()
            table.writerows(final.rows())
            return buffer.getvalue()
        if kind == 'tags.png':
            maps = None if final.score_maps is None else final.score_maps[final.labels]
            return png(
                draw_tags(
                    session.analysis.pixels,
                    [final.classes[label] for label in final.labels],
                    final.scores[final.labels].tolist(),
                    maps,
                )
            )
        return None

    def _draw_masks(self, session: Session, answer: Answer, with_legend: bool = True) -> np.ndarray:
        masks = answer.masks
        if masks is None:
            raise HTTPException(404, 'this model makes no masks')
        return draw_masks(
            session.analysis.pixels,
            masks.mask,
            masks.classes,
            masks.palette,
            masks.background,
            with_legend=with_legend,
        )

    def _session(self, request: Request) -> Session:
        key = request.path_params['key']
        with self.lock:
            if key not in self.sessions:
                raise HTTPException(404, 'this image is no longer held here; load it again')
            self.sessions.move_to_end(key)
            return self.sessions[key]

    def _answered(self, request: Request) -> tuple[Session, Answer]:
        session = self._session(request)
        if session.answer is None:
            raise HTTPException(404, 'nothing was asked of this image yet')
        return session, session.answer

    def _example(self, request: Request) -> Path:
        paths = example_paths()
        number = request.path_params['number']
        if number >= len(paths):
            raise HTTPException(404, 'no such example')
        return paths[number]


def make_app(
    model: Any,
    title: str = 'mmtagclip',
    limits: Limits | None = None,
    hosts: tuple[str, ...] = ('localhost', '127.0.0.1', '[::1]'),
) -> Starlette:
    """The web application.

    Args:
        model: A tagger or segmentor, or an inferencer of it.
        title: What it is called on the page.
        limits: What it takes.
        hosts: Names that the server answers to, so that a page elsewhere can't
            reach it under a name of its own; ``('*',)`` for all.
    """
    server = Server(model, title, limits or Limits())
    app = Starlette(
        routes=server.routes(),
        exception_handlers={HTTPException: _error},
        middleware=[
            Middleware(TrustedHostMiddleware, allowed_hosts=list(hosts)),
            Middleware(_Guard),
        ],
    )
    app.state.server = server
    return app


def serve(
    title: str,
    host: str,
    port: int,
    device: str | None,
    config: Any,
    max_side: int | None = None,
    ready: Callable[[str], None] | None = None,
    weights: str | None = None,
) -> None:
    """Serve the page until interrupted.

    Args:
        title: What the model is called.
        host: Address to listen on.
        port: And its port; 0 for any that is free.
        device: See :class:`mmtagclip.apis.TagInferencer`.
        config: The model's config.
        max_side: Larger images are shrunk for the encoder, in pixels.
        ready: Called with the page's address before the first request.
        weights: See :class:`mmtagclip.apis.TagInferencer`.

    Raises:
        OSError: The address can't be listened on; the message says why.
    """
    shown = f'[{host}]' if ':' in host else host
    listening = socket.socket(socket.AF_INET6 if ':' in host else socket.AF_INET)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((host, port))
    except OSError as error:
        listening.close()
        raise OSError(f'can not listen on {shown}:{port}: {error.strerror}') from None
    limits = Limits() if max_side is None else Limits(encoder_side=max_side)
    model = inferencer_class(config)(
        config, weights, device, max_side=limits.encoder_side, show_progress=False
    )
    listening.listen()  # a browser that comes before the server is ready waits
    hosts = ('localhost', '127.0.0.1', '[::1]', shown) if is_loopback(host) else ('*',)
    if ready is not None:
        ready(f'http://{shown}:{listening.getsockname()[1]}')
    uvicorn.Server(uvicorn.Config(make_app(model, title, limits, hosts), log_level='warning')).run(
        sockets=[listening]
    )


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach an address."""
    return host in ('localhost', '::1') or host.startswith('127.')


def example_paths() -> list[Path]:
    """Scenes of the demo."""
    folder = zoo_root() / 'demo' / 'data' / 'JPEGImages'
    return [folder / f'{name}.jpg' for name in EXAMPLES]


def asked_names(text: str | None, limits: Limits, own: Vocabulary) -> Vocabulary | None:
    """Names that were typed.

    Args:
        text: What was typed; None for the model's own.
        limits: How many, and how long.
        own: The model's. Where the same ones were typed, it is these that are meant,
            with their synonyms.

    Returns:
        The names; None for the model's own.

    Raises:
        FileNotFoundError: A name looks like a file, and the page reads none.
        ValueError: Too many, or too long a one.
    """
    if text is None:
        return None
    names = parse_names(str(text), files=False)
    if names.names == own.names:
        return None
    if len(names) > limits.names:
        raise ValueError(f'{len(names)} names are more than the {limits.names} that are taken')
    for name in names.names:
        if len(name) > limits.name_length:
            raise ValueError(f'a name has more than {limits.name_length} characters: {name[:30]}…')
    return names


def decode(content: bytes, limits: Limits) -> np.ndarray:
    """An uploaded file as ``(H, W, 3)`` uint8 RGB, upright, shrunk to the size that is kept.

    Raises:
        HTTPException: It is no image, damaged or too large.
    """
    try:
        pixels = read_image(content, limits.upload_side, limits.upload_pixels, 'this file')
    except ImageTooLarge as error:
        raise HTTPException(413, str(error)) from None
    except ValueError:
        raise HTTPException(400, 'this file is no image, or a damaged one') from None
    shrunk = Image.fromarray(pixels)
    shrunk.thumbnail((limits.kept_side, limits.kept_side), Image.Resampling.BICUBIC)
    return np.array(shrunk)


def jpeg(pixels: np.ndarray, side: int = 800) -> Response:
    """A picture for the page, shrunk to a size."""
    image = Image.fromarray(pixels)
    image.thumbnail((side, side))
    buffer = io.BytesIO()
    image.save(buffer, format='JPEG', quality=88)
    return Response(buffer.getvalue(), media_type='image/jpeg')


def png(pixels: np.ndarray) -> bytes:
    """A picture as a file."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format='PNG')
    return buffer.getvalue()


async def _error(request: Request, error: Any) -> Response:
    return JSONResponse({'error': error.detail}, status_code=error.status_code)


class _Guard:
    """Refuse what pages of other origins send, and put the safety headers on every response."""

    def __init__(self, app: Any) -> None:
        self.app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope['type'] != 'http':
            await self.app(scope, receive, send)
            return

        async def send_with_headers(message: Any) -> None:
            if message['type'] == 'http.response.start':
                message.setdefault('headers', []).extend(
                    (key.lower().encode(), value.encode()) for key, value in HEADERS.items()
                )
            await send(message)

        request = Request(scope)
        origin = request.headers.get('origin')
        if origin is not None and urlsplit(origin).netloc != request.headers.get('host'):
            response = JSONResponse({'error': 'requests of other pages are refused'}, 403)
            await response(scope, receive, send_with_headers)
            return
        await self.app(scope, receive, send_with_headers)
