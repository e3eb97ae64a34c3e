"""Saves many entries at once: a follower says how much of its log is saved, and that alone counts for its leader.

So a success says only that the entries are taken in. Term and vote are saved before any answer, as always.
"""

import threading
import time
from dataclasses import dataclass

import _plain
from _plain import make

SAVE_EVERY = 0.03  # s


@dataclass
class AppendEntriesReply:
    Term: int = 0
    Success: bool = False
    Next: int = 0
    MatchIndex: int = 0


class Raft(_plain.Raft):
    def __init__(self, *args):
        super().__init__(*args)
        self.saved = len(self.log) - 1  # what is saved of the log as it is now
        self.agreed = 0  # what of it is known to be the leader's of this term
        threading.Thread(target=self.saver, daemon=True).start()

    def persist(self):
        super().persist()
        self.saved = len(self.log) - 1

    def saver(self):
        while not self.dead:
            time.sleep(SAVE_EVERY)
            with self.mu:
                if self.saved < len(self.log) - 1:
                    self.persist()

    def follow(self, term):
        if term > self.currentTerm:
            self.agreed = 0
        super().follow(term)

    def AppendEntries(self, args, reply):
        with self.mu:
            self.follow(args.Term)
            reply.Term = self.currentTerm
            if args.Term < self.currentTerm:
                return
            self.state = "follower"
            self.resetElectionTimer()
            prev = args.PrevLogIndex
            if prev >= len(self.log):
                reply.Next = len(self.log)
                return
            if self.log[prev].Term != args.PrevLogTerm:
                reply.Next = prev
                while self.log[reply.Next - 1].Term == self.log[prev].Term:
                    reply.Next -= 1
                return
            reply.Success = True
            before = self.log[:]
            self.append(prev, args.Entries)
            kept = 0
            while kept < min(len(before), len(self.log)) and before[kept] is self.log[kept]:
                kept += 1
            self.saved = min(self.saved, kept - 1)
            self.agreed = max(self.agreed, prev + len(args.Entries))
            reply.MatchIndex = min(self.saved, self.agreed)
            if args.LeaderCommit > self.commitIndex:
                self.commitIndex = min(args.LeaderCommit, prev + len(args.Entries))

    def sendEntries(self, peer, args):
        reply = AppendEntriesReply()
        if not self.peers[peer].Call("Raft.AppendEntries", args, reply):
            return
        with self.mu:
            self.follow(reply.Term)
            if self.state != "leader" or self.currentTerm != args.Term:
                return
            if reply.Success:
                self.matchIndex[peer] = max(self.matchIndex[peer], reply.MatchIndex)
                self.nextIndex[peer] = max(self.nextIndex[peer], args.PrevLogIndex + len(args.Entries) + 1)
                self.advanceCommitIndex()
            elif self.nextIndex[peer] == args.PrevLogIndex + 1:
                self.nextIndex[peer] = max(self.matchIndex[peer] + 1, min(reply.Next, args.PrevLogIndex))


def Make(*args):
    return make(Raft, *args)
