"""One live session: the asyncio shell around the core, the worker and the WebRTC connections."""

from streaming.session.live import LiveSession
from streaming.session.resources import Reporter, Resources

__all__ = ["LiveSession", "Reporter", "Resources"]
