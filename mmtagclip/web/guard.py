"""What every request passes: checks of its host and origin, safety headers, errors as JSON."""

import logging
import re
from collections.abc import Sequence
from typing import Any

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response

HEADERS = {
    'Cache-Control': 'no-store',
    'X-Content-Type-Options': 'nosniff',
    'Referrer-Policy': 'no-referrer',
    'X-Frame-Options': 'DENY',
    'Content-Security-Policy': "default-src 'none'; script-src 'self'; style-src 'self'; "
    "img-src 'self' data:; connect-src 'self'; base-uri 'none'; "
    "form-action 'none'",
}
BUSY = 'The server is busy: try again in a few seconds'
RETRY = {'Retry-After': '5'}
_RAW_HEADERS = [(key.lower().encode(), value.encode()) for key, value in HEADERS.items()]
_HOST = re.compile(r'(\[[0-9a-fA-F:.]+\]|[^\[\]:/@\s]*)(?::[0-9]*)?')


class Guard:
    """The outermost layer of the application.

    It refuses requests under another name of the host and requests of other pages, puts the
    safety headers on every response, and answers an error inside with JSON.

    Args:
        app: The application.
        hosts: Names that the server answers to; ``'*'`` for all.
    """

    def __init__(self, app: Any, hosts: Sequence[str] = ('*',)) -> None:
        self.app = app
        self.hosts = frozenset(host.lower() for host in hosts)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Answer a request."""
        if scope['type'] != 'http':
            await self.app(scope, receive, send)
            return
        started = False

        async def send_with_headers(message: Any) -> None:
            nonlocal started
            if message['type'] == 'http.response.start':
                started = True
                message['headers'] = [*message.get('headers', ()), *_RAW_HEADERS]
            await send(message)

        refusal = self._refusal(Headers(scope=scope))
        if refusal is not None:
            await refusal(scope, receive, send_with_headers)
            return
        try:
            await self.app(scope, receive, send_with_headers)
        except ClientDisconnect:
            pass  # nobody waits for an answer
        except Exception:
            if started:
                raise
            logging.getLogger('uvicorn.error').exception('%s failed', scope['path'])
            failed = error_response(500, 'The server failed: its log says why')
            await failed(scope, receive, send_with_headers)

    def _refusal(self, headers: Headers) -> Response | None:
        host = headers.get('host', '')
        if '*' not in self.hosts:
            named = _HOST.fullmatch(host)
            if named is None or named[1].lower() not in self.hosts:
                return error_response(400, 'This server does not answer to that name of the host')
        own = {f'http://{host}'.lower(), f'https://{host}'.lower()}
        if any(origin.lower() not in own for origin in headers.getlist('origin')):
            return error_response(403, 'Requests of other pages are refused')
        return None


def error_response(status: int, text: str, headers: Any = None) -> JSONResponse:
    """An error as JSON, ``{"error": text}``; without safety headers, which the guard adds."""
    # A message may quote half of a surrogate pair, which no encoding can send.
    text = text.encode('utf-8', 'replace').decode()
    return JSONResponse({'error': text}, status, headers)


async def error_of(request: Request, error: Any) -> Response:
    """Starlette's handler of its ``HTTPException``."""
    assert isinstance(error, HTTPException)
    return error_response(error.status_code, error.detail, error.headers)
