"""The real app in this process as a client's network: no server, no socket, nothing imitated."""

import httpx
from starlette.testclient import TestClient


class InProcess(httpx.BaseTransport):
    """Hands a client's requests to an app's `TestClient`; give it to a client as its `transport`."""

    def __init__(self, app: TestClient) -> None:
        self._app = app

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        answer = self._app.request(
            request.method,
            request.url.raw_path.decode(),
            content=request.read(),
            headers=dict(request.headers),
        )
        return httpx.Response(
            answer.status_code,
            headers=dict(answer.headers),
            stream=httpx.ByteStream(answer.content),
        )
