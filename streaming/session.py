"""One live session: the asyncio shell around the core, the worker and the WebRTC peers."""
