"""`--hunt`: find a short story that breaks a solution, and print it as a lab test.

A story is what a lab test is: some servers, and a list of verbs of the lab (`disconnect`, `crash1`, `Start`, ...) with
pauses in between. Thousands are drawn and run in virtual time, each in a world of its own, held against the lab's
checks and the paper's rules; one that fails is made shorter as long as it fails in the same way.

    stories     a story, and what its steps mean in a running cluster: lines of a lab test, run as they will be printed
    drawing     what stories there are, by part of the lab
    running     one story in one world, and how it fails
    shortening  which shorter stories to try in place of one that fails
    search      the hunt: draws until one fails, then makes it shorter
    items       a hunt as an item of pytest's: its lines, its Record, and the failure that is tried first the next time

**What a correct Raft survives.** When the steps are over all is healed: servers restarted and connected, the network
reliable. Then there must be one leader (2A), or `one` must succeed (from 2B on). A story that fails in that alone is
run again with a pause of 7 s before, for which a Call from before may hang, and fails only if it fails then, too.
Commands are unique, and so few that a leader may go back one entry at a time. Crashes are for 2C and 2D, as a Raft for
2A or 2B saves nothing.

**A hunt repeats.** Each story, and the seed of its world, come from a stream that the hunt's seed and the story's
number name. With an amount in stories the same seed and Python give the same stories and the same verdict at any load;
with one in seconds, the number of stories differs. Shortening is bounded by runs.
"""
