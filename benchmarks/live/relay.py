"""Reach a server that answers only to its own loopback from another network namespace: through a file.

    python -m benchmarks.live.relay SOCKET PORT

Unix sockets belong to the file system, which namespaces share; this carries each connection to 127.0.0.1.
"""

import asyncio
import sys
from contextlib import suppress
from pathlib import Path


async def serve(socket: Path, port: int) -> None:
    """Carry connections until cancelled."""

    async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection("127.0.0.1", port)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(_copy(reader, back))
            tasks.create_task(_copy(there, writer))

    async with await asyncio.start_unix_server(carry, socket) as server:
        await server.serve_forever()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(ConnectionError):
        while data := await reader.read(1 << 16):
            writer.write(data)
            await writer.drain()
    writer.close()


if __name__ == "__main__":
    asyncio.run(serve(Path(sys.argv[1]), int(sys.argv[2])))
