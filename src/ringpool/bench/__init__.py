"""The benchmark behind `python -m ringpool bench`: ringpool and other executors, in turns, on this machine.

From what knows most to what knows least:

- `run`: the command. Asks for one measurement after the other, contenders in turns, and shows what was found.
- `measure`: one measurement, which is one contender, one case and one round, in an interpreter of its own.
- `report`: the arithmetic over rounds, the table, the JSON.
- `cases`: the questions, a function each.
- `setting`: what a case is given, what it fills in, and how it measures.
- `contenders`: how each library is used.
- `tasks`: what the workers run.

`import ringpool` never imports this package. Workers import it to find their tasks, so this file imports nothing.
"""
