"""Connections that cost little: their number and the time that each may take are bounded."""

import asyncio
import json
from contextlib import suppress
from typing import Any

import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import STATUS_PHRASES, H11Protocol

from .guard import BUSY, HEADERS, RETRY, Guard, error_response
from .limits import Limits


class BoundedProtocol(H11Protocol):
    """HTTP/1.1 whose client has to send and to read within a time.

    A client that is too slow is answered 408 and loses its connection. Where there are too many
    connections, the one that has been idle the longest is closed; if all are at work, the new
    one is answered 429.

    Attributes:
        limits: See :class:`Limits`; a subclass sets them.
    """

    limits = Limits()

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin the time of the first request, and make room for the connection."""
        super().connection_made(transport)
        self._begin()
        self._unread: tuple[float, int] | None = None  # since when, and bytes, nothing is written
        others: list[Any] = []
        if len(self.connections) > self.limits.connections:
            # One that was closed just now is in the set until the event loop's next round.
            others = [
                one
                for one in self.connections
                if one is not self and not one.transport.is_closing()  # type: ignore[union-attr]
            ]
        if len(others) >= self.limits.connections:
            idle = [one for one in others if one.is_idle]
            waiting = idle or [one for one in others if one.is_sending]
            if waiting:
                min(waiting, key=lambda one: one.since).transport.abort()
            else:
                self.app = _busy
        self._timer = self.loop.call_later(self._interval, self._watch)

    def connection_lost(self, exc: Exception | None) -> None:
        """End the watch."""
        self._timer.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Count what comes, and begin the time of a request's body with its headers."""
        before = self.cycle
        super().data_received(data)
        if self.cycle is not before:
            self._begin()
        self._received += len(data)

    def on_response_complete(self) -> None:
        """Begin the time of the next request."""
        self._begin()
        super().on_response_complete()

    def pause_writing(self) -> None:
        """The client reads too slowly."""
        self._wait_for_reader()
        super().pause_writing()

    def resume_writing(self) -> None:
        """The client reads again."""
        self._unread = None
        super().resume_writing()

    def send_400_response(self, msg: str) -> None:
        """Answer a request that is no HTTP."""
        self.refuse(400, msg)

    def refuse(self, status: int, text: str) -> None:
        """Answer where no request is complete, and close."""
        body = json.dumps({'error': text}).encode()
        headers = {**HEADERS, 'Content-Type': 'application/json', 'Connection': 'close'}
        response = h11.Response(
            status_code=status,
            headers=[*headers.items(), ('Content-Length', str(len(body)))],
            reason=STATUS_PHRASES[status],
        )
        with suppress(h11.LocalProtocolError):  # part of an answer is sent already
            events = response, h11.Data(data=body), h11.EndOfMessage()
            # In one piece: what the client still sends would cut off a second one.
            self.transport.write(b''.join(self.conn.send(event) or b'' for event in events))
        self.transport.close()

    @property
    def is_idle(self) -> bool:
        """Whether no request has begun."""
        return self.cycle is None or self.cycle.response_complete

    @property
    def is_sending(self) -> bool:
        """Whether the body of a request is not complete."""
        return not self.is_idle and self.cycle.more_body

    @property
    def _interval(self) -> float:
        return min(1.0, self.limits.header_seconds / 4)

    def _begin(self) -> None:
        self.since = self.loop.time()
        self._received = 0

    def _wait_for_reader(self) -> None:
        self._unread = self.loop.time(), self.transport.get_write_buffer_size()

    def _watch(self) -> None:
        now = self.loop.time()
        patience = self.limits.header_seconds
        if self._unread is None and self.transport.is_closing():
            self._wait_for_reader()
        if self._unread is not None:
            since, size = self._unread
            patience += (
                max(0, size - self.transport.get_write_buffer_size()) / self.limits.body_rate
            )
            if now - since > patience:
                self.transport.abort()
        elif self.is_idle:
            if now - self.since > patience and not self._received:
                self.timeout_keep_alive_handler()
            elif now - self.since > patience:
                self.refuse(408, 'The request took too long')
        elif self.is_sending:
            patience += self._received / self.limits.body_rate
            if now - self.since > min(patience, self.limits.body_seconds):
                self.refuse(408, 'The request took too long')
                self.cycle.disconnected = True
                self.cycle.message_event.set()
        self._timer = self.loop.call_later(self._interval, self._watch)


async def _answer_busy(scope: Any, receive: Any, send: Any) -> None:
    await error_response(429, BUSY, {**RETRY, 'Connection': 'close'})(scope, receive, send)


_busy: Any = Guard(_answer_busy)


def make_server(app: Any, limits: Limits | None = None, port: int = 0) -> uvicorn.Server:
    """A server of an application whose connections are bounded.

    Args:
        app: What :func:`mmtagclip.web.make_app` made.
        limits: See :class:`Limits`; the defaults if None.
        port: To listen on where no socket is given to it; 0 for any that is free.
    """

    class Protocol(BoundedProtocol):
        pass

    Protocol.limits = limits or Limits()
    config = uvicorn.Config(
        app,
        port=port,
        http=Protocol,
        ws='none',
        log_level='warning',
        server_header=False,
        h11_max_incomplete_event_size=32_768,
        timeout_graceful_shutdown=5,
    )
    return uvicorn.Server(config)
