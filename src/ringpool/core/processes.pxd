# processes.pxd - waits for other processes and for descriptors, without the GIL.
