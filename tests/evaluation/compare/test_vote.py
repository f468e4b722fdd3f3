"""The ranking by eye against closed forms and a known truth; votes on disk; fair pairs."""

from collections import Counter

import numpy as np
import pytest
from kontext.evaluation.compare.vote import Ballot, Vote, next_vote, rank
from scipy import special, stats

LEVEL = 0.95


def won(winner, loser, times=1):
    return [Vote(winner, loser, "row", "left")] * times


def tied(one, other, times=1):
    return [Vote(one, other, "row", "equal")] * times


def test_two_items_are_their_log_odds():
    """Reference: the log odds of a binomial share and its error, sqrt(1/wins + 1/losses)."""
    first, second = rank("ab", won("a", "b", 12) + won("b", "a", 5), prior=np.inf)
    gap, error = np.log(12 / 5), np.sqrt(1 / 12 + 1 / 5)
    assert (first.item, second.item) == ("a", "b")
    assert first.score - second.score == pytest.approx(gap, abs=1e-5)
    reach = stats.norm.ppf(0.5 + LEVEL / 2) * error
    # scores sum to zero: each moves by half of what the gap does
    assert first.high - first.score == pytest.approx(reach / 2, abs=1e-5)
    assert (first.wins, first.losses, second.wins, second.losses) == (12, 5, 5, 12)


def test_the_side_and_the_order_do_not_matter():
    shown = [Vote("a", "b", "r", "left"), Vote("b", "a", "r", "right"), Vote("b", "a", "s", "left")]
    assert rank("ab", shown) == rank("ab", won("b", "a") + won("a", "b", 2))


def test_a_tie_is_half_a_vote_for_each():
    """Reference: the same scores as from every vote twice, with each tie a win for either."""
    votes = won("a", "b", 3) + won("b", "c", 2) + won("c", "a")
    with_ties = votes + tied("a", "b", 2) + tied("c", "a", 4)
    halves = votes * 2 + (won("a", "b") + won("b", "a")) * 2 + (won("c", "a") + won("a", "c")) * 4
    scores = {each.item: each.score for each in rank("abc", with_ties, prior=np.inf)}
    doubled = {each.item: each.score for each in rank("abc", halves, prior=np.inf)}
    assert scores == pytest.approx(doubled, abs=1e-4)
    assert {each.item: each.equal for each in rank("abc", with_ties)} == {"a": 6, "b": 2, "c": 4}


def test_an_unbeaten_item_is_first_and_finite():
    votes = won("a", "b", 4) + won("b", "c", 2) + won("c", "b", 2)
    first, *rest = rank("abc", votes)
    assert first.item == "a" and 0 < first.score < 5
    assert all(np.isfinite([each.low, each.high]).all() for each in (first, *rest))


def test_without_votes_all_are_equal_and_unknown():
    standings = rank("abc", [])
    assert [each.score for each in standings] == [0, 0, 0]
    assert all(each.low < -3 and each.high > 3 for each in standings)


def test_votes_for_items_that_are_not_compared_are_left_out():
    assert rank("ab", won("a", "b") + won("x", "a", 9)) == rank("ab", won("a", "b"))


def test_a_known_truth_is_found_as_often_as_promised():
    """6 items, 60 votes each 15 pairs of 4: intervals cover the truth, the order is right."""
    random = np.random.default_rng(1)
    truth = np.linspace(1.2, -1.2, 6)
    items, covered, gaps = "abcdef", [], []
    for _ in range(60):
        votes = []
        for left in range(6):
            for right in range(left + 1, 6):
                chance = special.expit(truth[left] - truth[right])
                for better in random.random(8) < chance:
                    pair = (left, right) if better else (right, left)
                    votes += won(items[pair[0]], items[pair[1]])
        for each in rank(items, votes):
            real = truth[items.index(each.item)]
            covered.append(each.low <= real <= each.high)
            gaps.append(each.score - real)
    assert 0.92 <= np.mean(covered) <= 0.98  # 360 draws of 95 %: two and a half errors
    assert abs(np.mean(gaps)) < 1e-6 and np.std(gaps) < 0.35


def test_pairs_rows_and_sides_are_balanced():
    items, rows, votes = "abcd", ["p", "q", "r"], []
    random = np.random.default_rng(0)
    for _ in range(36):
        left, right, row = next_vote(items, rows, votes, random)
        assert left != right
        votes.append(Vote(left, right, row, "equal"))
    assert set(Counter(vote.items for vote in votes).values()) == {6}
    assert set(Counter((vote.items, vote.row) for vote in votes).values()) == {2}
    for item in items:
        assert abs(sum(v.left == item for v in votes) - sum(v.right == item for v in votes)) <= 2


def test_the_first_pair_is_drawn_at_random():
    draws = {next_vote("abcd", "pq", [], np.random.default_rng(seed)) for seed in range(60)}
    assert len(draws) > 15  # of 4 * 3 * 2


def test_votes_survive_and_the_last_can_be_taken_back(tmp_path):
    path = tmp_path / "运行" / "votes.jsonl"
    first, second = Vote("a", "b", "戒指", "left"), Vote("b", "c", "p", "equal")
    standing, fresh = Ballot(path), lambda: Ballot(path).votes("abc")
    standing.add(first)
    standing.add(second)
    assert standing.votes("abc") == fresh() == {first: 1, second: 1}
    Ballot(path).undo()  # in another process
    assert standing.votes("abc") == fresh() == {first: 1}
    assert len(path.read_text("utf-8").splitlines()) == 3  # nothing is ever rewritten
    standing.undo()
    standing.undo()
    assert standing.votes("abc") == fresh() == {}
    standing.add(second)
    assert standing.votes("abc") == fresh() == {second: 1} and standing.votes("ab") == {}


def test_a_line_torn_by_a_kill_costs_only_itself(tmp_path):
    ballot = Ballot(tmp_path / "votes.jsonl")
    vote = Vote("戒", "b", "p", "left")
    ballot.add(vote)
    whole = ballot.lines.path.read_bytes()
    for length in (1, whole.index(b"\xe6") + 1, len(whole) - 2):
        ballot.lines.path.write_bytes(whole + whole[:length])
        assert ballot.votes("戒b") == {vote: 1}
        ballot.add(vote)
        assert ballot.votes("戒b") == {vote: 2}


def test_counting_again_reads_only_what_is_new(tmp_path):
    """200,000 votes took the server 6 s at every vote."""
    ballot, vote = Ballot(tmp_path / "votes.jsonl"), Vote("a", "b", "p", "left")
    ballot.add(vote)
    many = ballot.lines.path.read_bytes() * 20_000
    ballot.lines.path.write_bytes(many)
    assert ballot.votes("ab") == {vote: 20_000}
    ballot.lines.path.write_bytes(b"x" * (len(many) // 2 - 1) + b"\n" + many[len(many) // 2 :])
    ballot.add(vote)
    assert ballot.votes("ab") == {vote: 20_001}  # what has been counted is not looked at again


@pytest.mark.parametrize("spoilt", ["{}", '{"left": 1}', "[]", "\0\0\0", "[" * 100_000, "é\ud800"])
def test_a_bad_line_is_named_and_the_others_count(tmp_path, spoilt, caplog):
    ballot, vote = Ballot(tmp_path / "votes.jsonl"), Vote("a", "b", "p", "left")
    ballot.add(vote)
    whole = ballot.lines.path.read_bytes()
    ballot.lines.path.write_bytes(whole + spoilt.encode("utf-8", "surrogatepass") + b"\n" + whole)
    assert ballot.votes("ab") == {vote: 2}
    assert "votes.jsonl: line 2 is damaged" in caplog.text
