"""Every error that livedub raises on purpose.

    LivedubError
    ├── InputError             what the user gave cannot be used (the command line exits with status 2)
    │   ├── MediaError         a video or audio file is missing, damaged, or lacks the stream that is needed
    │   ├── NoFaceError        no usable face where one is needed
    │   ├── ActorPackError     an actor pack is damaged, hostile, or of another format version
    │   ├── OutputError        the result cannot be written: no permission, disk full
    │   ├── OfferError         a WebRTC offer or candidate is malformed, too large, or asks for what we lack
    │   ├── ProtocolError      a message of a live client breaks the protocol or its limits
    │   └── AccessError        no token, a wrong one, or one without the right that is needed
    ├── CapacityError          no room for another session now
    ├── AssetError             a model file is missing or is not the one that was pinned
    └── BackendError           a device or an inference library failed
        ├── BackendUnavailable the library is not installed, or the machine cannot run it
        └── WorkerError        a worker process died or does not answer

Wrong arguments from our own code are `ValueError` and `TypeError`. Messages say what was wrong, what was got
and what to do about it, in one line.
"""


class LivedubError(Exception):
    """Base of all errors below."""


class InputError(LivedubError):
    """What the user gave cannot be used."""


class MediaError(InputError):
    """A video or audio file is missing, damaged, or lacks the stream that is needed."""


class NoFaceError(InputError):
    """No usable face where one is needed."""


class ActorPackError(InputError):
    """An actor pack is damaged, hostile, or of another format version."""


class OutputError(InputError):
    """The result cannot be written."""


class OfferError(InputError):
    """A WebRTC offer or candidate is malformed, too large, or asks for what we lack."""


class ProtocolError(InputError):
    """A message of a live client breaks the protocol or its limits."""


class AccessError(InputError):
    """No token, a wrong one, or one without the right that is needed."""


class CapacityError(LivedubError):
    """No room for another session now.

    Attributes:
        retry_after_s: when asking again makes sense.
    """

    def __init__(self, message: str, retry_after_s: int = 5) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class AssetError(LivedubError):
    """A model file is missing or is not the one that was pinned."""


class BackendError(LivedubError):
    """A device or an inference library failed."""


class BackendUnavailable(BackendError):
    """The library is not installed, or the machine cannot run it."""


class WorkerError(BackendError):
    """A worker process died or does not answer."""
