# system.pxd - what the supervisor and a worker's start ask of the system, with errors as exceptions.
#
# For: worker.py and supervisor.py, which know no system calls. No state. Runs no user code.
