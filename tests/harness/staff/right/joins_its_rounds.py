"""Part 2A, sending heartbeats in rounds: the replies of one are looked at when all of its Calls have ended.

One unreachable peer holds up a round for seconds, and a leader may learn that late of a newer term.
"""

import threading

import _plain
from _plain import AppendEntriesArgs, AppendEntriesReply, make


class Raft(_plain.Raft):
    def broadcast(self):
        args = AppendEntriesArgs(self.currentTerm, self.me)
        threading.Thread(target=self.round, args=(args,), daemon=True).start()

    def round(self, args):
        replies = {peer: AppendEntriesReply() for peer in range(len(self.peers)) if peer != self.me}
        calls = [
            threading.Thread(target=self.peers[peer].Call, args=("Raft.AppendEntries", args, reply), daemon=True)
            for peer, reply in replies.items()
        ]
        for call in calls:
            call.start()
        for call in calls:
            call.join()
        with self.mu:
            for reply in replies.values():
                self.follow(reply.Term)


def Make(*args):
    return make(Raft, *args)
