"""Asks before it stands (Ongaro's dissertation, section 9.6), by RequestVote with a flag.

Whoever would vote for it answers with the term that it asked about, which need not come.
"""

from dataclasses import dataclass

import raft.raft as base
from raft.raft import RequestVoteReply


@dataclass
class RequestVoteArgs(base.RequestVoteArgs):
    PreVote: bool = False


class Raft(base.Raft):
    def startElection(self):
        self.resetElectionTimer()
        last = self.lastIndex()
        args = RequestVoteArgs(self.currentTerm + 1, self.me, last, self.term(last), PreVote=True)
        self.wouldVote = 1
        for peer in self.others:
            self.go(f"asks {peer}", self.askBefore, peer, args)

    def askBefore(self, peer, args):
        reply = RequestVoteReply()
        if not self.peers[peer].Call("Raft.RequestVote", args, reply):
            return
        with self.mu:
            if not reply.VoteGranted:
                self.followNewerTerm(reply.Term)
            elif self.role is not base.Role.LEADER and self.currentTerm + 1 == args.Term:
                self.wouldVote += 1
                if self.wouldVote == len(self.peers) // 2 + 1:
                    super().startElection()

    def askForVote(self, peer, args):
        super().askForVote(peer, RequestVoteArgs(**vars(args)))

    def RequestVote(self, args, reply):
        if not args.PreVote:
            super().RequestVote(args, reply)
            return
        with self.mu:
            last = self.lastIndex()
            upToDate = (args.LastLogTerm, args.LastLogIndex) >= (self.term(last), last)
            reply.VoteGranted = upToDate and args.Term > self.currentTerm
            reply.Term = args.Term if reply.VoteGranted else self.currentTerm


def Make(peers, me, persister, applyCh):
    rf = Raft(peers, me, persister, applyCh)
    rf.boot()
    return rf
