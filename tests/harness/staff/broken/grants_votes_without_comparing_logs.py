"""Votes for candidates whose log is behind its own.

RequestVote was finished in part 2A, and the election restriction of section 5.4.1 belongs to 2B. In Figure 8's story the
leader crashes soon after each command, and who becomes the next one without the entries that are committed overwrites
them.

Part: 2C
Caught by: TestFigure82C: apply error: commit index=N server=N N != server=N N
Rate: 40%
"""

import _plain as plain


class Raft(plain.Raft):
    def isUpToDate(self, args):
        return True


def Make(peers, me, persister, applyCh):
    return plain.make(Raft, peers, me, persister, applyCh)
