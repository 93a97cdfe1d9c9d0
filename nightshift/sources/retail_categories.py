"""A coarse category for a UCI Online Retail description, which has none of its own.

The first row of the table that has one of the description's words wins, so that a CHRISTMAS CARD is of
`christmas` and a LUNCH BAG of `bags`. Words are compared without a final S. Of the purchases kept, one in
twenty stays `other`.
"""

from __future__ import annotations

import re

OTHER = "other"
_TABLE = {
    "christmas": "christmas xmas advent reindeer santa snowman snowflake rudolph nativity bauble",
    "easter": "easter bunny chick rabbit",
    "bags": "bag purse handbag backpack rucksack shopper satchel wallet suitcase luggage",
    "jewellery": "necklace bracelet earring ring brooch bangle diamante pendant hairclip bead jewel hair charm",
    "candles": "candle t-light tlight lantern incense candlestick candleholder lamp light nightlight",
    "kitchen": (
        "mug tea teacup teapot coffee cake bowl plate cutlery lunch pantry jar cup baking kitchen spoon fork "
        "saucer jug dish cookie recipe apron oven cakestand cakecase cases bake popcorn bread egg butter sugar "
        "milk glass tumbler tray coaster placemat napkin kitchenware jam jelly bottle flask snack food biscuit "
        "herb scale doily cutter ladle colander pan beaker straw picnic tablecloth"
    ),
    "stationery": (
        "card wrap paper notebook pencil pen sticker ribbon tag envelope book tape letter rubber eraser ruler "
        "postcard stationery calendar diary passport gift tissue memo sketchbook clipboard chalk blackboard "
        "chalkboard notepad stamp journal"
    ),
    "toys": (
        "toy game jigsaw doll dolly childrens child spaceboy skittle puzzle playhouse knitting circus animal "
        "feltcraft craft soldier domino dinosaur baby kid girl boy crayon magic balloon party bunting robot "
        "cowboy skipping top pirate ludo"
    ),
    "garden": (
        "garden parasol watering plant planter birdhouse bird flowerpot deckchair greenhouse thermometer seed"
    ),
    "textiles": (
        "cushion cover throw quilt towel blanket doormat rug curtain pouffe scarf slipper glove sock umbrella mat"
    ),
    "bath": "water bath bathroom soap shower toilet plaster warmer manicure beauty perfume lip talc",
    "storage": "box drawer cabinet basket storage hook rack crate tin hanger knob organiser chest shelf case holder",
    "decoration": (
        "decoration heart sign frame mirror clock wall art garland ornament hanging flower vase wreath bell star "
        "butterfly picture photo rose chime wicker bird block magnet tile doorstop windmill figure mobile metal "
        "hen fairy feather trinket"
    ),
}
_BY_WORD: dict[str, tuple[int, str]] = {}
for _rank, (_category, _words) in enumerate(_TABLE.items()):
    for _word in _words.split():
        _BY_WORD.setdefault(_word.removesuffix("s"), (_rank, _category))
CATEGORIES = (*_TABLE, OTHER)


def category_of(description: str) -> str:
    """The category of a description in any letter case; `other` where no word is known."""
    words = re.findall(r"[a-z][a-z-]*", description.lower())
    known = [_BY_WORD[word] for w in words if (word := w.removesuffix("s")) in _BY_WORD]
    return min(known)[1] if known else OTHER
