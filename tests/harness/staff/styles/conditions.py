"""A Condition on a re-entrant lock, and threads that live as long as the server: each waits there for its own moment.

One stands for election, one applies, and one for each peer keeps it up to date while this server leads. As a Call may
take seconds, that one gives it to a thread and waits for the answer; after a heartbeat's time without one, it goes on.
Every method takes the lock, held already or not.

Its habits: Fields are in snake_case. The log is a dict by index, from the last entry that the snapshot covers. A peer
is told of commits at once, and of min(commit_index, match_index). A leader that is refused goes back half of the way to
what it knows to match. It saves only what has changed. The service is not asked whether it wants a snapshot.
"""

import functools
import io
import random
import threading
import time
from dataclasses import dataclass, field
from typing import Any

import labgob
from raft.api import ApplyMsg

HEARTBEAT = 0.1  # s
REST = 0.02  # s between two RPCs to a peer


@dataclass
class Entry:
    term: int = 0
    command: Any = None


@dataclass
class VoteArgs:
    term: int = 0
    candidate_id: int = 0
    last_log_index: int = 0
    last_log_term: int = 0


@dataclass
class VoteReply:
    term: int = 0
    vote_granted: bool = False


@dataclass
class AppendArgs:
    term: int = 0
    leader_id: int = 0
    prev_log_index: int = 0
    prev_log_term: int = 0
    entries: list[Entry] = field(default_factory=list)
    leader_commit: int = 0


@dataclass
class SnapshotArgs:
    term: int = 0
    leader_id: int = 0
    last_included_index: int = 0
    last_included_term: int = 0
    data: bytes = b""


@dataclass
class Reply:
    """To AppendEntries and InstallSnapshot."""

    term: int = 0
    success: bool = False


def Make(peers, me, persister, applyCh):
    rf = Raft(peers, me, persister, applyCh)
    threading.Thread(target=rf.elections, daemon=True).start()
    threading.Thread(target=rf.applying, daemon=True).start()
    for peer in rf.others:
        threading.Thread(target=rf.replication, args=(peer,), daemon=True).start()
    return rf


def synchronized(method):
    """Run a method with the lock held."""

    @functools.wraps(method)
    def with_lock(self, *args):
        with self.changed:
            return method(self, *args)

    return with_lock


class Raft:
    def __init__(self, peers, me, persister, applyCh):
        self.peers, self.me, self.persister, self.apply_ch = peers, me, persister, applyCh
        self.others = [i for i in range(len(peers)) if i != me]
        self.changed = threading.Condition(threading.RLock())
        self.dead = False
        self.role, self.votes = "follower", set()
        self.current_term, self.voted_for, self.log = 0, None, {0: Entry()}
        if state := persister.ReadRaftState():
            d = labgob.NewDecoder(io.BytesIO(state))
            self.current_term, self.voted_for = d.Decode(int), d.Decode(int | None)
            self.log = d.Decode(dict[int, Entry])
        self.commit_index = self.last_applied = self.base()
        self.new_snapshot = None  # for the service
        # As a leader, by peer:
        self.next_index, self.match_index = {}, {}
        self.told = {}  # the commit index that it has surely heard of
        self.asked = {}  # the args that it has not answered yet
        self.put_off()

    # --- the service's side ---

    @synchronized
    def GetState(self):
        return self.current_term, self.role == "leader"

    @synchronized
    def Start(self, command):
        if self.role != "leader":
            return -1, self.current_term, False
        self.log[self.last() + 1] = Entry(self.current_term, command)
        self.save()
        self.count_replicas()
        self.changed.notify_all()
        return self.last(), self.current_term, True

    @synchronized
    def Kill(self):
        self.dead = True
        self.changed.notify_all()

    @synchronized
    def Snapshot(self, index, snapshot):
        if index > self.base():
            self.cover(index, self.log[index].term, snapshot)

    def applying(self):
        while message := self.next_message():
            self.apply_ch.put(message)

    @synchronized
    def next_message(self):
        """Wait for something to apply. None: there will be nothing more."""
        self.changed.wait_for(lambda: self.dead or self.new_snapshot or self.last_applied < self.commit_index)
        if self.dead:
            return None
        message, self.new_snapshot = self.new_snapshot, None
        if message:
            return message
        self.last_applied += 1
        command = self.log[self.last_applied].command
        return ApplyMsg(CommandValid=True, Command=command, CommandIndex=self.last_applied)

    # --- the log, and stable storage ---

    @synchronized
    def base(self):
        return next(iter(self.log))

    @synchronized
    def last(self):
        return self.base() + len(self.log) - 1

    @synchronized
    def cover(self, index, term, snapshot):
        """Let a snapshot stand for the log up to an index; what follows stays if it belongs to that."""
        known = index in self.log and self.log[index].term == term
        rest = range(index + 1, self.last() + 1) if known else ()
        self.log = {index: Entry(term)} | {i: self.log[i] for i in rest}
        self.persister.SaveStateAndSnapshot(self.encoded(), snapshot)

    @synchronized
    def save(self):
        self.persister.SaveRaftState(self.encoded())

    @synchronized
    def encoded(self):
        w = io.BytesIO()
        e = labgob.NewEncoder(w)
        for value in (self.current_term, self.voted_for, self.log):
            e.Encode(value)
        return w.getvalue()

    # --- elections ---

    @synchronized
    def put_off(self):
        self.due = time.monotonic() + random.uniform(0.4, 0.8)

    @synchronized
    def elections(self):
        while not self.dead:
            if self.role == "leader":
                self.changed.wait()
            elif time.monotonic() < self.due:
                self.changed.wait(self.due - time.monotonic())
            else:
                self.stand()

    @synchronized
    def stand(self):
        self.role, self.voted_for, self.votes = "candidate", self.me, set()
        self.current_term += 1
        self.save()
        self.put_off()
        args = VoteArgs(self.current_term, self.me, self.last(), self.log[self.last()].term)
        for peer in self.others:
            threading.Thread(target=self.ask_for_vote, args=(peer, args), daemon=True).start()
        self.got_vote(self.me)

    def ask_for_vote(self, peer, args):
        reply = VoteReply()
        if self.peers[peer].Call("Raft.RequestVote", args, reply):
            with self.changed:
                self.follow(reply.term)
                if reply.vote_granted and self.current_term == args.term:
                    self.got_vote(peer)

    @synchronized
    def got_vote(self, voter):
        self.votes.add(voter)
        if self.role == "candidate" and len(self.votes) > len(self.peers) // 2:
            self.role = "leader"
            for peer in self.others:
                self.next_index[peer], self.match_index[peer] = self.last() + 1, 0
                self.told[peer], self.asked[peer] = 0, None
            self.changed.notify_all()

    @synchronized
    def follow(self, term):
        if term > self.current_term:
            if self.role == "leader":
                self.put_off()
                self.changed.notify_all()
            self.role, self.current_term, self.voted_for = "follower", term, None
            self.save()

    @synchronized
    def RequestVote(self, args, reply):
        self.follow(args.term)
        mine = self.log[self.last()].term, self.last()
        if args.term == self.current_term and (args.last_log_term, args.last_log_index) >= mine:
            if self.voted_for is None:
                self.voted_for = args.candidate_id
                self.save()
            reply.vote_granted = self.voted_for == args.candidate_id
            if reply.vote_granted:
                self.put_off()
        reply.term = self.current_term

    # --- replication ---

    @synchronized
    def replication(self, peer):
        while not self.dead:
            if self.role == "leader":
                self.asked[peer] = args = self.next_args(peer)
                threading.Thread(target=self.send, args=(peer, args), daemon=True).start()
                self.changed.wait_for(lambda: self.dead or (not self.asked[peer] and self.lacks(peer)), HEARTBEAT)
                self.changed.wait_for(lambda: self.dead, REST)  # what comes meanwhile goes along with it
            else:
                self.changed.wait()

    @synchronized
    def lacks(self, peer):
        return self.next_index[peer] <= self.last() or self.told[peer] < min(self.commit_index, self.match_index[peer])

    @synchronized
    def next_args(self, peer):
        base, prev = self.base(), self.next_index[peer] - 1
        if prev < base:
            data = self.persister.ReadSnapshot()
            return SnapshotArgs(self.current_term, self.me, base, self.log[base].term, data)
        entries = [self.log[i] for i in range(prev + 1, self.last() + 1)]
        commit = min(self.commit_index, self.match_index[peer])
        return AppendArgs(self.current_term, self.me, prev, self.log[prev].term, entries, commit)

    def send(self, peer, args):
        method = "AppendEntries" if isinstance(args, AppendArgs) else "InstallSnapshot"
        reply = Reply()
        if self.peers[peer].Call("Raft." + method, args, reply):
            with self.changed:
                self.follow(reply.term)
                if self.current_term == args.term:
                    self.answered(peer, args, reply.success)

    @synchronized
    def answered(self, peer, args, success):
        if isinstance(args, SnapshotArgs):
            self.matches(peer, args.last_included_index)
        elif success:
            self.told[peer] = max(self.told[peer], args.leader_commit)
            self.matches(peer, args.prev_log_index + len(args.entries))
        elif self.asked[peer] is args:
            self.next_index[peer] = (self.match_index[peer] + 1 + args.prev_log_index) // 2
        if self.asked[peer] is args:
            self.asked[peer] = None
            self.changed.notify_all()

    @synchronized
    def matches(self, peer, index):
        if index > self.match_index[peer]:
            self.match_index[peer] = index
            self.next_index[peer] = index + 1
            self.count_replicas()

    @synchronized
    def count_replicas(self):
        stored = sorted([self.last(), *self.match_index.values()], reverse=True)
        agreed = stored[len(self.peers) // 2]
        if agreed > self.commit_index and self.log[agreed].term == self.current_term:
            self.commit_index = agreed
            self.changed.notify_all()

    @synchronized
    def hear(self, args):
        """Whether a message comes from this term's leader."""
        self.follow(args.term)
        if args.term == self.current_term:
            self.role = "follower"
            self.put_off()
        return args.term == self.current_term

    @synchronized
    def AppendEntries(self, args, reply):
        prev = args.prev_log_index
        if self.hear(args) and prev <= self.last():
            # What the snapshot covers is as the leader has it.
            reply.success = prev < self.base() or self.log[prev].term == args.prev_log_term
        reply.term = self.current_term
        if reply.success:
            self.take(prev + 1, args.entries)
            if args.leader_commit > self.commit_index:
                self.commit_index = max(self.commit_index, min(args.leader_commit, prev + len(args.entries)))
                self.changed.notify_all()

    @synchronized
    def take(self, start, entries):
        for i, entry in enumerate(entries, start):
            if i > self.last() or (i > self.base() and self.log[i].term != entry.term):
                for old in range(i, self.last() + 1):
                    del self.log[old]
                self.log |= dict(enumerate(entries[i - start :], i))
                self.save()
                return

    @synchronized
    def InstallSnapshot(self, args, reply):
        index, term = args.last_included_index, args.last_included_term
        if self.hear(args) and index > self.commit_index:
            self.cover(index, term, args.data)
            self.commit_index = self.last_applied = index
            self.new_snapshot = ApplyMsg(SnapshotValid=True, Snapshot=args.data, SnapshotTerm=term, SnapshotIndex=index)
            self.changed.notify_all()
        reply.term = self.current_term
