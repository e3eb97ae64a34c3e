"""The fields of a message begin with an underscore.

Like lower-case names in Go: the encoder does not send them, and the receiver sees zeros.

Part: 2A
Caught by: nothing
"""

from dataclasses import dataclass

from raft import raft as base
from raft.raft import RequestVoteReply


@dataclass
class PrivateArgs:
    _term: int = 0
    _candidate: int = 0


class Raft(base.Raft):
    def askForVote(self, peer, args):
        self.peers[peer].Call("Raft.RequestVote", PrivateArgs(args.Term, args.CandidateId), RequestVoteReply())


def Make(peers, me, persister, applyCh):
    rf = Raft(peers, me, persister, applyCh)
    rf.boot()
    return rf
