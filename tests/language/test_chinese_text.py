"""The measure of Chinese sentences finds what is wrong with one."""

import pytest
from chinese_text import check_chinese, english_in, numbers


def test_a_good_pair():
    check_chinese(
        "2 of 6 files wrong: verify with --repair.", "6 个文件中有 2 个有误：用 verify --repair 修复。"
    )


@pytest.mark.parametrize(
    "chinese",
    [
        "2 of 6 files wrong: verify with --repair.",
        "6 个文件中有 3 个有误。",
        "6 个文件中有 2 个有误： 用 verify 修复。",
        "6 个文件中有 2 个有误：run this again。",
        "6 个文件中有 2 个",
    ],
)
def test_a_bad_pair(chinese):
    with pytest.raises(AssertionError):
        check_chinese("2 of 6 files, of which 2 wrong.", chinese)


def test_english_is_found_where_it_is_none_of_a_name():
    assert english_in("下载：the disk is full") == ["the disk is full"]
    assert english_in("运行 python -m helpers.download 或 pip install pysocks and more，见 a/b c") == []
    assert english_in("文件 as it was", ("as it was",)) == []


def test_columns_of_a_table_stand_apart():
    check_chinese("fine   GPU   A card.", "正常。   GPU   一张卡。")


def test_numbers():
    assert numbers("1,000 of 7.5 at 10.") == ["1,000", "10", "7.5"]
