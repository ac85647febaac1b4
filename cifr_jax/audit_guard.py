"""What stands before every route of the audit service: names, token, headers, faults."""

import hmac
import json
from collections.abc import MutableMapping
from typing import Any
from urllib.parse import urlsplit

from absl import logging

from cifr_jax.audit_queue import INTERNAL_FAULT, fault_place

LOOPBACK_NAMES = ("127.0.0.1", "localhost", "[::1]")
_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; "
        "form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}

Scope = MutableMapping[str, Any]


class Guard:
    """ASGI: refuses foreign host names and wrong tokens, hides what went wrong inside.

    A page of the web that points its own name at the loopback (DNS rebinding) reaches the
    service under that name; so only ours are answered, and no page but ours (Origin). A
    fault of ours is logged by type and place and answered with 500: its text may quote an
    upload.

    Args:
      app: the application behind.
      token: what "Authorization: Bearer" must hold but on /healthz; "": nothing.
      hosts: names that are answered, without port; empty: any.
    """

    def __init__(self, app: Any, token: str, hosts: tuple[str, ...]):
        self._app, self._hosts = app, hosts
        self._expected = f"Bearer {token}".encode() if token else None

    def _fault(self, scope: Scope) -> tuple[int, str] | None:
        headers = dict(scope["headers"])
        host = headers.get(b"host", b"").decode("latin-1").lower()
        name = host if host.endswith("]") else host.rpartition(":")[0] or host
        if self._hosts and name not in self._hosts:
            return 421, "this host name is not served"
        origin = headers.get(b"origin")
        if origin is not None and self._hosts:
            page = urlsplit(origin.decode("latin-1")).hostname
            if page not in {known.strip("[]") for known in self._hosts}:
                return 403, "pages of other sites are not answered"
        if self._expected is None or scope["path"] == "/healthz":
            return None
        if not hmac.compare_digest(headers.get(b"authorization", b""), self._expected):
            return 401, "a bearer token is needed"
        return None

    async def __call__(self, scope: Scope, receive: Any, send: Any) -> None:
        """Answers one request, or hands it on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = False
        added = [(k.lower().encode(), v.encode()) for k, v in _HEADERS.items()]

        async def send_with_headers(message: Scope) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                message["headers"] = [*message.get("headers", []), *added]
            await send(message)

        fault = self._fault(scope)
        if fault is None:
            try:
                await self._app(scope, receive, send_with_headers)
            except Exception as error:
                logging.error("a request ended in %s", fault_place(error))
                fault = 500, INTERNAL_FAULT
        if fault is not None and not started:
            await _answer(*fault, send_with_headers)


async def _answer(status: int, detail: str, send: Any) -> None:
    headers = [(b"content-type", b"application/json")]
    if status == 401:
        headers.append((b"www-authenticate", b"Bearer"))
    start = {"type": "http.response.start", "status": status, "headers": headers}
    await send(start)
    body = json.dumps({"detail": detail}).encode()
    await send({"type": "http.response.body", "body": body})
