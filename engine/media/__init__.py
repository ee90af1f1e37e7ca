"""Video and audio files, in and out. The only part that knows FFmpeg (through PyAV).

Every file is opened as a plain local file, never as an address, a pattern of names or a playlist. Media
time 0 is the file's own zero, or its first time where that zero says nothing; `engine.media.source.origin_s`
has the rule.
"""

from engine.media.audio import AudioBalance, DubAudio, audio_balance, read_audio, read_dub_audio
from engine.media.info import AudioInfo, ColourTags, MediaInfo, VideoInfo
from engine.media.reader import VideoFrame, VideoReader, open_video, probe
from engine.media.writer import VideoWriter, open_writer

__all__ = [
    "AudioBalance",
    "AudioInfo",
    "ColourTags",
    "DubAudio",
    "MediaInfo",
    "VideoFrame",
    "VideoInfo",
    "VideoReader",
    "VideoWriter",
    "audio_balance",
    "open_video",
    "open_writer",
    "probe",
    "read_audio",
    "read_dub_audio",
]
