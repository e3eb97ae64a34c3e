"""An event loop: one thread owns all state, without a lock, and everybody else gives it functions to run on its queue.

In each round the loop runs all that has come, looks what time it is, and saves once if anything has changed. Only then
does it let the answers go, and its own RPCs, each in a thread that comes back with the reply by the same queue. What is
to be applied goes through a second queue, so that the loop never waits for the service.

Its habits: One message does it all: an AppendEntries that begins behind a snapshot brings that along, and there is no
InstallSnapshot. Every answer says where the leader shall go on: behind what has come, or, refused, behind what is
committed, which no leader will ever overwrite. All that is saved is one object.
"""

import io
import queue
import random
import threading
import time
from dataclasses import dataclass, field
from typing import Any

import labgob
from raft.api import ApplyMsg

HEARTBEAT = 0.1  # s
REST = 0.02  # s until a peer is sent what is new, and what comes meanwhile


@dataclass
class Entry:
    Term: int = 0
    Command: Any = None


@dataclass
class State:
    """What survives a crash. Log[0], of index Base, is the last entry that the snapshot covers."""

    CurrentTerm: int = 0
    VotedFor: int | None = None
    Base: int = 0
    Log: list[Entry] = field(default_factory=lambda: [Entry()])


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
    Snapshot: bytes | None = None  # of all up to PrevLogIndex, for one who lacks that
    PrevLogIndex: int = 0
    PrevLogTerm: int = 0
    Entries: list[Entry] = field(default_factory=list)
    LeaderCommit: int = 0


@dataclass
class AppendEntriesReply:
    Term: int = 0
    Success: bool = False
    Next: int = 0  # the index to go on with


class Peer:
    """What a leader knows of another server."""

    def __init__(self, next):
        self.next, self.match = next, 0
        self.asked = None  # what it was sent last, until it answers
        self.due = 0.0  # when it is sent something again, whether it has answered or not


def Make(peers, me, persister, applyCh):
    rf = Raft(peers, me, persister, applyCh)
    threading.Thread(target=rf.loop, daemon=True).start()
    threading.Thread(target=rf.applier, daemon=True).start()
    return rf


class Raft:
    def __init__(self, peers, me, persister, applyCh):
        self.ends, self.me, self.persister, self.applyCh = peers, me, persister, applyCh
        self.inbox = queue.Queue()  # (function, its arguments, a queue for what it returns)
        self.outbox = queue.Queue()  # of ApplyMsg
        self.dead = threading.Event()
        # The rest is the loop's own.
        saved = persister.ReadRaftState()
        self.state = labgob.NewDecoder(io.BytesIO(saved)).Decode(State) if saved else State()
        self.changed = False  # since it was saved
        self.commitIndex = self.state.Base
        self.role, self.votes = "follower", 0
        self.peers = {}
        self.calls = []  # what to send at the end of this round
        self.putOff()

    # --- other threads ---

    def ask(self, function, *args):
        """Let the loop run a function, and wait for what it returns. None when the server is dead."""
        answer = queue.Queue()
        self.inbox.put((function, args, answer))
        while not self.dead.is_set():
            try:
                return answer.get(timeout=0.1)
            except queue.Empty:
                pass
        return None

    def GetState(self):
        return self.ask(self.onGetState) or (0, False)

    def Start(self, command):
        return self.ask(self.onStart, command) or (-1, 0, False)

    def Kill(self):
        self.dead.set()
        self.inbox.put((lambda: None, (), queue.Queue()))
        self.outbox.put(None)

    def Snapshot(self, index, snapshot):
        self.ask(self.onSnapshot, index, snapshot)

    def RequestVote(self, args, reply):
        reply.Term, reply.VoteGranted = self.ask(self.onRequestVote, args) or (0, False)

    def AppendEntries(self, args, reply):
        reply.Term, reply.Success, reply.Next = self.ask(self.onAppendEntries, args) or (0, False, 0)

    def applier(self):
        while message := self.outbox.get():
            if self.dead.is_set():
                return
            self.applyCh.put(message)

    def call(self, peer, method, args, reply, then):
        """The thread of one RPC."""
        if self.ends[peer].Call("Raft." + method, args, reply):
            self.inbox.put((then, (peer, args, reply), queue.Queue()))

    # --- the loop's own thread ---

    def loop(self):
        while not self.dead.is_set():
            answers = [(answer, function(*args)) for function, args, answer in self.whatHasCome()]
            if self.role == "leader":
                self.replicate()
            elif time.monotonic() >= self.due:
                self.stand()
            if self.changed:
                self.persister.SaveRaftState(self.encoded())
                self.changed = False
            for answer, value in answers:
                answer.put(value)
            for call in self.calls:
                threading.Thread(target=self.call, args=call, daemon=True).start()
            self.calls.clear()

    def whatHasCome(self):
        """Everything in the inbox; if it is empty, wait for something as long as there is time."""
        due = self.due
        if self.role == "leader":
            due = min((peer.due for peer in self.peers.values()), default=time.monotonic() + HEARTBEAT)
        come = []
        try:
            come.append(self.inbox.get(timeout=max(0.0, due - time.monotonic())))
            while True:
                come.append(self.inbox.get_nowait())
        except queue.Empty:
            return come

    def encoded(self):
        w = io.BytesIO()
        labgob.NewEncoder(w).Encode(self.state)
        return w.getvalue()

    def onGetState(self):
        return self.state.CurrentTerm, self.role == "leader"

    def onStart(self, command):
        if self.role != "leader":
            return -1, self.state.CurrentTerm, False
        self.state.Log.append(Entry(self.state.CurrentTerm, command))
        self.changed = True
        for peer in self.peers.values():
            self.hurry(peer)
        self.count()
        return self.last(), self.state.CurrentTerm, True

    def onSnapshot(self, index, snapshot):
        if index > self.state.Base:
            self.cover(index, self.term(index), snapshot)

    # --- the log ---

    def last(self):
        return self.state.Base + len(self.state.Log) - 1

    def term(self, index):
        return self.state.Log[index - self.state.Base].Term

    def entries(self, start, end):
        return self.state.Log[start - self.state.Base : end - self.state.Base]

    def cover(self, index, term, snapshot):
        """Let a snapshot stand for the log up to an index; what follows stays if it belongs to that."""
        known = index <= self.last() and self.term(index) == term
        self.state.Log = [Entry(term), *(self.entries(index + 1, self.last() + 1) if known else [])]
        self.state.Base = index
        self.persister.SaveStateAndSnapshot(self.encoded(), snapshot)

    def commit(self, index):
        """Hand over all that is committed now."""
        if index > self.commitIndex:
            for i, entry in enumerate(self.entries(self.commitIndex + 1, index + 1), self.commitIndex + 1):
                self.outbox.put(ApplyMsg(CommandValid=True, Command=entry.Command, CommandIndex=i))
            self.commitIndex = index

    # --- elections ---

    def putOff(self):
        self.due = time.monotonic() + random.uniform(0.4, 0.8)

    def stand(self):
        self.follow(self.state.CurrentTerm + 1)
        self.role, self.votes, self.state.VotedFor = "candidate", 1, self.me
        self.putOff()
        args = RequestVoteArgs(self.state.CurrentTerm, self.me, self.last(), self.term(self.last()))
        for peer in range(len(self.ends)):
            if peer != self.me:
                self.calls.append((peer, "RequestVote", args, RequestVoteReply(), self.onVote))
        self.leadIfElected()

    def onVote(self, peer, args, reply):
        self.follow(reply.Term)
        if reply.VoteGranted and self.role == "candidate" and self.state.CurrentTerm == args.Term:
            self.votes += 1
            self.leadIfElected()

    def leadIfElected(self):
        if self.votes > len(self.ends) // 2:
            self.role = "leader"
            self.peers = {i: Peer(self.last() + 1) for i in range(len(self.ends)) if i != self.me}

    def follow(self, term):
        if term > self.state.CurrentTerm:
            if self.role == "leader":
                self.putOff()
            self.role, self.state.CurrentTerm, self.state.VotedFor = "follower", term, None
            self.changed = True

    def onRequestVote(self, args):
        self.follow(args.Term)
        yes = (
            args.Term == self.state.CurrentTerm
            and self.state.VotedFor in (None, args.CandidateId)
            and (args.LastLogTerm, args.LastLogIndex) >= (self.term(self.last()), self.last())
        )
        if yes:
            self.state.VotedFor = args.CandidateId
            self.changed = True
            self.putOff()
        return self.state.CurrentTerm, yes

    # --- replication ---

    def replicate(self):
        now = time.monotonic()
        for number, peer in self.peers.items():
            if now >= peer.due:
                peer.due = now + HEARTBEAT
                peer.asked = args = self.argsFor(peer)
                self.calls.append((number, "AppendEntries", args, AppendEntriesReply(), self.onReply))

    def hurry(self, peer):
        if not peer.asked and peer.next <= self.last():
            peer.due = min(peer.due, time.monotonic() + REST)

    def argsFor(self, peer):
        base, prev = self.state.Base, peer.next - 1
        snapshot = self.persister.ReadSnapshot() if prev < base else None
        prev = max(prev, base)
        entries = self.entries(prev + 1, self.last() + 1)
        term = self.state.CurrentTerm
        return AppendEntriesArgs(term, self.me, snapshot, prev, self.term(prev), entries, self.commitIndex)

    def onReply(self, number, args, reply):
        self.follow(reply.Term)
        if self.role == "leader" and self.state.CurrentTerm == args.Term:
            peer = self.peers[number]
            if reply.Success:
                peer.match = max(peer.match, reply.Next - 1)
                self.count()
            if peer.asked is args:
                peer.asked = None
                peer.next = max(peer.match + 1, reply.Next)
                self.hurry(peer)

    def count(self):
        """Commit what a majority has, up to an entry of this term."""
        have = sorted([self.last(), *(peer.match for peer in self.peers.values())], reverse=True)
        agreed = have[len(self.ends) // 2]
        if agreed > self.commitIndex and self.term(agreed) == self.state.CurrentTerm:
            self.commit(agreed)

    def onAppendEntries(self, args):
        self.follow(args.Term)
        if args.Term < self.state.CurrentTerm:
            return self.state.CurrentTerm, False, 0
        self.role = "follower"
        self.putOff()
        if args.Snapshot and args.PrevLogIndex > self.commitIndex:
            self.install(args.PrevLogIndex, args.PrevLogTerm, args.Snapshot)
        prev = args.PrevLogIndex
        if prev > self.last() or (prev >= self.state.Base and self.term(prev) != args.PrevLogTerm):
            return self.state.CurrentTerm, False, self.commitIndex + 1
        end = prev + len(args.Entries)
        self.take(prev + 1, args.Entries)
        self.commit(min(args.LeaderCommit, end))
        return self.state.CurrentTerm, True, end + 1

    def install(self, index, term, snapshot):
        self.cover(index, term, snapshot)
        self.commitIndex = index
        self.outbox.put(ApplyMsg(SnapshotValid=True, Snapshot=snapshot, SnapshotTerm=term, SnapshotIndex=index))

    def take(self, start, entries):
        for i, entry in enumerate(entries, start):
            if i > self.last() or (i > self.state.Base and self.term(i) != entry.Term):
                self.state.Log[i - self.state.Base :] = entries[i - start :]
                self.changed = True
                return
