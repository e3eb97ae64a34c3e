"""Asks before it stands (Ongaro's dissertation, section 9.6), by a method of its own.

Whoever would vote for it says so, and neither follows the term nor saves anything.
"""

import raft.raft as base
from raft.raft import RequestVoteArgs, RequestVoteReply


class Raft(base.Raft):
    def startElection(self):
        self.resetElectionTimer()
        last = self.lastIndex()
        args = RequestVoteArgs(self.currentTerm + 1, self.me, last, self.term(last))
        self.wouldVote = 1
        for peer in self.others:
            self.go(f"asks {peer}", self.askBefore, peer, args)

    def askBefore(self, peer, args):
        reply = RequestVoteReply()
        if not self.peers[peer].Call("Raft.PreVote", args, reply):
            return
        with self.mu:
            if not reply.VoteGranted:
                self.followNewerTerm(reply.Term)
            elif self.role is not base.Role.LEADER and self.currentTerm + 1 == args.Term:
                self.wouldVote += 1
                if self.wouldVote == len(self.peers) // 2 + 1:
                    super().startElection()

    def PreVote(self, args, reply):
        with self.mu:
            last = self.lastIndex()
            upToDate = (args.LastLogTerm, args.LastLogIndex) >= (self.term(last), last)
            reply.VoteGranted = upToDate and args.Term > self.currentTerm
            reply.Term = args.Term if reply.VoteGranted else self.currentTerm


def Make(peers, me, persister, applyCh):
    rf = Raft(peers, me, persister, applyCh)
    rf.boot()
    return rf
