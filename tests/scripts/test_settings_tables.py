"""The docs and the help pages say what the settings and presets are."""

import pytest
from kontext.trainer.config import SETTINGS
from settings_tables import TOPICS, pages, with_table


def test_no_page_lags_behind():
    for path, text in pages().items():
        assert path.read_text(encoding="utf-8") == text, "run scripts/settings_tables.py"


def test_every_topic_has_a_title():
    assert list(TOPICS) == list(dict.fromkeys(each.topic for each in SETTINGS.values()))


def test_only_the_table_below_the_heading_is_replaced():
    page = "# A\n\n| x |\n| --- |\n\n# B\nwords\n\n| old |\n| --- |\n| gone |\n\nafter | it\n"
    expected = (
        "# A\n\n| x |\n| --- |\n\n# B\nwords\n\n| a | b |\n| --- | --- |\n| 1 | 2 |\n\nafter | it\n"
    )
    assert with_table(page, "# B", [["a", "b"], ["1", "2"]]) == expected
    with pytest.raises(ValueError, match="no table below '# C'"):
        with_table(page, "# C", [["a"]])
