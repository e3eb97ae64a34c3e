"""Has the same election timeout on every server, and looks every 10 ms whether it has passed.

As with same_election_timeout_everywhere, chance is missing (section 5.2). But each server looks at times of its own, as
each of its pauses ends a little late, and the first to look has asked for votes before the others do. With so few
servers it hardly ever fails, here as in Go. It makes elections slow and breaks no rule of the paper, which asks for
random timeouts and forbids nothing that a server sends by its own.

Part: 2A
Caught by: nothing
"""

import time

import _plain as plain


class Raft(plain.Raft):
    def resetElectionTimer(self):
        self.electionDue = time.monotonic() + 0.5


def Make(peers, me, persister, applyCh):
    return plain.make(Raft, peers, me, persister, applyCh)
