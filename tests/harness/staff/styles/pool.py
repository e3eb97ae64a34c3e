"""Thread pools: a large one for RPCs, one of a single thread for what is to be applied, and a ticker that waits on an Event.

Whoever has something to send sets the Event; the ticker lets a few milliseconds pass and sends what has come to every
peer. It does not wait for answers: a peer is taken to have what was sent to it, and what was lost or overtaken shows
when the next message is refused, with the hint of section 5.3: the term in conflict, and where it begins.

Its habits: The class has another name. Entries know their index. A term comes with refusals only. What is saved is
saved where it changes.
"""

import contextlib
import io
import random
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import labgob
from raft.api import ApplyMsg

HEARTBEAT = 0.1  # s
GATHER = 0.02  # s between two rounds of messages


@dataclass
class LogEntry:
    Index: int = 0
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
    ConflictTerm: int = 0  # 0: the log is too short
    ConflictIndex: int = 0  # the first of that term, or the one behind the log


@dataclass
class InstallSnapshotArgs:
    Term: int = 0
    LeaderId: int = 0
    LastIncludedIndex: int = 0
    LastIncludedTerm: int = 0
    Data: bytes = b""


@dataclass
class InstallSnapshotReply:
    Term: int = 0


def Make(peers, me, persister, applyCh):
    server = Server(peers, me, persister, applyCh)
    threading.Thread(target=server.ticker, daemon=True).start()
    return server


class Server:
    def __init__(self, peers, me, persister, applyCh):
        self.peers, self.me, self.persister, self.applyCh = peers, me, persister, applyCh
        self.others = [i for i in range(len(peers)) if i != me]
        self.majority = len(peers) // 2 + 1
        self.mu = threading.Lock()
        self.news = threading.Event()  # for the ticker
        self.dead = threading.Event()
        self.rpcs = ThreadPoolExecutor(max_workers=600)
        self.applier = ThreadPoolExecutor(max_workers=1)
        self.term, self.votedFor, self.role, self.votes = 0, -1, "follower", 0
        self.log = [LogEntry()]  # log[0] is the last entry that the snapshot covers
        if data := persister.ReadRaftState():
            d = labgob.NewDecoder(io.BytesIO(data))
            self.term, self.votedFor, self.log = d.Decode(int), d.Decode(int), d.Decode(list[LogEntry])
        self.commitIndex = self.log[0].Index  # all up to it is on its way to the service
        self.nextIndex, self.matchIndex = {}, {}
        self.heard()

    # --- the service's side ---

    def GetState(self):
        with self.mu:
            return self.term, self.role == "leader"

    def Start(self, command):
        with self.mu:
            if self.role != "leader":
                return -1, self.term, False
            self.log.append(LogEntry(self.log[-1].Index + 1, self.term, command))
            self.persist()
            self.advance()
            self.news.set()
            return self.log[-1].Index, self.term, True

    def Kill(self):
        self.dead.set()
        self.news.set()
        for pool in self.rpcs, self.applier:
            pool.shutdown(wait=False, cancel_futures=True)

    def Snapshot(self, index, snapshot):
        with self.mu:
            if index > self.log[0].Index:
                self.compact(index, self.at(index).Term, snapshot)

    def CondInstallSnapshot(self, lastIncludedTerm, lastIncludedIndex, snapshot):
        return True

    def apply(self, message):
        self.submit(self.applier, self.deliver, message)

    def deliver(self, message):
        if not self.dead.is_set():  # while Kill cancels what waits in the pool, its thread may still find the rest
            self.applyCh.put(message)

    def submit(self, pool, function, *args):
        with contextlib.suppress(RuntimeError):  # the pool is shut down
            pool.submit(function, *args)

    # --- the log; the lock is held from here on, but in the threads of the pool ---

    def at(self, index):
        return self.log[index - self.log[0].Index]

    def since(self, index):
        return self.log[max(0, index - self.log[0].Index) :]

    def compact(self, index, term, snapshot):
        """Let a snapshot stand for the log up to an index; what follows stays if it belongs to that."""
        known = index <= self.log[-1].Index and self.at(index).Term == term
        self.log = [LogEntry(index, term), *(self.since(index + 1) if known else [])]
        self.persister.SaveStateAndSnapshot(self.state(), snapshot)

    def persist(self):
        self.persister.SaveRaftState(self.state())

    def state(self):
        w = io.BytesIO()
        e = labgob.NewEncoder(w)
        e.Encode(self.term)
        e.Encode(self.votedFor)
        e.Encode(self.log)
        return w.getvalue()

    def commit(self, index):
        for entry in self.since(self.commitIndex + 1):
            if entry.Index <= index:
                self.commitIndex = entry.Index
                self.apply(ApplyMsg(CommandValid=True, Command=entry.Command, CommandIndex=entry.Index))

    # --- elections ---

    def heard(self):
        self.due = time.time() + random.uniform(0.4, 0.8)

    def ticker(self):
        pause = 0.0
        while not self.dead.is_set():
            news = self.news.wait(pause)
            if news:
                time.sleep(GATHER)
            with self.mu:
                self.news.clear()
                late = time.time() >= self.due
                if self.role == "leader":
                    for peer in self.others:
                        if late or self.nextIndex[peer] <= self.log[-1].Index:
                            self.send(peer)
                    if late:
                        self.due = time.time() + HEARTBEAT
                elif late:
                    self.stand()
                pause = max(0.0, self.due - time.time())

    def stand(self):
        self.term, self.votedFor, self.role, self.votes = self.term + 1, self.me, "candidate", 1
        self.heard()
        self.persist()
        args = RequestVoteArgs(self.term, self.me, self.log[-1].Index, self.log[-1].Term)
        for peer in self.others:
            self.submit(self.rpcs, self.askForVote, peer, args)
        self.leadIfElected()

    def askForVote(self, peer, args):
        reply = RequestVoteReply()
        if self.peers[peer].Call("Server.RequestVote", args, reply):
            with self.mu:
                self.follow(reply.Term)
                if reply.VoteGranted and self.role == "candidate" and self.term == args.Term:
                    self.votes += 1
                    self.leadIfElected()

    def leadIfElected(self):
        if self.votes >= self.majority:
            self.role, self.due = "leader", 0.0
            self.nextIndex = dict.fromkeys(self.others, self.log[-1].Index + 1)
            self.matchIndex = dict.fromkeys(self.others, 0)
            self.news.set()

    def follow(self, term):
        if term > self.term:
            if self.role == "leader":
                self.heard()
            self.term, self.votedFor, self.role = term, -1, "follower"
            self.persist()

    def RequestVote(self, args, reply):
        with self.mu:
            self.follow(args.Term)
            upToDate = (args.LastLogTerm, args.LastLogIndex) >= (self.log[-1].Term, self.log[-1].Index)
            if args.Term == self.term and upToDate and self.votedFor in (-1, args.CandidateId):
                self.votedFor = args.CandidateId
                self.persist()
                self.heard()
                reply.VoteGranted = True
            else:
                reply.Term = self.term

    # --- replication ---

    def send(self, peer):
        if self.nextIndex[peer] <= self.log[0].Index:
            first = self.log[0]
            args = InstallSnapshotArgs(self.term, self.me, first.Index, first.Term, self.persister.ReadSnapshot())
            self.nextIndex[peer] = first.Index + 1
            self.submit(self.rpcs, self.sendSnapshot, peer, args)
        else:
            prev, *entries = self.since(self.nextIndex[peer] - 1)
            args = AppendEntriesArgs(self.term, self.me, prev.Index, prev.Term, entries, self.commitIndex)
            self.nextIndex[peer] = self.log[-1].Index + 1
            self.submit(self.rpcs, self.sendEntries, peer, args)

    def sendSnapshot(self, peer, args):
        reply = InstallSnapshotReply()
        if self.peers[peer].Call("Server.InstallSnapshot", args, reply):
            with self.mu:
                self.follow(reply.Term)
                if self.term == args.Term:
                    self.matches(peer, args.LastIncludedIndex)

    def sendEntries(self, peer, args):
        reply = AppendEntriesReply()
        if self.peers[peer].Call("Server.AppendEntries", args, reply):
            with self.mu:
                self.follow(reply.Term)
                if self.term == args.Term and reply.Success:
                    self.matches(peer, args.PrevLogIndex + len(args.Entries))
                elif self.term == args.Term:
                    back = min(self.nextIndex[peer], self.whereToGoOn(reply))
                    self.nextIndex[peer] = max(back, self.matchIndex[peer] + 1)
                    self.news.set()

    def whereToGoOn(self, reply):
        """Behind this server's last entry of the term in conflict, if it has any."""
        found = [entry.Index for entry in self.log if entry.Term == reply.ConflictTerm]
        return found[-1] + 1 if found and reply.ConflictTerm else reply.ConflictIndex

    def matches(self, peer, index):
        if index > self.matchIndex[peer]:
            self.matchIndex[peer] = index
            self.nextIndex[peer] = max(self.nextIndex[peer], index + 1)
            self.advance()

    def advance(self):
        for entry in reversed(self.since(self.commitIndex + 1)):
            have = 1 + sum(index >= entry.Index for index in self.matchIndex.values())
            if entry.Term == self.term and have >= self.majority:
                self.commit(entry.Index)
                return

    def isFromLeader(self, args):
        self.follow(args.Term)
        if args.Term == self.term:
            self.role = "follower"
            self.heard()
        return args.Term == self.term

    def AppendEntries(self, args, reply):
        with self.mu:
            if not self.isFromLeader(args):
                reply.Term = self.term
            elif args.PrevLogIndex > self.log[-1].Index:
                reply.Term, reply.ConflictIndex = self.term, self.log[-1].Index + 1
            elif args.PrevLogIndex > self.log[0].Index and self.at(args.PrevLogIndex).Term != args.PrevLogTerm:
                reply.Term, reply.ConflictTerm = self.term, self.at(args.PrevLogIndex).Term
                reply.ConflictIndex = next(e.Index for e in self.log if e.Term == reply.ConflictTerm)
            else:
                reply.Success = True
                self.append(args.Entries)
                self.commit(min(args.LeaderCommit, args.PrevLogIndex + len(args.Entries)))

    def append(self, entries):
        for i, entry in enumerate(entries):
            new = entry.Index > self.log[-1].Index
            if new or (entry.Index > self.log[0].Index and self.at(entry.Index).Term != entry.Term):
                self.log = self.log[: entry.Index - self.log[0].Index] + entries[i:]
                self.persist()
                return

    def InstallSnapshot(self, args, reply):
        with self.mu:
            if not self.isFromLeader(args):
                reply.Term = self.term
            elif args.LastIncludedIndex > self.commitIndex:
                index, term = args.LastIncludedIndex, args.LastIncludedTerm
                self.compact(index, term, args.Data)
                self.commitIndex = index
                self.apply(ApplyMsg(SnapshotValid=True, Snapshot=args.Data, SnapshotTerm=term, SnapshotIndex=index))
