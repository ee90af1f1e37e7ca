"""One live session. The core decides what happens when; this does it.

Everything here runs in one event loop. Whatever breaks, the programme goes on: without a worker the source's
picture leaves with the dub's sound.
"""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import asdict
from functools import partial
from typing import assert_never

from engine.errors import CapacityError, InputError, LivedubError, ProtocolError
from streaming.core import actions
from streaming.core.ladder import Rung
from streaming.core.session_core import SessionCore, frames_held
from streaming.media.address import allowed
from streaming.media.source import ProgrammeSource
from streaming.session.connections import Connections
from streaming.session.dubbing import Dubbing
from streaming.session.output import Output, Passage
from streaming.session.outputs import Outputs
from streaming.session.pictures import Pictures
from streaming.session.resources import Resources
from streaming.session.watchers import Watchers
from streaming.types import NS_PER_S, Answer, AudioIn, Event, Playback, SessionOptions, VideoIn
from streaming.worker.link import FrameDone
from streaming.worker.wire import Rung as WorkerRung

RATE_HZ = 30.0  # of frames that are all kept; more come through thinned out, if they must wait long
SENDING_SLOTS = 4
FIRST_SIZE = (1280, 720)
_WORKER_RUNGS: dict[Rung, WorkerRung] = {
    Rung.FULL: "full",
    Rung.HALF_RATE_MOUTH: "half",
    Rung.LOW_BITRATE: "half",
    Rung.PASSTHROUGH: "pass",
}
_UNTOUCHED = {"passed": "source", "skipped": "source"}

log = logging.getLogger(__name__)


class LiveSession:
    """One dubbed stream, from `start` to `close`.

    Args:
        name: of the session.
        options: what was asked for.
        resources: shared with other sessions.
        now_ns: the monotonic clock.

    Attributes:
        id: its name.
        options: as given.
        closed: set once everything is released.

    Raises:
        InputError: the options need more memory than a session may have.
    """

    def __init__(
        self,
        name: str,
        options: SessionOptions,
        resources: Resources,
        *,
        now_ns: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self.id, self.options, self.closed = name, options, asyncio.Event()
        self._resources, self._now_ns = resources, now_ns
        held = frames_held(options, RATE_HZ)
        self._pictures = Pictures(*FIRST_SIZE, held + SENDING_SLOTS)
        self._core = SessionCore(options, now_ns(), capacity=held, worker_ready=False)
        self._dubbing = Dubbing(
            resources.workers,
            options,
            self._pictures.ring,
            on_done=self._done,
            on_up=self._worker_up,
            on_down=self._worker_down,
        )
        self._output = Output(resources, self._encoder_missed, now_ns, mark=options.mark)
        self._connections = Connections(resources.offers, resources.peers, self._connections_changed)
        self._watchers = Watchers()
        seal = None if resources.seal is None else partial(resources.seal, options.actor)
        self._outputs = Outputs(self._output.video, self._output.audio, resources, self._watchers.tell, seal)
        self._programme: ProgrammeSource | None = None
        self._passages: dict[int, Passage] = {}  # by picture
        self._timer: asyncio.TimerHandle | None = None
        self._rung, self._ticking, self._started = Rung.FULL, False, False
        self._ending: asyncio.Future[None] | None = None
        self._interrupted_ns: int | None = None
        self._shown = ""
        self._closing: asyncio.Task[None] | None = None

    # what the server asks for

    async def start(self) -> None:
        """Get the worker ready, and the programme if there is one.

        Raises:
            InputError: the actor or the programme cannot be used.
            BackendError: no worker came up.
        """
        address = None
        if self.options.programme is not None:
            folders, hosts = self._resources.programme_folders, self._resources.programme_hosts
            address = allowed(self.options.programme, folders=folders, hosts=hosts)
        await self._dubbing.start()
        self._resources.reporter.ladder(None, int(self._rung))
        self._started = True
        if address is not None:
            self._programme = ProgrammeSource(
                address,
                self._on_video,
                self._on_own_sound,
                self._programme_ended,
                on_change=self._programme_changed,
                loop=True,
            )
            self._programme.start()
        self._tick()

    async def close(self, reason: str) -> None:
        """End everything; a second call waits for the first."""
        if self._closing is None:
            self._closing = asyncio.create_task(self._close(reason))
        await asyncio.shield(self._closing)

    async def publish(self, sdp: str) -> Answer:
        """Accept the offer of a publisher; one that fell silent gives way.

        Raises:
            OfferError: it cannot be accepted.
            CapacityError: somebody publishes already, or the picture is a programme.
        """
        if self._programme is not None:
            raise CapacityError("this session's picture is a programme: nobody can publish another")
        from_publisher = self.options.voice == "publisher"
        on_audio = self._on_voice if from_publisher else self._on_own_sound
        return await self._connections.publish(sdp, self._on_video, on_audio)

    async def view(self, sdp: str) -> Answer:
        """Accept the offer of a viewer.

        Raises:
            OfferError: it cannot be accepted.
        """
        return await self._connections.view(sdp, self._output.video, self._output.audio)

    async def trickle(self, resource: str, fragment: str) -> bool:
        """Give a connection more of its peer's candidates; False if it is not there, raises as `view`."""
        return await self._connections.trickle(resource, fragment)

    async def end(self, resource: str) -> bool:
        """Close a connection; False if it is not there (any more)."""
        return await self._connections.end(resource)

    async def dub(self, piece: AudioIn, utterance: int | None) -> int:
        """Queue dub sound; returns how many more samples at 48 kHz there is room for.

        Raises:
            ProtocolError: there was no room for it, or the voice of this session comes with the picture.
        """
        if self.options.voice == "publisher":
            raise ProtocolError("the voice of this session comes with its picture")
        credit = self._core.dub(self._now_ns(), piece, utterance)
        self._tick()
        return credit

    @property
    def room(self) -> int:
        """How many more samples of dub sound, at 48 kHz, there is room for."""
        return 0 if self.options.voice == "publisher" else self._core.credit

    async def end_utterance(self, utterance: int | None) -> None:
        """No more sound of this utterance comes; None: of the one that is open."""
        self._core.end_utterance(self._now_ns(), utterance)
        self._tick()

    async def interrupt(self) -> Playback:
        """Drop dub sound that has not been heard yet."""
        self._interrupted_ns = self._now_ns()
        playback = self._core.interrupt(self._interrupted_ns)
        self._tick()
        return playback

    async def add_output(self, to: str, token: str | None = None) -> str:
        """Send or write the session somewhere else, too, until it ends; returns the output's id.

        Raises:
            InputError: it may not go there.
            CapacityError: it goes to as many places as it may.
        """
        return self._outputs.add(to, token)

    async def end_output(self, name: str) -> bool:
        """End an output, of which a file is whole then; False if there is none."""
        return await self._outputs.end(name)

    def outputs(self) -> list[dict[str, object]]:
        """The outputs, their states and counters, as plain values."""
        return self._outputs.shown()

    def events(self) -> AsyncIterator[Event]:
        """What happens from now on; ends with the session."""
        return self._watchers.events()

    @property
    def peers(self) -> int:
        """Publishers and viewers that are connected now, and outputs."""
        return len(self._connections) + len(self._outputs)

    def snapshot(self) -> Mapping[str, object]:
        """How it is now, as plain values."""
        mouths = sorted(self._output.latency.mouths_ms())
        return {
            **asdict(self._core.stats()),
            "rung": self._rung.name.lower(),
            "renderer": self._dubbing.name,
            "worker_pid": self._dubbing.pid,
            "size": self._pictures.size,
            "mouth_ms_p50": mouths[len(mouths) // 2] if mouths else None,
            "video": asdict(self._output.video.stats()),
            "audio": asdict(self._output.audio.stats()),
            "viewers": self._connections.viewers,
            "rtx_bytes": self._connections.retransmitted_bytes,
        }

    # what comes in

    def _on_video(self, frame: VideoIn) -> None:
        size = frame.image.width, frame.image.height
        if size != self._pictures.size and not self._resized(size):
            return
        taken = self._pictures.take(frame.image, frame.colour)
        if taken is None:
            self._resources.reporter.frames("no slot")
            return
        self._passages[taken] = Passage(frame.captured_ns, dict(frame.stamps_ns))
        self._core.video(self._now_ns(), frame.captured_ns, taken)
        self._tick()

    def _on_voice(self, piece: AudioIn) -> None:
        try:
            self._core.dub(self._now_ns(), piece)
        except ProtocolError as error:
            log.info("a piece of the publisher's voice is left out: %s", error)
        self._tick()

    def _on_own_sound(self, piece: AudioIn) -> None:
        self._core.own(self._now_ns(), piece)

    def _programme_ended(self, error: LivedubError | None) -> None:
        self._end_soon(str(error) if error else "the programme ended")

    def _programme_changed(self, why: str | None) -> None:
        """It went away, or is back; meanwhile viewers keep its last picture, and hear the dub."""
        log.info("session %s: the programme %s", self.id, f"went away: {why}" if why else "is back")
        state = {"programme": "away", "message": why} if why else {"programme": "back"}
        self._watchers.tell(Event("state", state))

    def _done(self, done: FrameDone) -> None:
        shown = _UNTOUCHED.get(done.shown, done.shown)
        self._core.dubbed(self._now_ns(), done.index, shown, done.stages_ns)
        if shown != self._shown:
            self._shown = shown
            self._watchers.tell(Event("face", {"shown": shown, "confidence": done.confidence}))
        self._tick()

    def _worker_up(self, name: str) -> None:
        log.info("session %s: a worker is up, %s", self.id, name)
        self._core.recovered(self._now_ns())
        self._tick()

    def _worker_down(self, why: str) -> None:
        self._core.failed(self._now_ns())
        self._resources.reporter.frames("worker down")
        self._tick()

    def _connections_changed(self) -> None:
        self._watchers.tell(Event("viewers", {"viewers": self._connections.viewers}))

    def _encoder_missed(self) -> None:
        self._core.missed(self._now_ns(), "encode")
        self._resources.reporter.deadline_miss("encode")

    # what is to be done

    def _tick(self) -> None:
        """Do what is due now, and set the timer for the next time."""
        if self._ticking or self._closing is not None:
            return
        self._ticking = True
        try:
            while due := self._core.tick(self._now_ns()):
                for action in due:
                    self._do(action)
        finally:
            self._ticking = False
        now_ns = self._now_ns()
        wait_s = max(0, self._core.next_wake_ns() - now_ns) / NS_PER_S
        if self._timer is not None:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_later(wait_s, self._tick)

    def _do(self, action: actions.Action) -> None:
        match action:
            case actions.GiveFrame(index, ref, time_s):
                slot, colour = self._pictures.slot(ref), self._pictures.colour(ref)
                self._passages[ref].zero_heard_ns = self._core.heard_ns(0)
                self._dubbing.give_frame(slot, index, time_s, colour)
            case actions.GiveSound(samples, _):
                self._dubbing.give_sound(samples)
            case actions.LeaveVideo():
                self._leave(action)
            case actions.LeaveSound():
                self._leave_sound(action)
            case actions.Release(ref):
                self._passages.pop(ref, None)
                self._pictures.let_go(ref)
            case actions.Tell(event):
                self._tell(event)
            case actions.SetRung(rung):
                self._set_rung(rung)
            case _:
                assert_never(action)

    def _leave(self, leave: actions.LeaveVideo) -> None:
        passage = self._passages[leave.ref]
        passage.stamps_ns |= leave.stamps
        passage.heard(self._core.heard_ns(0), leave.position)
        passage.dubbed = leave.dubbed
        self._output.picture(leave, self._pictures, passage)
        if leave.given and not leave.dubbed and self._pictures.is_present(leave.ref):
            self._dubbing.skip(self._pictures.slot(leave.ref))
        self._resources.reporter.frames(leave.shown)
        if leave.skew_ms is not None:
            self._resources.reporter.skew(-leave.skew_ms / 1000)

    def _leave_sound(self, leave: actions.LeaveSound) -> None:
        if self._interrupted_ns is not None and not leave.samples.any():
            self._resources.reporter.interrupt_to_silence((self._now_ns() - self._interrupted_ns) / NS_PER_S)
            self._interrupted_ns = None
        self._output.sound(leave)
        self._outputs.sound(leave.samples, leave.position)

    def _tell(self, event: Event) -> None:
        if event.kind == "latency":
            event = Event("latency", {**event.data, **self._output.latency.told()})
        self._watchers.tell(event)

    def _set_rung(self, rung: Rung) -> None:
        log.info("session %s: %s", self.id, rung.name.lower())
        self._resources.reporter.ladder(int(self._rung), int(rung))
        self._rung = rung
        self._dubbing.set_rung(_WORKER_RUNGS[rung])
        self._output.low_bitrate(wanted=rung >= Rung.LOW_BITRATE)

    def _resized(self, size: tuple[int, int]) -> bool:
        """Go on with pictures of another size; those that wait leave as they came."""
        try:
            self._pictures.resize(*size)
        except InputError as error:
            self._end_soon(str(error))
            return False
        self._dubbing.exchange(self._pictures.ring)
        return True

    def _end_soon(self, reason: str) -> None:
        self._watchers.tell(Event("error", {"message": reason}))
        self._ending = asyncio.ensure_future(self.close(reason))

    async def _close(self, reason: str) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._watchers.tell(Event("closed", {"reason": reason}))
        if self._programme is not None:
            await self._programme.close()
        await asyncio.gather(self._connections.close(), self._outputs.close())
        await self._output.close()
        await self._dubbing.close()
        self._pictures.close()
        self._watchers.end()
        if self._started:
            self._resources.reporter.ladder(int(self._rung), None)
        self.closed.set()
