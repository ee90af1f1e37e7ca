"""The live session as pure values and state machines: no tasks, no sockets, time is an argument."""
