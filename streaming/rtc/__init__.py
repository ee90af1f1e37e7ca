"""WebRTC: our layer over aiortc."""
