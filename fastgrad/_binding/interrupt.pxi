# Ctrl-C during work that is to be stopped between its steps only. Included by _core.pyx.

import _signal      # the part of `signal` that is C: its functions run no Python code but the handlers of signals


@cython.final
cdef class FirstInterrupt:
    """A handler of Ctrl-C: the first one is noted in ``seen``, those after it, and all when the work is over, are
    Python's own handler's."""

    cdef readonly bint seen
    cdef bint over

    def __call__(self, number, frame):
        if self.seen or self.over:
            _signal.default_int_handler(number, frame)
        self.seen = True


@cython.final
@cython.no_gc_clear
cdef class DeferredInterrupt:
    """A context with a FirstInterrupt as its value, which handles Ctrl-C within. Only in the main thread, and only in
    place of Python's own handler."""

    cdef FirstInterrupt handler
    cdef bint installed

    def __enter__(self):
        handler = self.handler = FirstInterrupt()
        if (PyThread_get_thread_ident() == main_thread
                and _signal.getsignal(_signal.SIGINT) is _signal.default_int_handler):
            _signal.signal(_signal.SIGINT, handler)
            self.installed = True
        return handler

    def __exit__(self, kind, error, trace):
        self.leave()

    cdef int leave(self) except -1:
        """Before a handler is replaced, Python calls those of signals that have come. One that raises prevents that, so
        try again, and raise its exception afterwards. A handler of somebody else's is left alone."""
        cdef int tries = 1000   # more than there are signals: without memory, or in another thread, it is impossible
        first = None
        while self.installed and tries:
            tries -= 1
            try:
                if _signal.getsignal(_signal.SIGINT) is self.handler:
                    _signal.signal(_signal.SIGINT, _signal.default_int_handler)
                self.installed = False
            except BaseException as error:
                first = error if first is None else first
        self.installed = False
        self.handler.over = True
        if first is not None:
            raise first
        return 0

    def __dealloc__(self):
        if self.installed:      # an interrupt has come behind __enter__ and before the block
            self.leave()
