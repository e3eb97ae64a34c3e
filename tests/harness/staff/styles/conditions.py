"""Part 2A with a Condition on a re-entrant lock: every change of role or timer wakes the one who waits for it."""

import random
import threading
import time
from dataclasses import dataclass


@dataclass
class Args:
    Term: int = 0
    From: int = 0


@dataclass
class Reply:
    Term: int = 0
    Yes: bool = False


def Make(peers, me, persister, applyCh):
    rf = Raft(peers, me)
    threading.Thread(target=rf.ticker, daemon=True).start()
    return rf


class Raft:
    def __init__(self, peers, me):
        self.peers, self.me = peers, me
        self.mu = threading.RLock()
        self.changed = threading.Condition(self.mu)
        self.dead = False
        self.term, self.vote, self.role, self.votes = 0, None, "follower", 0
        self.heard()

    def heard(self):
        with self.changed:  # often held already
            self.due = time.monotonic() + random.uniform(0.4, 0.8)
            self.changed.notify_all()

    def GetState(self):
        with self.mu:
            return self.term, self.role == "leader"

    def Start(self, command):
        with self.mu:
            return -1, self.term, False

    def Kill(self):
        with self.mu:
            self.dead = True
            self.changed.notify_all()

    def ticker(self):
        with self.changed:
            while not self.dead:
                if self.role == "leader":
                    self.ask("AppendEntries")
                    self.changed.wait(0.1)
                elif time.monotonic() > self.due:
                    self.term, self.vote, self.role, self.votes = self.term + 1, self.me, "candidate", 1
                    self.heard()
                    self.ask("RequestVote")
                else:
                    self.changed.wait_for(lambda: self.dead or self.role == "leader", self.due - time.monotonic())

    def ask(self, what):
        for i in range(len(self.peers)):
            if i != self.me:
                threading.Thread(target=self.call, args=(i, what, Args(self.term, self.me)), daemon=True).start()

    def call(self, i, what, args):
        reply = Reply()
        if not self.peers[i].Call("Raft." + what, args, reply):
            return
        with self.mu:
            self.follow(reply.Term)
            if what == "RequestVote" and reply.Yes and self.role == "candidate" and self.term == args.Term:
                self.votes += 1
                if self.votes > len(self.peers) // 2:
                    self.role = "leader"
                    self.changed.notify_all()

    def follow(self, term):
        if term > self.term:
            self.term, self.vote, self.role = term, None, "follower"

    def RequestVote(self, args, reply):
        with self.mu:
            self.follow(args.Term)
            reply.Term = self.term
            if args.Term == self.term and self.vote in (None, args.From):
                self.vote, reply.Yes = args.From, True
                self.heard()

    def AppendEntries(self, args, reply):
        with self.mu:
            self.follow(args.Term)
            reply.Term = self.term
            if args.Term == self.term:
                self.role = "follower"
                self.heard()
