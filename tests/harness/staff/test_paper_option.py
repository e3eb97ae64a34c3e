"""--paper: what the paper forbids fails a test that the lab would pass."""

from __future__ import annotations

import json

import pytest

from conftest import REPOSITORY, Lab

BROKEN = REPOSITORY / "tests/harness/staff/broken"


@pytest.mark.parametrize("how", [("--sim",), ("--sim", "-n", "1"), ("--race",)], ids=" ".join)
def test_two_votes_in_one_term_fail_although_the_lab_is_content(lab: Lab, how: tuple[str, ...]) -> None:
    common = ("-m", "2A", "-k", "Many", "--raft", BROKEN / "forgets_vote.py", "--seed", "1")
    lab.run(*common, "--sim").assert_outcomes(passed=1)
    result = lab.run(*common, *how, "--paper", "--report", "out")
    result.assert_outcomes(failed=1)
    (trial,) = json.loads((lab.pytester.path / "out/results.json").read_text())["trials"]
    if how == ("--race",):  # other schedules, so other votes
        assert trial["cause"] in ("paper", "race")
        return
    assert trial["cause"] == "paper"
    assert "voted for" in trial["message"]
    assert trial["message"].endswith("RequestVote, rule 2)")
    result.stdout.fnmatch_lines(
        ["*the paper's rules*", "broken: server * voted for *", "pytest -m 2A *--paper --seed 1"]
    )


@pytest.mark.parametrize("how", [["--trials", "2", "-n", "2"], ["--isolate"]], ids=["threads", "isolated"])
def test_the_rules_are_judged_in_real_time_too(lab: Lab, how: list[str]) -> None:
    lab.variant(
        "    passedOn = False\n"
        "    def AppendEntries(self, args, reply):\n"
        "        super().AppendEntries(args, reply)\n"
        "        if not self.passedOn:  # so two servers send in one term, whatever the threads do\n"
        "            self.passedOn = True\n"
        "            self.peers[(self.me + 1) % len(self.peers)].Call('Raft.AppendEntries', args, type(reply)())\n"
    )
    result = lab.run("-m", "2A", "-k", "Initial", "--raft", "raft.py", "--paper", *how)
    result.assert_outcomes(failed=1 if how == ["--isolate"] else 2)
    assert "(section 5.2, Figure 3, Election Safety)" in result.stdout.str()


@pytest.mark.parametrize("how", [("--sim", "--trials", "10"), (), ("--isolate",)], ids=["virtual", "real", "isolated"])
def test_a_right_raft_breaks_none(lab: Lab, how: tuple[str, ...]) -> None:
    result = lab.run("-m", "2A", "-k", "ReElection", "--paper", *how)
    result.assert_outcomes(passed=10 if "--sim" in how else 1)


@pytest.mark.parametrize("how", ["--sim", "--isolate"])
def test_a_field_that_cannot_be_found_leaves_its_rules_unchecked_and_is_named(lab: Lab, how: str) -> None:
    lab.solution((REPOSITORY / "raft/raft.py").read_text().replace("LeaderCommit", "Known"))
    result = lab.run("-m", "2B", "-k", "BasicAgree", how, "--paper", "--raft", "raft.py")
    result.assert_outcomes(passed=1)
    result.stdout.re_match_lines([r"  paper: not checked: no field like LeaderCommit in AppendEntriesArgs"])
