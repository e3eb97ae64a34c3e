"""Timers: one puts off the election, one for each peer sends the next heartbeat, one gathers what Start was given.

A timer fires with the lock held, unless it has been set anew or taken off in the meantime. No thread lives longer than
what it has to do: each RPC has one, and whoever finds something to apply begins one that ends with the last message.

Its habits: Entries are tuples, and one class is the reply to everything. A leader that is refused goes back one entry,
then two, then four. It says min(commitIndex, matchIndex). It saves by `Save`, as in the lab since 2023, so it keeps the
snapshot at hand, and it saves before it answers, if anything has changed.
"""

import io
import random
from dataclasses import dataclass, field
from threading import Lock, Thread, Timer, current_thread
from typing import Any

import labgob
from raft.api import ApplyMsg

HEARTBEAT = 0.1  # s
GATHER = 0.02  # s


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
    Entries: list[tuple[int, Any]] = field(default_factory=list)  # term and command
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
    Term: int = 0
    VoteGranted: bool = False
    Success: bool = False


def Make(peers, me, persister, applyCh):
    return Raft(peers, me, persister, applyCh)


class Raft:
    def __init__(self, peers, me, persister, applyCh):
        self.peers, self.me, self.persister, self.applyCh = peers, me, persister, applyCh
        self.others = [i for i in range(len(peers)) if i != me]
        self.mu = Lock()
        self.timers = {}  # by name, those that have not fired
        self.dead = False
        self.role, self.votes = "follower", 0
        self.term, self.vote = 0, None
        self.base, self.log = 0, [(0, None)]  # log[0], of index base, is the last that the snapshot covers
        self.snapshot = persister.ReadSnapshot()
        if saved := persister.ReadRaftState():
            d = labgob.NewDecoder(io.BytesIO(saved))
            self.term, self.vote, self.base = d.Decode(int), d.Decode(int | None), d.Decode(int)
            self.log = d.Decode(list[tuple[int, Any]])
        self.commitIndex = self.lastApplied = self.base
        self.applying = False  # whether there is a thread for that
        self.toInstall = None  # for the service
        self.nextIndex, self.matchIndex, self.step, self.asked = {}, {}, {}, {}
        with self.mu:
            self.heard()

    # --- timers; the lock is held from here on, up to "what others call", but in the threads of RPCs ---

    def arm(self, name, seconds, function, *args):
        """Let a function be called so many seconds from now, and not when this timer was set for before."""
        self.disarm(name)
        if not self.dead:
            self.timers[name] = Timer(seconds, self.fire, (name, function, *args))
            self.timers[name].daemon = True
            self.timers[name].start()

    def disarm(self, name):
        if name in self.timers:
            self.timers.pop(name).cancel()

    def fire(self, name, function, *args):
        with self.mu:
            if self.timers.get(name) is current_thread():
                del self.timers[name]
                function(*args)

    def heard(self):
        self.arm("election", random.uniform(0.4, 0.8), self.stand)

    # --- the log ---

    def last(self):
        return self.base + len(self.log) - 1

    def termOf(self, index):
        return self.log[index - self.base][0]

    def cover(self, index, term, snapshot):
        """Let a snapshot stand for the log up to an index; what follows stays if it belongs to that."""
        known = index <= self.last() and self.termOf(index) == term
        self.log = [(term, None), *(self.log[index - self.base + 1 :] if known else [])]
        self.base, self.snapshot = index, snapshot
        self.save()

    def save(self):
        w = io.BytesIO()
        e = labgob.NewEncoder(w)
        for value in (self.term, self.vote, self.base, self.log):
            e.Encode(value)
        self.persister.Save(w.getvalue(), self.snapshot)

    # --- elections ---

    def stand(self):
        self.role, self.votes, self.term, self.vote = "candidate", 1, self.term + 1, self.me
        self.save()
        self.heard()
        args = RequestVoteArgs(self.term, self.me, self.last(), self.termOf(self.last()))
        for peer in self.others:
            self.call(peer, "RequestVote", args, self.counted)
        self.leadIfElected()

    def counted(self, peer, args, reply):
        if reply.VoteGranted and self.role == "candidate":
            self.votes += 1
            self.leadIfElected()

    def leadIfElected(self):
        if self.votes > len(self.peers) // 2:
            self.role = "leader"
            self.disarm("election")
            for peer in self.others:
                self.nextIndex[peer], self.matchIndex[peer], self.step[peer] = self.last() + 1, 0, 1
                self.send(peer)

    def follow(self, term):
        if term > self.term:
            if self.role == "leader":
                self.retire()
            self.role, self.term, self.vote = "follower", term, None
            self.save()

    def retire(self):
        for name in [*self.timers]:
            self.disarm(name)
        self.heard()

    # --- replication ---

    def gathered(self):
        for peer in self.others:
            if not self.asked[peer]:
                self.send(peer)

    def send(self, peer):
        """Send one peer what it lacks, and again when it is time for a heartbeat."""
        self.arm(peer, HEARTBEAT, self.send, peer)
        prev = self.nextIndex[peer] - 1
        if prev < self.base:
            covered = self.base, self.termOf(self.base)
            args = InstallSnapshotArgs(self.term, self.me, *covered, self.snapshot)
            self.call(peer, "InstallSnapshot", args, self.installed)
        else:
            entries = self.log[prev - self.base + 1 :]
            commit = min(self.commitIndex, self.matchIndex[peer])
            args = AppendEntriesArgs(self.term, self.me, prev, self.termOf(prev), entries, commit)
            self.call(peer, "AppendEntries", args, self.appended)
        self.asked[peer] = args

    def call(self, peer, method, args, then):
        """Let `then` see the reply, if it is one to this term."""
        Thread(target=self.calling, args=(peer, method, args, then), daemon=True).start()

    def calling(self, peer, method, args, then):
        reply = Reply()
        if self.peers[peer].Call("Raft." + method, args, reply):
            with self.mu:
                self.follow(reply.Term)
                if self.term == args.Term and not self.dead:
                    then(peer, args, reply)

    def appended(self, peer, args, reply):
        if reply.Success:
            self.step[peer] = 1
            self.matches(peer, args, args.PrevLogIndex + len(args.Entries))
        elif self.asked[peer] is args:
            self.nextIndex[peer] = max(self.matchIndex[peer] + 1, self.nextIndex[peer] - self.step[peer])
            self.step[peer] *= 2
            self.send(peer)

    def installed(self, peer, args, reply):
        self.matches(peer, args, args.LastIncludedIndex)

    def matches(self, peer, args, index):
        if index > self.matchIndex[peer]:
            self.matchIndex[peer], self.nextIndex[peer] = index, index + 1
            self.advance()
        if self.asked[peer] is args:
            self.asked[peer] = None
            if self.nextIndex[peer] <= self.last():
                self.send(peer)

    def advance(self):
        have = sorted([self.last(), *self.matchIndex.values()], reverse=True)[len(self.peers) // 2]
        if have > self.commitIndex and self.termOf(have) == self.term:
            self.commit(have)

    def commit(self, index):
        if index > self.commitIndex:
            self.commitIndex = index
            if not self.applying:
                self.applying = True
                Thread(target=self.apply, daemon=True).start()

    def hears(self, args):
        """Whether a message comes from this term's leader."""
        self.follow(args.Term)
        if args.Term < self.term:
            return False
        self.role = "follower"
        self.heard()
        return True

    def takes(self, prev, term, entries):
        if prev > self.last() or (prev >= self.base and self.termOf(prev) != term):
            return False
        for index, entry in enumerate(entries, prev + 1):
            if index > self.last() or (index > self.base and self.termOf(index) != entry[0]):
                self.log[index - self.base :] = entries[index - prev - 1 :]
                self.save()
                break
        return True

    # --- what others call ---

    def RequestVote(self, args, reply):
        with self.mu:
            self.follow(args.Term)
            reply.Term = self.term
            mine = self.termOf(self.last()), self.last()
            if args.Term == self.term and self.vote in (None, args.CandidateId):
                reply.VoteGranted = (args.LastLogTerm, args.LastLogIndex) >= mine
            if reply.VoteGranted:
                self.vote = args.CandidateId
                self.save()
                self.heard()

    def AppendEntries(self, args, reply):
        with self.mu:
            reply.Success = self.hears(args) and self.takes(args.PrevLogIndex, args.PrevLogTerm, args.Entries)
            reply.Term = self.term
            if reply.Success:
                self.commit(min(args.LeaderCommit, args.PrevLogIndex + len(args.Entries)))

    def InstallSnapshot(self, args, reply):
        with self.mu:
            index, term = args.LastIncludedIndex, args.LastIncludedTerm
            if self.hears(args) and index > self.commitIndex:
                self.cover(index, term, args.Data)
                self.lastApplied = index
                self.toInstall = ApplyMsg(
                    SnapshotValid=True, Snapshot=args.Data, SnapshotTerm=term, SnapshotIndex=index
                )
                self.commit(index)
            reply.Term = self.term

    def GetState(self):
        with self.mu:
            return self.term, self.role == "leader"

    def Start(self, command):
        with self.mu:
            if self.role != "leader":
                return -1, self.term, False
            self.log.append((self.term, command))
            self.save()
            if "start" not in self.timers:
                self.arm("start", GATHER, self.gathered)
            self.advance()
            return self.last(), self.term, True

    def Kill(self):
        with self.mu:
            self.dead = True
            for name in [*self.timers]:
                self.disarm(name)

    def Snapshot(self, index, snapshot):
        with self.mu:
            if index > self.base:
                self.cover(index, self.termOf(index), snapshot)

    def apply(self):
        while message := self.nextMessage():
            self.applyCh.put(message)

    def nextMessage(self):
        """None: there is no more for now, and the thread ends."""
        with self.mu:
            self.applying = not self.dead and bool(self.toInstall or self.lastApplied < self.commitIndex)
            message, self.toInstall = self.toInstall, None
            if self.applying and not message:
                self.lastApplied += 1
                command = self.log[self.lastApplied - self.base][1]
                message = ApplyMsg(CommandValid=True, Command=command, CommandIndex=self.lastApplied)
            return message if self.applying else None
