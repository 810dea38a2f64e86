"""The measure: a bare reverse proxy as anyone would write it with aiohttp, in 15 lines."""

import sys

import aiohttp
from aiohttp import web

UPSTREAM = sys.argv[2]


async def proxy(request: web.Request) -> web.Response:
    body = await request.read()
    session = request.app["session"]
    async with session.request(request.method, UPSTREAM + request.path_qs, data=body) as answer:
        return web.Response(status=answer.status, body=await answer.read())


async def start(app: web.Application) -> None:
    app["session"] = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0))


app = web.Application()
app.router.add_route("*", "/{path:.*}", proxy)
app.on_startup.append(start)
web.run_app(app, host="127.0.0.1", port=int(sys.argv[1]), access_log=None, print=None)
