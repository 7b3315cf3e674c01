import json
import math

import pytest

from slotreel.files import replacing, write_json
from slotreel.protocols.score_table import ScoreTable, VideoFacts
from slotreel.score_text import score_table_text
from slotreel.scores import (
    Comparison,
    Published,
    Row,
    best_trivial,
    flat_scores,
    scores_json,
    skill,
)


def table(fg_ari, mbo, protocol="discovery", video="a"):
    row = {"fg_ari_video": (fg_ari, 1.0), "mbo_video": (mbo, 1.0), "odd": (0.0, 0.0)}
    facts = {video: VideoFacts(12, 2)}
    return ScoreTable("moving_shapes", protocol, f"{protocol}: all", {video: row}, facts)


def rows():
    return [
        Row("one slot", "trivial", table(-1e-9, 0.1)),
        Row("sees all", "oracle", table(1.0, 1.0)),
        Row("fixed blocks", "trivial", table(0.49, 0.2)),
        Row("colours", "trivial", table(0.2, 0.8)),
        Row("this run", "last", table(0.6, 0.68), 3000),
        Row("this run", "best", table(0.7, 0.8), 2500),
    ]


def test_skill():
    assert skill(0.6, 0.2) == pytest.approx(0.5)
    assert skill(0.0, 0.5) == -1.0
    assert skill(1.0, 0.3) == 1.0
    assert math.isnan(skill(0.5, 1.0))


def test_best_trivial_leaves_oracles_out():
    assert best_trivial(rows()) == {
        "fg_ari_video": (0.49, "fixed blocks"),
        "mbo_video": (0.8, "colours"),
    }


def test_table_text_in_full():
    text = score_table_text([Comparison(rows(), num_slots=5, masks="grouper")])
    assert text.splitlines() == [
        "moving_shapes / discovery: 1 videos, K = 5, masks of the grouper",
        "protocol discovery: all",
        "",
        "| percent                                          | FG-ARI |   mBO |",
        "| ------------------------------------------------ | -----: | ----: |",
        "| one slot                                         |    0.0 |  10.0 |",
        "| sees all                                         |  100.0 | 100.0 |",
        "| fixed blocks                                     |   49.0 |  20.0 |",
        "| colours                                          |   20.0 |  80.0 |",
        "| this run, last (step 3000)                       |   60.0 |  68.0 |",
        "| this run, best (step 2500, selected with labels) |   70.0 |  80.0 |",
        "| samples                                          |      1 |     1 |",
        "| skill of last                                    |  +21.6 | -60.0 |",
        "| skill of best                                    |  +41.2 |  +0.0 |",
        "",
        "Counted: 1 videos, 2 objects, 12 annotated frames.",
        "A score is per video unless marked /frame; 2+ = with two or more objects.",
        "skill = (score - best trivial) / (100 - best trivial), in percent.",
        "Rows that see the truth are no yardstick.",
        "this run, last (step 3000) does not beat colours on mBO.",
        "this run, best (step 2500, selected with labels) does not beat colours on mBO.",
    ]


def test_table_without_trivial_rows_and_with_chosen_columns():
    text = score_table_text([Comparison(rows()[-1:], 5, "decoder")], metrics=["mbo_video", "none"])
    assert "skill" not in text
    assert "FG-ARI" not in text
    assert "80.0" in text


def test_protocols_never_share_a_table():
    mixed = [*rows(), Row("this run", "last", table(0.5, 0.5, protocol="vos"))]
    with pytest.raises(ValueError, match="two protocols never share a column"):
        score_table_text([Comparison(mixed, 5, "grouper")])
    with pytest.raises(ValueError, match="scored different videos"):
        flat_scores(rows()[-1], [Row("blocks", "trivial", table(0, 0, video="b"))])
    with pytest.raises(ValueError, match="at least one row"):
        score_table_text([Comparison([], 5, "grouper")])
    vos = [Row("this run", "last", table(0.5, 0.5, protocol="vos"))]
    text = score_table_text([Comparison(rows(), 5, "grouper"), Comparison(vos, 5, "grouper")])
    assert text.count("| percent") == 2


def test_published_numbers_stand_beside_ours_only_where_they_were_measured_so():
    papers = [
        Published("discovery", "fg_ari_video", 0.5, 1, "a paper, table 2"),
        Published("discovery", "mbo_video", 0.4, 30, "a paper, table 3"),
        Published("vos", "fg_ari_video", 0.9, 1, "another protocol"),
        Published("discovery", "jf", 0.9, 1, "not measured here"),
    ]
    row = Row("checkpoint", "model", table(0.6, 0.68), 10)
    text = score_table_text([Comparison([row], 5, "decoder", papers, seeds=3)])
    assert text.splitlines()[-2:] == [
        "FG-ARI: published 50.0 / ours 60.0 / difference +10.0 / seeds 3 (a paper, table 2).",
        "mBO 40.0 was published on 30 videos and is not compared with 1 (a paper, table 3).",
    ]


def test_flat_scores_have_the_logged_keys():
    values = flat_scores(rows()[4], rows()[:4])
    prefix = "val/moving_shapes/discovery"
    assert values == pytest.approx(
        {
            f"{prefix}/fg_ari_video": 0.6,
            f"{prefix}/mbo_video": 0.68,
            f"{prefix}/fg_ari_video/skill": 0.11 / 0.51,
            f"{prefix}/mbo_video/skill": -0.6,
        }
    )


def test_json_holds_everything(tmp_path):
    content = scores_json([Comparison(rows(), 5, "grouper")], seed=3)
    write_json(tmp_path / "deep" / "scores.json", content)
    again = json.loads((tmp_path / "deep" / "scores.json").read_text())
    assert again == content
    assert again["seed"] == 3
    stored = again["sets"]["moving_shapes"]["discovery"]
    assert stored["num_videos"] == 1
    assert stored["masks"] == "grouper"
    last = stored["rows"][4]
    assert last["kind"] == "last"
    assert last["means"]["fg_ari_video"] == 0.6
    assert last["counts"]["odd"] == 0.0
    assert last["videos"]["a"]["mbo_video"] == [0.68, 1.0]
    assert [row["selected_with_labels"] for row in stored["rows"]] == [False] * 5 + [True]
    with pytest.raises(ValueError, match="came twice"):
        scores_json([Comparison(rows(), 5, "grouper")] * 2)


def test_a_perfect_trivial_row_leaves_no_skill():
    perfect = [Row("blocks", "trivial", table(1.0, 0.5)), Row("this run", "last", table(0.5, 0.6))]
    assert list(scores_json([Comparison(perfect, 2, "decoder")])["sets"]["moving_shapes"][
        "discovery"]["rows"][1]["skill"]) == ["mbo_video"]  # fmt: skip


def fail_halfway(path):
    with replacing(path) as temporary:
        temporary.write_text("half")
        raise RuntimeError("boom")


def test_a_failed_write_leaves_the_old_file(tmp_path):
    path = tmp_path / "scores.json"
    write_json(path, {"a": 1})
    with pytest.raises(ValueError, match="JSON"):
        write_json(path, {"a": math.nan})
    with pytest.raises(RuntimeError, match="boom"):
        fail_halfway(path)
    assert json.loads(path.read_text()) == {"a": 1}
    assert list(tmp_path.iterdir()) == [path]
