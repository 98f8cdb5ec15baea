"""The web page's server. Everything stays in memory; nothing is written to the disk."""

import asyncio
import csv
import gc
import io
import json
import re
import secrets
import socket
import sys
from collections import Counter, OrderedDict
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, is_dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Route

from ..apis import Analysis, SegResult, TagResult, inferencer_class, zoo_root
from ..apis.analysis import inferencer_of
from ..apis.demo_model import demo_notice
from ..clip import Vocabulary, load_templates, parse_names
from ..images import ImageTooLarge, read_image
from ..models import TagCLIP
from ..visualization import draw_masks, draw_tags, mask_legend, overlay
from .connections import make_server
from .guard import BUSY, RETRY, Guard, error_of
from .limits import Limits

STATIC = Path(__file__).parent / 'static'
# Scenes that come out right: tools/dev/choose_scenes.py measures all of them.
EXAMPLES = ('000077', '000086', '000040', '000088')
PAGES = {'/': 'index.html', '/page.css': 'page.css', '/page.js': 'page.js'}
TYPES = {'.html': 'text/html', '.css': 'text/css', '.js': 'text/javascript'}
SHOWN_CLASSES = 12
SHOWN_SIDE = 800
COOKIE = 'mmtagclip_visitor'


@dataclass
class Answer:
    """The last question about an image, answered.

    Attributes:
        stages: Tags after each step; none if the model has no tagger.
        masks: None if the model makes none.
    """

    stages: dict[str, TagResult]
    masks: SegResult | None


@dataclass
class Session:
    """An uploaded image.

    Attributes:
        analysis: The encoded image.
        visitor: Whose it is.
        shown: ``(H, W, 3)`` uint8 RGB, in the size of the page.
        preview: The same as a JPEG file.
        answer: None before the first question.
        size: Memory of it all, in bytes.
    """

    analysis: Analysis
    visitor: str
    shown: np.ndarray
    preview: bytes
    answer: Answer | None = None
    size: int = 0

    def measure(self) -> None:
        """Find the size."""
        self.size = held_bytes([self.analysis, self.answer, self.shown]) + len(self.preview)


class Line:
    """Work that is done in turn, in threads. Who waits holds no thread.

    Args:
        workers: How much is done at once.
        waiting: How many may wait or work; None for any number. The second half of these
            places is only for clients that hold less than a quarter of all.
    """

    def __init__(self, workers: int = 1, waiting: int | None = None) -> None:
        self._turn = asyncio.Semaphore(workers)
        self._waiting = waiting
        self._places: Counter[str] = Counter()

    @asynccontextmanager
    async def place(self, request: Request) -> AsyncIterator[None]:
        """A place in the line.

        Raises:
            HTTPException: It is too long, or the client holds too much of it.
        """
        client = '' if request.client is None else request.client.host
        if self._waiting is not None:
            taken, own = self._places.total(), self._places[client]
            if taken >= self._waiting or (taken >= self._waiting / 2 and own >= self._waiting / 4):
                raise HTTPException(429, BUSY, RETRY)
        self._places[client] += 1
        try:
            yield
        finally:
            self._places[client] -= 1
            if not self._places[client]:
                del self._places[client]

    async def run(self, request: Request, work: Callable, *args: Any) -> Any:
        """Do a piece of work when its turn comes.

        Raises:
            ClientDisconnect: Nobody waits for it any more.
        """
        async with self._turn:
            if await request.is_disconnected():
                raise ClientDisconnect
            return await run_in_threadpool(work, *args)


@dataclass
class Server:
    """The endpoints.

    All state is read and changed on the event loop only, so it needs no lock. The model, the
    decoder, the reading of questions and the drawings run in threads, each in a line of its own.

    Attributes:
        model: A tagger or segmentor, or an inferencer of it.
        title: The model's name on the page.
        limits: See :class:`Limits`.

    Raises:
        TypeError: The model is of another kind.
    """

    model: Any
    title: str
    limits: Limits = field(default_factory=Limits)

    def __post_init__(self) -> None:
        # The image that was used longest ago comes first.
        self.sessions: OrderedDict[str, Session] = OrderedDict()
        self.buffered = 0
        self.line = Line(waiting=self.limits.waiting)
        self.decoding = Line()
        self.reading = Line()
        self.drawing = Line(workers=2)
        self.inferencer = inferencer_of(self.model, self.limits.encoder_side)
        self.model = self.inferencer.model
        self.segments = not isinstance(self.model, TagCLIP)
        self.tagger: TagCLIP | None = self.model.tagger if self.segments else self.model
        self.names = self.inferencer.names_for()
        parts = [part for part in self.model.modules() if hasattr(part, 'templates')]
        used = {load_templates(part.templates) for part in parts}
        self.templates = [template for templates in used for template in templates]
        # Said of uploads only: the examples are the demo's.
        self.notice = None
        if self.inferencer.is_demo_model:
            start = f'mmtagclip web --model {self.inferencer.real_model} --download'
            self.notice = sentence(demo_notice(start))  # ends with a command, to be copied
        for part in self.model.modules():
            if hasattr(part, 'forget_disk'):
                part.forget_disk()

    def routes(self) -> list[Route]:
        """All of them."""
        return [
            *(Route(path, self.page) for path in PAGES),
            Route('/api/model', self.about),
            Route('/api/image', self.upload, methods=['POST']),
            Route('/api/example/{number}', self.example, methods=['POST']),
            Route('/api/example/{number}.jpg', self.example_image),
            Route('/api/{key}/ask', self.ask, methods=['POST']),
            Route('/api/{key}/image.jpg', self.image),
            Route('/api/{key}/heat.jpg', self.heat),
            Route('/api/{key}/masks.jpg', self.mask_image),
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
        async with self._body(request, self.limits.upload_bytes, 'The file') as body:
            name = Path(request.query_params.get('name', 'image')).name[:100] or 'image'
            return await self._take(request, body, name, self.notice)

    async def example(self, request: Request) -> Response:
        """Encode one of the examples."""
        path = self._example(request)
        return await self._take(request, await run_in_threadpool(path.read_bytes), path.name)

    async def example_image(self, request: Request) -> Response:
        """One of the examples."""
        return FileResponse(self._example(request), media_type='image/jpeg')

    async def ask(self, request: Request) -> Response:
        """Answer a question about an image: JSON of names and thresholds."""
        key, session = self._session(request)
        async with (
            self._body(request, self.limits.question_bytes, 'The question') as body,
            self.line.place(request),
        ):
            question = await self.reading.run(request, self._question, body)
            session.answer, response = await self.line.run(
                request, self._answer, session.analysis, *question
            )
        session.measure()
        if key in self.sessions:
            self._make_room()
        return response

    async def image(self, request: Request) -> Response:
        """The image itself."""
        return Response(self._session(request)[1].preview, media_type='image/jpeg')

    async def heat(self, request: Request) -> Response:
        """The image with the heat map of a class after a step."""
        session, answer = self._answered(request)
        result = answer.stages.get(request.query_params.get('step', ''))
        name = request.query_params.get('name', '')
        if result is None or result.score_maps is None or name not in result.classes:
            raise HTTPException(404, 'There is no such heat map')
        one = result.score_maps[result.classes.index(name)]
        return await self._drawn(request, lambda: overlay(session.shown, one))

    async def mask_image(self, request: Request) -> Response:
        """The image with its masks; the page has the legend."""
        session, answer = self._answered(request)
        if answer.masks is None:
            raise HTTPException(404, 'This model makes no masks')
        return await self._drawn(request, lambda: self._draw_masks(session, answer, False))

    async def _drawn(self, request: Request, draw: Callable[[], np.ndarray]) -> Response:
        content = await self.drawing.run(request, lambda: jpeg(shrunk(draw(), SHOWN_SIDE)))
        return Response(content, media_type='image/jpeg')

    async def download(self, request: Request) -> Response:
        """The results as a file: tags.json, tags.csv, tags.png, masks.json, masks.png, mask.png."""
        session, answer = self._answered(request)
        kind = request.path_params['kind']
        content = await self.drawing.run(request, self._file, session, answer, kind)
        if content is None:
            raise HTTPException(404, 'There is no such file')
        stem = ''.join(
            c if c.isalnum() and c.isascii() else '_' for c in Path(session.analysis.name).stem
        )
        media = {'json': 'application/json', 'csv': 'text/csv', 'png': 'image/png'}
        return Response(
            content,
            media_type=media[kind.rsplit('.')[-1]],
            headers={'Content-Disposition': f'attachment; filename="{stem}_{kind}"'},
        )

    @asynccontextmanager
    async def _body(self, request: Request, limit: int, what: str) -> AsyncIterator[bytes]:
        """The body of a request, which counts as memory in use until the block ends.

        Raises:
            HTTPException: It is too large, or there is no memory for it now.
        """
        size = f'{limit / 1e6:.0f} MB' if limit >= 1e6 else f'{limit / 1e3:.0f} kB'
        too_large = HTTPException(413, f'{what} is larger than {size}')
        length = request.headers.get('content-length', '0').strip()
        if not (length.isascii() and length.isdigit()):
            raise HTTPException(400, 'Content-Length is not a number')
        if len(length) > 18 or int(length) > limit:
            raise too_large
        body = bytearray()
        counted = 0
        try:
            async for chunk in request.stream():
                if len(body) + len(chunk) > limit:
                    raise too_large
                if self.buffered + len(chunk) > self.limits.buffered_bytes:
                    raise HTTPException(429, BUSY, RETRY)
                body += chunk
                counted += len(chunk)
                self.buffered += len(chunk)
            content = bytes(body)
            body.clear()
            yield content
        finally:
            self.buffered -= counted

    async def _take(
        self, request: Request, content: bytes, name: str, notice: str | None = None
    ) -> Response:
        """Encode an image and keep it for its visitor."""
        async with self.line.place(request):
            pixels = await self.decoding.run(request, decode, content, self.limits)
            analysis = await self.line.run(request, self._analysis, pixels, name)
        visitor = request.cookies.get(COOKIE, '')
        known = re.fullmatch(r'[\w-]{22}', visitor, re.ASCII) is not None
        if not known:
            visitor = secrets.token_urlsafe(16)
        shown = await self.drawing.run(request, shrunk, pixels, SHOWN_SIDE)
        preview = await self.drawing.run(request, jpeg, shown)
        key = secrets.token_urlsafe(16)
        self.sessions[key] = Session(analysis, visitor, shown, preview)
        self.sessions[key].measure()
        self._make_room()
        height, width = pixels.shape[:2]
        taken = JSONResponse(
            {'key': key, 'name': name, 'width': width, 'height': height, 'notice': notice}
        )
        if not known:
            taken.set_cookie(COOKIE, visitor, httponly=True, samesite='strict')
        return taken

    def _make_room(self) -> None:
        """Forget images: of a visitor who has too many, then of the one who has the most."""
        while True:
            counts = Counter(session.visitor for session in self.sessions.values())
            if len(self.sessions) < 2:
                return
            most = max(counts.values())
            used = sum(session.size for session in self.sessions.values())
            if most <= self.limits.images and used <= self.limits.memory_bytes:
                return
            del self.sessions[
                next(key for key, one in self.sessions.items() if counts[one.visitor] == most)
            ]

    def _analysis(self, pixels: np.ndarray, name: str) -> Analysis:
        try:
            return Analysis(self.inferencer, pixels, name)
        except ValueError as error:  # such as an image smaller than a window
            raise HTTPException(400, sentence(error)) from None

    def _question(self, body: bytes) -> tuple[Any, ...]:
        """Classes, background, the tags' rule and the background level of a question.

        Raises:
            HTTPException: It can't be read.
        """
        try:
            question = json.loads(body)
        except (ValueError, RecursionError):
            raise HTTPException(400, 'The question is not JSON') from None
        keys = ('classes', 'background', 'threshold', 'background_level')
        if not isinstance(question, dict) or not question.keys() >= set(keys):
            raise HTTPException(400, f'The question is not an object of {", ".join(keys)}')
        try:
            classes = asked_names(question['classes'], self.limits, self.names.vocabulary)
            background = asked_names(question['background'], self.limits, self.names.background)
            self._check_prompts(classes, background)
            return (
                classes,
                background,
                {
                    'threshold': asked_number(question['threshold'], 'threshold'),
                    'min_score': asked_number(question.get('min_score'), 'min_score'),
                    'top': question.get('top'),
                },
                asked_number(question['background_level'], 'background_level'),
            )
        except (ValueError, FileNotFoundError) as error:
            raise HTTPException(400, sentence(error)) from None

    def _check_prompts(self, *names: Vocabulary | None) -> None:
        """Refuse names whose prompts keep the model from all others for long.

        Raises:
            ValueError: They do.
        """
        own = {*self.names.vocabulary.phrases, *self.names.background.phrases}
        asked = {phrases for one in names if one is not None for phrases in one.phrases}
        texts = [phrase for phrases in asked - own for phrase in phrases]
        length = sum(
            len(template.replace('{}', text)) for template in self.templates for text in texts
        )
        if length > self.limits.prompts_length:
            raise ValueError(
                f'too many names: their prompts have {length} characters together '
                f'(at most {self.limits.prompts_length})'
            )

    def _answer(
        self,
        analysis: Analysis,
        classes: Vocabulary | None,
        background: Vocabulary | None,
        rule: dict[str, Any],
        level: float | None,
    ) -> tuple[Answer, Response]:
        try:
            # No classes at all means the model's own; no background is no background.
            names = self.inferencer.names_for(classes or None, background)
            stages = analysis.stages(names, **rule)
            final = list(stages.values())[-1] if stages else None
            masks = analysis.masks(names, final, level) if self.segments else None
        except (TypeError, ValueError) as error:
            raise HTTPException(400, sentence(error)) from None
        content: dict[str, Any] = {
            'classes': names.vocabulary.names,
            'own_classes': not classes,
            'stages': [self._stage(step, one) for step, one in stages.items()],
        }
        if masks is not None:
            content['masks'] = [
                {'name': one.name, 'share': one.share, 'colour': one.colour}
                for one in mask_legend(masks.mask, masks.classes, masks.palette, masks.background)
            ]
        return Answer(stages, masks), JSONResponse(content)

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
            record = replace(final, all_scores=True).to_dict()
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
            raise HTTPException(404, 'This model makes no masks')
        return draw_masks(
            session.analysis.pixels,
            masks.mask,
            masks.classes,
            masks.palette,
            masks.background,
            with_legend=with_legend,
        )

    def _session(self, request: Request) -> tuple[str, Session]:
        key = request.path_params['key']
        if key not in self.sessions:
            raise HTTPException(404, 'This image is no longer in memory: load it again')
        self.sessions.move_to_end(key)
        return key, self.sessions[key]

    def _answered(self, request: Request) -> tuple[Session, Answer]:
        _, session = self._session(request)
        if session.answer is None:
            raise HTTPException(404, 'There is no question about this image yet')
        return session, session.answer

    def _example(self, request: Request) -> Path:
        paths = {str(number): path for number, path in enumerate(example_paths())}
        if request.path_params['number'] not in paths:
            raise HTTPException(404, 'There is no such example')
        return paths[request.path_params['number']]


def make_app(
    model: Any,
    title: str = 'mmtagclip',
    limits: Limits | None = None,
    hosts: tuple[str, ...] = ('localhost', '127.0.0.1', '[::1]'),
) -> Starlette:
    """The web application.

    Args:
        model: A tagger or segmentor, or an inferencer of it.
        title: The model's name on the page.
        limits: See :class:`Limits`; the defaults if None.
        hosts: Names that the server answers to, so that a page elsewhere can't
            reach it under another name; ``('*',)`` for all.
    """
    server = Server(model, title, limits or Limits())
    app = Starlette(
        routes=server.routes(),
        exception_handlers={HTTPException: error_of},
        middleware=[Middleware(Guard, hosts=hosts)],
    )
    app.router.redirect_slashes = False
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
        title: The model's name on the page.
        host: Address to listen on.
        port: Its port; 0 for any that is free.
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
    # A full collection looks at every object of the frameworks: half a second in which no request
    # is answered. What is there now stays, so it need not be looked at again.
    gc.collect()
    gc.freeze()
    listening.listen()  # a browser that comes before the server is ready waits
    hosts = ('localhost', '127.0.0.1', '[::1]', shown) if is_loopback(host) else ('*',)
    if ready is not None:
        ready(f'http://{shown}:{listening.getsockname()[1]}')
    # Each operation of the event loop on a socket waits for Python code of the model to give way.
    sys.setswitchinterval(0.0005)
    make_server(make_app(model, title, limits, hosts), limits).run(sockets=[listening])


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach an address."""
    return host in ('localhost', '::1') or host.startswith('127.')


def example_paths() -> list[Path]:
    """Scenes of the demo."""
    folder = zoo_root() / 'demo' / 'data' / 'JPEGImages'
    return [folder / f'{name}.jpg' for name in EXAMPLES]


def asked_names(text: Any, limits: Limits, own: Vocabulary) -> Vocabulary | None:
    """The names of a question.

    Args:
        text: Names as they were typed; None for the model's own.
        limits: How many names, and how long.
        own: The model's names. They keep their synonyms if the same names were typed.

    Returns:
        The names; None for the model's own.

    Raises:
        FileNotFoundError: A name looks like a file, and the page reads none.
        ValueError: There are too many names, one is too long, or it is not text.
    """
    if text is None:
        return None
    if not isinstance(text, str):
        raise ValueError('names must be text')
    # Halves of surrogate pairs can't be encoded, and control characters are not text.
    if any((c < ' ' and c not in '\t\n\r') or '\ud800' <= c <= '\udfff' for c in text):
        raise ValueError('names must be printable text')
    names = parse_names(text, files=False)
    if names.names == own.names:
        return None
    if len(names) > limits.names:
        raise ValueError(f'too many names: {len(names)} (at most {limits.names})')
    for name, phrases in zip(names.names, names.phrases, strict=True):
        for one in (name, *phrases):
            if len(one) > limits.name_length:
                raise ValueError(
                    f'the name {one[:30]}… is too long: {len(one)} characters '
                    f'(at most {limits.name_length})'
                )
    return names


def asked_number(value: Any, what: str) -> float | None:
    """A number of a question in [0, 1]; None for the model's own.

    Raises:
        ValueError: It is something else.
    """
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
        said = value if isinstance(value, int | float | str) else type(value).__name__
        raise ValueError(f'{what} must be a number in [0, 1], not {str(said)[:30]}')
    return float(value)


def decode(content: bytes, limits: Limits) -> np.ndarray:
    """An uploaded file as ``(H, W, 3)`` uint8 RGB, upright, shrunk to the size that is kept.

    Raises:
        HTTPException: It is not an image, damaged or too large.
    """
    try:
        pixels = read_image(content, limits.upload_side, limits.upload_pixels, 'this file')
    except ImageTooLarge as error:
        # The second half says which option of a config to raise.
        raise HTTPException(413, sentence(str(error).partition(';')[0])) from None
    except ValueError:
        raise HTTPException(400, 'This file is not an image, or it is damaged') from None
    return shrunk(pixels, limits.kept_side)


def shrunk(pixels: np.ndarray, side: int) -> np.ndarray:
    """An image ``(H, W, 3)`` uint8 whose longer side is at most this, in pixels."""
    image = Image.fromarray(pixels)
    image.thumbnail((side, side), Image.Resampling.BICUBIC)
    return np.array(image)


def jpeg(pixels: np.ndarray) -> bytes:
    """An image as a JPEG file."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format='JPEG', quality=88)
    return buffer.getvalue()


def png(pixels: np.ndarray) -> bytes:
    """An image as a PNG file."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format='PNG')
    return buffer.getvalue()


def sentence(error: object) -> str:
    """A message that begins with a capital letter."""
    text = str(error)
    return text[:1].upper() + text[1:]


def held_bytes(thing: Any) -> int:
    """Memory of the arrays and tensors that an object holds, without those of modules."""
    seen: set[int] = set()
    total = 0
    left = [thing]
    while left:
        one = left.pop()
        if isinstance(one, torch.Tensor):
            one = one.untyped_storage()
            address = one.data_ptr()
        else:
            address = id(one)
        if address in seen:
            continue
        seen.add(address)
        if isinstance(one, torch.UntypedStorage | np.ndarray):
            total += one.nbytes() if isinstance(one, torch.UntypedStorage) else one.nbytes
        elif isinstance(one, dict):
            left.extend(one.values())
        elif isinstance(one, list | tuple):
            left.extend(one)
        elif isinstance(one, Analysis) or is_dataclass(one):
            left.extend(vars(one).values())
    return total
