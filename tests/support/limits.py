"""How long tests wait for what they expect."""

LIMIT = 30  # s; for what should take milliseconds: a busy machine takes its time
LONG_S = 100.0  # for a task that its test lets go on; shorter than the deadline of a test
