"""Part 2A on timers: one for the election, put off whenever a leader is heard of, and one for each heartbeat."""

import random
from dataclasses import dataclass
from threading import Lock, Thread, Timer


@dataclass
class Args:
    Term: int = 0
    From: int = 0


@dataclass
class Reply:
    Term: int = 0
    Yes: bool = False


def Make(peers, me, persister, applyCh):
    return Raft(peers, me)


class Raft:
    def __init__(self, peers, me):
        self.peers, self.me = peers, me
        self.mu = Lock()
        self.dead = False
        self.term, self.vote, self.role, self.votes = 0, None, "follower", 0
        self.timer = None
        with self.mu:
            self.heard()

    def arm(self, seconds, function):
        if self.timer:
            self.timer.cancel()
        if not self.dead:
            self.timer = Timer(seconds, function, args=[self.term])
            self.timer.start()

    def heard(self):
        self.arm(random.uniform(0.4, 0.8), self.election)

    def GetState(self):
        with self.mu:
            return self.term, self.role == "leader"

    def Start(self, command):
        with self.mu:
            return -1, self.term, False

    def Kill(self):
        with self.mu:
            self.dead = True
            self.timer.cancel()

    def election(self, term):
        with self.mu:
            if not self.dead and self.role != "leader" and self.term == term:
                self.term, self.vote, self.role, self.votes = self.term + 1, self.me, "candidate", 1
                self.ask("RequestVote")
            if not self.dead and self.role != "leader":
                self.heard()

    def heartbeat(self, term):
        with self.mu:
            if not self.dead and self.role == "leader" and self.term == term:
                self.ask("AppendEntries")
                self.arm(0.1, self.heartbeat)

    def ask(self, what):
        for i in range(len(self.peers)):
            if i != self.me:
                Thread(target=self.call, args=(i, what, Args(self.term, self.me)), daemon=True).start()

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
                    self.ask("AppendEntries")
                    self.arm(0.1, self.heartbeat)

    def follow(self, term):
        if term > self.term:
            self.term, self.vote, self.role = term, None, "follower"
            self.heard()

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
