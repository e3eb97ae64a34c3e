"""Part 2A with a thread pool for RPCs, and a ticker that waits on an Event."""

import contextlib
import random
import threading
import time
from concurrent.futures import ThreadPoolExecutor
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
        self.mu = threading.Lock()
        self.dead = threading.Event()
        self.pool = ThreadPoolExecutor(max_workers=600)
        self.term, self.vote, self.role, self.votes = 0, None, "follower", 0
        self.heard()

    def heard(self):
        self.due = time.time() + random.uniform(0.4, 0.8)

    def GetState(self):
        with self.mu:
            return self.term, self.role == "leader"

    def Start(self, command):
        with self.mu:
            return -1, self.term, False

    def Kill(self):
        self.dead.set()
        self.pool.shutdown(wait=False, cancel_futures=True)

    def ticker(self):
        pause = 0.02
        while not self.dead.wait(pause):
            with self.mu:
                if self.role == "leader":
                    self.ask("AppendEntries")
                elif time.time() > self.due:
                    self.term, self.vote, self.role, self.votes = self.term + 1, self.me, "candidate", 1
                    self.heard()
                    self.ask("RequestVote")
                pause = 0.1 if self.role == "leader" else 0.02

    def ask(self, what):
        for i in range(len(self.peers)):
            if i != self.me:
                with contextlib.suppress(RuntimeError):  # the pool is shut down
                    self.pool.submit(self.call, i, what, Args(self.term, self.me))

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
