"""WHEP (draft-ietf-wish-whep): a viewer's offer by HTTP; the same as WHIP but for who sends."""

from streaming.server.whip import SdpEndpoint


def whep() -> SdpEndpoint:
    """The viewer's side."""
    return SdpEndpoint("whep", "view", lambda session, offer: session.view(offer))
