# functions.pyx - see functions.pxd.

cdef object FunctionType = types.FunctionType
cdef object BuiltinType = types.BuiltinFunctionType


@cython.no_gc_clear
cdef class FunctionEntry:
    """A function's pickle in the parent's arena, under a number. Tasks that name it keep it there."""

    def __dealloc__(self):
        if self.block:
            self.segment.lock.acquire()
            self.segment.free_block(self.block)
            self.segment.lock.release()


@cython.no_gc_clear
cdef class FunctionTable:
    """The functions of a pool, by reference or by value, and what workers know of a `__main__` that cannot be imported."""

    def __cinit__(self, Segment segment):
        self.segment = segment
        self.by_name = {}
        self.by_value = OrderedDict()

    cdef FunctionEntry entry_at_once(self, object fn):
        """The entry of a function that goes by name and is still what that name says; None if look_up() must tell."""
        cdef FunctionEntry entry = self.by_name.get(fn)
        if entry is None or entry.namespace is None or entry.namespace.get(entry.name) is not fn:
            return None
        return entry

    cdef FunctionEntry entry_of(self, object fn):
        """The entry of a function that goes by name or has been sent; None if it must go with each task."""
        kind = type(fn)
        if kind is FunctionType or kind is BuiltinType or kind is type:
            return self.look_up(fn)
        return None

    cdef FunctionEntry look_up(self, object fn):
        """The entry of a function seen for the first time or pickled by value; None if it must go with each task."""
        cdef FunctionEntry entry
        if functions.by_reference(fn):
            entry = self.by_name.get(fn)
            if entry is not None:
                return entry
            if len(self.by_name) >= MAX_FUNCTIONS:
                return None
            entry = self.new_entry(pickle.dumps((fn.__module__, fn.__qualname__), 5))
            if entry is not None:
                entry.named = True
                if "." not in fn.__qualname__:
                    entry.namespace = vars(sys.modules[fn.__module__])
                    entry.name = fn.__qualname__
                self.by_name[fn] = entry
            return entry
        scope = self.scope()
        found = None if scope is None else scope.find(fn)
        if found is not None:
            fingerprint, name, known = found
        elif type(fn) is FunctionType:
            fingerprint = functions.fingerprint(fn)
        else:
            return None
        if fingerprint is None:
            return None
        entry = self.find_by_value(fn, None)
        if entry is not None and functions.same(fingerprint, entry.fingerprint):
            self.find_by_value(fn, entry)
            return entry
        what = fn if found is None else scope.callee(fn, name, known)
        entry = self.new_entry(cloudpickle_dumps(what, None, scope))
        if entry is not None:
            entry.fingerprint = fingerprint
            entry.handles = None if scope is None else scope.handles
            self.put_by_value(fn, entry)
        return entry

    cdef FunctionEntry find_by_value(self, object fn, FunctionEntry used):
        """The entry of a function by value, or None. If it is `used`, it is the latest from now on."""
        cdef Inside inside
        cdef FunctionEntry entry
        self.segment.lock.enter_here(&inside)  # an OrderedDict is changed by one thread at a time
        entry = self.by_value.get(fn)
        if used is not None and entry is used:  # another thread may have forgotten it meanwhile
            self.by_value.move_to_end(fn)
        return entry

    cdef put_by_value(self, object fn, FunctionEntry entry):
        """The entry is the latest; the one that was used longest ago is forgotten if there are too many. Gives what is to be
        dropped: outside the engine, for that may run user code."""
        cdef Inside inside
        self.segment.lock.enter_here(&inside)
        dropped = self.by_value.pop(fn, None)
        self.by_value[fn] = entry  # at the end
        if len(self.by_value) > MAX_DYNAMIC:
            dropped = dropped, self.by_value.popitem(last=False)
        return dropped

    cdef FunctionEntry new_entry(self, bytes data):
        cdef FunctionEntry entry = FunctionEntry()
        cdef uint64_t n = len(data)
        cdef uint64_t block = 0
        cdef bint found
        disown(entry)
        self.segment.lock.enter()  # so that the memory stays mapped
        self.segment.lock.acquire()
        found = n >> 32 == 0 and self.segment.is_mapped() and self.segment.alloc_block(n, &block)
        self.segment.lock.release()
        if not found:
            self.segment.lock.leave()
            return None
        memcpy(rp_pool_block(&self.segment.pool, 0, block, n), PyBytes_AS_STRING(data), n)
        self.segment.lock.leave()
        entry.segment = self.segment
        entry.block = block
        entry.n = <uint32_t>n
        self.segment.lock.acquire()
        self.count += 1
        entry.id = self.count
        self.segment.lock.release()
        return entry

    cdef object scope(self):
        """How to pickle what goes to workers, if that is not as always."""
        if functions.main_is_importable():
            return None
        from ringpool import session

        if self.session is None:
            made = session.Session()
            self.segment.lock.enter()
            if self.session is None:
                self.session = made
            self.segment.lock.leave()
        return session.TaskScope(self.session, self)

    def fork_session(self):
        """To be called right before the fork that workers are copies of."""
        if self.scope() is not None:
            self.session.fork()

    def encode(self, o, scope):
        """Pickles globals of a session."""
        return joined(pack(o, None, scope))

    load = staticmethod(decode_pickled)

    load = staticmethod(decode_pickled)

    def encode_initializer(self, call):
        """Pickles a call of a session's function that each worker begins with. What it names stays as long as the pool."""
        scope = self.scope()
        data = joined(pack(call, None, scope))
        if scope is not None:
            self.session.pin(scope.handles)
        return data

    def hold(self, bytes data):
        """Keeps what encode() has made where workers can read it.

        Returns:
            What gives its value in a worker; and its handle, which keeps it there. None if there is no room now.
        """
        cdef FunctionEntry entry = self.new_entry(data)
        if entry is None:
            return None
        self.take_by_value()  # some of these may keep what this takes the place of, and will hardly be used again
        return partial(held_here, entry.block, entry.n), entry

    cdef object take_by_value(self):
        """Forgets the functions by value. They are the caller's, to drop outside the engine: that may run user code."""
        by_value = OrderedDict()
        self.segment.lock.enter()
        by_value, self.by_value = self.by_value, by_value
        self.segment.lock.leave()
        return by_value

    cdef clear(self):
        self.by_name.clear()
        self.take_by_value()
        if self.session is not None:
            self.session.close()
