"""A server that takes what is pushed by WHIP: our own receiving side behind plain HTTP, on loopback."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiohttp import web

from streaming.rtc.publisher import Publisher, PublishLimits, answer_publisher
from tests.support.rtc_peers import LOOPBACK
from tests.support.rtc_publishing import Inbox

KEY = "a-secret-stream-key"


class Far:
    """A server that publishers come to.

    Attributes:
        url: of its endpoint.
        refuse: the status of the next answers, and their headers.
        answer: what is answered, if not what should be.
    """

    def __init__(self) -> None:
        self.inbox, self.publishers = Inbox(), list[Publisher]()
        self.tokens, self.deleted = list[str | None](), list[str]()
        self.refuse: list[tuple[int, dict[str, str]]] = []
        self.answer: str | None = None
        self.url = ""

    async def offered(self, request: web.Request) -> web.Response:
        self.tokens.append(request.headers.get("Authorization"))
        if self.refuse:
            status, headers = self.refuse.pop(0)
            return web.Response(status=status, headers=headers)
        limits = PublishLimits(peer=LOOPBACK)
        publisher, answer = await answer_publisher(
            await request.text(), self.inbox.video, self.inbox.sounds.append, limits
        )
        self.publishers.append(publisher)
        where = {"Location": f"/connections/{answer.resource}"}
        text = answer.sdp if self.answer is None else self.answer
        return web.Response(status=201, text=text, content_type="application/sdp", headers=where)

    async def end(self, request: web.Request) -> web.Response:
        self.deleted.append(request.match_info["name"])
        await next(p for p in self.publishers if p.resource == request.match_info["name"]).close()
        return web.Response()


@asynccontextmanager
async def far() -> AsyncIterator[Far]:
    there, app = Far(), web.Application()
    app.add_routes([web.post(f"/whip/{KEY}", there.offered), web.delete("/connections/{name}", there.end)])
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    there.url = f"http://127.0.0.1:{runner.addresses[0][1]}/whip/{KEY}"
    try:
        yield there
    finally:
        for publisher in there.publishers:
            await publisher.close()
        await runner.cleanup()
