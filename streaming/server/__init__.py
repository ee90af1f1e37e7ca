"""HTTP and WebSocket: how people and programs reach sessions."""
