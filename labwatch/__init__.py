"""What a run shows: the journal of a trial, and what the paper forbids in it.

    journal = Journal(clock)                               # an observer for raft.config.Trial
    monitor = Monitor(durable=True, virtual=True)          # the paper's rules, judged while it happens
    journal.listen(monitor.see, monitor.kinds)
    Trial(make, seed, out, journal).make_config(3) ...

    journal.write(path, test="TestFigure82C", seed=7)      # JSON lines (labwatch.journal has the schema)
    monitor.broken, monitor.hints, monitor.unchecked       # labwatch.paper has the rules
    write(path, page(journal.lines(test=...)))             # labwatch.picture: a page to look at

Nothing here runs code of the solution: messages are read as the bytes that travelled. So a Journal of the ordinary
process may watch a trial in virtual time, and costs it no time of its own.
"""

from labwatch.journal import RING, Journal
from labwatch.paper import Broken, Monitor

__all__ = ["RING", "Broken", "Journal", "Monitor"]
