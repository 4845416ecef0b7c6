"""How long tests wait for what they expect."""

import os

# By how much longer than usual: for a run in which all takes longer, such as one with a sanitizer.
PATIENCE = int(os.environ.get("RINGPOOL_TESTS_PATIENCE", "1"))

LIMIT = 30 * PATIENCE  # s; for what should take milliseconds: a busy machine takes its time
LONG_S = 100.0 * PATIENCE  # for a task that its test lets go on; shorter than the deadline of a test
