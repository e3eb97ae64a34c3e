"""The plainest style: one Lock, two threads that sleep in small steps, and a Thread for each RPC.

One looks every 20 ms whether an election or a message to a peer is due, the other whether there is something to apply.
So what Start was given goes out at the next tick, all that has come since in one RPC.

Its habits: It saves whenever it has handled something, changed or not. A leader that is refused goes back by a whole
term of its own log; the follower gives no hint. The service decides about snapshots, as in the lab of 2021:
InstallSnapshot only hands one over, and CondInstallSnapshot installs it; so that one has arrived tells a leader where
to go on, and not what its follower holds.
"""

import io
import random
import threading
import time
from dataclasses import dataclass, field
from typing import Any

import labgob
from raft.api import ApplyMsg

TICK = 0.02  # s
HEARTBEAT = 0.1  # s


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
class AppendEntriesArgs:
    Term: int = 0
    LeaderId: int = 0
    PrevLogIndex: int = 0
    PrevLogTerm: int = 0
    Entries: list[LogEntry] = field(default_factory=list)
    LeaderCommit: int = 0


@dataclass
class InstallSnapshotArgs:
    Term: int = 0
    LeaderId: int = 0
    LastIncludedIndex: int = 0
    LastIncludedTerm: int = 0
    Data: bytes = b""


@dataclass
class Reply:
    """To each of the three."""

    Term: int = 0
    VoteGranted: bool = False
    Success: bool = False


def Make(peers, me, persister, applyCh):
    rf = Raft(peers, me, persister, applyCh)
    threading.Thread(target=rf.ticker, daemon=True).start()
    threading.Thread(target=rf.applier, daemon=True).start()
    return rf


class Raft:
    def __init__(self, peers, me, persister, applyCh):
        self.peers, self.me, self.persister, self.applyCh = peers, me, persister, applyCh
        self.others = [i for i in range(len(peers)) if i != me]
        self.mu = threading.Lock()
        self.dead = False
        self.role, self.votes = "follower", 0
        self.currentTerm, self.votedFor = 0, -1
        self.base, self.log = 0, [LogEntry()]  # log[0], of index base, is the last that the snapshot covers
        self.restore()
        self.commitIndex = self.lastApplied = self.base
        self.snapshot = None  # for the service, once the applier comes by
        self.undecided = False  # the service has been handed one
        self.nextIndex = self.matchIndex = [0] * len(peers)
        self.due = [0.0] * len(peers)  # when a peer must hear of its leader; at [me], when to stand for election
        self.underWay = [0] * len(peers)  # RPCs to each peer
        self.heard()

    # --- the service's side ---

    def GetState(self):
        with self.mu:
            return self.currentTerm, self.role == "leader"

    def Start(self, command):
        with self.mu:
            if self.role != "leader":
                return -1, self.currentTerm, False
            self.log.append(LogEntry(self.currentTerm, command))
            self.advanceCommit()
            self.save()
            return self.last(), self.currentTerm, True

    def Kill(self):
        with self.mu:
            self.dead = True

    def Snapshot(self, index, snapshot):
        with self.mu:
            if index > self.base:
                self.trim(index, self.term(index), snapshot)

    def CondInstallSnapshot(self, lastIncludedTerm, lastIncludedIndex, snapshot):
        with self.mu:
            self.undecided = False
            if lastIncludedIndex <= self.commitIndex:
                return False
            self.commitIndex = self.lastApplied = lastIncludedIndex
            self.trim(lastIncludedIndex, lastIncludedTerm, snapshot)
            return True

    def applier(self):
        while True:
            with self.mu:
                if self.dead:
                    return
                message = self.nextToApply()
            if message:
                self.applyCh.put(message)
            else:
                time.sleep(TICK)

    def nextToApply(self):
        message = None
        if self.snapshot and not self.undecided:
            message, self.snapshot, self.undecided = self.snapshot, None, True
        elif self.lastApplied < self.commitIndex and not self.undecided:
            self.lastApplied += 1
            command = self.log[self.lastApplied - self.base].Command
            message = ApplyMsg(CommandValid=True, Command=command, CommandIndex=self.lastApplied)
        return message

    # --- the log and what is kept of it; the lock is held from here on ---

    def last(self):
        return self.base + len(self.log) - 1

    def term(self, index):
        return self.log[index - self.base].Term

    def trim(self, index, term, snapshot):
        """Let a snapshot stand for the log up to an index; what follows stays if it belongs to that."""
        known = index <= self.last() and self.term(index) == term
        self.log = [LogEntry(term), *(self.log[index - self.base + 1 :] if known else [])]
        self.base = index
        self.save(snapshot)

    def save(self, snapshot=None):
        w = io.BytesIO()
        e = labgob.NewEncoder(w)
        for value in (self.currentTerm, self.votedFor, self.base, self.log):
            e.Encode(value)
        if snapshot is None:
            self.persister.SaveRaftState(w.getvalue())
        else:
            self.persister.SaveStateAndSnapshot(w.getvalue(), snapshot)

    def restore(self):
        if data := self.persister.ReadRaftState():
            d = labgob.NewDecoder(io.BytesIO(data))
            self.currentTerm, self.votedFor = d.Decode(int), d.Decode(int)
            self.base, self.log = d.Decode(int), d.Decode(list[LogEntry])

    # --- elections ---

    def heard(self):
        self.due[self.me] = time.time() + random.uniform(0.4, 0.8)

    def ticker(self):
        while True:
            time.sleep(TICK)
            with self.mu:
                if self.dead:
                    return
                if self.role == "leader":
                    for peer in self.others:
                        lacks = self.nextIndex[peer] <= self.last()
                        if time.time() >= self.due[peer] or (lacks and not self.underWay[peer]):
                            self.send(peer)
                elif time.time() >= self.due[self.me]:
                    self.stand()

    def stand(self):
        self.role, self.currentTerm, self.votedFor, self.votes = "candidate", self.currentTerm + 1, self.me, 1
        self.heard()
        self.save()
        args = RequestVoteArgs(self.currentTerm, self.me, self.last(), self.term(self.last()))
        for peer in self.others:
            self.call(peer, "RequestVote", args, self.voted)
        self.leadIfElected()

    def voted(self, peer, args, reply):
        if reply.VoteGranted and self.role == "candidate":
            self.votes += 1
            self.leadIfElected()

    def leadIfElected(self):
        if self.votes > len(self.peers) // 2:
            self.role = "leader"
            self.nextIndex = [self.last() + 1] * len(self.peers)
            self.matchIndex = [0] * len(self.peers)
            for peer in self.others:
                self.due[peer] = 0.0

    def follow(self, term):
        if term > self.currentTerm:
            if self.role == "leader":
                self.heard()
            self.role, self.currentTerm, self.votedFor = "follower", term, -1

    def RequestVote(self, args, reply):
        with self.mu:
            self.follow(args.Term)
            upToDate = (args.LastLogTerm, args.LastLogIndex) >= (self.term(self.last()), self.last())
            if args.Term == self.currentTerm and self.votedFor in (-1, args.CandidateId) and upToDate:
                self.votedFor, reply.VoteGranted = args.CandidateId, True
                self.heard()
            reply.Term = self.currentTerm
            self.save()

    # --- replication ---

    def send(self, peer):
        self.due[peer] = time.time() + HEARTBEAT
        prev = self.nextIndex[peer] - 1
        if prev < self.base:
            covered = self.base, self.term(self.base)
            args = InstallSnapshotArgs(self.currentTerm, self.me, *covered, self.persister.ReadSnapshot())
            self.call(peer, "InstallSnapshot", args, self.installed)
        else:
            entries = self.log[prev - self.base + 1 :]
            args = AppendEntriesArgs(self.currentTerm, self.me, prev, self.term(prev), entries, self.commitIndex)
            self.call(peer, "AppendEntries", args, self.appended)

    def call(self, peer, method, args, then):
        """Let `then` see the reply, if it is one to this term."""
        self.underWay[peer] += 1
        threading.Thread(target=self.calling, args=(peer, method, args, then), daemon=True).start()

    def calling(self, peer, method, args, then):
        reply = Reply()
        arrived = self.peers[peer].Call("Raft." + method, args, reply)
        with self.mu:
            self.underWay[peer] -= 1
            if arrived:
                self.follow(reply.Term)
                if args.Term == self.currentTerm:
                    then(peer, args, reply)
                self.save()

    def appended(self, peer, args, reply):
        prev = args.PrevLogIndex
        if reply.Success:
            self.matchIndex[peer] = max(self.matchIndex[peer], prev + len(args.Entries))
            self.nextIndex[peer] = max(self.nextIndex[peer], self.matchIndex[peer] + 1)
            self.advanceCommit()
        elif prev + 1 == self.nextIndex[peer]:  # else it answers an older question
            while prev > self.base and self.term(prev - 1) == args.PrevLogTerm:
                prev -= 1
            self.nextIndex[peer] = max(prev, self.matchIndex[peer] + 1)

    def installed(self, peer, args, reply):
        self.nextIndex[peer] = max(self.nextIndex[peer], args.LastIncludedIndex + 1)

    def advanceCommit(self):
        stored = sorted([self.last(), *(self.matchIndex[peer] for peer in self.others)])
        agreed = stored[(len(self.peers) - 1) // 2]
        if agreed > self.commitIndex and self.term(agreed) == self.currentTerm:
            self.commitIndex = agreed

    def AppendEntries(self, args, reply):
        with self.mu:
            reply.Success = self.hears(args) and self.takes(args.PrevLogIndex, args.PrevLogTerm, args.Entries)
            if reply.Success:
                self.commitIndex = max(self.commitIndex, min(args.LeaderCommit, args.PrevLogIndex + len(args.Entries)))
            reply.Term = self.currentTerm
            self.save()

    def hears(self, args):
        """Whether a message comes from this term's leader."""
        self.follow(args.Term)
        if args.Term < self.currentTerm:
            return False
        self.role = "follower"
        self.heard()
        return True

    def takes(self, prev, term, entries):
        if prev > self.last() or (prev >= self.base and self.term(prev) != term):
            return False
        for index, entry in enumerate(entries, prev + 1):
            if index > self.last() or (index > self.base and self.term(index) != entry.Term):
                self.log[index - self.base :] = entries[index - prev - 1 :]
                break
        return True

    def InstallSnapshot(self, args, reply):
        with self.mu:
            if self.hears(args) and args.LastIncludedIndex > self.commitIndex:
                term, index = args.LastIncludedTerm, args.LastIncludedIndex
                self.snapshot = ApplyMsg(SnapshotValid=True, Snapshot=args.Data, SnapshotTerm=term, SnapshotIndex=index)
            reply.Term = self.currentTerm
            self.save()
