"""Part 2A as an event loop: one thread owns all state, and everybody else puts a message on its queue."""

import queue
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
    threading.Thread(target=rf.loop, daemon=True).start()
    return rf


class Raft:
    def __init__(self, peers, me):
        self.peers, self.me = peers, me
        self.inbox = queue.Queue()
        self.dead = threading.Event()

    # --- other threads ---

    def tell(self, what, *details):
        """Put a message in the loop's inbox, and wait for its answer. (0, False) when the loop has ended."""
        answer = queue.Queue()
        self.inbox.put((what, details, answer))
        while True:
            try:
                return answer.get(timeout=0.1)
            except queue.Empty:
                if self.dead.is_set():
                    return 0, False

    def GetState(self):
        return self.tell("state")

    def Start(self, command):
        return -1, self.tell("state")[0], False

    def Kill(self):
        self.dead.set()
        self.inbox.put(("wake up", (), queue.Queue()))

    def RequestVote(self, args, reply):
        reply.Term, reply.Yes = self.tell("vote", args)

    def AppendEntries(self, args, reply):
        reply.Term, reply.Yes = self.tell("heartbeat", args)

    def call(self, i, method, args):
        reply = Reply()
        if self.peers[i].Call("Raft." + method, args, reply):
            self.inbox.put(("reply", (method, args, reply), queue.Queue()))

    # --- the loop's own thread ---

    def loop(self):
        term, vote, role, votes = 0, None, "follower", 0
        due = time.monotonic() + random.uniform(0.4, 0.8)
        while not self.dead.is_set():
            try:
                what, details, answer = self.inbox.get(timeout=max(0, due - time.monotonic()))
            except queue.Empty:
                if role == "leader":
                    method, due = "AppendEntries", time.monotonic() + 0.1
                else:
                    term, vote, role, votes = term + 1, self.me, "candidate", 1
                    method, due = "RequestVote", time.monotonic() + random.uniform(0.4, 0.8)
                for i in range(len(self.peers)):
                    if i != self.me:
                        threading.Thread(target=self.call, args=(i, method, Args(term, self.me)), daemon=True).start()
                continue
            if what in ("vote", "heartbeat", "reply"):
                newest = details[-1].Term
                if newest > term:
                    if role == "leader":
                        due = time.monotonic() + random.uniform(0.4, 0.8)
                    term, vote, role = newest, None, "follower"
            if what == "state":
                answer.put((term, role == "leader"))
            elif what == "vote":
                yes = details[0].Term == term and vote in (None, details[0].From)
                if yes:
                    vote, due = details[0].From, time.monotonic() + random.uniform(0.4, 0.8)
                answer.put((term, yes))
            elif what == "heartbeat":
                if details[0].Term == term:
                    role, due = "follower", time.monotonic() + random.uniform(0.4, 0.8)
                answer.put((term, True))
            elif what == "reply":
                method, args, reply = details
                if method == "RequestVote" and reply.Yes and role == "candidate" and args.Term == term:
                    votes += 1
                    if votes > len(self.peers) // 2:
                        role, due = "leader", time.monotonic()
