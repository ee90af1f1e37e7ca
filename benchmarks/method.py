"""What the numbers of a report mean, in the words that go into it: a paragraph a line, with its subject."""

METHOD = """\
Warm-up: each measurement first runs a stated number of times that are not kept; memory, caches, compiled \
code and clocks settle.
Repetitions: at least as many as stated and for at least half a second; Python's garbage collector rests \
meanwhile. Percentiles are of all kept samples; the brackets are 95 % bootstrap intervals of this run \
alone: another day, another machine of the same kind differs by more.
Clocks: wall is what somebody waits, CPU is the processor time of all our threads together, device is \
between two events on a GPU, enqueue is how long the host takes to hand the work over.
Open loop: in pipeline and capacity frames arrive every 40 ms whatever we do, and latency counts from the \
arrival, so a late frame delays those behind it and all of them count. Sound comes ahead of its picture \
by the look-ahead, as a live session holds the picture back; the look-ahead is not part of the latency.
Capacity: streams of different actors start spread over one frame; the largest number whose p99 over all \
frames stays within one frame counts, and one more was tried and did not. On a CPU each stream is a \
process of one thread, as in a live session: a fault ends one stream only and Python's lock is not \
shared.
Noise: during each measurement we read what other processes, the hypervisor and a container's limit took, \
and how long our own threads waited for a processor. Where that is more than a fifth of a core (a tenth \
of the machine, if more), 3 % of a core, 1 % of the time, or 5 % of the time, wall-clock times are marked \
untrusted and not shown: CPU time stays. A change counts as faster or slower only if the 95 % interval of \
the ratio of medians leaves 1 out and the change is at least 3 %."""
