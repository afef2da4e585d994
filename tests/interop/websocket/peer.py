"""The package websockets as one of the peers of local_websocket; what it has to do is said in peer.js.

    peer.py server PORT
    peer.py client URL        how each case ended, as one JSON object
"""

import asyncio
import json
import sys

from websockets.asyncio.client import connect
from websockets.asyncio.server import serve
from websockets.exceptions import ConnectionClosed

LARGE = 16 << 20


def pieces(text):
    half = len(text) >> 1
    return [text[:half], text[half:]]


async def answer(socket):
    try:
        async for message in socket:
            command, *words = message.split(" ") if isinstance(message, str) else [""]
            if command == "pieces":
                await socket.send(pieces(message))
            elif command == "close":
                await socket.close(int(words[0]), " ".join(words[1:]))
            elif command == "ping":
                await (await socket.ping())
                await socket.send("ponged")
            elif command == "abort":
                socket.transport.abort()
            else:
                await socket.send(message)
    except ConnectionClosed:
        pass


async def listen(port):
    async with serve(answer, "127.0.0.1", port, max_size=None, compression="deflate") as server:
        await server.serve_forever()


def pattern(length):
    return (bytes(range(251)) * (length // 251 + 1))[:length]


def open_socket(url, compression=None):
    # Proxies that the environment names are not for this machine.
    return connect(url, max_size=None, compression=compression, proxy=None)


async def echo(socket, sent, pieces=None):
    await socket.send(sent if pieces is None else pieces)
    received = await socket.recv()
    return "the same" if received == sent else f"{len(received)} other bytes"


async def end(socket):
    await socket.close(1000)
    return socket.close_code


async def echoed(url, sent, pieces=None):
    socket = await open_socket(url)
    outcome = await echo(socket, sent, pieces)
    return f"{outcome}, {await end(socket)}"


async def ping(url):
    socket = await open_socket(url)
    await (await socket.ping("data"))
    return f"data, {await end(socket)}"


async def pinged(url):
    socket = await open_socket(url)
    await socket.send("ping")
    return f"{await socket.recv()}, {await end(socket)}"


async def until_closed(url, sent):
    socket = await open_socket(url)
    await socket.send(sent)
    try:
        return await socket.recv()
    except ConnectionClosed:
        return f"closed with {socket.close_code} {socket.close_reason}"


async def client_closes(url):
    socket = await open_socket(url)
    await socket.close(4002, "done")
    return f"{socket.close_code} {socket.close_reason}"


async def client_aborts(url):
    socket = await open_socket(url)
    socket.transport.abort()
    await socket.wait_closed()
    return str(socket.close_code)


async def deflate(url):
    socket = await open_socket(url, compression="deflate")
    outcomes = [socket.response.headers.get("Sec-WebSocket-Extensions", "")]
    for text in ["again and again " * 10_000, "again and again", "and again"]:
        outcomes.append(await echo(socket, text))
    return f"{', '.join(outcomes)}, {await end(socket)}"


CASES = {
    "text": lambda url: echoed(url, "grüße, 世界 🌍"),
    "binary": lambda url: echoed(url, pattern(100_000)),
    "empty": lambda url: echoed(url, ""),
    "fragments": lambda url: echoed(url, "two frames", pieces("two frames")),
    "fragments_back": lambda url: echoed(url, "pieces of an answer"),
    "large": lambda url: echoed(url, pattern(LARGE)),
    "ping": ping,
    "pinged": pinged,
    "server_closes": lambda url: until_closed(url, "close 4001 good bye"),
    "client_closes": client_closes,
    "server_aborts": lambda url: until_closed(url, "abort"),
    "client_aborts": client_aborts,
    "deflate": deflate,
}


async def attempt(case, url):
    try:
        return await case(url)
    except (ConnectionClosed, OSError) as error:
        return str(error)


async def ask(url):
    print(json.dumps({name: await attempt(case, url) for name, case in CASES.items()}))


def main():
    mode, where = sys.argv[1:]
    if mode == "server":
        asyncio.run(listen(int(where)))
    elif mode == "client":
        asyncio.run(ask(where))
    else:
        sys.exit(f"unknown mode {mode!r}; it is 'server' or 'client'")


if __name__ == "__main__":
    main()
