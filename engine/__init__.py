"""The functional core of livedub: deterministic, no clock, no sockets, no threads of its own.

Layers, downwards only: `dubber → render | composite | expression | face → actor | audio | image | media →
backends → steppable → arrays → timing | errors`.
"""
