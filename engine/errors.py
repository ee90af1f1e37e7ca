"""Every error that livedub raises on purpose.

    LivedubError
    ├── InputError             what the user gave cannot be used (the command line exits with status 2)
    │   ├── MediaError         a video or audio file is missing, damaged, or lacks the stream that is needed
    │   ├── NoFaceError        no usable face where one is needed
    │   ├── ActorPackError     an actor pack is damaged, hostile, or of another format version
    │   └── OutputError        the result cannot be written: no permission, disk full
    ├── AssetError             a model file is missing or is not the one that was pinned
    └── BackendError           a device or an inference library failed
        └── BackendUnavailable the library is not installed, or the machine cannot run it

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


class AssetError(LivedubError):
    """A model file is missing or is not the one that was pinned."""


class BackendError(LivedubError):
    """A device or an inference library failed."""


class BackendUnavailable(BackendError):
    """The library is not installed, or the machine cannot run it."""
