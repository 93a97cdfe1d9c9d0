from __future__ import annotations

import pytest

from nightshift.sources.retail_categories import CATEGORIES, OTHER, category_of


@pytest.mark.parametrize(
    ("description", "category"),
    [
        ("LUNCH BAG RED RETROSPOT", "bags"),
        ("Pack of 12 Christmas cards", "christmas"),
        ("WHITE HANGING HEART T-LIGHT HOLDER", "candles"),
        ("SET OF 3 CAKE TINS PANTRY DESIGN", "kitchen"),
        ("PARTY BUNTING", "toys"),
        ("HOT WATER BOTTLE KEEP CALM", "kitchen"),
        ("DIAMANTE HAIR GRIP PACK/2 CRYSTAL", "jewellery"),
        ("ROCKING HORSE", OTHER),
        ("", OTHER),
    ],
)
def test_a_description_falls_into_the_first_category_that_knows_a_word(
    description: str, category: str
) -> None:
    assert category_of(description) == category


def test_one_is_as_good_as_many() -> None:
    assert category_of("CANDLE") == category_of("CANDLES") == "candles"
    assert category_of("GLASS") == "kitchen"  # its own S is not a plural


def test_every_category_can_be_reached() -> None:
    words = {"christmas": "xmas", "easter": "bunny", "textiles": "quilt", "bath": "soap", "storage": "crate"}
    assert {category_of(word) for word in words.values()} == set(words)
    assert len(CATEGORIES) == len(set(CATEGORIES)) == 14
