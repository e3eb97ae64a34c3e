"""The plainest Raft that is right, for parts 2A to 2C; some of the gallery's bugs are single changes of it.

It is what a student writes first: one lock, one ticker that looks every 10 ms, and a thread for each RPC, which sends
what the peer may lack. So many RPCs to one peer are under way at once, and overtake each other; the shipped Raft, which
keeps them in order, hides bugs that live on that.
"""

import io
import random
import threading
import time
from dataclasses import dataclass, field
from typing import Any

import labgob
from raft.api import ApplyMsg

HEARTBEAT = 0.1  # s
TICK = 0.01  # s


@dataclass
class LogEntry:
    Term: int = 0
    Command: Any = None


@dataclass
class RequestVoteArgs:
    Term: int = 0
    CandidateId: int = 0
    LastLogIndex: int = 0
    LastLogTerm: int = 0


@dataclass
class RequestVoteReply:
    Term: int = 0
    VoteGranted: bool = False


@dataclass
class AppendEntriesArgs:
    Term: int = 0
    LeaderId: int = 0
    PrevLogIndex: int = 0
    PrevLogTerm: int = 0
    Entries: list[LogEntry] = field(default_factory=list)
    LeaderCommit: int = 0


@dataclass
class AppendEntriesReply:
    Term: int = 0
    Success: bool = False
    Next: int = 0  # where a refused leader shall go on: the first index of the term in conflict, or the log's end


def make(Raft, peers, me, persister, applyCh):
    rf = Raft(peers, me, persister, applyCh)
    rf.go(rf.ticker)
    rf.go(rf.applier)
    return rf


class Raft:
    def __init__(self, peers, me, persister, applyCh):
        self.peers, self.me, self.persister, self.applyCh = peers, me, persister, applyCh
        self.mu = threading.Lock()
        self.dead = False
        self.state = "follower"
        self.currentTerm, self.votedFor, self.log = 0, -1, [LogEntry()]
        self.commitIndex = self.lastApplied = 0
        self.votes = 0
        self.nextIndex, self.matchIndex = [], []
        self.heartbeatDue = 0.0
        if data := persister.ReadRaftState():
            d = labgob.NewDecoder(io.BytesIO(data))
            self.currentTerm, self.votedFor, self.log = d.Decode(int), d.Decode(int), d.Decode(list[LogEntry])
        self.resetElectionTimer()

    def go(self, function, *args):
        threading.Thread(target=function, args=args, name=f"server {self.me} {function.__name__}", daemon=True).start()

    # --- for the service ---

    def GetState(self):
        with self.mu:
            return self.currentTerm, self.state == "leader"

    def Start(self, command):
        with self.mu:
            if self.state != "leader":
                return -1, self.currentTerm, False
            self.log.append(LogEntry(self.currentTerm, command))
            self.persist()
            self.broadcast()
            return len(self.log) - 1, self.currentTerm, True

    def Kill(self):
        with self.mu:
            self.dead = True

    # --- all below needs the lock, except what runs in a thread ---

    def persist(self):
        w = io.BytesIO()
        e = labgob.NewEncoder(w)
        e.Encode(self.currentTerm)
        e.Encode(self.votedFor)
        e.Encode(self.log)
        self.persister.SaveRaftState(w.getvalue())

    def resetElectionTimer(self):
        self.electionDue = time.monotonic() + random.uniform(0.4, 0.8)

    def follow(self, term):
        if term > self.currentTerm:
            self.currentTerm, self.votedFor, self.state = term, -1, "follower"
            self.persist()

    def ticker(self):
        while True:
            with self.mu:
                if self.dead:
                    return
                now = time.monotonic()
                if self.state == "leader" and now >= self.heartbeatDue:
                    self.heartbeatDue = now + HEARTBEAT
                    self.broadcast()
                elif self.state != "leader" and now >= self.electionDue:
                    self.startElection()
            time.sleep(TICK)

    # --- elections ---

    def startElection(self):
        self.state = "candidate"
        self.currentTerm += 1
        self.votedFor, self.votes = self.me, 1
        self.persist()
        self.resetElectionTimer()
        args = RequestVoteArgs(self.currentTerm, self.me, len(self.log) - 1, self.log[-1].Term)
        for peer in range(len(self.peers)):
            if peer != self.me:
                self.go(self.askForVote, peer, args)

    def askForVote(self, peer, args):
        reply = RequestVoteReply()
        if not self.peers[peer].Call("Raft.RequestVote", args, reply):
            return
        with self.mu:
            self.follow(reply.Term)
            if reply.VoteGranted and self.state == "candidate" and self.currentTerm == args.Term:
                self.votes += 1
                if self.votes > len(self.peers) // 2:
                    self.state = "leader"
                    self.nextIndex = [len(self.log)] * len(self.peers)
                    self.matchIndex = [0] * len(self.peers)
                    self.heartbeatDue = 0.0

    def isUpToDate(self, args):
        return (args.LastLogTerm, args.LastLogIndex) >= (self.log[-1].Term, len(self.log) - 1)

    def RequestVote(self, args, reply):
        with self.mu:
            self.follow(args.Term)
            reply.Term = self.currentTerm
            if args.Term == self.currentTerm and self.votedFor in (-1, args.CandidateId) and self.isUpToDate(args):
                self.votedFor, reply.VoteGranted = args.CandidateId, True
                self.persist()
                self.resetElectionTimer()

    # --- replication ---

    def broadcast(self):
        for peer in range(len(self.peers)):
            if peer != self.me:
                prev = self.nextIndex[peer] - 1
                entries = self.log[prev + 1 :]
                args = AppendEntriesArgs(
                    self.currentTerm, self.me, prev, self.log[prev].Term, entries, self.commitIndex
                )
                self.go(self.sendEntries, peer, args)

    def replyFor(self, peer):
        return AppendEntriesReply()

    def sendEntries(self, peer, args):
        reply = self.replyFor(peer)
        if not self.peers[peer].Call("Raft.AppendEntries", args, reply):
            return
        with self.mu:
            self.follow(reply.Term)
            if self.state != "leader" or self.currentTerm != args.Term:
                return
            if reply.Success:
                self.matchIndex[peer] = max(self.matchIndex[peer], args.PrevLogIndex + len(args.Entries))
                self.nextIndex[peer] = self.matchIndex[peer] + 1
                self.advanceCommitIndex()
            elif self.nextIndex[peer] == args.PrevLogIndex + 1:
                self.nextIndex[peer] = max(self.matchIndex[peer] + 1, min(reply.Next, args.PrevLogIndex))

    def advanceCommitIndex(self):
        self.matchIndex[self.me] = len(self.log) - 1
        majority = sorted(self.matchIndex)[(len(self.peers) - 1) // 2]
        if majority > self.commitIndex and self.log[majority].Term == self.currentTerm:
            self.commitIndex = majority

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
            self.append(prev, args.Entries)
            self.persist()
            if args.LeaderCommit > self.commitIndex:
                self.commitIndex = min(args.LeaderCommit, prev + len(args.Entries))

    def append(self, prev, entries):
        for i, entry in enumerate(entries, prev + 1):
            if i >= len(self.log) or self.log[i].Term != entry.Term:
                self.log[i:] = entries[i - prev - 1 :]
                return

    def applier(self):
        while True:
            with self.mu:
                if self.dead:
                    return
                first, self.lastApplied = self.lastApplied + 1, self.commitIndex
                messages = [ApplyMsg(True, self.log[i].Command, i) for i in range(first, self.commitIndex + 1)]
            for message in messages:
                self.applyCh.put(message)
            time.sleep(TICK)
