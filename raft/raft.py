"""A Raft server: Figure 2 of the Raft paper (Ongaro and Ousterhout, extended version), with its names.

It follows the paper to the letter where the paper is precise, and the lab where it is not: heartbeats about eight times
a second, election timeouts long enough for that, a quick way back over conflicting entries (section 5.3, last
paragraphs), and snapshots (section 7, sent whole).

Threads, all sharing the state under one lock, `mu`:

- the ticker starts elections and sends heartbeats; it waits on `timing`;
- the applier puts committed entries on applyCh; it waits on `applying`, and never holds the lock while it puts;
- each RPC that is sent has a thread of its own, as Call blocks for as long as the network likes;
- the RPC handlers run in threads of the network.

Three rules keep that simple. Nobody calls, or puts on applyCh, with the lock held. Whoever comes back from a Call looks
again whether the term and the role are those in which it asked. And whatever the paper wants on stable storage is
saved before the lock is released, so before any answer can leave.
"""

from __future__ import annotations

import enum
import io
import random
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import labgob
from labrpc import ClientEnd
from raft.api import ApplyCh, ApplyMsg
from raft.persister import Persister

HEARTBEAT = 0.12  # s. The lab allows about ten a second to each peer
ELECTION_TIMEOUT = (0.4, 0.8)  # s, drawn anew for each election (section 5.2); several heartbeats long


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
    # Where a refused leader should look next (section 5.3):
    XTerm: int = -1  # the term of the entry at PrevLogIndex, -1 if there is none
    XIndex: int = 0  # the first index of that term
    XLen: int = 0  # the first index that the log does not have


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


class Role(enum.Enum):
    FOLLOWER = "follower"
    CANDIDATE = "candidate"
    LEADER = "leader"


def Make(peers: Sequence[ClientEnd], me: int, persister: Persister, applyCh: ApplyCh) -> Raft:
    """A server that goes on from what `persister` holds, with its threads running."""
    rf = Raft(peers, me, persister, applyCh)
    rf.boot()
    return rf


class Raft:
    def __init__(self, peers: Sequence[ClientEnd], me: int, persister: Persister, applyCh: ApplyCh) -> None:
        self.peers = peers
        self.me = me
        self.others = [i for i in range(len(peers)) if i != me]
        self.persister = persister
        self.applyCh = applyCh
        self.dead = threading.Event()

        self.mu = threading.Lock()  # guards everything below
        self.timing = threading.Condition(self.mu)
        self.applying = threading.Condition(self.mu)

        # Persistent state on all servers. log[0] is no entry: it stands for all that the snapshot covers.
        self.currentTerm = 0
        self.votedFor: int | None = None
        self.log = [LogEntry()]
        self.savedLog = SavedLog(self.log)
        self.lastIncludedIndex = 0

        # Volatile state on all servers.
        self.commitIndex = 0
        self.lastApplied = 0
        self.role = Role.FOLLOWER
        self.electionDue = time.monotonic() + random.uniform(*ELECTION_TIMEOUT)
        self.snapshotToApply: ApplyMsg | None = None

        # Volatile state on candidates and leaders.
        self.votes = 0
        self.heartbeatDue = 0.0
        self.nextIndex = [1] * len(peers)
        self.matchIndex = [0] * len(peers)
        self.sender: list[threading.Thread | None] = [None] * len(peers)  # which thread is bringing a peer up to date

    def boot(self) -> None:
        self.readPersist()
        self.go("ticker", self.ticker)
        self.go("applier", self.applier)

    # --- what the service calls ---

    def GetState(self) -> tuple[int, bool]:
        with self.mu:
            return self.currentTerm, self.role is Role.LEADER

    def Start(self, command: Any) -> tuple[int, int, bool]:
        with self.mu:
            if self.role is not Role.LEADER:
                return -1, self.currentTerm, False
            self.setFrom(self.lastIndex() + 1, [LogEntry(self.currentTerm, command)])
            self.persist()
            for peer in self.others:
                if not self.sender[peer]:  # else that thread will find the entry when its RPC is back
                    self.sender[peer] = self.go(f"replicator to {peer}", self.replicate, peer)
            self.advanceCommitIndex()  # a cluster of one has nobody to wait for
            return self.lastIndex(), self.currentTerm, True

    def Kill(self) -> None:
        self.dead.set()
        with self.mu:
            self.timing.notify_all()
            self.applying.notify_all()

    def killed(self) -> bool:
        return self.dead.is_set()

    def Snapshot(self, index: int, snapshot: bytes) -> None:
        """The service no longer needs the log up to `index` (section 7)."""
        with self.mu:
            if self.lastIncludedIndex < index <= self.lastApplied:
                self.discardUpTo(index, self.term(index))
                self.persist(snapshot)

    def CondInstallSnapshot(self, lastIncludedTerm: int, lastIncludedIndex: int, snapshot: bytes) -> bool:
        """Always: InstallSnapshot passes on no snapshot that the service is not ready for."""
        return True

    # --- persistence ---

    def persist(self, snapshot: bytes | None = None) -> None:
        """Save what must survive a crash, with a new snapshot if there is one. Needs the lock."""
        w = io.BytesIO()
        e = labgob.NewEncoder(w)
        e.Encode(self.currentTerm)
        e.Encode(self.votedFor)
        e.Encode(self.lastIncludedIndex)
        e.Encode(len(self.log))
        w.write(self.savedLog.data)
        if snapshot is None:
            self.persister.SaveRaftState(w.getvalue())
        else:
            self.persister.SaveStateAndSnapshot(w.getvalue(), snapshot)

    def readPersist(self) -> None:
        """Go on from what was saved, if anything."""
        data = self.persister.ReadRaftState()
        if not data:
            return
        d = labgob.NewDecoder(io.BytesIO(data))
        with self.mu:
            self.currentTerm = d.Decode(int)
            self.votedFor = d.Decode(int | None)
            self.lastIncludedIndex = d.Decode(int)
            self.log = [d.Decode(LogEntry) for _ in range(d.Decode(int))]
            self.savedLog = SavedLog(self.log)
            self.commitIndex = self.lastApplied = self.lastIncludedIndex

    # --- the log, by the index that the paper uses; all need the lock ---

    def lastIndex(self) -> int:
        return self.lastIncludedIndex + len(self.log) - 1

    def term(self, index: int) -> int:
        """The term of the entry at an index that the log has, or of the last one that the snapshot covers."""
        return self.log[index - self.lastIncludedIndex].Term

    def entriesFrom(self, index: int) -> list[LogEntry]:
        return self.log[index - self.lastIncludedIndex :]

    def setFrom(self, index: int, entries: list[LogEntry]) -> None:
        """Let the log end with `entries`, from `index` on, in place of what is there."""
        i = index - self.lastIncludedIndex
        self.log[i:] = entries
        self.savedLog.setFrom(i, entries)

    def discardUpTo(self, index: int, term: int) -> None:
        """Let a snapshot stand for the log up to `index`, an entry of `term`; the entries behind it stay."""
        i = index - self.lastIncludedIndex
        self.log[: i + 1] = [LogEntry(term)]
        self.savedLog = SavedLog(self.log)
        self.lastIncludedIndex = index

    # --- elections (section 5.2) ---

    def ticker(self) -> None:
        """Start an election when no leader was heard of for too long; as a leader, be heard of."""
        with self.mu:
            while not self.killed():
                now = time.monotonic()
                if self.role is Role.LEADER and now >= self.heartbeatDue:
                    self.broadcast()
                elif self.role is not Role.LEADER and now >= self.electionDue:
                    self.startElection()
                due = self.heartbeatDue if self.role is Role.LEADER else self.electionDue
                self.timing.wait(max(0.0, due - time.monotonic()))

    def startElection(self) -> None:
        """Become a candidate and ask everybody for a vote. Needs the lock."""
        self.role = Role.CANDIDATE
        self.currentTerm += 1
        self.votedFor = self.me
        self.votes = 1
        self.persist()
        self.resetElectionTimer()
        last = self.lastIndex()
        args = RequestVoteArgs(self.currentTerm, self.me, last, self.term(last))
        for peer in self.others:
            self.go(f"candidate to {peer}", self.askForVote, peer, args)
        self.becomeLeaderIfElected()  # a cluster of one has nobody to ask

    def askForVote(self, peer: int, args: RequestVoteArgs) -> None:
        reply = RequestVoteReply()
        if not self.peers[peer].Call("Raft.RequestVote", args, reply):
            return
        with self.mu:
            self.followNewerTerm(reply.Term)
            if reply.VoteGranted and self.role is Role.CANDIDATE and self.currentTerm == args.Term:
                self.votes += 1
                self.becomeLeaderIfElected()

    def becomeLeaderIfElected(self) -> None:
        """Needs the lock."""
        if self.votes > len(self.peers) // 2:
            self.role = Role.LEADER
            self.nextIndex = [self.lastIndex() + 1] * len(self.peers)
            self.matchIndex = [0] * len(self.peers)
            self.broadcast()
            self.timing.notify()  # the ticker waits for an election that is off

    def RequestVote(self, args: RequestVoteArgs, reply: RequestVoteReply) -> None:
        with self.mu:
            self.followNewerTerm(args.Term)
            reply.Term = self.currentTerm
            last = self.lastIndex()
            upToDate = (args.LastLogTerm, args.LastLogIndex) >= (self.term(last), last)  # section 5.4.1
            if args.Term == self.currentTerm and self.votedFor in (None, args.CandidateId) and upToDate:
                reply.VoteGranted = True
                self.votedFor = args.CandidateId
                self.persist()
                self.resetElectionTimer()

    def followNewerTerm(self, term: int) -> None:
        """Whoever sees a newer term is a follower in it (section 5.1). Needs the lock."""
        if term > self.currentTerm:
            self.currentTerm = term
            self.votedFor = None
            self.persist()
            self.stepDown()

    def stepDown(self) -> None:
        """Needs the lock."""
        if self.role is Role.LEADER:
            self.resetElectionTimer()  # it had none running
            self.timing.notify()
        self.role = Role.FOLLOWER

    def resetElectionTimer(self) -> None:
        """Needs the lock. The ticker notices when it next wakes, at the latest the longest timeout from now."""
        self.electionDue = time.monotonic() + random.uniform(*ELECTION_TIMEOUT)

    # --- log replication (section 5.3) ---

    def broadcast(self) -> None:
        """Send every peer what it lacks, or a heartbeat. Needs the lock."""
        self.heartbeatDue = time.monotonic() + HEARTBEAT
        for peer in self.others:
            self.sender[peer] = self.go(f"leader to {peer}", self.replicate, peer)

    def replicate(self, peer: int) -> None:
        """Bring one peer up to date: one RPC, and more for as long as they get somewhere and there is more to send.

        Only one thread goes on like that for each peer, the one that was started last: a heartbeat takes over from a
        thread whose RPC may be lost.
        """
        more = True
        while more:
            with self.mu:
                if self.role is not Role.LEADER or self.killed():
                    return
                behind = self.nextIndex[peer] <= self.lastIncludedIndex
                send = self.snapshotSender(peer) if behind else self.entriesSender(peer)
            progress = send()
            with self.mu:
                if self.sender[peer] is not threading.current_thread():
                    return
                more = progress and self.nextIndex[peer] <= self.lastIndex()
                if not more:
                    self.sender[peer] = None

    def entriesSender(self, peer: int) -> Callable[[], bool]:
        """An AppendEntries RPC for what the peer lacks as of now. Needs the lock; what it returns needs it free."""
        prev = self.nextIndex[peer] - 1
        args = AppendEntriesArgs(
            self.currentTerm, self.me, prev, self.term(prev), self.entriesFrom(prev + 1), self.commitIndex
        )

        def send() -> bool:
            reply = AppendEntriesReply()
            arrived = self.peers[peer].Call("Raft.AppendEntries", args, reply)
            with self.mu:
                if not (arrived and self.stillLeading(reply.Term, args.Term)):
                    return False
                if reply.Success:
                    # Replies may overtake each other: neither index may go back.
                    self.matchIndex[peer] = max(self.matchIndex[peer], prev + len(args.Entries))
                    self.nextIndex[peer] = max(self.nextIndex[peer], self.matchIndex[peer] + 1)
                    self.advanceCommitIndex()
                elif self.nextIndex[peer] == prev + 1:
                    self.nextIndex[peer] = max(self.backUp(prev, reply), self.matchIndex[peer] + 1)
                    return self.nextIndex[peer] <= prev  # a refusal that leads nowhere is not asked for again at once
                return True

        return send

    def snapshotSender(self, peer: int) -> Callable[[], bool]:
        """An InstallSnapshot RPC for a peer whose next entry is discarded. Needs the lock, as entriesSender does."""
        last = self.lastIncludedIndex
        args = InstallSnapshotArgs(self.currentTerm, self.me, last, self.term(last), self.persister.ReadSnapshot())

        def send() -> bool:
            reply = InstallSnapshotReply()
            arrived = self.peers[peer].Call("Raft.InstallSnapshot", args, reply)
            with self.mu:
                if not (arrived and self.stillLeading(reply.Term, args.Term)):
                    return False
                self.matchIndex[peer] = max(self.matchIndex[peer], last)
                self.nextIndex[peer] = max(self.nextIndex[peer], last + 1)
                return True

        return send

    def stillLeading(self, replyTerm: int, askedIn: int) -> bool:
        """Whether a reply finds this server as it was when it asked: the leader of that term. Needs the lock."""
        self.followNewerTerm(replyTerm)
        return self.role is Role.LEADER and self.currentTerm == askedIn

    def backUp(self, prev: int, reply: AppendEntriesReply) -> int:
        """The next index to try after a refusal: a step for each term in conflict, not each entry. Needs the lock."""
        if reply.XTerm == -1:
            return max(1, reply.XLen)
        index = prev
        while index > self.lastIncludedIndex and self.term(index) > reply.XTerm:
            index -= 1
        if index > self.lastIncludedIndex and self.term(index) == reply.XTerm:
            return index + 1  # this log has entries of that term: try behind the last of them
        return reply.XIndex

    def advanceCommitIndex(self) -> None:
        """Commit what a majority holds, if it is of this term (section 5.4.2). Needs the lock."""
        self.matchIndex[self.me] = self.lastIndex()
        majority = sorted(self.matchIndex)[(len(self.peers) - 1) // 2]
        if majority > self.commitIndex and self.term(majority) == self.currentTerm:
            self.commitIndex = majority
            self.applying.notify()

    def AppendEntries(self, args: AppendEntriesArgs, reply: AppendEntriesReply) -> None:
        with self.mu:
            self.followNewerTerm(args.Term)
            reply.Term = self.currentTerm
            if args.Term < self.currentTerm:
                return
            self.stepDown()  # a candidate has lost
            self.resetElectionTimer()

            prev, entries = args.PrevLogIndex, args.Entries
            if prev < self.lastIncludedIndex:
                # What the snapshot covers is committed, so it agrees: skip it.
                entries = entries[self.lastIncludedIndex - prev :]
                prev = self.lastIncludedIndex
            elif prev > self.lastIndex():
                reply.XLen = self.lastIndex() + 1
                return
            elif self.term(prev) != args.PrevLogTerm:
                reply.XTerm = self.term(prev)
                reply.XIndex = prev
                while reply.XIndex - 1 > self.lastIncludedIndex and self.term(reply.XIndex - 1) == reply.XTerm:
                    reply.XIndex -= 1
                return

            reply.Success = True
            for i, entry in enumerate(entries, prev + 1):
                # Only a conflict cuts the log: an old RPC may bring less than is here, which may be committed.
                if i > self.lastIndex() or self.term(i) != entry.Term:
                    self.setFrom(i, entries[i - prev - 1 :])
                    self.persist()
                    break
            lastNew = prev + len(entries)
            if min(args.LeaderCommit, lastNew) > self.commitIndex:
                self.commitIndex = min(args.LeaderCommit, lastNew)
                self.applying.notify()

    # --- snapshots (section 7) ---

    def InstallSnapshot(self, args: InstallSnapshotArgs, reply: InstallSnapshotReply) -> None:
        with self.mu:
            self.followNewerTerm(args.Term)
            reply.Term = self.currentTerm
            if args.Term < self.currentTerm:
                return
            self.stepDown()
            self.resetElectionTimer()
            index, term = args.LastIncludedIndex, args.LastIncludedTerm
            if index <= self.commitIndex:
                return  # nothing new: those entries are here, and are being applied one by one
            if index > self.lastIndex() or self.term(index) != term:
                self.setFrom(self.lastIncludedIndex + 1, [])  # nothing in this log is known to follow the snapshot
            self.discardUpTo(index, term)
            self.commitIndex = index
            self.persist(args.Data)
            self.snapshotToApply = ApplyMsg(
                SnapshotValid=True, Snapshot=args.Data, SnapshotTerm=term, SnapshotIndex=index
            )
            self.applying.notify()

    def applier(self) -> None:
        """Put on applyCh what is committed, in order: a snapshot first, if there is one, then the entries behind it."""
        while not self.killed():
            with self.mu:
                while not (self.killed() or self.snapshotToApply or self.lastApplied < self.commitIndex):
                    self.applying.wait()
                if self.snapshotToApply:
                    messages = [self.snapshotToApply]
                    self.lastApplied = self.snapshotToApply.SnapshotIndex
                    self.snapshotToApply = None
                else:
                    first = self.lastApplied + 1
                    committed = self.entriesFrom(first)[: self.commitIndex - self.lastApplied]
                    messages = [
                        ApplyMsg(CommandValid=True, Command=entry.Command, CommandIndex=i)
                        for i, entry in enumerate(committed, first)
                    ]
                    self.lastApplied = self.commitIndex
            for message in messages:
                if self.killed():
                    return
                self.applyCh.put(message)

    # --- threads ---

    def go(self, what: str, function: Callable[..., None], *args: Any) -> threading.Thread:
        """Run a function in a thread of its own, named so that a stack trace tells whose it is."""
        thread = threading.Thread(target=function, args=args, name=f"server {self.me} {what}", daemon=True)
        thread.start()
        return thread


class SavedLog:
    """The log as it is saved: each entry is encoded just once, and saving all of them is copying bytes."""

    def __init__(self, log: list[LogEntry]) -> None:
        self.data = bytearray()
        self.begins: list[int] = []  # where each entry begins
        self.setFrom(0, log)

    def setFrom(self, i: int, entries: list[LogEntry]) -> None:
        """Let it end with `entries`, from the one at `i` on."""
        if i < len(self.begins):
            del self.data[self.begins[i] :]
            del self.begins[i:]
        for entry in entries:
            self.begins.append(len(self.data))
            w = io.BytesIO()
            labgob.NewEncoder(w).Encode(entry)
            self.data += w.getvalue()
